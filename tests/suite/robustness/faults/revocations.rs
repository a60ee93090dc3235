//! Revocations that a fault interrupts: an error, and the next one ends the rest.

use mongodb::bson::{Document, doc};

use super::{APP, setting, view};
use crate::apps::arena::{Arena, Op};
use crate::apps::database;
use crate::support::{FailPoint, Failure, Mode, Mongod, eventually, watchful};

#[rocket::async_test]
async fn an_interrupted_revocation_is_an_error_and_the_next_one_ends_the_rest() {
    let mongod = Mongod::start().await;
    let db = database();
    let arena = Arena::start(&setting(&watchful(&mongod.url(&db)), true)).await;
    let tests = mongod.client().await;
    let sessions = tests.database(&db).collection::<Document>("session");
    for (command, failure, left) in [
        // The document that keeps logins out: without it nothing has begun.
        ("update", Failure::close_connection(), 5),
        ("delete", Failure::close_connection(), 5),
        // All are gone, and whether for good is unknown.
        ("delete", Failure::write_concern(64), 0),
    ] {
        // A user of its own each time: a login within a second after a revocation is dropped.
        let user = database();
        let (mut browsers, mut ids) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let browser = arena.plant(&[Op::Login(user.clone())]).await;
            let view = view(&arena, &browser).await;
            assert_eq!(view.user.as_ref(), Some(&user));
            ids.push(view.id.expect("a stored session"));
            browsers.push(browser);
        }
        let failure = failure.app_name(APP);
        let point = FailPoint::on(&tests, &[command], Mode::Always, failure).await;
        let revoked = arena.sessions().of(user.as_str()).revoke_all().await;
        point.clear().await;
        assert!(revoked.is_err(), "{command}: {revoked:?}");
        let there = sessions.count_documents(doc! { "_id": { "$in": ids } });
        assert_eq!(there.await.expect("a count"), left, "{command}");
        // Until the driver has found its server again, it is an error as well.
        eventually("a revocation", async || {
            arena
                .sessions()
                .of(user.as_str())
                .revoke_all()
                .await
                .is_ok()
        })
        .await;
        for browser in &browsers {
            assert!(view(&arena, browser).await.is_new, "{command}");
        }
        assert_eq!(arena.sessions().count().await.expect("a count"), 0);
    }
}
