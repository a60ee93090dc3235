//! The public API as a listing, `docs/public-api.txt`: a change of a public name or signature shows in
//! its diff, and fails this test until the listing is written anew:
//! `UPDATE_PUBLIC_API=1 cargo test --features unstable-store --test suite public_api`.
//!
//! The listing is read from the sources: what `lib.rs` exports, and of that every field, variant,
//! method, trait item and implemented trait. What a macro makes is not in it, nor what is hidden from
//! the documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{Attribute, Fields, ImplItem, Item, Meta, Token, TraitItem, Type, UseTree, Visibility};

const LISTING: &str = "docs/public-api.txt";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn parse(path: &Path) -> Vec<Item> {
    let text = fs::read_to_string(path).expect("a source");
    let file = syn::parse_file(&text);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .items
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let is_test = path.file_stem().is_some_and(|stem| stem == "tests");
        match path.is_dir() {
            _ if is_test => {}
            true => sources(&path, into),
            false if path.extension().is_some_and(|end| end == "rs") => into.push(path),
            false => {}
        }
    }
}

// ---- what is left out

/// The arguments of an attribute, as a list of words and pairs.
fn arguments(attribute: &Attribute) -> String {
    match &attribute.meta {
        Meta::List(list) => list.tokens.to_string(),
        _ => String::new(),
    }
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let arguments = arguments(attribute);
        (attribute.path().is_ident("doc") && arguments == "hidden")
            || (attribute.path().is_ident("cfg")
                && (arguments == "test"
                    || arguments == "doc"
                    || arguments.contains("unstable-store")))
    })
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

// ---- how it is written

