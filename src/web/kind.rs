//! Kinds of session: each has its own section of the configuration, collection and cookie.

use std::any::TypeId;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::OnceLock;

use rocket::figment::Figment;
use rocket::figment::value::{Dict, Value};
use rocket::{Build, Phase, Request, Rocket};

use crate::admin::Sessions;
use crate::clock::Clock;
use crate::config::MAIN_SECTION;
use crate::lock::Mutex;
use crate::web::backend::OpenError;
use crate::web::cookie::UnfitDomains;
use crate::web::request_cache::RequestCache;

/// A further kind of session, beside the one of `&Session`.
///
/// An application implements it for a type of its own, attaches
/// [`Sessions::fairing_of`](crate::Sessions::fairing_of), and takes the guard [`Of`](crate::Of). The
/// section `[default.session_NAME]` has the same keys as `[default.session]`. `collection` and
/// `cookie_name` are `"session_NAME"` by default, and have to differ from those of other kinds.
///
/// # Examples
///
/// ```
/// use rocket::{get, routes};
/// use rocket_mongo_session::{Error, Kind, Of, Session, Sessions};
///
/// /// Configured by `[default.session_admin]`.
/// struct Admin;
///
/// impl Kind for Admin {
///     const NAME: &'static str = "admin";
/// }
///
/// #[get("/")]
/// fn page(visitor: &Session, admin: Of<'_, Admin>) -> Result<String, Error> {
///     let (visitor, admin) = (visitor.user::<i64>()?, admin.user::<String>()?);
///     Ok(format!("visitor {visitor:?}, administrator {admin:?}"))
/// }
///
/// # fn build() -> rocket::Rocket<rocket::Build> {
/// rocket::build()
///     .attach(Sessions::fairing())
///     .attach(Sessions::fairing_of::<Admin>())
///     .mount("/", routes![page])
/// # }
/// ```
pub trait Kind: Send + Sync + 'static {
    /// The name: 1 to 32 ASCII letters, digits, `_` and `-`, other than `main`.
    const NAME: &'static str;
}

/// The kind of `&Session`, configured by `[default.session]`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Main {}

impl Kind for Main {
    const NAME: &'static str = "main";
}

/// What the fairings need to know of a kind, without its type.
#[derive(Clone, Copy)]
pub(super) struct KindInfo {
    pub(super) name: &'static str,
    is_main: bool,
    pub(super) is_managed: fn(&Rocket<Build>) -> bool,
    pub(super) manage: fn(Rocket<Build>, Sessions) -> Rocket<Build>,
    pub(super) cache: for<'r, 'a> fn(&'r Request<'a>, &Clock) -> &'r RequestCache,
}

impl KindInfo {
    pub(super) fn of<K: Kind>() -> Self {
        KindInfo {
            name: K::NAME,
            is_main: is_main::<K>(),
            is_managed: |rocket| sessions_of::<K, Build>(rocket).is_some(),
            manage: |rocket, sessions| {
                let rocket = match is_main::<K>() {
                    true => rocket.manage(sessions.clone()),
                    false => rocket,
                };
                rocket.manage(Managed::<K>(sessions, PhantomData))
            },
            cache: RequestCache::of::<K>,
        }
    }

    /// Returns the name of the kind's section.
    pub(super) fn section(&self) -> String {
        match self.is_main {
            true => MAIN_SECTION.to_owned(),
            false => format!("{MAIN_SECTION}_{}", self.name),
        }
    }

    /// Returns the name of the cookie whose presence shows that no catcher made the response. Each
    /// kind has its own, because a catcher may take the session of another kind than the handler did.
    pub(super) fn mark_name(&self) -> Cow<'static, str> {
        match self.is_main {
            true => Cow::Borrowed("_rms"),
            false => Cow::Owned(format!("_rms_{}", self.name)),
        }
    }

    /// Checks the name, which is a part of keys, collections and cookies.
    pub(super) fn check_name(&self) -> Result<(), OpenError> {
        match self.is_main {
            true => Ok(()),
            false => check_name(self.name),
        }
    }
}

/// Checks the name of a further kind.
pub(super) fn check_name(name: &str) -> Result<(), OpenError> {
    let is_legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let fits = (1..=32).contains(&name.len()) && name.bytes().all(is_legal);
    if fits && name != Main::NAME {
        return Ok(());
    }
    Err(OpenError::Other(
        format!("a kind of session cannot be named {name:?}"),
        "Use 1 to 32 ASCII letters, digits, `_` and `-`, and not `main`.",
    ))
}

