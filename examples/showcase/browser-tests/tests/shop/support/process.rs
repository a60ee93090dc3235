//! The shop in a process of its own.

use std::io::{BufRead, BufReader};

use rocket::figment::providers::Serialized;

use super::group::Group;
use super::shop::{Shop, figment};

/// Tells the process where its database is.
const DATABASE: &str = "SHOWCASE_DATABASE";

/// A process with an open shop; it ends when this is dropped.
pub struct Process {
    _process: Group,
    port: u16,
}

impl Process {
    /// On a database that other processes use, too. It is this test binary, running the one test that
    /// opens a shop.
    pub fn start(database: &str) -> Process {
        let program = std::env::current_exe().expect("the test binary");
        let command = [
            format!("{DATABASE}={database}"),
            program.display().to_string(),
            "--ignored".to_owned(),
            "--nocapture".to_owned(),
            "--exact".to_owned(),
            "support::process::open_until_it_is_killed".to_owned(),
        ];
        let mut process = Group::start("env", &command);
        let lines = BufReader::new(process.stdout()).lines();
        let mut lines = lines.map_while(Result::ok);
        let port = lines.find_map(|line| line.strip_prefix("port ")?.parse().ok());
        Process {
            _process: process,
            port: port.expect("a process opens its shop"),
        }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

#[rocket::async_test]
#[ignore = "runs in the processes that other tests start"]
async fn open_until_it_is_killed() {
    let Ok(database) = std::env::var(DATABASE) else {
        return;
    };
    let database = Serialized::default("databases.sessions.url", database);
    let shop = Shop::open_with(figment().merge(database)).await;
    println!("\nport {}", shop.port());
    std::future::pending::<()>().await;
}
