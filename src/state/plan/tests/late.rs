//! What other requests did to kept values between a login's load and the old session's end.

use super::properties::{a_change, a_name, values};
use indexmap::IndexSet;

use super::*;

/// What a login replaces and keeps, and what the request did to the new session.
struct Replacement {
    replaces: Replaces,
    after: Changes,
}

impl Replacement {
    fn late_changes(&self, stored: &[(Field, RawBson)], fresh: &[(Field, RawBson)]) -> Update {
        late_changes(&self.replaces, &self.after, stored, fresh)
    }
}

fn replacement(
    keep: IndexSet<Field>,
    before: &[(Field, Change)],
    after: &[(Field, Change)],
) -> Replacement {
    let changes = |list: &[(Field, Change)]| {
        let mut changes = Changes::default();
        for (field, change) in list {
            changes.put(field.clone(), change.clone());
        }
        changes
    };
    Replacement {
        replaces: Replaces {
            old: stored(meta(), &[]),
            keep,
            before: changes(before),
        },
        after: changes(after),
    }
}

/// Keeps every key of the tests below.
fn all() -> IndexSet<Field> {
    IndexSet::from(["a", "b", "c", "n", "s"].map(name))
}

fn numbers(values: &[(&str, i64)]) -> Vec<(Field, RawBson)> {
    values
        .iter()
        .map(|(n, number)| (name(n), RawBson::Int64(*number)))
        .collect()
}

fn rendered(update: &Update) -> Document {
    read(update.to_bson())
}

#[test]
fn nothing_is_late_without_another_write() {
    let replacement = replacement(all(), &[(name("a"), Change::Add(1))], &[]);
    let update = replacement.late_changes(&numbers(&[("a", 6)]), &numbers(&[("a", 5)]));
    assert!(update.is_empty());
}

#[test]
fn a_late_write_to_a_kept_key_is_carried_over() {
    let replacement = replacement(IndexSet::from([name("a"), name("b")]), &[], &[]);
    let stored = numbers(&[("a", 1), ("b", 2)]);
    let fresh = numbers(&[("a", 10), ("b", 2), ("c", 3)]);
    let update = replacement.late_changes(&stored, &fresh);
    assert_eq!(rendered(&update), doc! { "$set": { "value.a": 10_i64 } });
}

#[test]
fn a_late_removal_of_a_kept_key_and_a_late_new_one_are_carried_over() {
    let replacement = replacement(all(), &[], &[]);
    let update = replacement.late_changes(&numbers(&[("a", 1)]), &numbers(&[("n", 2)]));
    let expected = doc! { "$unset": { "value.a": true }, "$set": { "value.n": 2_i64 } };
    assert_eq!(rendered(&update), expected);
}

#[test]
fn the_requests_own_changes_come_after_the_late_ones() {
    let before = [(name("n"), Change::Add(1)), (name("s"), set(7))];
    let after = [(name("n"), Change::Add(10))];
    let replacement = replacement(all(), &before, &after);
    // Loaded as 5, stored as 5 + 1 + 10; another request made 8 of the 5.
    let stored = numbers(&[("n", 16), ("s", 7)]);
    let update = replacement.late_changes(&stored, &numbers(&[("n", 8), ("s", 99)]));
    assert_eq!(rendered(&update), doc! { "$set": { "value.n": 19_i64 } });
}

#[test]
fn what_does_not_fit_the_late_value_leaves_it() {
    let replacement = replacement(all(), &[(name("n"), Change::Add(1))], &[]);
    let fresh = [(name("n"), RawBson::String("text".into()))];
    let update = replacement.late_changes(&numbers(&[("n", 6)]), &fresh);
    assert_eq!(rendered(&update), doc! { "$set": { "value.n": "text" } });
}

#[test]
fn what_is_not_kept_is_never_late() {
    for keep in [IndexSet::new(), IndexSet::from([name("b")])] {
        let update = replacement(keep, &[], &[]).late_changes(&[], &numbers(&[("a", 1)]));
        assert!(update.is_empty());
    }
}

proptest! {
    /// Whatever others did, the new session ends with what this request makes of their values;
    /// and when they did nothing, there is nothing to write.
    #[test]
    fn the_new_session_holds_what_the_request_makes_of_the_latest_values(
        loaded in values(),
        late in values(),
        before in prop::collection::vec((a_name(), a_change()), 0..4),
        after in prop::collection::vec((a_name(), a_change()), 0..4),
        kept in prop::collection::vec(a_name(), 0..4),
    ) {
        let keep = IndexSet::from_iter(kept);
        let mut state = live(meta(), &loaded);
        for (field, change) in before {
            let _ = state.change(field, change).is_ok();
        }
        state.login(RawBson::Int64(7), keep.clone());
        for (field, change) in after {
            let _ = state.change(field, change).is_ok();
        }
        let plan = insert(&state, &config(), SECOND);
        let (login, stored) = (plan.login.as_ref().unwrap(), plan.values.clone());
        let replaces = login.replaces.as_ref().unwrap();
        prop_assert!(late_changes(replaces, &login.after, &stored, &loaded).is_empty());

        let update = late_changes(replaces, &login.after, &stored, &late);
        for path in paths(&update) {
            let field = Field::stored(path.strip_prefix("value.").unwrap());
            prop_assert!(keep.contains(&field));
        }
        let meta = plan.meta(Id::draw().unwrap(), None);
        let document = meta.document(&Contents::plain(replaces.old.token.digest("session"), &plan.csrf, &stored));
        let there = Record::from_own_form(document, None).unwrap().after(&update, start()).unwrap();
        let fields = stored.iter().chain(&late).map(|(field, _)| field);
        for field in fields.filter(|field| keep.contains(*field)) {
            let latest = late.iter().find(|(other, _)| other == field).map(|(_, value)| value.clone());
            let made = [&replaces.before, &login.after].into_iter().fold(latest, |value, changes| {
                let Some(change) = changes.get(field) else { return value };
                let applied = change.apply(value.as_ref().map(RawBson::as_raw_bson_ref));
                applied.unwrap_or(value)
            });
            let there = there.stored(field).map(|value| value.to_raw_bson());
            prop_assert_eq!(format!("{there:?}"), format!("{made:?}")); // NaN is not equal to itself
        }
    }
}
