//! What the server can answer to a single command: a closed connection once and twice, nothing for
//! longer than the deadline, a write without its majority, not being the primary any more. What
//! each program is told then, and what is stored in the end.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;
use mongodb::bson::Document;
use rocket::futures::future::join_all;
use rocket_mongo_session::testing::Clock;

use super::{both_ways, serves};
use crate::apps::arena::{Arena, ArenaResponse, Op, Setting, request, set};
use crate::apps::database;
use crate::robustness::crowd::stored;
use crate::support::{
    Browser, FailPoint, Failure, Mode, ReplicaSet, eventually, in_progress, watchful,
};

both_ways! {
    a_connection_that_closes_once_goes_unnoticed => closed_once;
    connections_that_close_twice_go_unnoticed => closed_twice;
    a_command_that_takes_too_long_is_a_503_and_breaks_nothing => blocked;
    a_write_without_its_majority_is_never_acknowledged => without_majority;
    a_server_that_is_not_the_primary_any_more_is_asked_again => not_primary;
}

/// A deadline, in seconds, where time plays no part.
const AMPLE: u64 = 30;

/// A session as it is stored, beside the one that the program began with.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Found {
    n: i64,
    messages: usize,
    /// Whether it is the same document, and whether the browser's old token opens it.
    same: bool,
    opens: bool,
}

/// What every program begins with.
const BEFORE: Found = Found {
    n: 1,
    messages: 1,
    same: true,
    opens: true,
};
const COUNTED: Found = Found { n: 2, ..BEFORE };

/// A command, a program that needs it, and what is stored in the end.
struct Case {
    command: &'static str,
    program: Vec<Op>,
    /// When all of it happened.
    done: Option<Found>,
    /// When the command never ran.
    refused: Option<Found>,
    /// When it ran, and the application could not know.
    ran: Option<Found>,
}

fn cases() -> Vec<Case> {
    let add = || Op::Increment("n".into(), 1);
    let keep = || Op::LoginKeeping("me".into(), vec!["n".into()]);
    let case = |command, program: &[Op], done: Option<Found>| Case {
        command,
        program: program.to_vec(),
        done,
        refused: Some(BEFORE),
        ran: done,
    };
    let renewed = Found {
        opens: false,
        ..COUNTED
    };
    let login = |n| Found {
        n,
        messages: 0,
        same: false,
        opens: false,
    };
    let popped = Found {
        messages: 0,
        ..COUNTED
    };
    vec![
        Case {
            ran: Some(BEFORE), // nothing is written after a load that failed
            ..case("find", &[add()], Some(COUNTED))
        },
        case("update", &[add()], Some(COUNTED)),
        case("update", &[Op::Renew, add()], Some(renewed)),
        case("update", &[Op::Add("n".into(), 1)], Some(COUNTED)),
        Case {
            ran: Some(BEFORE), // the new session, whose token was not sent, is deleted
            ..case("insert", &[keep(), add()], Some(login(2)))
        },
        case("delete", &[Op::Logout], None),
        Case {
            ran: None, // the old session is gone, and the new one is deleted
            ..case(
                "delete",
                &[Op::Login("me".into()), set("n", 1)],
                Some(login(1)),
            )
        },
        Case {
            ran: None,
            ..case("findAndModify", &[keep(), add()], Some(login(2)))
        },
        Case {
            refused: Some(COUNTED), // the handler is told of the pop, and continues
            ..case("update", &[Op::Pop, add()], Some(popped))
        },
    ]
}

/// What becomes of a program whose command fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is acknowledged.
    Done,
    /// It is a failure, because the command never ran.
    Refused,
    /// It is a failure, though the command ran.
    Ran,
    /// It is a failure, and the command may still run.
    Open,
}

/// One server that is a replica set, so that writes can be asked for again.
struct Bench {
    set: ReplicaSet,
    tests: Client,
    share: bool,
    deadline: u64,
}

impl Bench {
    async fn new(share: bool, deadline: u64) -> Bench {
        let set = ReplicaSet::builder().members(1).start().await;
        let tests = set.nodes()[0].client().await;
        Bench {
            set,
            tests,
            share,
            deadline,
        }
    }

    /// An application and a database for each program: what one of them leaves to the background
    /// neither uses up the next one's failure nor is among its sessions.
    async fn stand(&self, number: usize) -> Stand {
        let (db, name) = (database(), format!("program{number}"));
        let url = format!("{}&appName={name}", watchful(&self.set.url(&db)));
        // A clock that stands still: no touch is among the updates.
        let setting = Setting::in_memory()
            .url(url)
            .key("share", self.share)
            .key("deadline", self.deadline)
            .clock(&Clock::new());
        let arena = Arena::start(&setting).await;
        // From here on it knows what the server is.
        arena.sessions().ping().await.expect("a server");
        Stand { arena, db, name }
    }

