//! kill -9 of the application itself, at the points that matter. It is this test binary again, in a
//! process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::{Client, Collection};
use rocket::fairing::AdHoc;

use super::{APP, setting};
use crate::apps::arena::{ArenaResponse, Op, Setting, request, set};
use crate::apps::database;
use crate::support::{Browser, FailPoint, Failure, Mode, Mongod, eventually, in_progress};

const URL: &str = "APP_TO_KILL_URL";

/// Not a test: the application that the others start and kill.
#[rocket::async_test]
#[ignore = "the application that other tests start in a process of its own"]
async fn the_application() {
    let Ok(url) = std::env::var(URL) else { return };
    let rocket = Setting::in_memory().url(url).rocket();
    let tell = AdHoc::on_liftoff("where it listens", |rocket| {
        Box::pin(async move { println!("\nport {}", rocket.config().port) })
    });
    let ended = rocket.attach(tell).launch().await;
    ended
        .map(drop)
        .expect("an application that is killed, not ended");
}

struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    fn start(url: &str) -> Process {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "robustness::faults::process::the_application",
                "--ignored",
                "--nocapture",
            ])
            .env(URL, url)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the application");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let port = output.lines().map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("port ")?;
            port.parse().ok()
        });
        let port: u16 = port.expect("the port of an application that launches");
        Process {
            child,
            addr: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }

    async fn run(&self, browser: &Browser, program: &[Op]) -> ArenaResponse {
        let response = ArenaResponse(request(browser, program).send(self.addr).await);
        response.arrive(browser);
        response
    }

    /// Runs a program, and kills the process while the server is at this command of it: there is
    /// no answer. What the server makes of the command is over when this returns.
    async fn dies_at(mut self, tests: &Client, browser: &Browser, program: &[Op], command: &str) {
        // Long enough to be seen.
        let held = Failure::block(Duration::from_secs(3)).app_name(APP);
        let point = FailPoint::on(tests, &[command], Mode::Times(1), held).await;
        let sent = rocket::tokio::spawn(request(browser, program).try_send(self.addr));
        eventually("the command", async || {
            in_progress(tests, APP, Some(command)).await > 0
        })
        .await;
        self.child.kill().expect("an end");
        self.child.wait().expect("its end");
        let response = sent.await.expect("no panic");
        assert!(response.is_err(), "{response:?}");
        point.clear().await;
        eventually("the end of the command", async || {
            in_progress(tests, APP, None).await == 0
        })
        .await;
    }

    /// Runs a program that kills the process in its midst: there is no answer.
    async fn dies_of(mut self, browser: &Browser, program: &[Op]) {
        let response = request(browser, program).try_send(self.addr).await;
        assert!(response.is_err(), "{response:?}");
        let ended = self.child.wait().expect("its end");
        assert!(!ended.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killed already, or the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[rocket::async_test]
async fn an_application_that_is_killed_leaves_all_or_nothing_of_a_request() {
    let mongod = Mongod::start().await;
    let db = database();
    let url = setting(&mongod.url(&db), true).url.expect("an address");
    let browser = blank();
    let first = Process::start(&url);
    first
        .run(
            &browser,
            &[set("a", 1), set("b", 1), Op::Flash("hello".into())],
        )
        .await;

    // Between the load and the commit: nothing has happened.
    first
        .dies_of(&browser, &[set("a", 2), set("b", 2), Op::Die])
        .await;
    let second = Process::start(&url);
    let view = second.run(&browser, &[Op::View]).await.results().view(0);
    assert_eq!((view.int("a"), view.int("b")), (1, 1));

    // Between the commit and the response: all is stored, and no client was told.
    let program = [set("a", 3), set("b", 3), Op::Save, Op::Die];
    second.dies_of(&browser, &program).await;
    let third = Process::start(&url);
    let view = third.run(&browser, &[Op::View]).await.results().view(0);
    assert_eq!((view.int("a"), view.int("b")), (3, 3));

    // A login that was carried out, and no client was told of: the old token is dead, and no client
    // has the new one.
    let program = [
        Op::LoginKeeping("me".into(), vec!["a".into()]),
        Op::Save,
        Op::Die,
    ];
    third.dies_of(&browser, &program).await;
    let fourth = Process::start(&url);
    let view = fourth.run(&browser, &[Op::View]).await.results().view(0);
    assert!(view.is_new && view.user.is_none(), "{view:?}");
    let again = blank();
    let response = fourth
        .run(&again, &[Op::Login("me".into()), set("a", 4)])
        .await;
    assert!(response.sends_cookie());
    let view = fourth.run(&again, &[Op::View]).await.results().view(0);
    assert_eq!((view.user.as_deref(), view.int("a")), (Some("me"), 4));

    assert_whole(&sessions(&mongod.client().await, &db)).await;
}

fn blank() -> Browser {
    Browser::new(SocketAddr::from(([127, 0, 0, 1], 80)))
}

fn sessions(client: &Client, db: &str) -> Collection<Document> {
    client.database(db).collection("session")
}

/// Every document is whole.
async fn assert_whole(sessions: &Collection<Document>) {
    let torn = doc! { "_id": { "$lt": "~" }, "$or": [
        { "token": { "$exists": false } }, { "expires": { "$exists": false } },
        { "created": { "$exists": false } }, { "value": { "$exists": false } },
    ] };
    assert_eq!(sessions.count_documents(torn).await.expect("a count"), 0);
}

#[rocket::async_test]
async fn an_application_that_is_killed_in_its_commit_leaves_all_or_nothing_of_it() {
    let mongod = Mongod::start().await;
    let (db, tests) = (database(), mongod.client().await);
    let url = setting(&mongod.url(&db), true).url.expect("an address");
    let browser = blank();
    let first = Process::start(&url);
    first.run(&browser, &[set("a", 1), set("b", 1)]).await;
    // Nothing but the answer's own commit updates.
    let program = [set("a", 2), set("b", 2)];
    first.dies_at(&tests, &browser, &program, "update").await;

    let second = Process::start(&url);
    let view = second.run(&browser, &[Op::View]).await.results().view(0);
    assert!([1, 2].contains(&view.int("a")), "{view:?}");
    assert_eq!(view.int("a"), view.int("b"));
    // And the session continues.
    let program = [Op::Increment("a".into(), 10), Op::Increment("b".into(), 10)];
    assert_eq!(second.run(&browser, &program).await.status(), 200);
    let later = second.run(&browser, &[Op::View]).await.results().view(0);
    assert_eq!(later.int("a"), view.int("a") + 10);
    assert_eq!(later.int("a"), later.int("b"));
    assert_whole(&sessions(&tests, &db)).await;
}

#[rocket::async_test]
async fn an_application_that_is_killed_in_a_login_leaves_no_second_session_that_anybody_can_use() {
    let mongod = Mongod::start().await;
    let (db, tests) = (database(), mongod.client().await);
    let url = setting(&mongod.url(&db), true).url.expect("an address");
    let browser = blank();
    let first = Process::start(&url);
    first.run(&browser, &[set("a", 1), set("b", 1)]).await;
    // Between the insert of the new session and the end of the old one.
    let login = [Op::Login("me".into())];
    first.dies_at(&tests, &browser, &login, "delete").await;
    let sessions = sessions(&tests, &db);
    let new = sessions.count_documents(doc! { "user": { "$exists": true } });
    assert_eq!(new.await.expect("a count"), 1, "it was between the two");

    // The browser was told of nothing: its session is there as it was, or has ended.
    let second = Process::start(&url);
    let view = second.run(&browser, &[Op::View]).await.results().view(0);
    assert_eq!(view.user, None);
    let values = (view.int("a"), view.int("b"));
    assert_eq!(values, if view.is_new { (0, 0) } else { (1, 1) });
    // The next login succeeds nevertheless, and ends what the browser has.
    let old = browser.twin();
    assert!(second.run(&browser, &login).await.sends_cookie());
    let view = second.run(&browser, &[Op::View]).await.results().view(0);
    assert_eq!(view.user.as_deref(), Some("me"));
    let view = second.run(&old, &[Op::View]).await.results().view(0);
    assert!(view.is_new, "{view:?}");
    assert_whole(&sessions).await;
}
