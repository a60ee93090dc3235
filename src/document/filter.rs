//! Which documents an operation is about.

use std::fmt;

use bson::raw::RawBsonRef;
use bson::{RawArrayBuf, RawBson, RawDocumentBuf};

use super::compare::{equal, number};
use super::{Document, Path, date, moment};
use crate::clock::Moment;

/// Which documents an operation is about; all its conditions must hold at once.
///
/// A store applies it in one of three ways, or in more than one of them:
///
/// - [`matches`](Filter::matches) says of one document whether it is chosen: enough for a store that
///   looks at every document.
/// - [`wanted_id`](Filter::wanted_id) gives the id where a filter names one, so that a store by keys
///   looks at one document. Calls that change or end *one* document always name it; [`find`](crate::Store::find), [`count`](crate::Store::count) and
///   [`delete_all`](crate::Store::delete_all) may not.
/// - [`to_bson`](Filter::to_bson) is the whole filter as a query of MongoDB, for a store that
///   understands it, or that reads it to use indexes of its own.
///
/// # The shape of the query
///
/// The query is one document. Each of its elements is one of these, and no other; all must hold.
/// The empty query chooses every document.
///
/// | path | condition | it holds where |
/// |---|---|---|
/// | `_id` | a string | that is the id |
/// | `_id` | `{$in: [string, …]}` | the id is one of those; of none where there are none |
/// | `_id` | `{$ne: string}` | the id is another |
/// | `_id` | `{$gt: string}` | the id sorts after that one |
/// | `_id` | `{$lt: "~"}` | it is a session: ids of tombstones begin with `~`, which sorts after all others |
/// | `token`, `user`, `by`, `epoch`, `generation` | `{$eq: value}` | the field has this value, which is never null and never an array |
/// | `token` | `{$in: [null, value]}` | the field has this value, or is missing or null |
/// | `expires` | `{$gte: date}`, `{$lt: date}` | it is a date, and not before that, or before that |
/// | `expires` | `{$not: {$lt: date}}` | it is missing, no date, or not before that |
/// | `expires` | `{$not: {$gte: the first date}}` | it is missing, or no date |
/// | `seal`, `renamed` | `{$exists: false}` | the field is missing |
/// | `accessed` | `{$lt: double}` | it is a number (of any type), and less |
/// | `value.<name>` | `{$exists: false}` | the session has no value of that name |
/// | `$expr` | `{$eq: ["$<path>", {$literal: value}]}` | `value.<name>`, or `renamed`, has this very value: not an array that holds it |
/// | `$and` | `[query, …]` | each of them holds: queries of one element of those above, where a path occurs more than once |
///
/// A name has no `.` in it and does not begin with `$`. Two values are equal if MongoDB takes them
/// for equal without a collation: numbers by their value, whatever their type, also inside of a
/// document, whose fields have an order; strings byte by byte.
///
/// The crate's own store has an index on `expires`, and one on `user`, `created` and `_id`, in this
/// order: a filter that does not name its document asks by `user` or by `expires`.
#[derive(Clone, Default)]
pub struct Filter {
    clauses: Vec<Clause>,
    /// The operation must have a command of its own. It is not a condition on documents: neither
    /// [`matches`](Filter::matches) nor [`to_bson`](Filter::to_bson) asks it.
    alone: bool,
}

