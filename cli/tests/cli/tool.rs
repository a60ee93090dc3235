//! The binary, and an application whose sessions it is about.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use mongodb::Client as Database;
use mongodb::bson::{Document, doc};
use rocket::http::Header;
use rocket::local::asynchronous::Client;
use rocket::serde::json::Json;
use rocket::tokio::task::spawn_blocking;
use rocket::{get, post, routes, uri};
use rocket_mongo_session::{Error, Key, Session, Sessions};
use serde_json::Value;

pub const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:121.0) Gecko/20100101 Firefox/121.0";
const NOTE: Key<String> = Key::new("note");
const BINARY: &str = env!("CARGO_BIN_EXE_rocket-mongo-session");

/// What a run of the binary said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The lines of stdout as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let parse = |line| serde_json::from_str(line);
        let lines: Result<_, _> = self.out.lines().map(parse).collect();
        lines.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn ends_with(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// Leaves out what configures another application.
fn without_rocket(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROCKET_") {
            command.env_remove(name);
        }
    }
    command.env("TZ", "UTC").stdin(Stdio::null());
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    without_rocket(command.args(args));
    command
}

/// What an operator types at a shell in this folder, with the binary installed.
fn shell(folder: &Path, line: &str) -> Command {
    let installed = Path::new(BINARY).parent().expect("its folder");
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = [installed.to_owned()]
        .into_iter()
        .chain(std::env::split_paths(&others));
    let path = std::env::join_paths(all).expect("a PATH");
    let mut command = Command::new("sh");
    without_rocket(command.args(["-c", line]));
    command.current_dir(folder).env("PATH", path);
    command
}

/// Runs a command to its end.
async fn ended(mut command: Command) -> Said {
    let output = spawn_blocking(move || command.output())
        .await
        .expect("a thread");
    Said::of(&output.expect("the binary"))
}

/// Runs the binary to its end.
pub async fn run(args: &[&str]) -> Said {
    ended(command(args)).await
}

/// Runs a line of the shell to its end.
pub async fn in_folder(folder: &Path, line: &str) -> Said {
    ended(shell(folder, line)).await
}

/// As `in_folder`, on a terminal at which this is typed.
pub async fn typed_in_folder(folder: &Path, line: &str, typed: &'static str) -> Said {
    typed_at(on_terminal(&shell(folder, line)), typed).await
}

/// Runs the binary on a terminal at which this is typed.
pub async fn run_on_terminal(args: &[&str], typed: &'static str) -> Said {
    typed_at(start_on_terminal(args), typed).await
}

/// Starts the binary on a terminal, which is closed when the child is killed.
pub fn start_on_terminal(args: &[&str]) -> Child {
    on_terminal(&command(args))
}

/// Python has terminals, and the tests need Python anyway.
fn on_terminal(command: &Command) -> Child {
    const SPAWN: &str = "import os, pty, sys\n\
        sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut python = Command::new("python3");
    python
        .args(["-c", SPAWN])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => python.env(name, value),
            None => python.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        python.current_dir(folder);
    }
    python.stdin(Stdio::piped()).stdout(Stdio::piped());
    python.stderr(Stdio::piped()).spawn().expect("python3")
}

async fn typed_at(mut child: Child, typed: &'static str) -> Said {
    let mut stdin = child.stdin.take().expect("stdin");
    std::io::Write::write_all(&mut stdin, typed.as_bytes()).expect("what is typed");
    let said = wait(child).await;
    drop(stdin); // the end of it would be the end of the terminal
    said
}

/// Starts the binary.
pub fn start(args: &[&str]) -> Child {
    let mut command = command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the binary")
}

pub async fn wait(child: Child) -> Said {
    let output = spawn_blocking(move || child.wait_with_output())
        .await
        .expect("a thread");
    Said::of(&output.expect("the binary"))
}

/// Sends a signal, as the terminal does.
pub fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill")
        .args([name, &pid])
        .status()
        .expect("kill");
    assert!(sent.success());
}

/// An application with its Rocket.toml.
pub struct Shop {
    pub toml: PathBuf,
    pub client: Client,
    pub database: Database,
    pub name: String,
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.toml);
    }
}

#[post("/login", data = "<user>")]
async fn login(session: &Session, user: Json<Value>) -> Result<String, Error> {
    session.login(&user.0)?;
    session.set(NOTE, "a secret of the user")?;
    session.set_return_to(&uri!("/orders/42"))?;
    session.save().await?;
    Ok(session.id().unwrap_or_default())
}

