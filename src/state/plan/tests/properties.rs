//! Whatever a request did: the properties that every plan has.

use super::*;

fn a_value() -> impl Strategy<Value = RawBson> {
    prop_oneof![
        (-2_i64..3).prop_map(RawBson::Int64),
        Just(RawBson::String("x".into())),
        Just(RawBson::Null),
        prop::sample::select(vec![f64::NAN, -0.0, 0.0]).prop_map(RawBson::Double),
        prop::collection::vec(0_i64..3, 0..3).prop_map(|numbers| {
            let numbers: Vec<_> = numbers.into_iter().map(RawBson::Int64).collect();
            value::from_elements(&numbers)
        }),
        Just(RawBson::Binary(bson::Binary {
            subtype: bson::spec::BinarySubtype::UserDefined(0x80),
            bytes: vec![b'c', 5],
        })),
    ]
}

pub(super) fn a_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        a_value().prop_map(Change::Set),
        Just(Change::Unset),
        (-2_i64..3).prop_map(Change::Add),
        prop::collection::vec((0_i64..3).prop_map(RawBson::Int64), 0..3).prop_map(Change::Append),
    ]
}

pub(super) fn a_name() -> impl Strategy<Value = Field> {
    prop::sample::select(vec!["a", "b", "c.d", "$e", "_f_"]).prop_map(name)
}

pub(super) fn values() -> impl Strategy<Value = Vec<(Field, RawBson)>> {
    prop::collection::btree_map(a_name(), a_value(), 0..5)
        .prop_map(|values| values.into_iter().collect())
}

fn a_duration() -> impl Strategy<Value = Option<Duration>> {
    prop::sample::select(vec![None, Some(MINUTE), Some(HOUR), Some(DAY)])
}

proptest! {
    /// An update names a path once, and no field but those that the request changed and the
    /// session's own times; carried out, it makes of the stored values what the request saw.
    #[test]
    fn an_update_does_what_the_request_saw_and_nothing_else(
        before in values(),
        changes in prop::collection::vec((a_name(), a_change()), 0..8),
        (timeout, max_age) in (prop::option::of(a_duration()), prop::option::of(a_duration())),
        (renew, elevate, touch, csrf, skips) in any::<(bool, bool, bool, bool, bool)>(),
        configured in (a_duration(), a_duration(), a_duration(), a_duration()),
        after in 0_u64..100_000,
    ) {
        let config = Config {
            timeout: configured.0,
            lifetime: configured.1,
            reissue_time: configured.2,
            max_age: configured.3,
            ..config()
        };
        let mut state = live(meta(), &before);
        for (field, change) in changes {
            let _ = state.change(field, change).is_ok();
        }
        let wanted = OwnTimes {
            timeout: timeout.map_or(Override::Inherit, Override::Set),
            max_age: max_age.map_or(Override::Inherit, Override::Set),
            ..OwnTimes::default()
        };
        state.set_times(wanted.map(Some));
        state.skips_touch = skips;
        state.settings.token = match (renew, elevate) {
            (_, true) => TokenChange::Elevate,
            (true, false) => TokenChange::Renew,
            (false, false) => TokenChange::Keep,
        };
        state.settings.touch = touch;
        if csrf {
            state.settings.csrf = Some(Secret::draw().unwrap());
        }
        let now = start().plus(Duration::from_secs(after));
        let Write::Update(made) = plan(&state, &config, now).unwrap().write else {
            prop_assert!(state.changes.is_empty() && state.settings.is_empty());
            let write = plan(&state, &config, now).unwrap().write;
            prop_assert!(!skips || matches!(write, Write::Nothing));
            return Ok(());
        };
        let new_token = renew || elevate;
        let is_use = !skips || new_token || touch || wanted != OwnTimes::default();
        let allowed = |path: &String| match path.as_str() {
            "accessed" | "expires" => is_use,
            "token" | "renewed" => new_token,
            "created" => elevate,
            "csrf" => csrf,
            "timeout" => timeout.is_some(),
            "max_age" => max_age.is_some(),
            "sent" => cookie(&made).is_some(),
            path => path.strip_prefix("value.").is_some_and(|path| {
                state.changes.get(&Field::stored(path)).is_some()
            }),
        };
        let all = paths(&whole(&made));
        prop_assert!(all.iter().all(allowed), "{all:?}");
        // Without the token neither it nor what the session set for itself is written.
        for guarded in ["token", "renewed", "created", "csrf", "timeout", "max_age", "sent"] {
            prop_assert!(!paths(&made.values.update).contains(guarded), "{guarded}");
        }
        prop_assert!(conditions(&made.values.alive()).is_subset(&names(&["_id", "expires"])));
        prop_assert_eq!(made.with_token.as_ref().is_some_and(|part| part.is_required), new_token);
        // What goes by compare-and-set is a change of its own.
        let mut update = whole(&made);
        for (field, change) in &made.values.compared {
            let path = format!("value.{}", field.as_str());
            if paths(&update).contains(&path) {
                continue; // the server carries it out
            }
            prop_assert!(made.values.needs_compare_and_set);
            let value = change.apply(made.values.record.stored(field)).unwrap();
            let operator = value.map_or(Operator::Unset, Operator::Set);
            record::change(&mut update, field.clone(), operator);
        }
        let before = &made.values.record.meta;
        let record = made.values.record.after(&update, now).unwrap();
        let stored: BTreeSet<String> = record.values().map(|(n, v)| format!("{n} {v:?}")).collect();
        let seen = state.fields().into_iter().map(|field| {
            let value = state.get(&field).unwrap().unwrap();
            format!("{} {:?}", field.as_str(), value.as_raw_bson_ref())
        });
        prop_assert_eq!(stored, seen.collect::<BTreeSet<String>>());
        let after = &record.meta;
        prop_assert!(after.times.accessed >= before.times.accessed);
        prop_assert_eq!(after.times.created, if elevate { now } else { before.times.created });
        prop_assert!(after.times.expires >= before.times.expires || timeout.is_some());
    }
}
