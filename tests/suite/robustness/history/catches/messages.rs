//! I12.

use rocket::serde::json::json;

use super::*;

fn pop(from: u64, popped: &[u64]) -> Event {
    Event {
        popped: popped.to_vec(),
        ..saved(event(Work::Pop, from, from + 5, json!({})))
    }
}

fn flash() -> Event {
    event(Work::Flash(1), 10, 20, json!({}))
}

fn waits(from: u64) -> Event {
    seeing(read(from, json!({})), |view| view.flash = vec![json!(1)])
}

#[test]
fn a_message_that_comes_twice_is_found() {
    let pop = |from| seeing(pop(from, &[1]), |view| view.flash = vec![json!(1)]);
    finds("I12", [flash(), pop(30), pop(40)]);
    // It would come again.
    finds("I12", [flash(), pop(30), waits(50)]);
}

#[test]
fn a_message_that_is_lost_is_found() {
    finds("I12", [flash(), read(50, json!({}))]);
    finds(
        "I12",
        [flash(), waits(30), pop(40, &[]), read(50, json!({}))],
    );
    // The lost response may have had it.
    passes([flash(), open(pop(40, &[])), read(50, json!({}))]);
}

/// The end of other sessions, or a later end of this one, does not excuse a lost message.
#[test]
fn a_message_that_is_lost_before_its_session_ends_is_found() {
    let logout = event(Work::Logout, 60, 70, json!({}));
    finds("I12", [flash(), read(50, json!({})), logout]);
    let elsewhere = with("t.secret", event(Work::Logout, 30, 35, json!({})));
    let other = made(Work::Login(8), 2, 3, "t.secret");
    let elsewhere = seeing(elsewhere, |view| {
        view.values.insert("mark".into(), json!(8));
    });
    finds("I12", [other, flash(), elsewhere, read(50, json!({}))]);
}

#[test]
fn a_message_that_an_elevation_loses_is_found() {
    let elevated = || giving("s.second", event(Work::Elevate, 30, 40, json!({})));
    finds(
        "I12",
        [flash(), elevated(), with("s.second", read(50, json!({})))],
    );
    // A login keeps keys, and a message is not a key.
    let kept = giving("t.secret", event(Work::Keep, 30, 40, json!({})));
    let kept = seeing(kept, |view| view.flash = vec![json!(1)]);
    passes([flash(), kept, with("t.secret", read(50, json!({})))]);
}

#[test]
fn message_that_no_request_stored_is_found() {
    finds("I12", [waits(30)]);
    finds("I12", [gone(flash()), waits(30)]);
}
