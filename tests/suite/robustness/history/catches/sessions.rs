//! I1, I3, I4, I7 and I8: which sessions there are, and who is let in.

use rocket::serde::json::json;

use super::*;

fn logout(from: u64, to: u64) -> Event {
    event(Work::Logout, from, to, json!({}))
}

fn elevates(from: u64, to: u64, given: &str) -> Event {
    giving(given, event(Work::Elevate, from, to, json!({})))
}

/// A request that was not let in with its token.
fn locked_out(cookie: &str, from: u64) -> Event {
    let event = with(cookie, read(from, json!({})));
    seeing(event, |view| {
        view.id = None;
        view.is_new = true;
        view.user = None;
        view.values.clear();
    })
}

#[test]
fn a_session_that_came_back_is_found() {
    finds("I3", [logout(10, 20), read(30, json!({}))]);
    finds("I3", [revocation(10, 20), read(30, json!({}))]);
    for (work, given) in [
        (Work::Login(8), "t.other"),
        (Work::Keep, "t.other"),
        (Work::Elevate, "s.other"),
        (Work::Renew, "s.other"),
    ] {
        let moves_on = event(work, 10, 20, json!({}));
        finds("I4", [giving(given, moves_on), read(30, json!({}))]);
    }
}

/// The same as it is stored, although no request tries the token.
#[test]
fn a_document_of_a_session_that_ended_is_found() {
    let s = [stored("s", 1, 7)];
    finds_stored("I3", [logout(10, 20)], &s);
    finds_stored("I3", [revocation(10, 20)], &s);
    for work in [Work::Login(8), Work::Keep] {
        let moves_on = giving("t.other", event(work, 10, 20, json!({})));
        finds_stored("I4", [moves_on], &s);
    }
    passes_stored([open(logout(10, 20))], &s);
}

#[test]
fn what_a_revoked_session_became_is_found() {
    // A renewal gives the session another token, and no other login.
    let renewed = giving("s.second", event(Work::Renew, 15, 25, json!({})));
    let read_on = with("s.second", read(30, json!({})));
    finds("I3", [revocation(10, 20), renewed, read_on]);
    let elevated = elevates(15, 25, "s.second");
    let read_on = with("s.second", read(30, json!({})));
    finds("I3", [revocation(10, 20), elevated, read_on]);
    // A login in progress may be a later one.
    let kept = giving("t.secret", event(Work::Keep, 15, 25, json!({})));
    let read_on = with("t.secret", read(30, json!({})));
    passes([revocation(10, 20), kept, read_on]);
}

#[test]
fn what_a_logged_out_session_became_is_found() {
    let read_on = with("s.second", read(30, json!({})));
    let elevated = elevates(10, 25, "s.second");
    finds("I3", [logout(12, 22), elevated, read_on]);
}

#[test]
fn a_token_that_is_replaced_twice_is_found() {
    let one = || elevates(10, 25, "s.second");
    finds("I4", [one(), elevates(11, 24, "s.third")]);
    let renewed = giving("s.third", event(Work::Renew, 11, 24, json!({})));
    finds("I4", [one(), renewed]);
    passes([one(), event(Work::Elevate, 11, 24, json!({}))]);
}

/// A login that a revocation overtook has no session, and has not ended the old one.
#[test]
fn a_login_that_was_dropped_leaves_its_old_session() {
    let planted = || made(Work::Plant(9), 2, 4, "u.secret");
    let theirs = |event: Event| {
        seeing(with("u.secret", event), |view| {
            view.user = None;
            view.values.insert("mark".into(), json!(9));
        })
    };
    let dropped = || theirs(event(Work::Login(8), 12, 22, json!({})));
    let read_on = || theirs(read(30, json!({})));
    passes([planted(), revocation(10, 20), dropped(), read_on()]);
    let lost = || locked_out("u.secret", 30);
    finds("I1", [planted(), revocation(10, 20), dropped(), lost()]);
}

#[test]
fn what_was_dropped_without_a_reason_is_found() {
    let login = |from| event(Work::Login(8), from, from + 10, json!({}));
    finds("I1", [login(10)]);
    finds("I1", [login(10), revocation(30, 40)]);
    finds("I1", [event(Work::Elevate, 10, 20, json!({}))]);
    finds("I1", [event(Work::Renew, 10, 20, json!({}))]);
    passes([login(10), revocation(15, 40)]);
    let again = || made(Work::Login(9), 50, 60, "t.secret");
    let dropped = |from| {
        seeing(with("t.secret", login(from)), |view| {
            view.values.insert("mark".into(), json!(9));
        })
    };
    passes([revocation(15, 40), again(), dropped(1_000_000)]);
    finds("I1", [revocation(15, 40), again(), dropped(3_000_000)]);
}

