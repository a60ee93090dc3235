use std::sync::Arc;

use bson::{Bson, RawBson, doc};

use super::sample::{
    DATA, at, change, changes, holds, id, is, is_mismatch, lacks, path, put, session, set, stored,
    touch,
};
use super::{Failure, Kept};
use crate::document::value;
use crate::document::{Operator, date};
use crate::record::{binary, field};
use crate::store::{Filter, Store, Update, Updated};

/// [`update`](Store::update) changes the fields that it names, each in the way that it says, and
/// nothing else of the document: fields that the crate does not know survive.
pub async fn update_changes_the_named_fields_and_nothing_else(store: Arc<dyn Store>) -> Kept {
    let mut wanted = stored(&*store, 1).await?;
    let other = stored(&*store, 2).await?;
    let more = vec![RawBson::String("more".into()), RawBson::Int64(4)];
    let mut update = Update::default();
    update.insert(path("text"), Operator::Set("other".into()));
    update.insert(path("a%2Eb"), Operator::Set(RawBson::Null));
    update.insert(path("inner"), Operator::Unset);
    update.insert(path("number"), Operator::Increment(2));
    update.insert(path("small"), Operator::Increment(-6));
    update.insert(path("list"), Operator::Push(more));
    update.set(field::USER, 8_i64);
    let expires = date(at(100_000));
    update.raise(field::EXPIRES, expires);
    update.raise(field::CREATED, 0.0);
    changes(&*store, 1, update).await?;

    wanted.insert(field::USER, 8_i64);
    wanted.insert(field::EXPIRES, expires);
    if let Ok(value) = wanted.get_document_mut(field::VALUE) {
        value.remove("inner");
        value.extend(doc! {
            "text": "other",
            "a%2Eb": Bson::Null,
            "number": 7_i64,
            "small": -1_i64,
            "list": [1_i64, "two", [3_i64], "more", 4_i64],
        });
    }
    holds(&*store, &wanted).await?;
    holds(&*store, &other).await
}

/// A field that is missing is added by setting, counting from zero, appending to an empty array
/// and raising; to remove it succeeds.
pub async fn update_adds_fields_that_were_missing(store: Arc<dyn Store>) -> Kept {
    let mut wanted = stored(&*store, 1).await?;
    let mut update = Update::default();
    let pushed = vec![RawBson::Int64(1), RawBson::Int64(2)];
    update.insert(path("ka"), Operator::Set("set".into()));
    update.insert(path("kb"), Operator::Increment(-3));
    update.insert(path("kc"), Operator::Push(pushed));
    update.insert(path("kd"), Operator::Unset);
    update.raise(field::RENEWED, 5.0);
    changes(&*store, 1, update).await?;
    wanted.insert(field::RENEWED, 5.0);
    if let Ok(value) = wanted.get_document_mut(field::VALUE) {
        value.extend(doc! { "ka": "set", "kb": -3_i64, "kc": [1_i64, 2_i64] });
    }
    holds(&*store, &wanted).await
}

/// An update of a document that is not there makes none.
pub async fn update_never_creates(store: Arc<dyn Store>) -> Kept {
    stored(&*store, 2).await?;
    let filter = Filter::id(&id(1));
    let mut raised = Update::default();
    raised.raise("at", at(0).seconds());
    raised.raise(field::EXPIRES, date(at(60)));
    let updates = [
        set("text", "x"),
        change("number", Operator::Increment(1)),
        change("list", Operator::Push(vec![RawBson::Int64(1)])),
        raised,
    ];
    for update in updates {
        let updated = store.update(filter.clone(), update, DATA).await?;
        must!(
            updated == Updated::Gone,
            "update said {updated:?} of a document that is not there"
        );
        lacks(&*store, &id(1), "after an update").await?;
    }
    let all = store.count(Filter::all()).await?;
    must!(all == 1, "there are {all} documents instead of one");
    Ok(())
}

