//! The same races, shorter, on the older servers: what the store asks of MongoDB is the same there.

use super::{Race, ending, failures, logins, values};
use crate::apps::arena::{Arena, Setting};
use crate::support::Mongod;

const ROUNDS: u64 = 24;

const RACES: [(&str, Race); 12] = [
    ("different keys", values::different_keys_are_all_kept::round),
    ("increment", values::every_increment_counts::round),
    ("push", values::every_push_is_there_once::round),
    ("modify", values::every_modify_wins_in_the_end::round),
    (
        "flash",
        values::a_message_is_delivered_once_and_never_lost::round,
    ),
    (
        "first requests",
        values::first_requests_each_have_a_session_of_their_own::round,
    ),
    (
        "logout",
        ending::a_logged_out_session_never_comes_back::round,
    ),
    (
        "revocation",
        ending::a_revoked_user_is_out_and_so_are_logins_in_progress::round,
    ),
    (
        "late answers",
        logins::no_late_answer_of_another_tab_logs_a_browser_out::round,
    ),
    (
        "kept keys",
        logins::a_kept_key_has_every_change_that_was_saved::round,
    ),
    (
        "logins",
        logins::two_logins_on_one_cookie_are_two_sessions::round,
    ),
    (
        "renewals",
        logins::of_several_renewals_one_stands_with_its_changes::round,
    ),
];

async fn hold_on(series: &str) {
    let mongod = Mongod::builder().series(series).start().await;
    for share in [true, false] {
        let setting = Setting::on(&mongod, share).key("deadline", 60);
        let arena = Arena::start(&setting).await;
        for (name, race) in RACES {
            let failures = failures(&arena, race, ROUNDS, 8).await;
            assert!(
                failures.is_empty(),
                "{name} on {series}, share {share}: {failures:?}"
            );
        }
    }
}

#[rocket::async_test]
async fn the_races_hold_on_mongodb_4_4() {
    hold_on("4.4").await;
}

#[rocket::async_test]
async fn the_races_hold_on_mongodb_5_0() {
    hold_on("5.0").await;
}
