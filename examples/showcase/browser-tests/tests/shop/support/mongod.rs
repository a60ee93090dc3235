//! A real mongod, on a free port, with data of its own.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rocket::tokio::time::sleep;
use rocket_mongo_session::mongodb::Client;
use rocket_mongo_session::mongodb::bson::doc;

use super::group::Group;

pub struct Mongod {
    port: u16,
    data: PathBuf,
    process: Option<Group>,
}

impl Mongod {
    pub fn start() -> Mongod {
        Mongod::start_with(&[])
    }

    /// A replica set of one, which has change streams.
    pub async fn start_set() -> Mongod {
        let mongod = Mongod::start_with(&["--replSet=showcase".to_owned()]);
        let url = format!("{}?directConnection=true", mongod.url());
        let client = Client::with_uri_str(url).await.expect("a client");
        let admin = client.database("admin");
        let host = format!("127.0.0.1:{}", mongod.port);
        let set = doc! { "_id": "showcase", "members": [{ "_id": 0, "host": host }] };
        let initiated = admin.run_command(doc! { "replSetInitiate": set }).await;
        initiated.expect("a replica set of one");
        let end = Instant::now() + Duration::from_secs(60);
        let is_primary = async || {
            let hello = admin.run_command(doc! { "hello": 1 }).await;
            hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary") == Ok(true))
        };
        while !is_primary().await {
            assert!(Instant::now() < end, "the replica set has no primary");
            sleep(Duration::from_millis(20)).await;
        }
        mongod
    }

    fn start_with(more: &[String]) -> Mongod {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("its number").port();
        drop(free);
        let data = format!("showcase-mongod-{}-{port}", std::process::id());
        let data = std::env::temp_dir().join(data);
        std::fs::create_dir_all(&data).expect("a directory for a mongod's data");
        let args = [
            format!("--port={port}"),
            format!("--dbpath={}", data.display()),
            format!("--logpath={}", data.join("log").display()),
            "--bind_ip=127.0.0.1".to_owned(),
            "--nounixsocket".to_owned(),
            "--wiredTigerCacheSizeGB=0.25".to_owned(),
        ];
        let process = Some(Group::start(binary(), &[&args, more].concat()));
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(
                Instant::now() < end,
                "the mongod does not start: see {}",
                data.display()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Mongod {
            port,
            data,
            process,
        }
    }

    pub fn url(&self) -> String {
        format!("mongodb://127.0.0.1:{}/showcase", self.port)
    }

    /// Suspends the server: its port accepts connections and does not reply.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        self.process.take();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// `MONGOD`, or what the project's script fetched, now if need be.
fn binary() -> PathBuf {
    if let Some(own) = std::env::var_os("MONGOD").filter(|own| !own.is_empty()) {
        return own.into();
    }
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..");
    let binary = project.join("target/mongod/6.0/mongod");
    if !binary.exists() {
        let fetch = Command::new(project.join("scripts/fetch-mongod")).status();
        assert!(
            fetch.is_ok_and(|status| status.success()),
            "no mongod: run `scripts/fetch-mongod`, or set MONGOD to one of your own"
        );
    }
    binary
}