/// All conditions of a [`Filter`] must hold. When one does not, the result is [`Updated::Gone`]
/// and nothing changes.
pub async fn update_asks_its_whole_filter(store: Arc<dyn Store>) -> Kept {
    let before = stored(&*store, 1).await?;
    let mut bare = session(&id(2));
    for field in [field::USER, field::EXPIRES, field::ACCESSED] {
        bare.remove(field);
    }
    put(&*store, &bare).await?;
    let (this, other) = (|| Filter::id(&id(1)), || Filter::id(&id(2)));
    let token = binary(&[7; 32]);
    let refused = [
        ("its token", this().equals(field::TOKEN, binary(&[8; 32]))),
        ("its user", this().equals(field::USER, RawBson::Int64(8))),
        (
            "a missing field",
            other().equals(field::USER, RawBson::Int64(7)),
        ),
        ("a value", is(this(), "number", Some(RawBson::Int64(6)))),
        ("a value's absence", is(this(), "number", None)),
        ("a missing value", is(this(), "other", Some(RawBson::Null))),
        (
            "a date that must be later",
            this().not_before(field::EXPIRES, at(90_000)),
        ),
        (
            "a date that must be earlier",
            this().before(field::EXPIRES, at(80_000)),
        ),
        (
            "a date that must not be earlier",
            this().unless_before(field::EXPIRES, at(90_000)),
        ),
        (
            "a date that must be missing",
            this().no_date(field::EXPIRES),
        ),
        (
            "a time that must be older",
            this().older(field::ACCESSED, at(-70)),
        ),
        (
            "a missing date",
            other().not_before(field::EXPIRES, at(-90_000)),
        ),
        ("a missing date", other().before(field::EXPIRES, at(90_000))),
        ("a missing time", other().older(field::ACCESSED, at(90_000))),
        ("the id", this().except(&id(1))),
        (
            "one of two values",
            is(
                is(this(), "flag", Some(RawBson::Boolean(true))),
                "number",
                None,
            ),
        ),
    ];
    for (what, filter) in refused {
        let updated = store.update(filter, set("text", "x"), DATA).await?;
        must!(
            updated == Updated::Gone,
            "update said {updated:?}, though {what} is not as its filter asks"
        );
    }
    holds(&*store, &before).await?;
    holds(&*store, &bare).await?;

    let filter = this()
        .equals(field::TOKEN, token)
        .equals(field::USER, RawBson::Int64(7))
        .not_before(field::EXPIRES, at(80_000))
        .unless_before(field::EXPIRES, at(80_000))
        .before(field::EXPIRES, at(90_000))
        .older(field::ACCESSED, at(-50))
        .except(&id(2));
    let filter = is(filter, "number", Some(RawBson::Int64(5)));
    let filter = is(filter, "nothing", Some(RawBson::Null));
    let filter = is(filter, "other", None);
    for filter in [
        filter,
        other().no_date(field::EXPIRES),
        other().unless_before(field::EXPIRES, at(90_000)),
    ] {
        let updated = store.update(filter, set("text", "x"), DATA).await?;
        must!(
            updated == Updated::Applied,
            "update said {updated:?}, though everything is as its filter asks"
        );
    }
    Ok(())
}

/// An update that does not fit one of the values that it meets is an
/// [`Error::Mismatch`](crate::Error::Mismatch), and none of it is carried out.
pub async fn update_is_all_or_nothing(store: Arc<dyn Store>) -> Kept {
    let mut before = session(&id(1));
    before.insert(
        "value",
        doc! { "text": "x", "number": 5_i64, "most": i64::MAX, "none": Bson::Null },
    );
    put(&*store, &before).await?;
    let push = || Operator::Push(vec![RawBson::Int64(1)]);
    let mismatches = [
        ("counting in text", change("text", Operator::Increment(1))),
        ("counting in null", change("none", Operator::Increment(1))),
        (
            "counting beyond i64",
            change("most", Operator::Increment(1)),
        ),
        ("appending to a number", change("number", push())),
        ("appending to null", change("none", push())),
    ];
    for (what, mismatch) in mismatches {
        let mut update = mismatch;
        // One on either side of it, in whatever order a store goes.
        update.insert(path("aaa"), Operator::Set("x".into()));
        update.insert(path("zzz"), Operator::Increment(1));
        update.set(field::USER, 9_i64);
        let updated = store.update(Filter::id(&id(1)), update, DATA).await;
        must!(is_mismatch(&updated), "update said {updated:?} to {what}");
        holds(&*store, &before).await?;
    }
    Ok(())
}

/// [`Updated::Applied`] says that the filter chose a document, even when the update finds
/// everything in it as it is to be.
pub async fn update_that_changes_nothing_is_applied(store: Arc<dyn Store>) -> Kept {
    let before = stored(&*store, 1).await?;
    for update in [
        set("number", 5_i64),
        change("other", Operator::Unset),
        change("number", Operator::Increment(0)),
        touch(&id(1), at(-100), at(-100)).update(),
    ] {
        changes(&*store, 1, update).await?;
    }
    holds(&*store, &before).await
}

/// A value is as a filter asks only if it is that very value: no array that holds it, no part of a
/// document, and null is not "missing".
pub async fn a_value_is_compared_whole(store: Arc<dyn Store>) -> Kept {
    let mut document = session(&id(1));
    let five = || RawBson::Int64(5);
    document.insert(
        field::VALUE,
        doc! { "five": 5_i64, "list": [5_i64, 6_i64], "only": [5_i64], "in": { "a": 5_i64 }, "null": Bson::Null },
    );
    put(&*store, &document).await?;
    let list = |elements: &[RawBson]| Some(value::from_elements(elements));
    let cases = [
        ("five", Some(five()), true),
        ("five", list(&[five()]), false),
        ("five", Some(RawBson::String("5".into())), false),
        ("list", Some(five()), false),
        ("list", list(&[five(), RawBson::Int64(6)]), true),
        ("list", list(&[RawBson::Int64(6), five()]), false),
        ("list", list(&[five()]), false),
        ("only", Some(five()), false),
        ("in", Some(five()), false),
        ("null", Some(RawBson::Null), true),
        ("null", None, false),
        ("other", Some(RawBson::Null), false),
        ("other", None, true),
    ];
    for (name, value, same) in cases {
        let filter = is(Filter::id(&id(1)), name, value.clone());
        let chosen = store.count(filter.clone()).await? == 1;
        must!(
            chosen == same,
            "a filter that asks whether `{name}` is {value:?} says {chosen}"
        );
        let updated = store.update(filter, change("seen", Operator::Increment(1)), DATA);
        must!(
            (updated.await? == Updated::Applied) == same,
            "an update that asks whether `{name}` is {value:?} says otherwise"
        );
    }
    Ok(())
}
