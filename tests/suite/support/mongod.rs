//! `Mongod`: a real mongod on a free loopback port, with a data directory of its own.
//!
//! Each is held by a small `sh` that reads orders from a pipe. When this process ends, however it
//! ends, the pipe closes, and the shell kills its mongod and removes the directory. The mongod is
//! the shell's child, which no other process can reap, so that a pid is not another process's by the
//! time it is signalled.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::doc;
use mongodb::options::ClientOptions;

use super::{PATIENCE, eventually, off_runtime, wire};

const DEFAULT_SERIES: &str = "6.0";

const FLAGS: &[&str] = &[
    "--bind_ip=127.0.0.1",
    "--quiet",
    "--nounixsocket",
    "--wiredTigerCacheSizeGB=0.25",
    // The journal stays on (what a test kills must survive as in life), but it is not written out
    // in advance: that is 300 MB of disk and a third of the start.
    "--wiredTigerEngineConfigString=log=(prealloc=false,file_max=16MB)",
    "--setParameter=enableTestCommands=1",
    "--setParameter=ttlMonitorSleepSecs=1",
    "--setParameter=diagnosticDataCollectionEnabled=false",
    // Otherwise the server stores its sessions at its start and every five minutes, with updates that
    // its counters do not tell from a client's.
    "--setParameter=disableLogicalSessionCacheRefresh=true",
];

/// $1 is the directory, the rest is the mongod's command line. One order is one line; each is
/// answered with one. A stopped process takes no TERM, so it is continued first.
const KEEPER: &str = r#"
dir=$1; shift; child=
while read -r order; do
  case $order in
    start) "$@" </dev/null >>"$dir/log" 2>&1 & child=$!; echo "$child" ;;
    TERM|KILL) kill -"$order" "$child"; kill -CONT "$child"; wait "$child"; child=; echo done ;;
    STOP|CONT) kill -"$order" "$child"; echo done ;;
  esac
done
if [ -n "$child" ]; then kill -KILL "$child"; wait "$child"; fi
rm -rf "$dir"
"#;

/// A running mongod; it and its data go when this is dropped, or when the test process goes.
pub struct Mongod {
    /// The address up to the name of the database, and what follows that name.
    url: (String, String),
    port: u16,
    process: Option<Arc<Process>>,
}

#[derive(Clone, Default)]
pub struct Builder {
    series: Option<String>,
    args: Vec<String>,
}

impl Builder {
    /// Which MongoDB: "6.0" (the default), "5.0", "4.4", or one that a variable names (`MONGOD_8_0`).
    pub fn series(mut self, series: &str) -> Self {
        self.series = Some(series.to_owned());
        self
    }

    /// One more argument of the command line, as in `--replSet=name`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub async fn start(self) -> Mongod {
        off_runtime(move || self.start_blocking()).await
    }

    pub(super) fn start_blocking(self) -> Mongod {
        let binary = binary(self.series.as_deref().unwrap_or(DEFAULT_SERIES));
        let (port, process) = Process::start(&binary, &self.args);
        Mongod {
            url: (format!("mongodb://127.0.0.1:{port}/"), String::new()),
            port,
            process: Some(Arc::new(process)),
        }
    }
}

impl Mongod {
    pub async fn start() -> Mongod {
        Mongod::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// One standalone for all tests of this process, or the server of `MONGODB_URI`. Tests keep
    /// apart by the name of their database, and do nothing to it that others would feel: no kill,
    /// no pause, no fail point.
    pub async fn shared() -> &'static Mongod {
        static SHARED: OnceLock<Mongod> = OnceLock::new();
        off_runtime(|| {
            SHARED.get_or_init(|| match std::env::var("MONGODB_URI") {
                Ok(uri) if !uri.is_empty() => Mongod::at(&uri),
                _ => Mongod::builder().start_blocking(),
            })
        })
        .await
    }

