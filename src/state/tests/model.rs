//! Random calls, held against a plain list of values.

use bson::Bson;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Change(&'static str, Change),
    Clear,
    /// A write of everything that is pending begins, and ends.
    Begin,
    End,
    /// Another write stores one value at once.
    Exchange(&'static str, RawBson),
    /// The write fails: its changes are dropped.
    Fail,
}

fn a_value() -> impl Strategy<Value = RawBson> {
    prop_oneof![
        (-2_i64..3).prop_map(int),
        (-2_i32..3).prop_map(RawBson::Int32),
        Just(RawBson::Null),
        prop::sample::select(vec![f64::NAN, -0.0, 0.0]).prop_map(RawBson::Double),
        "[a-z]{0,12}".prop_map(RawBson::String),
        prop::collection::vec(0_i64..3, 0..3).prop_map(|numbers| {
            value::from_elements(&numbers.into_iter().map(int).collect::<Vec<_>>())
        }),
    ]
}

fn a_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c", "d.e"])
}

fn a_change(largest: i64) -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => a_value().prop_map(Change::Set),
        1 => Just(Change::Unset),
        2 => prop_oneof![-2_i64..3, Just(largest)].prop_map(Change::Add),
        2 => prop::collection::vec((0_i64..3).prop_map(int), 0..3).prop_map(Change::Append),
    ]
}

fn steps(with_writes: bool) -> impl Strategy<Value = Vec<Step>> {
    // What a request adds in all must be an i64, too: here, sums on what is below zero would fit one
    // by one.
    let largest = if with_writes { 3 } else { i64::MAX };
    let change = (a_name(), a_change(largest))
        .prop_map(|(name, change)| Step::Change(name, change))
        .boxed();
    let plain = prop_oneof![12 => change.clone(), 1 => Just(Step::Clear)];
    let writing = prop_oneof![
        12 => change,
        1 => Just(Step::Clear),
        3 => Just(Step::Begin),
        3 => Just(Step::End),
        2 => (a_name(), a_value()).prop_map(|(name, value)| Step::Exchange(name, value)),
        2 => Just(Step::Fail),
    ];
    prop::collection::vec(
        if with_writes {
            writing.boxed()
        } else {
            plain.boxed()
        },
        0..14,
    )
}

fn start() -> impl Strategy<Value = Vec<(Field, RawBson)>> {
    prop::collection::btree_map(a_name(), a_value(), 0..4).prop_map(|values| {
        values
            .into_iter()
            .map(|(n, value)| match value {
                // Not below zero, for the same reason.
                RawBson::Int64(number) => (name(n), int(number.abs())),
                RawBson::Int32(number) => (name(n), RawBson::Int32(number.abs())),
                other => (name(n), other),
            })
            .collect()
    })
}

/// The simple truth: a list of values.
struct Model {
    values: Vec<(Field, RawBson)>,
    limit: usize,
}

impl Model {
    fn get(&self, field: &Field) -> Option<&RawBson> {
        self.values
            .iter()
            .find(|(other, _)| other == field)
            .map(|(_, value)| value)
    }

    fn put(&mut self, field: &Field, value: Option<RawBson>) {
        let at = self.values.iter().position(|(other, _)| other == field);
        match (at, value) {
            (Some(at), Some(value)) => self.values[at].1 = value,
            (Some(at), None) => drop(self.values.remove(at)),
            (None, Some(value)) => self.values.push((field.clone(), value)),
            (None, None) => {}
        }
    }

    fn size(&self) -> usize {
        let mut document = bson::Document::new();
        for (field, value) in &self.values {
            document.insert(field.as_str(), Bson::try_from(value.clone()).unwrap());
        }
        bson::to_vec(&document).unwrap().len()
    }

    fn change(&mut self, field: &Field, change: &Change) -> Result<(), Error> {
        let before = self.get(field).cloned();
        let after = change.apply(before.as_ref().map(RawBson::as_raw_bson_ref));
        let after = after.map_err(|mismatch| mismatch.of(field))?;
        let old = self.size();
        self.put(field, after);
        if self.size() > self.limit.max(old) {
            self.put(field, before);
            return Err(Error::TooLarge { limit: self.limit });
        }
        Ok(())
    }
}

/// The bytes of a value: NaN is not equal to itself.
fn bytes(value: &RawBson) -> Vec<u8> {
    let value = Bson::try_from(value.clone()).unwrap();
    bson::to_vec(&bson::doc! { "v": value }).unwrap()
}

fn agree(state: &State, model: &Model) -> Result<(), TestCaseError> {
    let sorted = |values: &[(Field, RawBson)]| {
        let mut values: Vec<_> = values
            .iter()
            .map(|(field, value)| (field.clone(), bytes(value)))
            .collect();
        values.sort();
        values
    };
    prop_assert_eq!(sorted(&values(state)), sorted(&model.values));
    for field in ["a", "b", "c", "d.e", "never"].map(name) {
        let seen = state.get(&field).unwrap();
        let known = model.get(&field);
        prop_assert_eq!(seen.as_ref().map(bytes), known.map(bytes));
        prop_assert_eq!(state.contains(&field), known.is_some());
    }
    prop_assert_eq!(
        state.measure(),
        model.size(),
        "the size is what the values take"
    );
    prop_assert!(
        state.size >= model.size(),
        "{} < {}",
        state.size,
        model.size()
    );
    Ok(())
}

