//! HTTP as it is on the wire: `Request` and `Response` over a real socket, and `Browser`, which
//! keeps cookies.
//!
//! A client library would be kind: it would join header lines, decode values and refuse what a test
//! has to send.

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::CookieStore;
use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::TcpStream;
use rocket::tokio::time::timeout;
use url::Url;

use super::PATIENCE;

/// A request to be sent, byte by byte as it is told.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Option<Vec<u8>>,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Request {
        Request {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: Vec::new(),
            body: None,
        }
    }

    pub fn get(path: &str) -> Request {
        Request::new("GET", path)
    }

    pub fn head(path: &str) -> Request {
        Request::new("HEAD", path)
    }

    pub fn post(path: &str) -> Request {
        Request::new("POST", path).body("")
    }

    pub fn put(path: &str) -> Request {
        Request::new("PUT", path).body("")
    }

    /// One more header line; the same name twice makes two lines.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// A form's body, `name=value&…`, as it is.
    pub fn form(self, body: &str) -> Request {
        self.header("Content-Type", "application/x-www-form-urlencoded")
            .body(body)
    }

    pub fn json(self, body: &str) -> Request {
        self.header("Content-Type", "application/json").body(body)
    }

    /// What goes over the wire. `Host` and `Content-Length` are added where the request does not
    /// say them itself.
    pub fn to_bytes(&self) -> Vec<u8> {
        let has = |name: &str| {
            self.headers
                .iter()
                .any(|(own, _)| own.eq_ignore_ascii_case(name))
        };
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        if !has("Host") {
            bytes.extend(b"Host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend(name.as_bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        if let Some(body) = &self.body
            && !has("Content-Length")
            && !has("Transfer-Encoding")
        {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).into_bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it on a separate connection and reads the response.
    pub async fn send(self, to: SocketAddr) -> Response {
        self.try_send(to).await.expect("a response")
    }

    pub async fn try_send(self, to: SocketAddr) -> io::Result<Response> {
        Connection::open(to)
            .await?
            .exchange(&self.header("Connection", "close"))
            .await
    }
}

/// A response. Each header line is kept, in order, its value's bytes as the characters of the same
/// numbers (Latin-1).
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// The first line of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).into_iter().next()
    }

    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let of_name = self
            .headers
            .iter()
            .filter(|(own, _)| own.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The values of all `Set-Cookie` lines, in order.
    pub fn set_cookies(&self) -> Vec<&str> {
        self.headers_named("Set-Cookie")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that is kept: for more than one request, for bytes that are no request, for answers
/// read in parts.
pub struct Connection {
    pub stream: TcpStream,
    /// What was read and not yet used.
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(to: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends the request and reads the whole answer.
    pub async fn exchange(&mut self, request: &Request) -> io::Result<Response> {
        self.write(&request.to_bytes()).await?;
        self.read(&request.method).await
    }

    /// Any bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Reads the response to a request of this method, which decides whether there is a body.
    pub async fn read(&mut self, method: &str) -> io::Result<Response> {
        let whole = async {
            let mut response = self.read_head().await?;
            response.body = self.read_body(method, &response).await?;
            Ok(response)
        };
        timeout(PATIENCE, whole)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// The status and the headers; the body is left to be read.
    pub async fn read_head(&mut self) -> io::Result<Response> {
        loop {
            let mut status = None;
            let mut headers = Vec::new();
            loop {
                let line = self.read_line().await?;
                if status.is_none() {
                    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
                    status =
                        Some(code.ok_or_else(|| invalid(format!("no status line: {line:?}")))?);
                } else if line.is_empty() {
                    break;
                } else {
                    let (name, value) = line
                        .split_once(':')
                        .ok_or_else(|| invalid(format!("no header: {line:?}")))?;
                    headers.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
                }
            }
            let status = status.unwrap_or_default();
            // "Continue" and the like precede the response; an upgrade is one.
            if status >= 200 || status == 101 {
                return Ok(Response {
                    status,
                    headers,
                    body: Vec::new(),
                });
            }
        }
    }

    async fn read_body(&mut self, method: &str, head: &Response) -> io::Result<Vec<u8>> {
        if method.eq_ignore_ascii_case("HEAD") || matches!(head.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        if head
            .header("Transfer-Encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"))
        {
            let mut body = Vec::new();
            while let Some(chunk) = self.read_chunk().await? {
                body.extend(chunk);
            }
            return Ok(body);
        }
        match head.header("Content-Length") {
            Some(length) => {
                let length = length
                    .parse()
                    .map_err(|_| invalid(format!("Content-Length: {length:?}")))?;
                self.read_exactly(length).await
            }
            None => {
                while self.read_more().await? {}
                Ok(std::mem::take(&mut self.buffer))
            }
        }
    }

    /// The next piece of a chunked body; `None` at its end. A stream's pieces come as the
    /// application sends them.
    pub async fn read_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.read_line().await?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size =
            usize::from_str_radix(size, 16).map_err(|_| invalid(format!("no chunk: {line:?}")))?;
        if size > 0 {
            let chunk = self.read_exactly(size).await?;
            self.read_exactly(2).await?;
            return Ok(Some(chunk));
        }
        while !self.read_line().await?.is_empty() {}
        Ok(None)
    }

    async fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self
                    .buffer
                    .drain(..end + 2)
                    .take(end)
                    .map(char::from)
                    .collect();
                return Ok(line);
            }
            self.need_more().await?;
        }
    }

    async fn read_exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.need_more().await?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn need_more(&mut self) -> io::Result<()> {
        match self.read_more().await? {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    async fn read_more(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A browser: it keeps the cookies of the answers it gets, as RFC 6265 has it, and sends them back.
///
/// Several requests may be on their way at once, as with a browser's tabs. `SameSite` is for the
/// test to act out.
pub struct Browser {
    server: SocketAddr,
    /// What the address bar would say, up to the path.
    origin: Url,
    jar: Mutex<CookieStore>,
}

impl Browser {
    /// At the server's own address. That is a loopback address, to which browsers send `Secure`
    /// cookies, too.
    pub fn new(server: SocketAddr) -> Browser {
        Browser::at(server, &format!("http://{server}"))
    }

    /// At this origin, as in `https://shop.example.org`, wherever that is served: for `Domain`, and
    /// for `Secure`.
    pub fn at(server: SocketAddr, origin: &str) -> Browser {
        Browser {
            server,
            origin: Url::parse(origin).expect("an origin"),
            jar: Mutex::default(),
        }
    }

    pub async fn get(&self, path: &str) -> Response {
        self.send(Request::get(path)).await
    }

    /// Sends any request with its cookies, and keeps those of the response.
    pub async fn send(&self, request: Request) -> Response {
        let path = request.path.clone();
        let response = self.send_undelivered(request).await;
        self.deliver(&response, &path);
        response
    }

    /// Sends any request with its cookies; the cookies of the response are not yet in the jar.
    pub async fn send_undelivered(&self, request: Request) -> Response {
        self.with_cookies(request).send(self.server).await
    }

    /// The request as this browser would send it now.
    pub fn with_cookies(&self, request: Request) -> Request {
        let request = match self.origin.host_str() {
            Some(host) => {
                let port = self
                    .origin
                    .port()
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default();
                request.header("Host", format!("{host}{port}"))
            }
            None => request,
        };
        let url = self.url(&request.path);
        let jar = self.jar();
        let mut cookies = jar.matches(&url);
        // Those of longer paths come first; the jar gives them in no order.
        cookies.sort_by_key(|cookie| {
            (
                std::cmp::Reverse(cookie.path.len()),
                cookie.name().to_owned(),
            )
        });
        let pairs: Vec<_> = cookies
            .iter()
            .map(|cookie| format!("{}={}", cookie.name(), cookie.value()))
            .collect();
        if pairs.is_empty() {
            request
        } else {
            request.header("Cookie", pairs.join("; "))
        }
    }

    /// Puts the cookies of a response to a request for `path` into the jar: in the order in which a
    /// test calls this, the answers arrive.
    pub fn deliver(&self, response: &Response, path: &str) {
        let url = self.url(path);
        for cookie in response.set_cookies() {
            // What the jar refuses, a browser ignores: another site's domain, the removal of what
            // is not there.
            let _ = self.jar().parse(cookie, &url);
        }
    }

    /// The value of the cookie that would be sent to `/`.
    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookie_at("/", name)
    }

    pub fn cookie_at(&self, path: &str, name: &str) -> Option<String> {
        let jar = self.jar();
        let cookies = jar.matches(&self.url(path));
        cookies
            .into_iter()
            .find(|cookie| cookie.name() == name)
            .map(|cookie| cookie.value().to_owned())
    }

    /// Puts a cookie into the jar by hand, as a `Set-Cookie` line of `/` would.
    pub fn set_cookie(&self, line: &str) {
        self.jar()
            .parse(line, &self.url("/"))
            .expect("a cookie for this origin");
    }

    /// Closes the browser: cookies without a life of their own are gone.
    pub fn restart(&self) {
        let mut jar = self.jar();
        let kept: Vec<_> = jar
            .iter_unexpired()
            .filter(|cookie| cookie.is_persistent())
            .cloned()
            .collect();
        *jar = CookieStore::from_cookies(
            kept.into_iter().map(Ok::<_, std::convert::Infallible>),
            false,
        )
        .unwrap_or_else(|never| match never {});
    }

    /// A second browser with the same cookies, as a thief would have them.
    pub fn twin(&self) -> Browser {
        Browser {
            server: self.server,
            origin: self.origin.clone(),
            jar: Mutex::new(self.jar().clone()),
        }
    }

    fn url(&self, path: &str) -> Url {
        self.origin.join(path).expect("a path")
    }

    fn jar(&self) -> MutexGuard<'_, CookieStore> {
        self.jar.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
