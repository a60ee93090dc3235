//! Faults that were found by reading the code or reported of other libraries, each reproduced on a
//! real server, so that none comes back.

use mongodb::bson::doc;
use rocket::figment::value::Value as Setting;
use rocket::{Build, Rocket};
use rocket_mongo_session::testing::Clock;
use std::time::Duration;

use crate::apps::probe::{Gates, Probe, Script, run};
use crate::support::{App, Browser, Mongod, Proxy, ReplicaSet, eventually, figment, watchful};

mod clocks;
mod commit_errors;
mod cookies;
mod dropped_save;
mod failed_save;
mod indexes;
mod late_cookies;
mod left_behind;
mod login_order;
mod login_twice;
mod loops;
mod lost_replies;
mod many_faults;
mod numbering;
mod other_servers;
mod own_writes;
mod put_aside;
mod roll_back;
mod shortened;
mod touches;
mod two_logins;
mod values;

/// The end of waiting for what takes milliseconds, or never comes.
const NEVER: Duration = Duration::from_secs(20);

/// The name by which servers know the application on a `Standalone`.
const APP: &str = "app";

/// An application with sessions in memory.
struct InMemory {
    app: App,
    clock: Clock,
    gates: Gates,
}

impl InMemory {
    async fn start(more: impl FnOnce(Rocket<Build>) -> Rocket<Build>) -> InMemory {
        let (clock, gates) = (Clock::new(), Gates::default());
        let rocket = crate::apps::probe::rocket(figment("debug", None, &[]), &clock, &gates);
        let app = App::launch(more(rocket)).await;
        InMemory { app, clock, gates }
    }
}

/// A standalone server behind a proxy, and the probe on it.
struct Standalone {
    probe: Probe,
    proxy: Proxy,
    mongod: Mongod,
}

impl Standalone {
    async fn start(keys: &[(&str, Setting)]) -> Standalone {
        Standalone::start_with(keys, |rocket| rocket).await
    }

    async fn start_with(
        keys: &[(&str, Setting)],
        more: impl FnOnce(Rocket<Build>) -> Rocket<Build>,
    ) -> Standalone {
        let mongod = Mongod::start().await;
        let proxy = Proxy::start(mongod.port()).await;
        let url = format!("{}&appName={APP}", watchful(&proxy.url("reproduced")));
        let client = mongod.client().await;
        let probe = Probe::start_at(client, &url, "reproduced", keys, more).await;
        knows_its_server(&probe).await;
        Standalone {
            probe,
            proxy,
            mongod,
        }
    }
}

/// A replica set of one server behind a proxy, and the probe on it.
struct OneNode {
    probe: Probe,
    set: ReplicaSet,
}

impl OneNode {
    async fn start(keys: &[(&str, Setting)]) -> OneNode {
        let one = ReplicaSet::builder().members(1).behind_proxies();
        let set = one.start().await;
        let url = watchful(&set.url("reproduced"));
        let client = set.nodes()[0].client().await;
        let probe = Probe::start_at(client, &url, "reproduced", keys, |rocket| rocket).await;
        knows_its_server(&probe).await;
        OneNode { probe, set }
    }

    fn proxy(&self) -> &Proxy {
        self.set.proxy(0)
    }
}

/// From here on the application knows what kind of server it has.
async fn knows_its_server(probe: &Probe) {
    eventually("a server that answers", async || {
        let ping = run(&probe.browser(), Script::new().then("ping")).await;
        ping.results.first().is_some_and(|result| result.is_null())
    })
    .await;
}

/// A browser whose session holds `n = 1`.
async fn visitor(app: &App) -> Browser {
    let browser = app.browser();
    let visit = run(&browser, Script::new().set("n", 1)).await;
    assert!(visit.sent().is_some(), "{visit:?}");
    browser
}

/// How many sessions of this user are stored.
async fn stored_of(probe: &Probe, user: &str) -> u64 {
    let sessions = probe.sessions();
    let theirs = sessions.count_documents(doc! { "user": user }).await;
    theirs.expect("a count")
}
