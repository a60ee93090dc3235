//! Sends a number of requests to an application in this process, one after the other, on one thread
//! and without HTTP. `scripts/instructions` runs it in valgrind.
//!
//! The arguments are those of an application (see `support::app`), the path, and the number of
//! requests. The requests go through Rocket's local client, so that the count is of the routes, the
//! session and the driver only, and is reproducible.

use rocket::http::{Cookie, Header};
use rocket::local::asynchronous::Client;

#[path = "../support/mod.rs"]
mod support;

use support::app::{Kind, Settings, build};
use support::server::{Deployment, Server};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = rocket::tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    match args.as_slice() {
        ["--serve"] => runtime.block_on(serve()),
        [kind, url, path, count] => {
            let count = count.parse().expect("a number of requests");
            runtime.block_on(ask(kind, url, path, count));
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

async fn ask(kind: &str, url: &str, path: &str, count: usize) {
    #[cfg(feature = "metrics")]
    let _exporter = metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .expect("a recorder");
    let settings = Settings {
        kind: match kind {
            "by-hand" => Kind::ByHand,
            "shared" => Kind::Session { share: true },
            _ => Kind::Session { share: false },
        },
        url: url.to_owned(),
        collection: "counted".to_owned(),
        majority: false,
    };
    let client = Client::untracked(build(&settings).await);
    let client = client.await.expect("an application");
    // A session first, in every run, so that all runs do the same but for the count.
    let answer = client.get("/new").dispatch().await;
    let header = answer.headers().get_one("Set-Cookie").expect("a cookie");
    let cookie = header.split(';').next().unwrap_or_default().to_owned();
    drop(answer);
    let has_cookie = !matches!(path, "/none" | "/unused" | "/new");
    for _ in 0..count {
        let mut request = client.get(path);
        if has_cookie {
            // Over the wire Rocket's jar is filled from the header.
            request.add_header(Header::new("Cookie", cookie.clone()));
            request = request.cookie(Cookie::parse(cookie.clone()).expect("a cookie"));
        }
        let answer = request.dispatch().await;
        assert_eq!(answer.status().code, 200, "{path}");
        assert!(answer.into_bytes().await.is_some());
    }
}
