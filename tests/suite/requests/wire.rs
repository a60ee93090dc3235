//! What Rocket's local client cannot show: HEAD and 304, upgrades, streams, clients that hang up.

use rocket::response::stream::TextStream;
use rocket::serde::json::{Value, json};
use rocket::tokio::io::AsyncReadExt;
use rocket::tokio::time::timeout;
use rocket::{get, routes};
use rocket_mongo_session::{Error, Session};
use rocket_ws::{Channel, Message, WebSocket};

use crate::apps::probe::{PATIENCE, Probe, Script, asked, eventually, id_of, run, sent_by};
use crate::support::{Connection, Request};

#[rocket::async_test]
async fn a_head_request_is_a_request_like_any_other() {
    let probe = Probe::start("wire_head", &[("indexes", false.into())]).await;
    let browser = probe.browser();
    let head = browser
        .send(Script::new().set("n", 1).request_by("HEAD"))
        .await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert!(sent_by(&head).is_some());
    let profile = probe.profile().await;
    let head = browser
        .send(Script::new().set("n", 2).request_by("HEAD"))
        .await;
    assert_eq!(sent_by(&head), None);
    assert_eq!(asked(&profile).await, ["find", "update"]);
    assert_eq!(
        run(&browser, Script::new().get("n")).await.results,
        [json!(2)]
    );
}

#[rocket::async_test]
async fn responses_without_a_body_carry_the_cookie_too() {
    let probe = Probe::start("wire_bodiless", &[]).await;
    for status in [204, 304, 302] {
        let browser = probe.browser();
        let ran = run(&browser, Script::new().set("n", status).status(status)).await;
        assert_eq!((ran.status, ran.sent().is_some()), (status, true));
        assert_eq!(
            run(&browser, Script::new().get("n")).await.results,
            [json!(status)]
        );
    }
}

/// Yields the outcome of changes that come too late.
#[get("/stream")]
async fn stream(session: &Session) -> Result<TextStream![String + '_], Error> {
    session.increment("n", 1)?;
    session.save().await?;
    session.increment("n", 1)?;
    Ok(TextStream! {
        let errors = [
            session.set("late", &1).err(),
            session.increment("n", 1).err(),
            session.modify("late", |n: Option<u32>| n.unwrap_or_default()).await.err(),
            session.flash("late").err(),
            session.login("late").err(),
            session.logout().err(),
            session.renew().err(),
            session.save().await.err(),
            session.pop_flash::<String>().await.err(),
        ];
        session.touch();
        session.clear();
        yield format!("{errors:?} {}", session.remove("n"));
        yield format!("{:?}", session.get::<u32>("n"));
    })
}

#[rocket::async_test]
async fn a_stream_comes_after_the_commit_and_what_it_changes_is_an_error() {
    let more = |rocket: rocket::Rocket<rocket::Build>| rocket.mount("/", routes![stream]);
    let probe = Probe::start_with("wire_stream", &[], more).await;
    let browser = probe.browser();
    for n in [2, 4] {
        let mut connection = Connection::open(probe.app.addr())
            .await
            .expect("a connection");
        let mut request = Request::get("/stream");
        if let Some(cookie) = browser.cookie("session") {
            request = request.header("Cookie", format!("session={cookie}"));
        }
        connection
            .write(&request.to_bytes())
            .await
            .expect("a request");
        let head = connection.read_head().await.expect("a head");
        assert_eq!(head.status, 200);
        browser.deliver(&head, "/stream");
        let seen = run(&browser, Script::new().get("n").get("late")).await;
        assert_eq!(
            seen.results,
            [json!(n), json!(null)],
            "stored before the first piece"
        );

        let errors = connection
            .read_chunk()
            .await
            .expect("a piece")
            .expect("a piece");
        let errors = String::from_utf8(errors).expect("text");
        let sealed = ["Some(Sealed)"; 9].join(", ");
        assert_eq!(errors, format!("[{sealed}] false"));
        let read = connection
            .read_chunk()
            .await
            .expect("a piece")
            .expect("a piece");
        assert_eq!(
            String::from_utf8_lossy(&read),
            format!("Ok(Some({n}))"),
            "reads still work"
        );
        let seen = run(&browser, Script::new().get("n").then("keys").then("user")).await;
        assert_eq!(seen.results, [json!(n), json!(["n"]), json!(null)]);
    }
}

/// Answers every message with what the session says, and tries to change it.
#[get("/socket")]
fn socket(session: &Session, socket: WebSocket) -> Result<Channel<'_>, Error> {
    use rocket::futures::{SinkExt, StreamExt};
    session.increment("n", 1)?;
    Ok(socket.channel(move |mut stream| {
        Box::pin(async move {
            while let Some(message) = stream.next().await {
                message?;
                let n = session.get::<u32>("n");
                let late = session.set("late", &1);
                stream
                    .send(Message::Text(format!("{n:?} {late:?}")))
                    .await?;
            }
            Ok(())
        })
    }))
}