/// Tokens as source text: rustfmt's blanks where they differ from those of the tokens.
fn text(tokens: impl ToTokens) -> String {
    let mut text = tokens.to_token_stream().to_string();
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" (", "("),
        ("( ", "("),
        (" )", ")"),
        ("[ ", "["),
        (" ]", "]"),
        (" ,", ","),
        (" :", ":"),
        (" ;", ";"),
        (",)", ")"),
        ("mut f:", "f:"),
        ("& ", "&"),
        ("->", "-> "),
        ("->  ", "-> "),
        ("=>", "=> "),
    ] {
        while text.contains(from) && from != to && !to.contains(from) {
            text = text.replace(from, to);
        }
        if to.contains(from) {
            text = text.replace(from, to);
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The attributes that are part of the API, on the line before.
fn marks(attributes: &[Attribute]) -> String {
    let mut marks = String::new();
    for attribute in attributes {
        let path = attribute.path();
        if path.is_ident("non_exhaustive") || path.is_ident("must_use") {
            let name = path.get_ident().expect("a name");
            marks += &format!("#[{name}] ");
        }
        if path.is_ident("derive") {
            let derived =
                attribute.parse_args_with(Punctuated::<syn::Path, Token![,]>::parse_terminated);
            let mut names: Vec<String> = derived.expect("paths").iter().map(text).collect();
            names.sort_unstable();
            marks += &format!("#[derive({})] ", names.join(", "));
        }
    }
    marks
}

fn fields(fields: &Fields, is_variant: bool) -> Vec<String> {
    let all = fields.iter().enumerate();
    let shown = all.filter(|(_, field)| is_variant || is_public(&field.vis));
    shown
        .map(|(at, field)| {
            let name = field
                .ident
                .as_ref()
                .map_or(at.to_string(), ToString::to_string);
            format!("{name}: {}", text(&field.ty))
        })
        .collect()
}

// ---- the listing

#[derive(Default)]
struct Listing {
    /// The exported names, as `lib.rs` has them.
    names: BTreeSet<String>,
    lines: BTreeSet<String>,
}

impl Listing {
    fn read() -> String {
        let mut listing = Listing::default();
        for item in parse(&root().join("src/lib.rs")) {
            match item {
                Item::Use(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                    listing.export(&item.tree, &mut Vec::new());
                }
                Item::Mod(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                    let name = item.ident.to_string();
                    listing.lines.insert(format!("pub mod {name}"));
                    for item in parse(&root().join(format!("src/{name}.rs"))) {
                        match item {
                            Item::Use(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                                listing.export(&item.tree, &mut vec![name.clone()]);
                            }
                            Item::Fn(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                                listing.names.insert(item.sig.ident.to_string());
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        let mut files = Vec::new();
        sources(&root().join("src"), &mut files);
        for file in files {
            let relative = file.strip_prefix(root().join("src")).expect("below it");
            let is_hidden = ["store", "testing/conformance"]
                .iter()
                .any(|hidden| relative.starts_with(hidden));
            let is_hidden = is_hidden || relative == Path::new("store.rs");
            if !is_hidden {
                for item in parse(&file) {
                    listing.add(&item);
                }
            }
        }
        let mut text = String::new();
        for line in listing.lines {
            text += &line;
            text.push('\n');
        }
        text
    }

    fn export(&mut self, tree: &UseTree, path: &mut Vec<String>) {
        match tree {
            UseTree::Path(step) => {
                path.push(step.ident.to_string());
                self.export(&step.tree, path);
                path.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.export(tree, path);
                }
            }
            UseTree::Name(name) => {
                self.names.insert(name.ident.to_string());
                self.lines.insert(format!("pub use {}", name.ident));
            }
            UseTree::Rename(name) => {
                self.names.insert(name.ident.to_string());
                self.lines
                    .insert(format!("pub use {} as {}", name.ident, name.rename));
            }
            UseTree::Glob(_) => panic!("lib.rs exports names one by one"),
        }
    }

    fn is_exported(&self, name: &impl ToString) -> bool {
        self.names.contains(&name.to_string())
    }

    fn line(&mut self, line: String) {
        self.lines.insert(line.trim_end().to_owned());
    }

    fn add(&mut self, item: &Item) {
        match item {
            Item::Struct(item) if self.is_exported(&item.ident) && is_public(&item.vis) => {
                let name = &item.ident;
                let generics = text(&item.generics);
                let marks = marks(&item.attrs);
                self.line(format!("{name}: {marks}pub struct {name}{generics}"));
                for field in fields(&item.fields, false) {
                    self.line(format!("{name}::{field}"));
                }
            }
            Item::Enum(item) if self.is_exported(&item.ident) && is_public(&item.vis) => {
                let name = &item.ident;
                let generics = text(&item.generics);
                let marked = marks(&item.attrs);
                self.line(format!("{name}: {marked}pub enum {name}{generics}"));
                for variant in &item.variants {
                    let (marked, of) = (marks(&variant.attrs), &variant.ident);
                    let fields = match fields(&variant.fields, true).join(", ") {
                        none if none.is_empty() => none,
                        fields => format!(" {{ {fields} }}"),
                    };
                    self.line(format!("{name}::{marked}{of}{fields}"));
                }
            }
            Item::Trait(item) if self.is_exported(&item.ident) && is_public(&item.vis) => {
                let (name, generics) = (&item.ident, text(&item.generics));
                let bounds = text(&item.supertraits);
                self.line(format!("{name}: pub trait {name}{generics}: {bounds}"));
                for item in &item.items {
                    if let TraitItem::Fn(item) = item {
                        self.line(format!("{name}::{}", text(&item.sig)));
                    } else {
                        self.line(format!("{name}::{}", text(item)));
                    }
                }
            }
            Item::Type(item) if self.is_exported(&item.ident) && is_public(&item.vis) => {
                let (name, generics, of) = (&item.ident, text(&item.generics), text(&item.ty));
                self.line(format!("{name}: pub type {name}{generics} = {of}"));
            }
            Item::Fn(item) if self.is_exported(&item.sig.ident) && is_public(&item.vis) => {
                let name = &item.sig.ident;
                self.line(format!("{name}: pub {}", text(&item.sig)));
            }
            Item::Impl(item) if !is_hidden(&item.attrs) => self.add_impl(item),
            _ => {}
        }
    }

    fn add_impl(&mut self, item: &syn::ItemImpl) {
        let inner = match &*item.self_ty {
            Type::Reference(reference) => &reference.elem,
            other => other,
        };
        let Type::Path(path) = inner else { return };
        let Some(last) = path.path.segments.last() else {
            return;
        };
        let name = last.ident.to_string();
        if !self.is_exported(&name) {
            return;
        }
        let of = text(&item.self_ty);
        let (generics, bounds) = (text(&item.generics), text(&item.generics.where_clause));
        if let Some((_, path, _)) = &item.trait_ {
            let of_trait = text(path);
            self.line(format!(
                "{name}: impl{generics} {of_trait} for {of} {bounds}"
            ));
            return;
        }
        for item in &item.items {
            match item {
                ImplItem::Fn(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                    let (marks, signature) = (marks(&item.attrs), text(&item.sig));
                    self.line(format!("{name}::{marks}pub {signature}"));
                }
                ImplItem::Const(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
                    let of = text(&item.ty);
                    self.line(format!("{name}::pub const {}: {of}", item.ident));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn public_api_is_the_listed_one() {
    let now = Listing::read();
    let path = root().join(LISTING);
    if std::env::var_os("UPDATE_PUBLIC_API").is_some() {
        fs::write(&path, &now).expect("a listing");
        return;
    }
    let listed = fs::read_to_string(&path).expect("a listing");
    let (now, listed): (BTreeSet<&str>, BTreeSet<&str>) =
        (now.lines().collect(), listed.lines().collect());
    let added: Vec<_> = now.difference(&listed).collect();
    let removed: Vec<_> = listed.difference(&now).collect();
    assert!(
        added.is_empty() && removed.is_empty(),
        "the public API has changed: say so in CHANGELOG.md, and write {LISTING} anew with \
         UPDATE_PUBLIC_API=1\nadded: {added:#?}\nremoved: {removed:#?}"
    );
}

/// A public enum, or a struct with public fields, that grows later must not break an application.
#[test]
fn public_types_that_may_grow_are_non_exhaustive() {
    let listing = Listing::read();
    let mut types = 0;
    for line in listing.lines() {
        let Some((name, rest)) = line.split_once(": ") else {
            continue;
        };
        let has_fields = listing
            .lines()
            .any(|other| other.starts_with(&format!("{name}::")) && !other.contains("fn "));
        if rest.contains("pub enum ") || (rest.contains("pub struct ") && has_fields) {
            types += 1;
            assert!(rest.contains("#[non_exhaustive]"), "{line}");
        }
    }
    assert!(types >= 5, "{types}");
    let variants = listing.lines().filter(|line| line.starts_with("Error::"));
    for variant in variants.filter(|line| line.contains("{ ")) {
        let is_tuple = variant.contains("{ 0: ");
        assert!(
            is_tuple || variant.contains("#[non_exhaustive]"),
            "{variant}"
        );
    }
}

#[test]
fn every_exported_name_is_described() {
    let listing = Listing::read();
    for line in listing.lines() {
        let Some(name) = line.strip_prefix("pub use ") else {
            continue;
        };
        let crates = ["mongodb", "rocket_db_pools", "time"];
        let is_there = listing
            .lines()
            .any(|other| other.starts_with(&format!("{name}: ")));
        assert!(is_there || crates.contains(&name), "{name}");
    }
}
