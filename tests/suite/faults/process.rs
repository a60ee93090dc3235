//! kill -9 of the application itself, at the points that matter. It is this test binary again, in a
//! process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use mongodb::bson::{Document, doc};
use rocket::fairing::AdHoc;

use super::setting;
use crate::arena::{Answer, Op, Setting, database, request, set};
use crate::support::{Browser, Mongod};

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
                "faults::process::the_application",
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

    async fn run(&self, browser: &Browser, program: &[Op]) -> Answer {
        let answer = Answer(request(browser, program).send(self.addr).await);
        answer.arrive(browser);
        answer
    }

    /// Runs a program that kills the process in its midst: there is no answer.
    async fn dies_of(mut self, browser: &Browser, program: &[Op]) {
        let answer = request(browser, program).try_send(self.addr).await;
        assert!(answer.is_err(), "{answer:?}");
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
    let browser = Browser::new(SocketAddr::from(([127, 0, 0, 1], 80)));
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

    // Between the commit and the answer: all of it has, and nobody was told.
    let program = [set("a", 3), set("b", 3), Op::Save, Op::Die];
    second.dies_of(&browser, &program).await;
    let third = Process::start(&url);
    let view = third.run(&browser, &[Op::View]).await.results().view(0);
    assert_eq!((view.int("a"), view.int("b")), (3, 3));

    // A login that nobody was told of: the old token is dead or alive, and the new one nobody's.
    let program = [
        Op::LoginKeeping("me".into(), vec!["a".into()]),
        Op::Save,
        Op::Die,
    ];
    third.dies_of(&browser, &program).await;
    let fourth = Process::start(&url);
    let view = fourth.run(&browser, &[Op::View]).await.results().view(0);
    assert!(view.is_new && view.user.is_none(), "{view:?}");
    let again = Browser::new(SocketAddr::from(([127, 0, 0, 1], 80)));
    let answer = fourth
        .run(&again, &[Op::Login("me".into()), set("a", 4)])
        .await;
    assert!(answer.sends_cookie());
    let view = fourth.run(&again, &[Op::View]).await.results().view(0);
    assert_eq!((view.user.as_deref(), view.int("a")), (Some("me"), 4));

    // Every document is whole.
    let sessions = mongod
        .client()
        .await
        .database(&db)
        .collection::<Document>("session");
    let torn = doc! { "_id": { "$lt": "~" }, "$or": [
        { "token": { "$exists": false } }, { "expires": { "$exists": false } },
        { "created": { "$exists": false } }, { "value": { "$exists": false } },
    ] };
    assert_eq!(sessions.count_documents(torn).await.expect("a count"), 0);
}