proptest! {
    /// Whatever calls come, the request sees what a plain list of values would show, and what
    /// is pending is exactly what differs from the stored session.
    #[test]
    fn a_request_sees_what_it_did(
        start in start(),
        steps in steps(false),
        limit in 20_usize..200,
        is_stored in any::<bool>(),
    ) {
        let start = if is_stored { start } else { Vec::new() };
        let mut state = if is_stored { live(&start, limit) } else { fresh() };
        state.max_bytes = limit;
        let mut model = Model { values: start.clone(), limit };
        for step in steps {
            let changes = match step {
                Step::Change(n, change) => vec![(name(n), change)],
                _ => state.fields().into_iter().map(|field| (field, Change::Unset)).collect(),
            };
            for (field, change) in changes {
                let (by_hand, seen) = (model.change(&field, &change), state.change(field, change));
                let kind = |result: Result<(), Error>| result.map_err(|error| std::mem::discriminant(&error));
                prop_assert_eq!(kind(seen), kind(by_hand));
            }
            agree(&state, &model)?;
            for field in ["a", "b", "c", "d.e"].map(name) {
                let before = start.iter().find(|(other, _)| *other == field).map(|(_, value)| value);
                let differs = before.map(bytes) != model.get(&field).map(bytes);
                prop_assert_eq!(state.changes.get(&field).is_some(), differs);
            }
            prop_assert_eq!(state.public_id().is_some(), is_stored);
            prop_assert_eq!(state.is_wanted(), is_stored || !state.changes.is_empty());
        }
    }

    /// Writes may be in flight while the request continues: nothing that it did is lost by them,
    /// and nothing is written twice.
    #[test]
    fn changes_during_a_write_stay_pending(start in start(), steps in steps(true)) {
        let mut database = Model { values: start.clone(), limit: ROOM };
        let mut state = live(&start, ROOM);
        let mut in_flight: Option<Changes> = None;
        let steps = steps.into_iter().chain([Step::End, Step::Begin, Step::End]);
        for step in steps {
            match (step, in_flight.take()) {
                (Step::Change(n, change), writing) => {
                    // What does not fit is refused, or a mismatch that the commit reports.
                    let before = state.get(&name(n));
                    let is_accepted = state.change(name(n), change.clone()).is_ok();
                    if let (true, Ok(before)) = (is_accepted, before) {
                        let after = change.apply(before.as_ref().map(RawBson::as_raw_bson_ref));
                        let after = after.ok().flatten();
                        let seen = state.get(&name(n)).ok().flatten();
                        prop_assert_eq!(seen.as_ref().map(bytes), after.as_ref().map(bytes));
                    }
                    in_flight = writing;
                }
                (Step::Clear, writing) => {
                    state.clear();
                    prop_assert!(state.fields().is_empty());
                    in_flight = writing;
                }
                (Step::Begin, None) => {
                    in_flight = Some(state.changes.clone());
                    state.start_flush();
                }
                // No other write of the request runs beside it.
                (Step::Exchange(n, value), None) => {
                    database.put(&name(n), Some(value));
                    let stored = *stored(&database.values, None);
                    state.exchange_succeeded(stored);
                }
                (Step::Fail, Some(_)) => state.discard_in_flight(),
                (Step::End, Some(written)) => {
                    let mut after = database.values.clone();
                    std::mem::swap(&mut database.values, &mut after);
                    let fits = written.iter().all(|(field, change)| database.change(field, change).is_ok());
                    if fits {
                        state.flush_succeeded(*stored(&database.values, None));
                    } else {
                        database.values = after;
                        state.discard_in_flight();
                    }
                }
                (_, writing) => in_flight = writing,
            }
            // The request sees the database, what is in flight and what is pending, in this order.
            for field in ["a", "b", "c", "d.e"].map(name) {
                let value = database.get(&field).cloned();
                let layers = [in_flight.as_ref(), Some(&state.changes)];
                let changes = layers.into_iter().flatten().filter_map(|layer| layer.get(&field));
                let mut expected = Ok(value);
                for change in changes {
                    expected = match expected {
                        // What a change replaces whole does not have to fit what was there.
                        _ if !change.is_relative() => change.apply(None),
                        Ok(value) => change.apply(value.as_ref().map(RawBson::as_raw_bson_ref)),
                        mismatch => mismatch,
                    };
                }
                match (expected, state.get(&field)) {
                    (Ok(expected), Ok(seen)) => {
                        prop_assert_eq!(seen.as_ref().map(bytes), expected.as_ref().map(bytes));
                        prop_assert_eq!(state.contains(&field), expected.is_some());
                    }
                    (Err(_), Err(_)) => prop_assert!(state.contains(&field)),
                    (expected, seen) => prop_assert!(false, "{expected:?} and {seen:?}"),
                }
            }
        }
    }
}
