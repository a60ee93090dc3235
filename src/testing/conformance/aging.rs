use std::sync::Arc;
use std::time::Duration;

use bson::doc;

use super::sample::{DATA, at, changes, id, put, raw, session, stored};
use super::{Failure, Kept, at_once, text};
use crate::document::{SERVER_TIME, Update, date};
use crate::record::field;
use crate::store::{Aged, REVOCATION_LIFETIME, Store};

/// By how much an age may differ from what it should be: a store may keep some times in whole
/// seconds, and the suite is not a stopwatch.
const LEEWAY: Duration = Duration::from_secs(60);

/// [`load_many`](Store::load_many) gives the documents that have one of the ids, whole, and no
/// other.
pub async fn load_many_gives_the_documents_asked_for(store: Arc<dyn Store>) -> Kept {
    let mut wanted = Vec::new();
    for number in 0..5 {
        wanted.push(raw(&stored(&*store, number).await?));
    }
    wanted.remove(0);
    wanted.remove(1);
    let ids = [1, 3, 4, 9].map(id).into();
    let mut found = store.load_many(ids).await?;
    found.sort_by(|one, other| one.id().cmp(&other.id()));
    must!(
        found == wanted,
        "of four ids, three of which documents have, it gave {} documents or changed ones",
        found.len()
    );
    let none = store.load_many(Vec::new()).await?;
    must!(none.is_empty(), "it gave a document for no id");
    Ok(())
}

/// [`ages`](Store::ages) says how long ago `at`, or else `renewed`, was, for a date and for a
/// timestamp that the store filled when it inserted the document, and nothing else has an age. Its
/// documents have the fields of [`Aged::FIELDS`] alone.
pub async fn ages_go_by_the_clock_of_the_store(store: Arc<dyn Store>) -> Kept {
    const HOUR: i64 = 3600;
    let with = |number, fields: bson::Document| {
        let mut document = session(&id(number));
        document.extend(fields);
        document
    };
    let earlier = date(at(-HOUR));
    for document in [
        with(1, doc! { "at": SERVER_TIME, "renewed": earlier }),
        with(2, doc! { "at": earlier, "renewed": date(at(-2 * HOUR)) }),
        with(3, doc! { "renewed": earlier }),
        with(4, doc! { "at": date(at(HOUR)) }),
        with(5, doc! { "renewed": at(-HOUR).seconds() }),
        with(6, doc! {}),
    ] {
        put(&*store, &document).await?;
    }
    let ages = [
        Some(Duration::ZERO),
        Some(Duration::from_secs(3600)),
        Some(Duration::from_secs(3600)),
        Some(Duration::ZERO),
        None,
        None,
    ];
    let found = store.ages((1..=7).map(id).collect()).await?;
    must!(found.len() == 6, "it gave {} documents of 6", found.len());
    for (number, wanted) in (1..).zip(ages) {
        let one = one(&found, &id(number))?;
        let is_right = match (one.age, wanted) {
            (Some(age), Some(wanted)) => age.abs_diff(wanted) <= LEEWAY,
            (age, wanted) => age == wanted,
        };
        must!(
            is_right,
            "the age of {} is {:?} and not {wanted:?}",
            text(&one.document),
            one.age
        );
        for (name, _) in one.document.fields() {
            must!(Aged::FIELDS.contains(&name), "it gave the field {name}");
        }
        let token = one.document.get(field::TOKEN).is_some();
        must!(token, "it did not give the field {}", field::TOKEN);
    }
    let inserted = one(&found, &id(1))?.document.get("at");
    let filled = inserted.and_then(|at| at.as_timestamp());
    must!(
        filled.is_some_and(|at| at.time > 0),
        "an empty timestamp was stored as it was"
    );
    let later = store.ages(vec![id(3)]).await?;
    let (before, after) = (one(&found, &id(3))?.age, one(&later, &id(3))?.age);
    must!(before <= after, "an age was {before:?}, and then {after:?}");
    Ok(())
}

/// [`put_revocation`](Store::put_revocation) stores the present time, whether the document is there
/// or not, leaves its other fields as they were, and many at once all succeed.
pub async fn put_revocation_sets_the_present_time(store: Arc<dyn Store>) -> Kept {
    const NEW: &str = "~new";
    const OLD: &str = "~old";
    let old = doc! {
        field::ID: OLD,
        "at": date(at(-10_000)),
        field::EXPIRES: date(at(1)),
        field::USER: 7_i64,
    };
    store.insert(vec![raw(&old)], DATA).await?;
    let ids = (0..20).flat_map(|_| [NEW, OLD]);
    at_once(&store, ids, |store, id| async move {
        store.put_revocation(id).await
    })
    .await?;
    let found = store.ages(vec![NEW.to_owned(), OLD.to_owned()]).await?;
    for id in [NEW, OLD] {
        let one = one(&found, id)?;
        must!(
            one.age.is_some_and(|age| age <= LEEWAY),
            "a revocation of this moment has the age {:?}",
            one.age
        );
        let date = |name| one.document.get(name).and_then(|value| value.as_datetime());
        let times = date("at").zip(date(field::EXPIRES));
        let lives = times.map(|(at, expires)| {
            expires
                .timestamp_millis()
                .saturating_sub(at.timestamp_millis())
        });
        let lifetime = i64::try_from(REVOCATION_LIFETIME.as_millis()).unwrap_or(0);
        must!(
            lives == Some(lifetime),
            "a revocation lives for {lives:?} ms and not {lifetime}"
        );
    }
    let stored = store.load(OLD).await?;
    let user = stored
        .as_ref()
        .and_then(|old| old.get(field::USER)?.as_i64());
    must!(user == Some(7), "a revocation lost its other fields");
    Ok(())
}

/// An update that sets a field to the present time sets it by the clock of the store.
pub async fn update_sets_the_present_time(store: Arc<dyn Store>) -> Kept {
    let mut document = session(&id(1));
    document.insert("renewed", date(at(-10_000)));
    put(&*store, &document).await?;
    let mut update = Update::default();
    update.set_now("renewed");
    changes(&*store, 1, update).await?;
    let found = store.ages(vec![id(1)]).await?;
    let age = one(&found, &id(1))?.age;
    must!(
        age.is_some_and(|age| age <= LEEWAY),
        "what was set to the present time has the age {age:?}"
    );
    Ok(())
}

fn one<'a>(found: &'a [Aged], id: &str) -> Result<&'a Aged, Failure> {
    let one = found.iter().find(|aged| aged.document.id() == Some(id));
    one.ok_or_else(|| Failure::new(format!("it did not give {id}")))
}
