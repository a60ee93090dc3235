//! Revocations that a fault interrupts: an error, and the next one ends the rest.

use super::{APP, setting, view};
use crate::arena::{Arena, Op, database};
use crate::support::{FailPoint, Failure, Mode, Mongod};

#[rocket::async_test]
async fn an_interrupted_revocation_is_an_error_and_the_next_one_ends_the_rest() {
    let mongod = Mongod::start().await;
    let arena = Arena::start(&setting(&mongod.url(&database()), true)).await;
    let tests = mongod.client().await;
    for (command, failure) in [
        // The marker that keeps logins out: without it nothing has begun.
        ("insert", Failure::close_connection()),
        ("delete", Failure::close_connection()),
        // All are gone, and whether for good is unknown.
        ("delete", Failure::write_concern(64)),
    ] {
        // A user of its own each time: only the first revocation inserts a marker.
        let user = database();
        let browsers: Vec<_> = (0..5).map(|_| arena.browser()).collect();
        for browser in &browsers {
            arena.run(browser, &[Op::Login(user.clone())]).await;
        }
        let failure = failure.app_name(APP);
        let point = FailPoint::on(&tests, &[command], Mode::Always, failure).await;
        let revoked = arena.sessions().revoke_user(user.as_str()).await;
        point.clear().await;
        assert!(revoked.is_err(), "{command}: {revoked:?}");
        let again = arena.sessions().revoke_user(user.as_str()).await;
        again.expect("a revocation");
        for browser in &browsers {
            assert!(view(&arena, browser).await.is_new, "{command}");
        }
        assert_eq!(arena.sessions().count().await.expect("a count"), 0);
    }
}
