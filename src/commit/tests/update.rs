//! How an update asks for its session.

use super::*;
use crate::document::date;
use crate::record;
use crate::state::changes::{Change, Changes};
use crate::state::plan::{UpdatePlan, ValuesPlan};

#[rocket::async_test]
async fn update_of_a_session_that_expires_within_the_deadline_does_not_share() {
    let bench = Bench::with(|config| config.timeout = Some(Duration::from_secs(600)));
    let record = bench.record(RawBson::Int64(1)).await;
    assert!(!bench.core.ends_soon(&record));
    bench
        .clock
        .advance(Duration::from_secs(600) - bench.core.config.deadline);
    assert!(!bench.core.ends_soon(&record));
    bench.clock.advance(Duration::from_secs(1));
    assert!(bench.core.ends_soon(&record));
}

/// Another request has shortened the session's life since it was loaded.
#[rocket::async_test]
async fn an_update_revives_no_session_that_has_expired_meanwhile() {
    let bench = Bench::with(|config| config.timeout = Some(Duration::from_secs(600)));
    for (prolongs, outcome) in [(true, Outcome::Gone), (false, Outcome::Applied)] {
        let record = bench.record(RawBson::Int64(1)).await;
        let id = record.meta.id.clone();
        let past = date(bench.core.now().minus(Duration::from_secs(1)));
        let mut shorten = Update::default();
        shorten.set(field::EXPIRES, past);
        let shorten = bench
            .store
            .update(Filter::id(id.as_str()), shorten, Durability::Data);
        shorten.await.unwrap();
        let mut changes = Changes::default();
        changes.put(field("n"), Change::Set(RawBson::Int64(2)));
        let now = bench.core.now();
        let mut values = ValuesPlan::new(record, &changes, now);
        if prolongs {
            record::touch(&mut values.update, now, now.plus(Duration::from_secs(600)));
        }
        assert_eq!(values.prolongs(), prolongs);
        let plan = UpdatePlan {
            values,
            token: token(&id),
            with_token: None,
        };
        let done = bench.core.update(Box::new(plan), true).await.unwrap();
        assert_eq!(done.outcome, outcome, "what prolongs asks: {prolongs}");
        let stored = bench.store.load(id.as_str()).await.unwrap().unwrap();
        let expires = stored.get(field::EXPIRES).and_then(|it| it.as_datetime());
        assert_eq!(expires, Some(past), "it stays expired");
    }
}