#[post("/visit")]
async fn visit(session: &Session) -> Result<String, Error> {
    session.set(NOTE, "a visitor")?;
    session.save().await?;
    Ok(session.id().unwrap_or_default())
}

#[get("/alive")]
fn alive(session: &Session) -> Result<String, Error> {
    Ok(session.get(NOTE)?.unwrap_or_default())
}

impl Shop {
    /// In a database of this name, at the address that `url` gives it.
    pub async fn open(name: &str, url: &str, database: Database) -> Shop {
        let extra = "record_client = true\n";
        let text = format!(
            "[default.databases.sessions]\nurl = \"{url}\"\n\n[default.session]\n{extra}\n\
             [default.session_admin]\n{extra}"
        );
        let toml = std::env::temp_dir().join(format!("{name}-{}.toml", std::process::id()));
        std::fs::write(&toml, text).expect("a Rocket.toml");
        let figment = rocket::Config::figment()
            .merge(("databases.sessions.url", url))
            .merge(("session.record_client", true))
            .merge(("log_level", "off"));
        let rocket = rocket::custom(figment)
            .attach(Sessions::fairing())
            .mount("/", routes![login, visit, alive]);
        let client = Client::untracked(rocket).await.expect("an application");
        let sessions = client.rocket().state::<Sessions>().expect("the handle");
        sessions.ensure_indexes().await.expect("indexes");
        let name = name.to_owned();
        Shop {
            toml,
            client,
            database,
            name,
        }
    }

    /// Logs in from a new browser; returns the session's id.
    pub async fn login(&self, user: Value, agent: &'static str) -> String {
        let request = self.client.post("/login").json(&user);
        let request = request.header(Header::new("User-Agent", agent));
        let response = request.remote("192.0.2.7:1000".parse().expect("an address"));
        response
            .dispatch()
            .await
            .into_string()
            .await
            .expect("an id")
    }

    /// Visits without a login.
    pub async fn visit(&self) -> String {
        let response = self.client.post("/visit").dispatch().await;
        response.into_string().await.expect("an id")
    }

    pub fn sessions(&self) -> &Sessions {
        self.client
            .rocket()
            .state::<Sessions>()
            .expect("the handle")
    }

    pub fn collection(&self) -> mongodb::Collection<Document> {
        self.database.database(&self.name).collection("session")
    }

    /// Makes a session look as if it was created and used long ago.
    pub async fn age(&self, id: &str, days: f64) {
        let by = -days * 86_400.0;
        let found = self.collection().find_one(doc! { "_id": id }).await;
        let found = found.expect("a find").expect("a session");
        let time = |name: &str| found.get_f64(name).expect("seconds") + by;
        let set = doc! { "accessed": time("accessed"), "created": time("created") };
        let updated = self
            .collection()
            .update_one(doc! { "_id": id }, doc! { "$set": set })
            .await;
        assert_eq!(updated.expect("an update").matched_count, 1);
    }

    /// Copies a session under many new ids.
    pub async fn multiply(&self, id: &str, count: u64) {
        const BATCH: u64 = 10_000;
        let found = self.collection().find_one(doc! { "_id": id }).await;
        let model = found.expect("a find").expect("a session");
        let mut made = 0;
        while made < count {
            let some = BATCH.min(count - made);
            let copies = (made..made + some).map(|number| {
                let mut copy = model.clone();
                copy.insert("_id", spread(&model, number));
                copy
            });
            self.collection()
                .insert_many(copies)
                .await
                .expect("an insertion");
            made += some;
        }
    }

    pub async fn run(&self, args: &[&str]) -> Said {
        run(&self.with_config(args)).await
    }

    pub fn with_config<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let config = self.toml.to_str().expect("a path");
        let mut all = vec!["--config", config];
        all.extend(args);
        all
    }
}

/// A well-formed id of its own, evenly spread.
fn spread(model: &Document, number: u64) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let salt = model
        .get_str("_id")
        .expect("an id")
        .bytes()
        .map(u64::from)
        .sum::<u64>();
    let mut state =
        number.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ salt.wrapping_mul(0xD134_2543_DE82_EF95);
    let mut id = String::new();
    for _ in 0..10 {
        state ^= state >> 29;
        id.push(char::from(DIGITS[(state % 64) as usize]));
        state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(1);
    }
    let mut rest = number;
    for _ in 0..11 {
        id.push(char::from(DIGITS[(rest % 64) as usize]));
        rest /= 64;
    }
    id + "A" // the last character of 16 bytes holds two bits
}

pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