    /// A server that is not ours to control, by its address.
    pub fn at(uri: &str) -> Mongod {
        let (scheme, rest) = uri.split_once("://").expect("MONGODB_URI: no '://' in it");
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (hosts, db) = rest.split_once('/').unwrap_or((rest, ""));
        let mut options = options.to_owned();
        // Credentials are looked up in the address's own database, which the tests replace.
        if hosts.contains('@') && !options.contains("authSource=") {
            let source = if db.is_empty() { "admin" } else { db };
            options = format!("{options}&authSource={source}")
                .trim_start_matches('&')
                .to_owned();
        }
        let port = hosts
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(27017);
        let tail = if options.is_empty() {
            options
        } else {
            format!("?{options}")
        };
        Mongod {
            url: (format!("{scheme}://{hosts}/"), tail),
            port,
            process: None,
        }
    }

    /// The address of a database on it, as an application would write it.
    pub fn url(&self, db: &str) -> String {
        format!("{}{db}{}", self.url.0, self.url.1)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The pid of the process that runs now (`restart` gives it another).
    pub fn pid(&self) -> u32 {
        self.process().pid()
    }

    /// A client of the tests' own: straight to this server, with short timeouts, and known to it as
    /// `tests`.
    pub async fn client(&self) -> Client {
        let mut options = ClientOptions::parse(self.url(""))
            .await
            .expect("the address of a mongod");
        options.app_name = Some(CLIENT.to_owned());
        options.connect_timeout = Some(Duration::from_secs(5));
        options.server_selection_timeout = Some(Duration::from_secs(10));
        if self.process.is_some() {
            options.direct_connection = Some(true);
        }
        Client::with_options(options).expect("a client of a mongod")
    }

    /// Whether it answers now. A paused one does not.
    pub async fn is_up(&self) -> bool {
        match self.process.clone() {
            Some(process) => off_runtime(move || process.replies()).await,
            None => self
                .client()
                .await
                .database("admin")
                .run_command(doc! { "ping": 1 })
                .await
                .is_ok(),
        }
    }

    /// Every file that it keeps, its log (`log`) among them. Read them when it was stopped.
    pub async fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut directories = vec![self.process().dir.clone()];
        off_runtime(move || {
            let mut files = Vec::new();
            while let Some(directory) = directories.pop() {
                for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
                    let path = entry.path();
                    match path.is_dir() {
                        true => directories.push(path),
                        false => {
                            let bytes = std::fs::read(&path).expect("a file");
                            let name = path.file_name().unwrap_or_default();
                            files.push((name.to_string_lossy().into_owned(), bytes));
                        }
                    }
                }
            }
            files
        })
        .await
    }

    /// SIGKILL, and gone when this returns.
    pub async fn kill(&self) {
        self.order("KILL").await;
    }

    /// SIGTERM: a clean stop, done when this returns.
    pub async fn stop(&self) {
        self.order("TERM").await;
    }

    /// SIGSTOP: the port accepts connections and does not reply. Where the system tells, this returns
    /// when the last thread has stopped; on a busy machine a thread may finish a reply first.
    pub async fn pause(&self) {
        self.order("STOP").await;
        let tasks = PathBuf::from(format!("/proc/{}/task", self.process().pid()));
        eventually("a mongod that stands still", async || !any_runs(&tasks)).await;
    }

    /// SIGCONT.
    pub async fn resume(&self) {
        self.order("CONT").await;
    }

    /// The same port and data again, after a clean stop if it runs still. Answers when this
    /// returns.
    pub async fn restart(&self) {
        let process = Arc::clone(self.process());
        off_runtime(move || process.restart()).await;
    }

    async fn order(&self, order: &'static str) {
        let process = Arc::clone(self.process());
        off_runtime(move || process.order(order)).await;
    }

    fn process(&self) -> &Arc<Process> {
        self.process
            .as_ref()
            .expect("the server of MONGODB_URI is not the tests' to control: use Mongod::start()")
    }
}

/// Whether one of these threads still runs, or waits for something.
fn any_runs(tasks: &Path) -> bool {
    let states = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    let mut stats =
        states.filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok());
    stats.any(|stat| {
        // After the name, which is in parentheses and may hold any character.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
        state.is_some_and(|state| state.starts_with(['R', 'S', 'D']))
    })
}

