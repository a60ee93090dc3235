//! The clients: HTTP/1.1 connections that are kept alive, each one browser with one session.
//!
//! One thread and one prepared request a connection, so that the clients take as little as can be
//! of the processors that the application and the server need. Every response is checked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::TcpStream;
use rocket::tokio::task::JoinSet;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// A route that knows nothing of sessions.
    None,
    /// The guard runs, the request has no session, and none is created.
    Unused,
    /// A new session.
    New,
    /// One value of a session of one.
    Read,
    /// That value, counted up.
    Write,
    /// As `Read` and `Write`, of a session of 50 keys and 4 KB.
    ReadLarge,
    WriteLarge,
}

impl Route {
    pub const ALL: [Route; 7] = [
        Route::None,
        Route::Unused,
        Route::New,
        Route::Read,
        Route::Write,
        Route::ReadLarge,
        Route::WriteLarge,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Route::None => "none",
            Route::Unused => "unused",
            Route::New => "new",
            Route::Read => "read",
            Route::Write => "write",
            Route::ReadLarge => "read-4k",
            Route::WriteLarge => "write-4k",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Route::None => "/none",
            Route::Unused => "/unused",
            Route::New => "/new",
            Route::Read | Route::ReadLarge => "/read",
            Route::Write | Route::WriteLarge => "/write",
        }
    }

    pub fn is_large(self) -> bool {
        matches!(self, Route::ReadLarge | Route::WriteLarge)
    }

    fn has_cookie(self) -> bool {
        !matches!(self, Route::None | Route::Unused | Route::New)
    }

    fn counts(self) -> bool {
        matches!(self, Route::Write | Route::WriteLarge)
    }
}

/// A browser: its cookie, and what its session must hold.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub cookie: String,
    pub n: i64,
}

impl Visitor {
    /// The id of the session, which is what stands before the secret.
    pub fn id(&self) -> &str {
        let value = self.cookie.split_once('=').map_or("", |(_, value)| value);
        value.split('.').next().unwrap_or_default()
    }
}

/// What one measurement found.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    pub requests: u64,
    pub took: Duration,
    /// Of each request, in microseconds.
    pub latencies: Vec<u32>,
}

impl Cell {
    pub fn throughput(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }
}

/// Connections to one application for one route.
pub struct Load {
    clients: Vec<Client>,
}

impl Load {
    /// The visitors are dealt out to the connections, which let each of theirs ask in turn.
    pub async fn open(
        addr: SocketAddr,
        route: Route,
        visitors: &[Visitor],
        connections: usize,
    ) -> Load {
        let each = visitors.len() / connections;
        assert!(each > 0, "a visitor for each connection");
        let mut clients = Vec::new();
        for visitors in visitors.chunks(each).take(connections) {
            let requests = visitors.iter().map(|visitor| {
                let cookie = route.has_cookie().then_some(&visitor.cookie);
                request(route.path(), cookie)
            });
            clients.push(Client {
                connection: Connection::open(addr).await,
                requests: requests.collect(),
                visitors: visitors.to_vec(),
                turn: 0,
                route,
                last_cookie: Vec::new(),
            });
        }
        Load { clients }
    }

    /// Each connection asks again as soon as it was answered. All are idle when this returns.
    pub async fn run(&mut self, time: Duration) -> Cell {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for (at, client) in self.clients.drain(..).enumerate() {
            running.spawn(async move { (at, client.run(start + time).await) });
        }
        let mut cell = Cell::default();
        let mut clients = Vec::new();
        while let Some(ended) = running.join_next().await {
            let (at, (client, mut latencies)) = ended.expect("right answers");
            clients.push((at, client));
            cell.requests += latencies.len() as u64;
            cell.latencies.append(&mut latencies);
        }
        cell.took = start.elapsed();
        clients.sort_by_key(|(at, _)| *at);
        self.clients = clients.into_iter().map(|(_, client)| client).collect();
        cell
    }

    /// The visitors in the order that they came in, who know now what their sessions hold.
    pub fn into_visitors(self) -> impl Iterator<Item = Visitor> {
        self.clients.into_iter().flat_map(|client| client.visitors)
    }
}

struct Client {
    connection: Connection,
    requests: Vec<Vec<u8>>,
    visitors: Vec<Visitor>,
    turn: usize,
    route: Route,
    last_cookie: Vec<u8>,
}

