//! What the server can answer to a single command: a closed connection once and twice, nothing for
//! longer than the deadline, a write without its majority, not being the primary any more.

use std::sync::Arc;
use std::time::Duration;

use mongodb::Client;

use super::{APP, DEADLINE, both_ways, serves, setting, view};
use crate::arena::{Answer, Arena, Op, database, set};
use crate::support::{Browser, FailPoint, Failure, Mode, ReplicaSet};

both_ways! {
    a_connection_that_closes_once_is_noticed_by_nobody => closed_once;
    connections_that_close_twice_leave_all_or_nothing => closed_twice;
    a_command_that_takes_too_long_is_a_503_and_breaks_nothing => blocked;
    a_write_without_its_majority_is_never_acknowledged => without_majority;
    a_server_that_is_not_the_primary_any_more_is_asked_again => not_primary;
}

/// A command, and a program that needs it.
fn programs() -> Vec<(&'static str, Vec<Op>)> {
    let add = || Op::Increment("n".into(), 1);
    vec![
        ("find", vec![add()]),
        ("update", vec![add()]),
        ("update", vec![Op::Renew, add()]),
        ("update", vec![Op::Add("n".into(), 1)]),
        (
            "insert",
            vec![Op::LoginKeeping("me".into(), vec!["n".into()]), add()],
        ),
        ("delete", vec![Op::Logout]),
        ("delete", vec![Op::Login("me".into()), set("n", 1)]),
        (
            "findAndModify",
            vec![Op::LoginKeeping("me".into(), vec!["n".into()]), add()],
        ),
        ("findAndModify", vec![Op::Pop, add()]),
    ]
}

/// One server that is a replica set, so that writes can be asked for again.
struct Bench {
    set: ReplicaSet,
    tests: Client,
    arena: Arc<Arena>,
}

impl Bench {
    async fn new(share: bool) -> Bench {
        let set = ReplicaSet::builder().members(1).start().await;
        let tests = set.nodes()[0].client().await;
        let url = format!(
            "{}&heartbeatFrequencyMS=500&serverMonitoringMode=poll",
            set.url(&database())
        );
        let arena = Arena::start(&setting(&url, share)).await;
        serves(&arena).await;
        Bench { set, tests, arena }
    }

    /// A browser whose session counts one and has a message.
    async fn browser(&self) -> Browser {
        let browser = self.arena.browser();
        let program = [set("n", 1), Op::Flash("hello".into())];
        assert_eq!(self.arena.run(&browser, &program).await.status(), 200);
        browser
    }

    /// Runs a program while a command fails; the answer is not delivered.
    async fn fails(
        &self,
        browser: &Browser,
        program: &[Op],
        command: &str,
        mode: Mode,
        failure: &Failure,
    ) -> Answer {
        let failure = failure.clone().app_name(APP);
        let point = FailPoint::on(&self.tests, &[command], mode, failure).await;
        let answer = self
            .arena
            .send(crate::arena::request(browser, program))
            .await;
        point.clear().await;
        answer
    }

    /// That either all of a program is there or nothing, whichever was told.
    async fn assert_whole(&self, browser: &Browser, answer: &Answer, program: &[Op], what: &str) {
        let acknowledged = answer.status() == 200 && {
            let results = answer.results();
            (0..results.len()).all(|step| results.get(step).is_ok())
        };
        if !matches!(answer.status(), 200 | 503) {
            panic!("{what}: {:?}", answer.0);
        }
        if answer.status() == 503 {
            assert_eq!(answer.0.set_cookies(), Vec::<&str>::new(), "{what}");
        }
        let before = view(&self.arena, &browser.twin()).await;
        answer.arrive(browser);
        let view = view(&self.arena, browser).await;
        let counts = program
            .iter()
            .any(|op| matches!(op, Op::Increment(..) | Op::Add(..)));
        let starts_anew = program
            .iter()
            .any(|op| matches!(op, Op::Logout | Op::Login(_)));
        if acknowledged && program.contains(&Op::Logout) {
            assert!(view.is_new && before.is_new, "{what}: {view:?}");
        } else if acknowledged {
            let expected = if counts && !starts_anew { 2 } else { 1 };
            assert_eq!(view.int("n"), expected, "{what}");
        } else if !view.is_new {
            assert!((1..=2).contains(&view.int("n")), "{what}: {view:?}");
        }
    }
}

async fn each(share: bool, mode: Mode, failure: Failure, expects: fn(&str, u16) -> bool) {
    let bench = Bench::new(share).await;
    for (command, program) in programs() {
        let browser = bench.browser().await;
        let answer = bench
            .fails(&browser, &program, command, mode, &failure)
            .await;
        let what = format!("{command} of {program:?}");
        let told = match answer.status() {
            // A step that was told of the failure has the handler's own answer.
            200 if (0..answer.results().len()).any(|i| answer.results().get(i).is_err()) => 503,
            status => status,
        };
        assert!(expects(command, told), "{what}: {told}");
        bench.assert_whole(&browser, &answer, &program, &what).await;
    }
    serves(&bench.arena).await;
    assert_eq!(bench.set.nodes().len(), 1);
}

async fn closed_once(share: bool) {
    let failure = Failure::close_connection();
    each(share, Mode::Times(1), failure, |_, status| status == 200).await;
}

async fn closed_twice(share: bool) {
    let failure = Failure::close_connection();
    each(share, Mode::Times(2), failure, |_, status| {
        matches!(status, 200 | 503)
    })
    .await;
}

async fn blocked(share: bool) {
    let failure = Failure::block(Duration::from_millis(DEADLINE * 1000 + 700));
    each(share, Mode::Times(1), failure, |_, status| status == 503).await;
}

async fn without_majority(share: bool) {
    let failure = Failure::write_concern(64);
    each(
        share,
        Mode::Always,
        failure,
        |command, status| match command {
            "find" => status == 200,
            _ => status == 503,
        },
    )
    .await;
}

async fn not_primary(share: bool) {
    let failure = Failure::code(10107);
    each(share, Mode::Times(1), failure, |_, status| status == 200).await;
}
