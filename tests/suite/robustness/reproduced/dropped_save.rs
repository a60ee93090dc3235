//! A handler that loses patience with its `save`, which continues and succeeds; and deadlines of
//! any length.

use rocket::serde::json::json;
use rocket::tokio::select;
use rocket::{Build, Rocket, State, post, routes};
use rocket_mongo_session::{Error, MongoStore, Session, Sessions};
use std::time::Duration;

use super::{NEVER, Standalone, visitor};
use crate::apps::probe::{Gates, Script, bare, run};
use crate::support::{App, Fate, Mongod, Request, eventually, figment};

/// Stops waiting for its `save` when the gate opens.
#[post("/impatient")]
async fn impatient(session: &Session, gates: &State<Gates>) -> Result<&'static str, Error> {
    session.set("n", &2)?;
    select! {
        saved = session.save() => return saved.map(|()| "saved"),
        () = gates.pass("impatient") => {}
    }
    gates.pass("dropped").await;
    Ok("all is well")
}

fn routes(rocket: Rocket<Build>) -> Rocket<Build> {
    rocket.mount("/", routes![impatient])
}

#[rocket::async_test]
async fn save_that_the_handler_dropped_and_that_succeeds_is_a_success() {
    // Ample: the save is held until the handler has left it.
    let standalone = Standalone::start_with(&[("deadline", 30.into())], routes).await;
    let (probe, proxy) = (&standalone.probe, &standalone.proxy);
    for (command, browser) in [
        ("update", visitor(&probe.app).await),
        ("insert", probe.browser()),
    ] {
        let held = proxy.held();
        proxy.plan(command, [Fate::Hold]);
        let continues = async {
            probe.gates.reached("impatient").await;
            eventually("a held save", async || proxy.held() > held).await;
            probe.gates.open("impatient");
            probe.gates.reached("dropped").await;
            proxy.release();
            probe.gates.open("dropped");
        };
        let impatient = browser.send(Request::post("/impatient"));
        let (response, ()) = rocket::tokio::join!(impatient, continues);
        let said = (response.status, response.text());
        assert_eq!(said, (200, "all is well".to_owned()), "{command}");
        let seen = run(&browser, Script::new().get("n")).await;
        assert_eq!(seen.results, [json!(2)], "{command}");
    }
}

/// A deadline that no `Instant` can tell.
#[rocket::async_test]
async fn endless_deadline_does_not_panic() {
    let mongod = Mongod::shared().await;
    let collection = mongod.client().await.database("endless");
    let collection = collection.collection::<mongodb::bson::Document>("session");
    let store = MongoStore::new(&collection, Duration::MAX, 8, true);
    let rocket = bare(figment("debug", None, &[]), &Gates::default());
    let app = App::launch(rocket.attach(Sessions::with_store(store))).await;
    let script = Script::new().set("n", 1).then("save");
    let browser = app.browser();
    let visited = rocket::tokio::time::timeout(NEVER, run(&browser, script)).await;
    let visited = visited.expect("a response");
    assert_eq!(visited.status, 200, "{visited:?}");
}
