//! The `Cookie` header: whoever is let in has sent exactly the one cookie that was issued.
//!
//! In the input, 0x01 stands for the live cookie's value and 0x02 for its public half.
#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use rocket::http::Header;
use rocket::local::blocking::Client;
use rocket::serde::json::json;
use rocket_mongo_session::Sessions;
use rocket_mongo_session_fuzz::{client, member, rocket, set_cookie};

static APP: LazyLock<(Mutex<Client>, String)> = LazyLock::new(|| {
    let client = client(rocket(Sessions::in_memory(), json!({ "timeout": false })));
    let cookie = member(&client.lock().expect("a client"));
    (client, cookie)
});

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (client, good) = &*APP;
    let id = good.split('.').next().unwrap_or_default();
    let text = text.replace('\u{1}', good).replace('\u{2}', id);
    let lines: Vec<&str> = text.split('\n').take(3).collect();

    let client = client.lock().expect("a client");
    let mut request = client.get("/whoami");
    for line in &lines {
        request.add_header(Header::new("Cookie", (*line).to_owned()));
    }
    let answer = request.dispatch();
    assert_eq!(answer.status().code, 200);
    assert_eq!(set_cookie(&answer), None, "looking sets no cookie");
    let user = answer.into_string().unwrap_or_default();

    let pairs = lines.iter().flat_map(|line| line.split(';'));
    let pairs: Vec<&str> = pairs.map(|pair| pair.trim_matches([' ', '\t'])).collect();
    let ours = pairs.iter().filter(|pair| pair.starts_with("session="));
    let is_one = ours.count() == 1 && pairs.contains(&format!("session={good}").as_str());
    assert_eq!(user == "alice", is_one, "{user}: {lines:?}");
});