    /// Every case, each failing at its command.
    async fn each(&self, mode: Mode, failure: Failure, fate: impl Fn(&Case) -> Fate) {
        for (number, case) in cases().into_iter().enumerate() {
            let stand = self.stand(number).await;
            let fate = fate(&case);
            stand.fails(&self.tests, &case, mode, &failure, fate).await;
        }
    }
}

struct Stand {
    arena: Arc<Arena>,
    db: String,
    name: String,
}

impl Stand {
    /// Runs a program while its command fails.
    async fn fails(&self, tests: &Client, case: &Case, mode: Mode, failure: &Failure, fate: Fate) {
        let what = format!("{} of {:?}, {fate:?}", case.command, case.program);
        let planted = [set("n", 1), Op::Flash("hello".into())];
        let browser = self.arena.plant(&planted).await;
        let own = id(&browser);
        let before = stored(tests, &self.db).await;
        let before = before
            .into_iter()
            .find(|one| one.get_str("_id") == Ok(&own));
        let before = before.expect("a stored session");

        let failure = failure.clone().app_name(&self.name);
        let point = FailPoint::on(tests, &[case.command], mode, failure).await;
        let response = self.arena.send(request(&browser, &case.program)).await;
        point.clear().await;
        let told = is_acknowledged(&response);
        assert_eq!(told, fate == Fate::Done, "{what}: {:?}", response.0);
        if response.status() != 200 {
            assert_eq!(response.status(), 503, "{what}: {:?}", response.0);
            assert_eq!(response.0.set_cookies(), Vec::<&str>::new(), "{what}");
        }

        // What a fail point held continues now, and then nothing more comes.
        eventually("the end of every command", async || {
            in_progress(tests, &self.name, None).await == 0
        })
        .await;
        let found = async || -> Vec<Found> {
            let all = stored(tests, &self.db).await;
            let sessions = all.iter().filter(|one| is_session(one, &own));
            sessions.map(|one| Found::beside(&before, one)).collect()
        };
        let expected = match fate {
            Fate::Done => Some(case.done),
            Fate::Refused => Some(case.refused),
            Fate::Ran => Some(case.ran),
            Fate::Open => None,
        };
        if let Some(expected) = expected {
            let expected = Vec::from_iter(expected);
            eventually(&format!("{what}: {expected:?}"), async || {
                found().await == expected
            })
            .await;
        }
        let left = found().await;
        // All or nothing of each, and at most one that a browser can use.
        let whole = [case.done, case.refused, case.ran];
        assert!(
            left.iter().all(|one| whole.contains(&Some(*one))),
            "{what}: {left:?}"
        );
        assert!(left.len() <= 2, "{what}: {left:?}");
        let opens = left.iter().filter(|one| one.opens);
        assert!(opens.count() <= 1, "{what}: {left:?}");

        let thief = browser.twin();
        response.arrive(&browser);
        let usable = match fate {
            Fate::Done => case.done,
            _ => left.into_iter().find(|one| one.opens),
        };
        let old = self.look(&thief).await;
        let now = self.look(&browser).await;
        assert_eq!(
            now,
            usable.map(|one| one.n),
            "{what}: the browser's session"
        );
        let opens = usable.filter(|one| one.opens);
        assert_eq!(old, opens.map(|one| one.n), "{what}: the old token");
        serves(&self.arena).await;
    }

    /// What this browser's session counts, if it has one.
    async fn look(&self, browser: &Browser) -> Option<i64> {
        let mut seen = None;
        eventually("the application answers", async || {
            let response = self.arena.run(browser, &[Op::View]).await;
            seen = (response.status() == 200).then(|| response.results().view(0));
            seen.is_some()
        })
        .await;
        let view = seen.expect("it was there");
        (!view.is_new).then(|| view.int("n"))
    }
}

impl Found {
    fn beside(before: &Document, document: &Document) -> Found {
        let value = document.get_document("value").expect("values");
        let token = |document: &Document| document.get_binary_generic("token").cloned();
        let same = document.get_str("_id") == before.get_str("_id");
        Found {
            n: value.get_i64("n").expect("a count"),
            messages: value.get_array("_f_").map_or(0, Vec::len),
            same,
            opens: same && token(document) == token(before),
        }
    }
}