/// The application name of the tests' own clients, by which what they ask is told from what is
/// tested.
pub(super) const CLIENT: &str = "tests";

/// A mongod's process, or the place of one that was stopped.
struct Process {
    port: u16,
    dir: PathBuf,
    /// 0 without one.
    pid: AtomicU32,
    keeper: Mutex<Keeper>,
}

impl Process {
    /// Ports are this process's to try out, not to reserve: another one may take it in between, so
    /// there is another.
    fn start(binary: &Path, args: &[String]) -> (u16, Process) {
        let mut said = String::new();
        for _ in 0..5 {
            let port = free_port();
            let dir = std::env::temp_dir().join(format!(
                "rocket_mongo_session-mongod-{}-{port}",
                std::process::id()
            ));
            std::fs::create_dir_all(&dir).expect("a directory for a mongod's data");
            let keeper = Mutex::new(Keeper::new(binary, port, &dir, args));
            let process = Process {
                port,
                dir,
                pid: AtomicU32::new(0),
                keeper,
            };
            match process.begin() {
                Ok(()) => return (port, process),
                Err(log) => said = log,
            }
        }
        panic!(
            "{} does not start; its log ends with:\n{said}",
            binary.display()
        );
    }

    /// Starts it and waits until it serves; the end of its log when it does not.
    fn begin(&self) -> Result<(), String> {
        let pid = self
            .keeper()
            .ask("start")
            .parse()
            .expect("a pid from the keeper");
        self.pid.store(pid, Ordering::SeqCst);
        let deadline = Instant::now() + PATIENCE;
        while !self.replies() {
            if has_ended(pid) || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                return Err(lines[lines.len().saturating_sub(8)..].join("\n"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // A member otherwise continues for 15 seconds after a shutdown, for its clients' sake; where this
        // is not known (4.4), it does not.
        let at_once =
            bson::doc! { "setParameter": 1, "shutdownTimeoutMillisForSignaledShutdown": 100 };
        let _ = wire::ask(self.port, "admin", at_once, Duration::from_secs(5));
        Ok(())
    }

    /// Whether it is this process, and no other on its port, that answers: by its directory, since
    /// a mongod in an emulator has another pid.
    fn replies(&self) -> bool {
        let question = bson::doc! { "getCmdLineOpts": 1 };
        let reply = wire::ask(self.port, "admin", question, Duration::from_secs(1));
        let name = self.dir.file_name().unwrap_or_default().to_string_lossy();
        self.pid.load(Ordering::SeqCst) != 0
            && match reply {
                Ok(options) => options.to_string().contains(&*name),
                // With `--auth` it does not tell its options to strangers.
                Err(refusal) => refusal.to_string().contains("auth"),
            }
    }

    fn pid(&self) -> u32 {
        match self.pid.load(Ordering::SeqCst) {
            0 => panic!("this mongod was stopped: it has no pid"),
            pid => pid,
        }
    }

    fn order(&self, order: &str) {
        self.pid();
        if matches!(order, "KILL" | "TERM") {
            self.pid.store(0, Ordering::SeqCst);
        }
        self.keeper().ask(order);
    }

    fn restart(&self) {
        if self.pid.load(Ordering::SeqCst) != 0 {
            self.order("TERM");
        }
        if let Err(log) = self.begin() {
            panic!("the mongod does not start again; its log ends with:\n{log}");
        }
    }

    fn keeper(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shell that holds a mongod.
struct Keeper {
    shell: Child,
    /// `None` once it was told to end.
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Keeper {
    fn new(binary: &Path, port: u16, dir: &Path, args: &[String]) -> Keeper {
        let mut shell = Command::new("sh")
            .args([
                OsString::from("-c"),
                KEEPER.into(),
                "keeper".into(),
                dir.into(),
                binary.into(),
            ])
            .arg(format!("--port={port}"))
            .args([OsString::from("--dbpath"), dir.into()])
            .args(FLAGS)
            .args(args)
            // A group of its own: Ctrl-C at the terminal is for the tests, and the closing pipe
            // tells the rest.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh, to hold a mongod");
        let orders = shell.stdin.take();
        let replies = BufReader::new(shell.stdout.take().expect("stdout is piped"));
        Keeper {
            shell,
            orders,
            replies,
        }
    }

    fn ask(&mut self, order: &str) -> String {
        let mut reply = String::new();
        writeln!(self.orders.as_ref().expect("the keeper runs"), "{order}")
            .expect("the keeper reads");
        self.replies
            .read_line(&mut reply)
            .expect("the keeper answers");
        reply.trim_end().to_owned()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders.take();
        // Nothing is to be done about a failure here, and a panic in a drop would hide the test's
        // own.
        let _ = self.shell.wait();
    }
}

/// Whether a child of the keeper has ended: a zombie until the keeper asks, or gone. Where there is
/// no /proc, the bound on waiting says it, later.
fn has_ended(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(") ")
            .is_some_and(|(_, state)| state.starts_with('Z')),
        Err(_) => Path::new("/proc/self/stat").exists(),
    }
}

/// The ports that tests use: below those that the system gives to outgoing connections, one of
/// which could take a port while its mongod is down.
const FIRST_PORT: u32 = 20_000;
const PORTS: u32 = 12_000;

/// Where a process of these tests begins to look for ports, when another one started it.
const BEGIN: &str = "TESTS_BEGIN_AT_PORT";

/// How many a process that another one starts can count on.
const OF_A_CHILD: u32 = 200;

/// Returns the next ports to try, and the place of the first.
fn draw_ports(count: u32) -> u32 {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| {
        let told = std::env::var(BEGIN).ok().and_then(|text| text.parse().ok());
        // Each process begins elsewhere, so that two at a time seldom try the same.
        AtomicU32::new(told.unwrap_or_else(|| std::process::id().wrapping_mul(97)))
    });
    next.fetch_add(count, Ordering::Relaxed)
}

/// For the environment of a process of these tests that a test starts: it gets ports that this
/// process does not try meanwhile.
pub fn ports_of_a_child() -> (&'static str, String) {
    (BEGIN, draw_ports(OF_A_CHILD).to_string())
}

/// Returns a port without a listener.
pub(super) fn free_port() -> u16 {
    for _ in 0..PORTS {
        let port = (FIRST_PORT + draw_ports(1) % PORTS) as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on the loopback interface");
}

/// The binary of a series: of the variable `MONGOD_6_0` and so on, of `MONGOD` for the default one,
/// or what `scripts/fetch-mongod` fetched, now if need be.
fn binary(series: &str) -> PathBuf {
    let of_series = format!("MONGOD_{}", series.replace('.', "_"));
    let mut variables = vec![of_series.as_str()];
    if series == DEFAULT_SERIES {
        variables.push("MONGOD");
    }
    let mut own = variables.iter().filter_map(std::env::var_os);
    // Members of the workspace use this file, too.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = std::iter::successors(Some(manifest), |folder| folder.parent());
    let home = folders.find(|folder| folder.join("scripts/fetch-mongod").is_file());
    let home = home.expect("the folder of scripts/fetch-mongod");
    if let Some(own) = own.find(|own| !own.is_empty()) {
        return home.join(own);
    }
    let place = home.join("target/mongod").join(series);
    if !place.join("ready").exists() {
        // The script takes care of others that fetch at the same time.
        let fetched = Command::new(home.join("scripts/fetch-mongod"))
            .arg(series)
            .env_remove("MONGOD")
            .output();
        let why = match fetched {
            Ok(done) if done.status.success() => String::new(),
            Ok(done) => String::from_utf8_lossy(&done.stderr).into_owned(),
            Err(error) => format!("it cannot be run (it needs Python 3): {error}"),
        };
        assert!(
            why.is_empty(),
            "no mongod for the tests. Run `scripts/fetch-mongod {series}`, or set {of_series} to a mongod of your own.\n{why}"
        );
    }
    place.join("mongod")
}
