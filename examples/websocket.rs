//! A websocket that ends with its session: signing out in another tab closes it.
//!
//! `cargo run --example websocket`, then open http://127.0.0.1:8000/ in two tabs.

#[macro_use]
extern crate rocket;

use rocket::Shutdown;
use rocket::futures::{SinkExt, StreamExt};
use rocket::response::{Redirect, content::RawHtml};
use rocket::tokio::select;
use rocket_mongo_session::{Error, Session, Sessions};
use rocket_ws::{Channel, Message, WebSocket};

#[get("/")]
fn page(session: &Session) -> Result<RawHtml<&'static str>, Error> {
    if session.user::<String>()?.is_none() {
        return Ok(RawHtml(
            r#"<!doctype html><title>Echo</title>
            <form method="post" action="/login"><button>Sign in as a guest</button></form>"#,
        ));
    }
    Ok(RawHtml(
        r#"<!doctype html><title>Echo</title>
        <form method="post" action="/logout"><button>Sign out</button></form>
        <input id="say" placeholder="say something"><pre id="log"></pre>
        <script>
          const scheme = location.protocol.replace("http", "ws"); // wss: for https:
          const socket = new WebSocket(`${scheme}//${location.host}/echo`);
          const tell = (text) => (log.textContent += text + "\n");
          socket.onmessage = (event) => tell(event.data);
          socket.onclose = () => tell("closed");
          say.onchange = () => (socket.send(say.value), (say.value = ""));
        </script>"#,
    ))
}

/// `&Session` refuses a form that another site sends. A GET is not checked, so a login is a POST.
#[post("/login")]
fn login(session: &Session) -> Result<Redirect, Error> {
    session.login("guest")?;
    Ok(Redirect::to(uri!(page)))
}

#[post("/logout")]
fn logout(session: &Session) -> Result<Redirect, Error> {
    session.logout()?;
    Ok(Redirect::to(uri!(page)))
}

#[get("/echo")]
fn echo(session: &Session, socket: WebSocket, mut shutdown: Shutdown) -> Channel<'static> {
    let mut ended = session.ended(); // belongs to no request, so the socket may keep it
    socket.channel(move |mut stream| {
        Box::pin(async move {
            loop {
                select! {
                    message = stream.next() => match message {
                        Some(Ok(Message::Text(text))) => {
                            ended.touch(); // a client that talks keeps its session alive
                            stream.send(Message::Text(text)).await?;
                        }
                        Some(Ok(_)) => {}
                        _ => break,
                    },
                    end = &mut ended => {
                        stream.send(Message::Text(format!("your session has ended: {end:?}"))).await?;
                        break;
                    }
                    _ = &mut shutdown => break, // instead of being cut after the grace period
                }
            }
            stream.close(None).await
        })
    })
}

#[launch]
fn rocket() -> _ {
    rocket::build()
        .attach(Sessions::fairing())
        .mount("/", routes![page, login, logout, echo])
}
