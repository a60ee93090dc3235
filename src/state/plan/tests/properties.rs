//! Whatever a request did: the properties that every decision has.

use super::*;

fn a_value() -> impl Strategy<Value = RawBson> {
    prop_oneof![
        (-2_i64..3).prop_map(RawBson::Int64),
        Just(RawBson::String("x".into())),
        Just(RawBson::Null),
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
        (renew, touch, csrf) in any::<(bool, bool, bool)>(),
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
        let mut state = live(&record(&before));
        for (field, change) in changes {
            let _ = state.change(field, change).is_ok();
        }
        state.settings.timeout = timeout;
        state.settings.max_age = max_age;
        state.settings.renew = renew;
        state.settings.touch = touch;
        if csrf {
            state.set_csrf(Secret::draw().unwrap());
        }
        let now = start().plus(Duration::from_secs(after));
        let Write::Update(alter) = decide(&state, &config, now).unwrap().write else {
            let asked = renew || touch || csrf || timeout.is_some() || max_age.is_some();
            prop_assert!(state.changes.is_empty() && !asked);
            return Ok(());
        };
        let allowed = |path: &String| match path.as_str() {
            "accessed" | "expires" => true,
            "token" | "renewed" => renew,
            "csrf" => csrf,
            "timeout" => timeout.is_some(),
            "max_age" => max_age.is_some(),
            "sent" => alter.cookie.is_some(),
            path => path.strip_prefix("value.").is_some_and(|path| {
                state.changes.get(&Field::stored(path)).is_some()
            }),
        };
        prop_assert!(paths(&alter.update).iter().all(allowed), "{:?}", paths(&alter.update));
        if let Some((_, data)) = &alter.without_token {
            prop_assert!(paths(data).is_subset(&paths(&alter.update)));
            prop_assert!(!paths(data).contains("token") && !paths(data).contains("renewed"));
        }
        prop_assert_eq!(alter.cookie.is_some(), alter.without_token.is_some());
        prop_assert_eq!(conditions(&alter.filter).contains("token"), alter.cookie.is_some());
        // What goes by compare-and-set is a change of its own.
        let mut update = alter.update.clone();
        for (field, change) in alter.relative.iter() {
            let path = format!("value.{}", field.as_str());
            prop_assert!(!paths(&update).contains(&path));
            let value = change.apply(alter.base.get(field)).unwrap().unwrap();
            record::change(&mut update, field.clone(), Operation::Set(value));
        }
        let record = alter.base.after(&update).unwrap();
        let stored: BTreeSet<String> = record.values().map(|(n, v)| format!("{n} {v:?}")).collect();
        let seen = state.fields().into_iter().map(|field| {
            let value = state.get(&field).unwrap();
            format!("{} {:?}", field.as_str(), value.as_raw_bson_ref())
        });
        prop_assert_eq!(stored, seen.collect::<BTreeSet<String>>());
        prop_assert!(record.accessed >= alter.base.accessed && record.created == alter.base.created);
        prop_assert!(record.expires >= alter.base.expires || timeout.is_some());
    }
}
