//! What the targets share: an application in this process, asked through Rocket's local client, so
//! that only the crate's public face is used. A panic anywhere is a finding (libFuzzer's hook ends
//! the process, also where Rocket would catch it).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{fs, panic, process};

use rocket::config::LogLevel;
use rocket::figment::Figment;
use rocket::http::Header;
use rocket::local::blocking::{Client, LocalResponse};
use rocket::serde::json::Value;
use rocket::{Build, Rocket, get, post, routes};
use rocket_mongo_session::{Error, Session, SessionFairing};

pub mod store;

/// Makes the program of a target from what is done with one input.
///
/// Built for fuzzing (`--cfg fuzzing`, as `fuzz/run` and cargo-fuzz do) it is libFuzzer's. Otherwise
/// its test carries the target out on its seeds, and the program itself on the files that it is given.
#[macro_export]
macro_rules! target {
    ($target:expr) => {
        #[cfg(fuzzing)]
        libfuzzer_sys::fuzz_target!(|data: &[u8]| {
            let target: fn(&[u8]) = $target;
            target(data)
        });

        #[cfg(not(fuzzing))]
        fn main() {
            $crate::replay(std::env::args_os().skip(1).map(Into::into), $target);
        }

        #[cfg(test)]
        #[test]
        fn nothing_is_found_in_its_seeds() {
            $crate::replay($crate::seeds(env!("CARGO_CRATE_NAME")), $target);
        }
    };
}

/// The files of a target's seeds, in their order.
pub fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("seeds")
        .join(target);
    let files = fs::read_dir(folder).expect("seeds");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{target} has no seeds");
    files
}

/// Carries a target out on the content of files. A panic ends the process, as it does when it is
/// found: Rocket would catch one.
pub fn replay(files: impl IntoIterator<Item = PathBuf>, target: fn(&[u8])) {
    static AT: Mutex<Option<PathBuf>> = Mutex::new(None);
    panic::set_hook(Box::new(|panic| {
        let at = lock(&AT).take().unwrap_or_default();
        // What is printed by macros would be kept until the end of the test.
        let _ = writeln!(std::io::stderr(), "\n{}: {panic}", at.display());
        process::abort();
    }));
    for file in files {
        let input = fs::read(&file).expect("a file");
        *lock(&AT) = Some(file);
        target(&input);
    }
    drop(panic::take_hook());
}

/// Rocket's own defaults, silence, and `[default.session]` as given.
pub fn figment(session: Value) -> Figment {
    let config = rocket::Config {
        log_level: LogLevel::Off,
        cli_colors: false,
        ..rocket::Config::debug_default()
    };
    Figment::from(config).merge(("session", session))
}

/// An application with the routes that every target can use.
pub fn rocket(fairing: SessionFairing, session: Value) -> Rocket<Build> {
    rocket::custom(figment(session))
        .attach(fairing)
        .mount("/", routes![whoami, login, write, token])
}

/// A client without a jar of its own: what is sent is what a target says.
pub fn client(rocket: Rocket<Build>) -> Mutex<Client> {
    Mutex::new(Client::untracked(rocket).expect("a rocket"))
}

/// Locks, whatever happened to others who did.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A login, and the cookie's value that came of it.
pub fn member(client: &Client, user: &str) -> String {
    let response = client.post(format!("/login/{user}")).dispatch();
    set_cookie(&response).expect("a cookie")
}

/// Returns the cookie of a response.
pub fn set_cookie(response: &LocalResponse<'_>) -> Option<String> {
    let lines: Vec<&str> = response.headers().get("Set-Cookie").collect();
    assert!(lines.len() <= 1, "{lines:?}");
    let line = lines.first()?;
    let value = line.strip_prefix("session=").expect("our cookie");
    let value = value.split(';').next().unwrap_or_default();
    assert!(is_token(value), "{line:?}");
    Some(value.to_owned())
}

pub fn cookie(value: &str) -> Header<'static> {
    Header::new("Cookie", format!("session={value}"))
}

/// Whether a text is a token: an id (16 bytes, or the 32 digits of a legacy id) and 32 bytes, with a
/// dot between them, in base64url without padding and each in its one canonical form.
pub fn is_token(text: &str) -> bool {
    let Some((id, secret)) = text.split_once('.') else {
        return false;
    };
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    let is_legacy = id.len() == 32 && id.bytes().all(hex);
    let is_bytes = |text: &str, chars: usize, count: usize| {
        let bytes = base64url(text.as_bytes());
        text.len() == chars && bytes.is_some_and(|bytes| bytes.len() == count)
    };
    (is_legacy || is_bytes(id, 22, 16)) && is_bytes(secret, 43, 32)
}

/// The bytes of a canonical base64url text without padding.
pub fn base64url(text: &[u8]) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for c in text {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // Spare bits are zero, and fewer than a character of them.
    (bits == 0 && count < 6).then_some(bytes)
}

/// Returns the session's user.
#[get("/whoami")]
fn whoami(session: &Session) -> String {
    if session.is_new() {
        return "stranger".into();
    }
    match session.user::<String>() {
        Ok(Some(user)) => user,
        Ok(None) => "no user".into(),
        Err(_) => "another user".into(),
    }
}

#[post("/login/<user>")]
fn login(session: &Session, user: &str) -> Result<(), Error> {
    session.login(user)
}

#[post("/write")]
fn write(session: &Session) -> Result<(), Error> {
    session.set("n", &1)
}

#[get("/token")]
fn token(session: &Session) -> String {
    session.csrf_token()
}