impl Client {
    async fn run(mut self, until: Instant) -> (Client, Vec<u32>) {
        let mut latencies = Vec::with_capacity(4096);
        let mut asked = Instant::now();
        while asked < until {
            self.turn = (self.turn + 1) % self.requests.len();
            let response = self.connection.ask(&self.requests[self.turn]).await;
            let answered = Instant::now();
            let took = answered.duration_since(asked).as_micros();
            latencies.push(u32::try_from(took).unwrap_or(u32::MAX));
            self.check(&response);
            asked = answered;
        }
        (self, latencies)
    }

    fn check(&mut self, response: &Response) {
        let (route, bytes) = (self.route, &self.connection.buffer);
        let body = &bytes[response.head..response.end];
        if response.status != 200 {
            let said = String::from_utf8_lossy(&bytes[..response.end]);
            panic!("{route:?} is answered with:\n{said}");
        }
        let visitor = &mut self.visitors[self.turn];
        if route.counts() {
            visitor.n += 1;
        }
        let n = visitor.n;
        let is_right = match route {
            Route::None | Route::Unused => body == b"ok",
            Route::New => body == b"1",
            _ => std::str::from_utf8(body).is_ok_and(|body| body.parse() == Ok(n)),
        };
        if !is_right {
            let said = String::from_utf8_lossy(body);
            panic!("{route:?}: {said:?} where the session must hold {n}: a change was lost");
        }
        if route == Route::New {
            let cookie = header(&bytes[..response.head], "set-cookie").unwrap_or_default();
            assert!(
                cookie.starts_with(b"session=") && cookie != self.last_cookie,
                "a new session comes with a new cookie"
            );
            self.last_cookie.clear();
            self.last_cookie.extend_from_slice(cookie);
        }
    }
}

/// One HTTP/1.1 connection.
pub struct Connection {
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// The place of a response in the connection's buffer.
pub struct Response {
    pub status: u16,
    head: usize,
    end: usize,
}

impl Connection {
    pub async fn open(addr: SocketAddr) -> Connection {
        let socket = TcpStream::connect(addr).await.expect("a connection");
        socket.set_nodelay(true).expect("no delay");
        Connection {
            socket,
            buffer: Vec::with_capacity(4096),
        }
    }

    pub async fn send(&mut self, request: &[u8]) {
        self.socket.write_all(request).await.expect("a request");
    }

    pub async fn ask(&mut self, request: &[u8]) -> Response {
        self.send(request).await;
        self.receive().await
    }

    pub async fn receive(&mut self) -> Response {
        self.buffer.clear();
        loop {
            let read = self.socket.read_buf(&mut self.buffer).await;
            assert!(
                read.expect("a response") > 0,
                "the application closed a connection"
            );
            if let Some(response) = parse(&self.buffer) {
                return response;
            }
        }
    }

    /// A GET; the cookie that it gives (its name and value), and the body.
    pub async fn get(&mut self, path: &str, cookie: Option<&str>) -> (Option<String>, String) {
        let response = self.ask(&request(path, cookie)).await;
        let (head, body) = (
            &self.buffer[..response.head],
            &self.buffer[response.head..response.end],
        );
        let body = String::from_utf8_lossy(body).into_owned();
        assert_eq!(response.status, 200, "{path}: {body}");
        let cookie = header(head, "set-cookie").map(|cookie| {
            let cookie = String::from_utf8_lossy(cookie);
            cookie.split(';').next().unwrap_or_default().to_owned()
        });
        (cookie, body)
    }
}

pub fn request(path: &str, cookie: Option<impl AsRef<str>>) -> Vec<u8> {
    let cookie = cookie.map_or(String::new(), |c| format!("Cookie: {}\r\n", c.as_ref()));
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{cookie}\r\n").into_bytes()
}

/// Finds a complete response.
fn parse(bytes: &[u8]) -> Option<Response> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let status = std::str::from_utf8(bytes.get(9..12)?).ok()?.parse().ok()?;
    let length = header(&bytes[..head], "content-length").expect("a content length");
    let length: usize = std::str::from_utf8(length).ok()?.parse().expect("a length");
    let end = head + length;
    (bytes.len() >= end).then_some(Response { status, head, end })
}

fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').find_map(|line| {
        let (its, value) = line.split_at_checked(name.len())?;
        let value = value.strip_prefix(b":")?;
        its.eq_ignore_ascii_case(name.as_bytes())
            .then(|| value.trim_ascii())
    })
}
