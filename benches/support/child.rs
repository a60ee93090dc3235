//! An application in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use super::app::Settings;

/// A running application; it goes with this.
pub struct App {
    process: Child,
    pub addr: SocketAddr,
}

impl App {
    pub fn start(settings: &Settings) -> App {
        let me = std::env::current_exe().expect("the path of this binary");
        let mut process = Command::new(me)
            .args(settings.to_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a second process of this binary");
        let mut line = String::new();
        let out = process.stdout.take().expect("stdout is piped");
        BufReader::new(out).read_line(&mut line).expect("a port");
        let port = line
            .trim()
            .parse()
            .unwrap_or_else(|_| panic!("the application {settings:?} does not launch"));
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        App { process, addr }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