#[rocket::async_test]
async fn a_websocket_upgrade_commits_first_and_carries_the_cookie() {
    let more = |rocket: rocket::Rocket<rocket::Build>| rocket.mount("/", routes![socket]);
    let probe = Probe::start_with("wire_socket", &[], more).await;
    let browser = probe.browser();
    for n in [1, 2] {
        let mut connection = Connection::open(probe.app.addr())
            .await
            .expect("a connection");
        let mut request = Request::get("/socket")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        if let Some(cookie) = browser.cookie("session") {
            request = request.header("Cookie", format!("session={cookie}"));
        }
        connection
            .write(&request.to_bytes())
            .await
            .expect("a request");
        let head = connection.read_head().await.expect("a head");
        assert_eq!(
            (head.status, sent_by(&head).is_some()),
            (101, n == 1),
            "{head:?}"
        );
        browser.deliver(&head, "/socket");
        assert_eq!(
            run(&browser, Script::new().get("n")).await.results,
            [json!(n)]
        );

        // A masked text frame with "?" in it, and the answer's, which is short and not masked.
        let frame = [0x81, 0x81, 1, 2, 3, 4, b'?' ^ 1];
        connection.write(&frame).await.expect("a message");
        let expected = format!("Ok(Some({n})) Err(Sealed)");
        let mut response = vec![0; 2];
        let stream = &mut connection.stream;
        let reading = async {
            stream.read_exact(&mut response).await?;
            response.resize(2 + usize::from(response[1]), 0);
            stream.read_exact(&mut response[2..]).await
        };
        let read = timeout(PATIENCE, reading)
            .await
            .expect("a response in time");
        read.expect("a response");
        assert_eq!(String::from_utf8_lossy(&response[2..]), expected);
    }
    let seen = run(&browser, Script::new().get("late")).await;
    assert_eq!(seen.results, [json!(null)]);
}

#[rocket::async_test]
async fn a_client_that_hangs_up_leaves_a_whole_session_behind() {
    let probe = Probe::start("wire_hangup", &[]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    let request = Script::new()
        .set("n", 2)
        .pause("half")
        .set("m", 3)
        .request();
    let request = request.header("Cookie", format!("session={cookie}"));
    let mut connection = Connection::open(probe.app.addr())
        .await
        .expect("a connection");
    connection
        .write(&request.to_bytes())
        .await
        .expect("a request");
    probe.gates.reached("half").await;
    drop(connection);
    probe.gates.open("half");
    eventually("the request ends", async || {
        let document = probe.document(&cookie).await.expect("a session");
        document
            .get_document("value")
            .is_ok_and(|value| value.contains_key("m"))
    })
    .await;
    let seen = run(&browser, Script::new().get("n").get("m")).await;
    assert_eq!(seen.results, [json!(2), json!(3)]);

    // A newcomer that never hears of its session: the next request simply makes another.
    let request = Script::new().pause("new").set("m", 4).request();
    let mut connection = Connection::open(probe.app.addr())
        .await
        .expect("a connection");
    connection
        .write(&request.to_bytes())
        .await
        .expect("a request");
    probe.gates.reached("new").await;
    drop(connection);
    probe.gates.open("new");
    eventually("the request ends", async || {
        probe.documents().await.len() == 2
    })
    .await;
    let other = run(&probe.browser(), Script::new().get("m").set("m", 5)).await;
    assert_eq!(other.results[0], json!(null));
    assert!(probe.document(id_of(&other.cookie())).await.is_some());
}

#[rocket::async_test]
async fn what_is_not_a_request_changes_nothing() {
    let probe = Probe::start("wire_garbage", &[]).await;
    let browser = probe.browser();
    let cookie = run(&browser, Script::new().set("n", 1)).await.cookie();
    for bytes in [
        format!("FROB /run HTTP/1.1\r\nHost: a\r\nCookie: session={cookie}\r\n\r\n"),
        format!("GET /%zz HTTP/1.1\r\nHost: a\r\nCookie: session={cookie}\r\n\r\n"),
        "GET /unused HTTP/1.1\r\nHost: a\r\nCookie session\r\n\r\n".to_owned(),
    ] {
        let mut connection = Connection::open(probe.app.addr())
            .await
            .expect("a connection");
        connection.write(bytes.as_bytes()).await.expect("bytes");
        let response = connection.read("GET").await.expect("a response");
        assert!(response.status >= 400, "{bytes:?}: {response:?}");
        assert_eq!(response.set_cookies(), Vec::<&str>::new(), "{bytes:?}");
    }
    let seen: Vec<Value> = run(&browser, Script::new().get("n")).await.results;
    assert_eq!(seen, [json!(1)]);
}
