//! Sends a number of requests to an application in this process, one after the other, on one thread
//! and without HTTP. `scripts/instructions` runs it in valgrind.
//!
//! The arguments are those of an application (see `support::app`), the path, and the number of
//! requests. The requests go through Rocket's local client, so that the count is of the routes, the
//! session and the driver only, and is reproducible.

use rocket::http::{Cookie, Header};
use rocket::local::asynchronous::Client;
use rocket::tokio::runtime::{Builder, Runtime};

#[path = "../support/mod.rs"]
mod support;

use support::app::{Kind, Settings, build};
use support::server::{Deployment, Server};

/// Requests before those that are counted: what is done once in a process is done then.
const WARM_UP: usize = 50;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match args.as_slice() {
        ["--serve"] => runtime.block_on(serve()),
        [kind, url, path, count] => {
            let count = count.parse().expect("a number of requests");
            let browser = runtime.block_on(Browser::start(kind, url, path));
            runtime.block_on(browser.ask(path, WARM_UP));
            ask_and_count(&runtime, &browser, path, count);
        }
        // `cargo bench` starts every benchmark.
        _ => println!("scripts/instructions runs this under valgrind"),
    }
}

/// A mongod whose address is printed, until standard input ends.
async fn serve() {
    let server = Server::start(Deployment::Standalone, "6.0").await;
    println!("{}", server.url());
    let _ = std::io::stdin().lines().last();
}

/// What `scripts/instructions` counts. It finds it by its name.
#[inline(never)]
fn ask_and_count(runtime: &Runtime, browser: &Browser, path: &str, count: usize) {
    runtime.block_on(browser.ask(path, count));
}

/// An application, and the cookie of a session.
struct Browser {
    client: Client,
    cookie: String,
}

impl Browser {
    async fn start(kind: &str, url: &str, path: &str) -> Browser {
        #[cfg(feature = "metrics")]
        metrics_exporter_prometheus::PrometheusBuilder::new()
            .install_recorder()
            .map(drop)
            .expect("a recorder");
        let settings = Settings {
            kind: match kind {
                "by-hand" => Kind::ByHand,
                "shared" => Kind::Session {
                    share: true,
                    seal: false,
                },
                _ => Kind::Session {
                    share: false,
                    seal: false,
                },
            },
            url: url.to_owned(),
            collection: "counted".to_owned(),
            majority: false,
        };
        let client = Client::untracked(build(&settings).await);
        let client = client.await.expect("an application");
        let response = client.get("/new").dispatch().await;
        let header = response.headers().get_one("Set-Cookie").expect("a cookie");
        let cookie = header.split(';').next().unwrap_or_default().to_owned();
        drop(response);
        let has_cookie = !matches!(path, "/none" | "/unused" | "/new");
        let cookie = if has_cookie { cookie } else { String::new() };
        Browser { client, cookie }
    }

    async fn ask(&self, path: &str, count: usize) {
        for _ in 0..count {
            let mut request = self.client.get(path);
            if !self.cookie.is_empty() {
                // Over the wire Rocket's jar is filled from the header.
                request.add_header(Header::new("Cookie", self.cookie.clone()));
                request = request.cookie(Cookie::parse(self.cookie.clone()).expect("a cookie"));
            }
            let response = request.dispatch().await;
            assert_eq!(response.status().code, 200, "{path}");
            assert!(response.into_bytes().await.is_some());
        }
    }
}
