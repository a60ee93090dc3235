//! How an update asks for its session.

use super::*;
use crate::document::date;
use crate::record;
use crate::state::changes::{Change, Changes};
use crate::state::plan::{TokenPart, UpdatePlan, ValuesPlan};

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
    let later = bench.core.now().plus(Duration::from_secs(600));
    for (touches, sets_times, outcome) in [
        (true, false, Outcome::Gone),
        (false, false, Outcome::Applied),
        // As `set_timeout` does.
        (false, true, Outcome::Applied),
    ] {
        let record = bench.record(RawBson::Int64(1)).await;
        let id = record.meta.id.clone();
        let mut update = Update::default();
        let past = date(bench.core.now().minus(Duration::from_secs(1)));
        update.set(field::EXPIRES, past);
        update.set(field::TOKEN, record::binary(record.token.as_bytes()));
        let filter = Filter::id(id.as_str());
        let shorten = bench.store.update(filter, update, Durability::Data);
        shorten.await.unwrap();
        let mut changes = Changes::default();
        changes.put(field("n"), Change::Set(RawBson::Int64(2)));
        let mut values = ValuesPlan::new(record, &changes, bench.core.now());
        if touches {
            record::touch(&mut values.update, bench.core.now(), later);
        }
        assert_eq!(values.may_move_expires(), touches);
        let mut times = TokenPart::default();
        times.update.set(field::EXPIRES, date(later));
        let plan = UpdatePlan {
            values,
            token: token(&id),
            with_token: sets_times.then_some(times),
        };
        let what = format!("touches: {touches}, sets times: {sets_times}");
        let done = bench.core.update(Box::new(plan), true).await.unwrap();
        assert_eq!(done.outcome, outcome, "{what}");
        let stored = bench.store.load(id.as_str()).await.unwrap().unwrap();
        let expires = stored.get(field::EXPIRES).and_then(|it| it.as_datetime());
        assert_eq!(expires, Some(past), "{what}: it stays expired");
    }
}