#[derive(Clone)]
enum Clause {
    Id(String),
    Ids(Vec<String>),
    NotId(String),
    AfterId(String),
    /// Sessions only: a tombstone's id starts with `~`, which sorts after every session's.
    Session,
    Equals(&'static str, RawBson),
    EqualsOrMissing(&'static str, RawBson),
    /// The value under the path is this very value (and no array that holds it), or missing.
    Is(Path, Option<RawBson>),
    NotBefore(&'static str, Moment),
    Before(&'static str, Moment),
    UnlessBefore(&'static str, Moment),
    /// No date, so that the TTL index never deletes it.
    NoDate(&'static str),
    /// Epoch seconds that lie before a moment.
    Older(&'static str, Moment),
}

impl Filter {
    /// Every document, tombstones included.
    pub(crate) fn all() -> Self {
        Filter::default()
    }

    /// Every session.
    pub(crate) fn sessions() -> Self {
        Filter::default().with(Clause::Session)
    }

    /// Every document that is not a session.
    pub(crate) fn tombstones() -> Self {
        Filter::default().after_id("~")
    }

    pub(crate) fn id(id: &str) -> Self {
        Filter::default().with(Clause::Id(id.to_owned()))
    }

    pub(crate) fn ids(ids: Vec<String>) -> Self {
        Filter::default().with(Clause::Ids(ids))
    }

    /// The id is one of these, too.
    pub(crate) fn within(self, ids: Vec<String>) -> Self {
        self.with(Clause::Ids(ids))
    }

    /// Returns the filter with this id in place of its conditions on the id, which have chosen the
    /// document already: ids never change.
    pub(crate) fn of_one(&self, id: &str) -> Self {
        let others = self.clauses.iter().filter(|clause| !clause.is_of_id());
        let mut one = Filter::id(id);
        one.clauses.extend(others.cloned());
        one.alone = self.alone;
        one
    }

    pub(crate) fn except(self, id: &str) -> Self {
        self.with(Clause::NotId(id.to_owned()))
    }

    /// The id sorts after this one: the scan of all continues there.
    pub(crate) fn after_id(self, id: &str) -> Self {
        self.with(Clause::AfterId(id.to_owned()))
    }

    /// A field of the crate's own has this value.
    pub(crate) fn equals(self, name: &'static str, value: RawBson) -> Self {
        self.with(Clause::Equals(name, value))
    }

    /// A field of the crate's own has this value, or is missing (or null).
    pub(crate) fn equals_or_missing(self, name: &'static str, value: RawBson) -> Self {
        self.with(Clause::EqualsOrMissing(name, value))
    }

    /// A field is exactly as it was loaded.
    pub(crate) fn still(self, path: Path, value: Option<RawBson>) -> Self {
        self.with(Clause::Is(path, value))
    }

    /// A field of the crate's own is missing.
    pub(crate) fn missing(self, name: &'static str) -> Self {
        self.still(Path::Meta(name), None)
    }

    pub(crate) fn not_before(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::NotBefore(name, moment))
    }

    pub(crate) fn before(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::Before(name, moment))
    }

    /// Not a date before this moment. A document of the Python package has no `expires`.
    pub(crate) fn unless_before(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::UnlessBefore(name, moment))
    }

    pub(crate) fn no_date(self, name: &'static str) -> Self {
        self.with(Clause::NoDate(name))
    }

    pub(crate) fn older(self, name: &'static str, moment: Moment) -> Self {
        self.with(Clause::Older(name, moment))
    }

    /// Returns the filter of a session that was used at this moment: one that was alive then is asked
    /// for as alive.
    pub(crate) fn used_at(mut self, used: Moment) -> Self {
        for clause in &mut self.clauses {
            if let Clause::UnlessBefore(_, moment) = clause {
                *moment = used.min(*moment);
            }
        }
        self
    }

    fn with(mut self, clause: Clause) -> Self {
        self.clauses.push(clause);
        self
    }

    /// For an update whose caller gets the outcome: of several updates in one command it is not
    /// always known whether a session ended before or after its own.
    pub(crate) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Whether an update may share a command with others: it asks for one session, and whether that
    /// is alive. An ended session stays ended, so the update's outcome can be determined afterwards.
    pub(crate) fn may_share(&self) -> bool {
        let is_allowed = |clause| matches!(clause, &Clause::Id(_) | &Clause::UnlessBefore(..));
        !self.alone && self.wanted_id().is_some() && self.clauses.iter().all(is_allowed)
    }

    /// The id that a matching document has, when the filter names one.
    #[must_use]
    pub fn wanted_id(&self) -> Option<&str> {
        self.clauses.iter().find_map(|clause| match clause {
            Clause::Id(id) => Some(id.as_str()),
            _ => None,
        })
    }

    /// Whether a document is chosen.
    #[must_use]
    pub fn matches(&self, document: &Document) -> bool {
        let date = |name| document.get(name).and_then(moment);
        self.clauses.iter().all(|clause| match clause {
            Clause::Id(id) => document.id() == Some(id),
            Clause::Ids(ids) => document
                .id()
                .is_some_and(|id| ids.iter().any(|one| one == id)),
            Clause::NotId(id) => document.id() != Some(id),
            Clause::AfterId(id) => document.id().is_some_and(|other| other > id.as_str()),
            Clause::Session => document.id().is_some_and(|id| id < "~"),
            Clause::Equals(name, value) => document
                .get(name)
                .is_some_and(|stored| equal(stored, value.as_raw_bson_ref())),
            Clause::EqualsOrMissing(name, value) => match document.get(name) {
                None | Some(RawBsonRef::Null) => true,
                Some(stored) => equal(stored, value.as_raw_bson_ref()),
            },
            Clause::Is(path, value) => match (document.at(path), value) {
                (None, None) => true,
                (Some(stored), Some(value)) => equal(stored, value.as_raw_bson_ref()),
                _ => false,
            },
            Clause::NotBefore(name, moment) => date(name).is_some_and(|date| date >= *moment),
            Clause::Before(name, moment) => date(name).is_some_and(|date| date < *moment),
            Clause::UnlessBefore(name, moment) => date(name).is_none_or(|date| date >= *moment),
            Clause::NoDate(name) => date(name).is_none(),
            Clause::Older(name, moment) => {
                let seconds = document.get(name).and_then(number);
                seconds.is_some_and(|seconds| seconds < moment.seconds())
            }
        })
    }

    /// The filter as a MongoDB query, in BSON bytes, of [this shape](Filter#the-shape-of-the-query).
    #[must_use]
    pub fn to_bson(&self) -> Vec<u8> {
        self.to_raw().into_bytes()
    }

    pub(crate) fn to_raw(&self) -> RawDocumentBuf {
        let (mut query, mut all) = (RawDocumentBuf::new(), RawArrayBuf::new());
        let mut paths = Vec::with_capacity(self.clauses.len());
        for clause in &self.clauses {
            let (path, condition) = clause.render();
            if paths.contains(&path) {
                all.push(RawDocumentBuf::from_iter([(path, condition)]));
            } else {
                query.append(&path, condition);
                paths.push(path);
            }
        }
        if !all.is_empty() {
            query.append("$and", all);
        }
        query
    }
}

impl Clause {
    fn is_of_id(&self) -> bool {
        matches!(
            self,
            Clause::Id(_)
                | Clause::Ids(_)
                | Clause::NotId(_)
                | Clause::AfterId(_)
                | Clause::Session
        )
    }

    /// A path and what must be there, as MongoDB puts it.
    fn render(&self) -> (String, RawBson) {
        let with = |operator: &str, value: RawBson| {
            RawBson::Document(RawDocumentBuf::from_iter([(operator, value)]))
        };
        let list = |elements: [RawBson; 2]| RawBson::Array(RawArrayBuf::from_iter(elements));
        let id = |condition| ("_id".to_owned(), condition);
        let of = |name: &&str, condition| ((*name).to_owned(), condition);
        let text = |text: &str| RawBson::String(text.to_owned());
        match self {
            Clause::Id(one) => id(text(one)),
            Clause::Ids(ids) => {
                let ids = ids.iter().map(String::as_str);
                id(with("$in", RawBson::Array(ids.collect())))
            }
            Clause::NotId(one) => id(with("$ne", text(one))),
            Clause::AfterId(one) => id(with("$gt", text(one))),
            Clause::Session => id(with("$lt", text("~"))),
            Clause::Equals(name, value) => of(name, with("$eq", value.clone())),
            Clause::EqualsOrMissing(name, value) => {
                of(name, with("$in", list([RawBson::Null, value.clone()])))
            }
            // Plain equality would let 5 match [5, 6]; an expression compares the value itself.
            Clause::Is(path, Some(value)) => {
                let field = format!("${}", path.render()).into();
                let both = list([field, with("$literal", value.clone())]);
                ("$expr".to_owned(), with("$eq", both))
            }
            Clause::Is(path, None) => (path.render(), with("$exists", false.into())),
            Clause::NotBefore(name, moment) => of(name, with("$gte", date(*moment).into())),
            Clause::Before(name, moment) => of(name, with("$lt", date(*moment).into())),
            Clause::UnlessBefore(name, moment) => {
                of(name, with("$not", with("$lt", date(*moment).into())))
            }
            // Of all dates: an index bounds it, where `$type` reads every document.
            Clause::NoDate(name) => {
                let first = bson::DateTime::from_millis(i64::MIN);
                of(name, with("$not", with("$gte", first.into())))
            }
            Clause::Older(name, moment) => of(name, with("$lt", moment.seconds().into())),
        }
    }
}

/// Names no value: a filter holds digests and principals.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filter({} conditions)", self.clauses.len())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::document::tests::NOW;

    #[rstest]
    #[case(Filter::id("a"), true)]
    #[case(Filter::id("a").unless_before("expires", NOW), true)]
    #[case(Filter::all().unless_before("expires", NOW).with(Clause::Id("a".into())), true)]
    #[case(Filter::all(), false)]
    #[case(Filter::all().unless_before("expires", NOW), false)]
    #[case(Filter::ids(vec!["a".into()]), false)]
    #[case(Filter::id("a").before("expires", NOW), false)]
    #[case(Filter::id("a").unless_before("expires", NOW).missing("seal"), false)]
    #[case(Filter::id("a").alone(), false)]
    #[case(Filter::id("a").alone().unless_before("expires", NOW), false)]
    fn order_of_conditions_does_not_decide_about_sharing(
        #[case] filter: Filter,
        #[case] may_share: bool,
    ) {
        assert_eq!(filter.may_share(), may_share);
    }
}