#[test]
fn a_session_that_was_lost_is_found() {
    const LOST: &str = "I1";
    finds(LOST, [locked_out("s.secret", 50)]);
    // What may have ended it, may explain it.
    passes([logout(10, 20), locked_out("s.secret", 50)]);
    passes([open(logout(10, 20)), locked_out("s.secret", 50)]);
    passes([revocation(10, 20), locked_out("s.secret", 50)]);
    let renewed = || giving("s.second", event(Work::Renew, 10, 20, json!({})));
    passes([renewed(), locked_out("s.secret", 50)]);
    let lost = || locked_out("s.second", 50);
    // A renewal replaces the token that it was sent with, and only if it was not overtaken.
    finds(LOST, [renewed(), lost()]);
    let overtaken = || with("s.second", event(Work::Renew, 30, 40, json!({})));
    finds(LOST, [renewed(), overtaken(), lost()]);
    passes([renewed(), open(overtaken()), lost()]);
    // A revocation that was over before.
    let later = || made(Work::Login(9), 30, 40, "u.secret");
    finds(
        LOST,
        [revocation(10, 20), later(), locked_out("u.secret", 50)],
    );
    // It concerns those who are logged in.
    let planted = || made(Work::Plant(9), 2, 4, "u.secret");
    finds(
        LOST,
        [planted(), revocation(10, 20), locked_out("u.secret", 50)],
    );
}

#[test]
fn a_document_without_an_explanation_is_found() {
    finds_stored("I7", [], &[stored("stranger", 1, 9)]);
    finds_stored("I7", [], &[stored("s", 1, 7), stored("s", 1, 7)]);
    let mut endless = stored("s", 1, 7);
    endless.remove("expires");
    finds_stored("I7", [], &[endless]);
    let mut without_token = stored("s", 1, 7);
    without_token.remove("token");
    finds_stored("I7", [], &[without_token]);
}

/// One request that was not answered explains one orphan, of the session that it asked for.
#[test]
fn an_orphan_is_explained_by_its_mark_and_once() {
    let kept = || open(event(Work::Keep, 10, 20, json!({})));
    let planted = || open(made(Work::Plant(9), 10, 20, "u.secret"));
    let planted = || Event {
        given: None,
        ..planted()
    };
    let both = [stored("one", 1, 7), stored("two", 2, 9)];
    passes_stored([kept(), planted()], &both);
    finds_stored("I7", [kept()], &both);
    finds_stored("I7", [planted()], &both);
    let twice = [stored("one", 1, 7), stored("two", 2, 7)];
    finds_stored("I7", [kept(), planted()], &twice);
    // Done, and so not left behind.
    let done = event(Work::Keep, 10, 20, json!({}));
    finds_stored("I7", [done], &[stored("one", 1, 7)]);
}

/// Its mark is not known, so any request that was not answered may have created it; but each one only.
#[test]
fn sealed_orphan_is_explained_once() {
    let kept = || open(event(Work::Keep, 10, 20, json!({})));
    let sealed = |id, token| {
        let mut document = stored(id, token, 0);
        let value = Binary {
            subtype: BinarySubtype::UserDefined(0x80),
            bytes: b"s\x01".to_vec(),
        };
        document.insert("value", doc! { "mark": value });
        document
    };
    passes_stored([kept()], &[sealed("one", 1)]);
    finds_stored("I7", [], &[sealed("one", 1)]);
    finds_stored("I7", [kept()], &[sealed("one", 1), stored("two", 2, 7)]);
    finds_stored("I7", [kept()], &[sealed("one", 1), sealed("two", 2)]);
}

#[test]
fn time_that_runs_back_is_found() {
    let before = || seeing(read(10, json!({})), |view| view.accessed = 5);
    finds("I8", [before(), read(30, json!({}))]);
    let moved = seeing(read(10, json!({})), |view| view.created = 0);
    finds("I8", [moved, read(30, json!({}))]);
    let endless = seeing(read(10, json!({})), |view| view.expires = Some(9));
    finds("I8", [endless, read(30, json!({}))]);
}

/// An elevation alone moves `created`, and never back.
#[test]
fn a_creation_that_moves_without_an_elevation_is_found() {
    let after = |created| {
        let read = with("s.second", read(50, json!({})));
        seeing(read, |view| view.created = created)
    };
    let before = || read(25, json!({}));
    let elevated = || elevates(30, 40, "s.second");
    let renewed = || giving("s.second", event(Work::Renew, 30, 40, json!({})));
    passes([before(), elevated(), after(2)]);
    finds("I8", [before(), elevated(), after(0)]);
    passes([before(), renewed(), after(1)]);
    finds("I8", [before(), renewed(), after(2)]);
}

/// A touch is one member's until it is written to the others; what the majority has stays.
#[test]
fn a_touch_may_be_lost_with_its_primary_and_a_write_may_not() {
    let failover = Terms {
        failover: true,
        ..TERMS
    };
    let touched = seeing(read(10, json!({})), |view| view.accessed = 5);
    let verdict = checked([touched, read(30, json!({}))], &[], failover);
    assert_eq!(verdict.violations, Vec::<String>::new());
    let written = saved(event(Work::Append(1), 10, 20, json!({})));
    let written = seeing(written, |view| view.accessed = 5);
    let back = read(30, json!({ "mod": [1] }));
    assert!(checked([written, back], &[], failover).breaks("I8"));
}