fn is_main<K: Kind>() -> bool {
    TypeId::of::<K>() == TypeId::of::<Main>()
}

/// The handle of a kind, in Rocket's managed state.
struct Managed<K>(Sessions, PhantomData<fn() -> K>);

/// Returns the sessions of a kind, or `None` when its fairing is not attached.
pub(crate) fn sessions_of<K: Kind, P: Phase>(rocket: &Rocket<P>) -> Option<&Sessions> {
    rocket.state::<Managed<K>>().map(|managed| &managed.0)
}

/// Returns how an application attaches the fairing of a kind.
pub(super) fn fairing_call<K: Kind>() -> String {
    match is_main::<K>() {
        true => "Sessions::fairing()".to_owned(),
        false => {
            let name = std::any::type_name::<K>();
            let name = name.rsplit("::").next().unwrap_or(name);
            format!("Sessions::fairing_of::<{name}>()")
        }
    }
}

/// An attached kind.
pub(super) struct Attached {
    pub(super) kind: KindInfo,
    pub(super) sessions: Sessions,
    /// Where its sessions are: `database.collection`, or `None` in memory.
    pub(super) namespace: Option<String>,
    pub(super) warnings: Vec<String>,
    /// The settings of the connection pool, for the launch output.
    pub(super) pool_line: Option<String>,
    pub(super) mark: Cow<'static, str>,
    pub(super) unfit_domains: UnfitDomains,
}

/// The attached kinds, in the order in which their stores were opened.
#[derive(Default)]
pub(super) struct Kinds {
    joining: Mutex<Vec<Attached>>,
    all: OnceLock<Vec<Attached>>,
}

impl Kinds {
    /// Adds a kind. Refuses one that shares a name, a cookie or a collection with another.
    pub(super) fn join(&self, new: Attached, figment: &Figment) -> Result<(), OpenError> {
        let mut joining = self.joining.lock();
        for other in joining.iter() {
            if let Some((key, what)) = other.shares(&new) {
                let (own, others) = (new.kind.section(), other.kind.section());
                let problem = format!(
                    "{what} is also that of [default.{others}]; kinds of session share neither \
                     cookie nor collection, so set another `{key}` in [default.{own}]"
                );
                let key = format!("{own}.{key}");
                return Err(OpenError::of_key(figment, &key, problem));
            }
            if other.kind.name.eq_ignore_ascii_case(new.kind.name) {
                return Err(OpenError::Other(
                    format!("two kinds of session are named {:?}", new.kind.name),
                    "Give each its own `Kind::NAME`.",
                ));
            }
        }
        joining.push(new);
        Ok(())
    }

    /// Returns the kinds. Called after ignition, when no further kind joins.
    pub(super) fn all(&self) -> &[Attached] {
        self.all.get_or_init(|| {
            let mut joining = self.joining.lock();
            std::mem::take(&mut *joining)
        })
    }
}

impl Attached {
    /// Returns the key whose value both kinds have, and the value.
    fn shares(&self, other: &Attached) -> Option<(&'static str, String)> {
        let (a, b) = (&self.sessions.core.config, &other.sessions.core.config);
        if a.cookie_name == b.cookie_name {
            return Some((
                "cookie_name",
                format!("the cookie name `{}`", a.cookie_name),
            ));
        }
        let is_same = match (&self.namespace, &other.namespace) {
            (Some(a), Some(b)) => a == b,
            // In memory nothing is shared, but names that a database would refuse are refused.
            (None, None) => (&a.database, &a.collection) == (&b.database, &b.collection),
            _ => false,
        };
        is_same.then(|| {
            let name = self.namespace.as_ref().unwrap_or(&a.collection);
            ("collection", format!("the collection `{name}`"))
        })
    }
}

/// Returns the sections `session_…` that belong to no attached kind.
pub(super) fn unused_sections(figment: &Figment, kinds: &[Attached]) -> Vec<String> {
    let all = figment.extract::<Dict>();
    // A key of the application's own may be named like that, too.
    let is_section = |value: &Value| matches!(value, Value::Dict(..));
    let all = all.unwrap_or_default().into_iter();
    let sections = all.filter(|(_, value)| is_section(value));
    let unused = sections.map(|(section, _)| section).filter(|section| {
        section.starts_with("session_") && kinds.iter().all(|kind| kind.kind.section() != *section)
    });
    unused.collect()
}
