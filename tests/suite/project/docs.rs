//! What the documentation says about the database is what the crate does there.

use mongodb::bson::Document;
use rocket::futures::TryStreamExt;
use rocket::{get, routes};
use rocket_mongo_session::{Error, Sessions};

use crate::support::{App, Mongod, figment};

#[get("/indexes")]
async fn indexes(sessions: &Sessions) -> Result<(), Error> {
    sessions.ensure_indexes().await
}

#[rocket::async_test]
async fn the_guide_makes_the_indexes_that_the_crate_makes() {
    let mongod = Mongod::shared().await;
    let url = mongod.url("docs_indexes");
    let figment = figment("debug", Some(&url), &[]);
    let app = App::launch(
        rocket::custom(figment)
            .attach(Sessions::fairing())
            .mount("/", routes![indexes]),
    )
    .await;
    assert_eq!(app.get("/indexes").await.status, 200);

    let database = mongod.client().await.database("docs_indexes");
    let sessions = database.collection::<Document>("session");
    let made: Vec<_> = sessions
        .list_indexes()
        .await
        .expect("the indexes")
        .try_collect()
        .await
        .expect("the indexes");
    assert_eq!(made.len(), 3, "{made:?}");
    let guide = include_str!("../../../src/guide/operation.md");
    for index in &made[1..] {
        let keys: Vec<_> = index.keys.keys().map(|key| format!("{key}: 1")).collect();
        let options = index.options.clone().expect("options");
        let mut line = format!(
            "db.session.createIndex({{{}}}, {{name: \"{}\"",
            keys.join(", "),
            options.name.expect("a name")
        );
        if let Some(grace) = options.expire_after {
            line += &format!(", expireAfterSeconds: {}}})", grace.as_secs());
        }
        assert!(guide.contains(&line), "{line}");
    }
}