/// The public part of a browser's cookie.
fn id(browser: &Browser) -> String {
    let cookie = browser.cookie("session").expect("a cookie");
    crate::apps::probe::id_of(&cookie).to_owned()
}

/// Whether it is the browser's session, or one of a login; not a tombstone, nor what an attempt to
/// plant a session left behind.
fn is_session(document: &Document, own: &str) -> bool {
    let id = document.get_str("_id").expect("an id");
    id == own || (!id.starts_with('~') && document.contains_key("user"))
}

/// Whether the response says that all went well: its status, and every step.
fn is_acknowledged(response: &ArenaResponse) -> bool {
    response.status() == 200 && {
        let results = response.results();
        (0..results.len()).all(|step| results.get(step).is_ok())
    }
}

async fn closed_once(share: bool) {
    let bench = Bench::new(share, AMPLE).await;
    let failure = Failure::close_connection();
    bench.each(Mode::Times(1), failure, |_| Fate::Done).await;
}

async fn closed_twice(share: bool) {
    let bench = Bench::new(share, AMPLE).await;
    // Twice is as often as the driver sends a read. Both are sent until the deadline.
    let failure = Failure::close_connection();
    bench.each(Mode::Times(2), failure, |_| Fate::Done).await;
}

async fn blocked(share: bool) {
    // Little, because a fail point is not cleared before who waits at it has waited.
    let deadline = 1;
    let bench = Bench::new(share, deadline).await;
    let failure = Failure::block(Duration::from_secs(2 * deadline));
    let fate = |case: &Case| match case.command {
        "find" => Fate::Refused,
        _ => Fate::Open,
    };
    bench.each(Mode::Times(1), failure, fate).await;
}

async fn without_majority(share: bool) {
    let bench = Bench::new(share, AMPLE).await;
    let fate = |case: &Case| match case.command {
        "find" => Fate::Done, // no write
        _ => Fate::Ran,
    };
    let failure = Failure::write_concern(64);
    bench.each(Mode::Always, failure, fate).await;
}

async fn not_primary(share: bool) {
    let bench = Bench::new(share, AMPLE).await;
    let failure = Failure::code(10107);
    bench.each(Mode::Times(1), failure, |_| Fate::Done).await;
}

#[rocket::async_test]
async fn updates_that_share_a_command_are_asked_for_until_it_is_done() {
    const TABS: i64 = 6;
    let bench = Bench::new(true, AMPLE).await;
    let stand = bench.stand(0).await;
    let browser = stand.arena.plant(&[set("n", 1)]).await;
    let mut tabs = Vec::new();
    for _ in 0..TABS {
        let add = [Op::Increment("n".into(), 1)];
        tabs.push(stand.arena.poise(&browser, &[Op::View], &add).await);
    }
    // The first goes alone. Meanwhile the others meet, and share a command. Twice is as often as the
    // driver asks.
    let slowly = Failure::close_connection().and_block(Duration::from_millis(300));
    let failure = slowly.app_name(&stand.name);
    let point = FailPoint::on(&bench.tests, &["update"], Mode::Times(4), failure).await;
    tabs.iter().for_each(|tab| tab.release());
    let mut done = 0;
    for tab in &mut tabs {
        done += i64::from(is_acknowledged(&tab.response().await));
    }
    point.clear().await;
    assert_eq!(done, TABS);
    assert_eq!(stand.look(&browser).await, Some(1 + done));
}

#[rocket::async_test]
async fn new_sessions_that_share_an_insert_are_asked_for_until_they_are_stored() {
    const VISITORS: usize = 6;
    let bench = Bench::new(true, AMPLE).await;
    let stand = bench.stand(0).await;
    let slowly = Failure::close_connection().and_block(Duration::from_millis(300));
    let failure = slowly.app_name(&stand.name);
    // The first goes alone. Meanwhile the others meet. Twice is as often as the driver asks.
    let point = FailPoint::on(&bench.tests, &["insert"], Mode::Times(4), failure).await;
    let visitors: Vec<_> = (0..VISITORS).map(|_| stand.arena.browser()).collect();
    let counting = [set("n", 7)];
    let visits = visitors
        .iter()
        .map(|visitor| stand.arena.run(visitor, &counting));
    let responses = join_all(visits).await;
    point.clear().await;
    for (visitor, response) in visitors.iter().zip(&responses) {
        assert!(is_acknowledged(response), "{:?}", response.0);
        assert_eq!(stand.look(visitor).await, Some(7));
    }
    assert_eq!(stored(&bench.tests, &stand.db).await.len(), VISITORS);
}
