//! A raw HTTP client, which can leave a request unfinished.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::TcpStream;
use rocket::tokio::time::sleep;
use rocket_mongo_session::Sessions;

use super::Shop;

/// Far longer than a request takes to load its session.
const PATIENCE: Duration = Duration::from_secs(60);

/// A clone of it has a stolen cookie.
#[derive(Clone)]
pub struct Wire {
    port: u16,
    sessions: Sessions,
    /// By name.
    cookies: BTreeMap<String, String>,
}

/// A request whose last byte is still to come.
pub struct Held {
    stream: TcpStream,
    last: u8,
}

pub struct Answer {
    head: String,
    pub body: String,
}

impl Wire {
    pub fn new(shop: &Shop) -> Wire {
        Wire {
            port: shop.port(),
            sessions: shop.sessions.clone(),
            cookies: BTreeMap::new(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        let mut stream = self.connect().await;
        let head = format!("GET {path} HTTP/1.1\r\n{}\r\n", self.headers());
        stream.write_all(head.as_bytes()).await.expect("a request");
        let reply = read(stream).await;
        self.keep_cookie(&reply);
        reply
    }

    /// Sends a form, with the token of this client's session.
    pub async fn post(&mut self, path: &str, fields: &str) -> Answer {
        let body = self.form(path, fields).await;
        let mut stream = self.connect().await;
        self.send(&mut stream, path, &body, body.as_bytes()).await;
        let reply = read(stream).await;
        self.keep_cookie(&reply);
        reply
    }

    /// The same but for the last byte; it is held open once the shop has loaded its session.
    pub async fn hold(&mut self, path: &str, fields: &str) -> Held {
        let body = self.form(path, fields).await;
        let (last, rest) = body.as_bytes().split_last().expect("a body");
        let loaded = self.sessions.stats().hits + 1;
        let mut stream = self.connect().await;
        self.send(&mut stream, path, &body, rest).await;
        let end = Instant::now() + PATIENCE;
        // Nothing but this count tells from outside how far a request has come.
        while self.sessions.stats().hits < loaded {
            assert!(Instant::now() < end, "{path} loads no session");
            sleep(Duration::from_millis(1)).await;
        }
        Held {
            stream,
            last: *last,
        }
    }

    /// Signs in, or up; where that leads.
    pub async fn enter(&mut self, path: &str, name: &str, password: &str) -> Answer {
        let fields = format!("name={name}&password={}", password.replace(' ', "+"));
        self.post(path, &fields).await
    }

    pub async fn is_signed_in(&mut self) -> bool {
        self.get("/account").await.status() == 200
    }

    /// A page's first attribute or text that begins after this.
    pub async fn find(&mut self, path: &str, start: &str) -> String {
        let page = self.get(path).await.body;
        let (_, found) = page.split_once(start).unwrap_or_else(|| panic!("{page}"));
        found.split('"').next().unwrap_or_default().to_owned()
    }

    /// The shop's front page has a form for all visitors. The administrator's forms have tokens of
    /// another kind of session.
    async fn form(&mut self, path: &str, fields: &str) -> String {
        let page = if path.starts_with("/admin") {
            "/admin"
        } else {
            "/"
        };
        let token = self.find(page, r#"name="csrf_token" value=""#).await;
        format!("csrf_token={token}&{fields}")
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
        stream.expect("an open shop")
    }

    fn headers(&self) -> String {
        let Wire { port, cookies, .. } = self;
        let cookies = cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let cookie = cookies.collect::<Vec<_>>().join("; ");
        format!("Host: 127.0.0.1:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n")
    }

    async fn send(&self, stream: &mut TcpStream, path: &str, body: &str, part: &[u8]) {
        let head = format!(
            "POST {path} HTTP/1.1\r\n{}Content-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n",
            self.headers(),
            body.len()
        );
        let bytes = [head.as_bytes(), part].concat();
        stream.write_all(&bytes).await.expect("a request");
    }

    fn keep_cookie(&mut self, reply: &Answer) {
        for line in reply.headers("set-cookie") {
            let pair = line.split(';').next().and_then(|pair| pair.split_once('='));
            let (name, value) = pair.expect("a cookie");
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

impl Held {
    pub async fn finish(mut self) -> Answer {
        let last = self.stream.write_all(&[self.last]).await;
        last.expect("it is still held open");
        read(self.stream).await
    }
}

impl Answer {
    pub fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1).expect("a status");
        status.parse().expect("a number")
    }

    /// Where a redirect leads.
    pub fn leads_to(&self) -> Option<&str> {
        self.header("location")
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).next()
    }

    fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let found = lines.filter(move |(header, _)| header.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

async fn read(mut stream: TcpStream) -> Answer {
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.expect("a response");
    let response = String::from_utf8(response).expect("a page of text");
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    let (head, body) = (head.to_owned(), body.to_owned());
    Answer { head, body }
}
