//! `Proxy`: a TCP proxy in front of one server, for what a network does to it.
//!
//! It lives in a thread of its own, so that it serves whatever becomes of the runtime of the test
//! that made it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rocket::tokio::io::{AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use rocket::tokio::net::{TcpListener, TcpStream};
use rocket::tokio::sync::watch;
use rocket::tokio::time::sleep;
use rocket::tokio::{runtime, select, spawn};

use super::mongod::free_port;
use super::off_runtime;

/// What happens to all connections, those that live included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Traffic {
    Pass,
    /// Each piece is late by so much, in each direction.
    Delay(Duration),
    /// What clients send gets lost on the way. As TCP has it, it arrives once the network is whole
    /// again.
    HoldRequests,
    /// What the server answers gets lost on the way, likewise.
    HoldReplies,
    /// Both: the network is gone, and nobody is told.
    Hold,
    /// Connections are closed, and new ones refused: the process is gone.
    Refuse,
    /// Connections are reset, new ones once they are made.
    Reset,
}

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Dropped with the proxy, which ends its thread.
    traffic: watch::Sender<Traffic>,
    cuts: Mutex<Cuts>,
    target: u16,
}

/// Replies to lose: for each command its (replies to let pass, replies to cut), and how many were
/// cut so far.
#[derive(Default)]
struct Cuts {
    planned: BTreeMap<String, (usize, usize)>,
    made: usize,
}

impl Proxy {
    /// In front of the server on this loopback port.
    pub async fn start(target: u16) -> Proxy {
        off_runtime(move || Proxy::start_blocking(target)).await
    }

    pub(super) fn start_blocking(target: u16) -> Proxy {
        // Not any port: while it refuses, the port is free, and nobody else is to get it. Another
        // process may take it between the question and the answer, so there is another.
        let listens = (0..5).find_map(|_| {
            let port = free_port();
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            Some((port, listener))
        });
        let (port, listener) = listens.expect("a port for a proxy");
        listener
            .set_nonblocking(true)
            .expect("a listener for a runtime");
        let (traffic, changes) = watch::channel(Traffic::Pass);
        let shared = Arc::new(Shared {
            traffic,
            cuts: Mutex::default(),
            target,
        });
        let weak = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for a proxy");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener of a runtime");
                serve(listener, port, changes, weak).await;
            });
        });
        Proxy { port, shared }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database behind it, for a standalone. (A replica set names its members
    /// itself: see `behind_proxies` there.)
    pub fn url(&self, db: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{db}", self.port)
    }

    pub fn set(&self, traffic: Traffic) {
        self.shared.traffic.send_replace(traffic);
    }

    /// Loses replies: of the requests of this command from now on, `pass` are served as usual, and
    /// the `cut` that follow are done by the server, which answers, but the answer is dropped and
    /// the connection closed.
    pub fn cut_replies(&self, command: &str, pass: usize, cut: usize) {
        self.shared
            .cuts()
            .planned
            .insert(command.to_owned(), (pass, cut));
    }

    /// How many replies were cut so far: a test of a lost reply is one only if one was lost.
    pub fn cuts(&self) -> usize {
        self.shared.cuts().made
    }
}

impl Shared {
    fn cuts(&self) -> MutexGuard<'_, Cuts> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the reply to this request is one to lose.
    fn is_cut(&self, request: &[u8]) -> bool {
        let mut cuts = self.cuts();
        let Some((pass, cut)) = command_of(request).and_then(|name| cuts.planned.get_mut(name))
        else {
            return false;
        };
        if *pass > 0 {
            *pass -= 1;
            return false;
        }
        let is_cut = *cut > 0;
        *cut = cut.saturating_sub(1);
        cuts.made += usize::from(is_cut);
        is_cut
    }
}

type Changes = watch::Receiver<Traffic>;

/// Takes connections until the proxy is dropped.
async fn serve(listener: TcpListener, port: u16, mut changes: Changes, shared: Weak<Shared>) {
    let mut listener = Some(listener);
    loop {
        let refuses = *changes.borrow_and_update() == Traffic::Refuse;
        if refuses {
            listener = None;
        } else if listener.is_none() {
            listener = Some(
                TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                    .await
                    .expect("the proxy's port again"),
            );
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        select! {
            changed = changes.changed() => if changed.is_err() { return },
            accepted = accept => if let (Ok((client, _)), Some(shared)) = (accepted, shared.upgrade()) {
                spawn(connection(client, changes.clone(), shared.target, Arc::downgrade(&shared)));
            },
        }
    }
}

/// One client's connection, until either side ends it, a reply of it is cut, or the traffic says
/// so.
async fn connection(client: TcpStream, mut changes: Changes, target: u16, shared: Weak<Shared>) {
    let is_over = |traffic: &Traffic| matches!(traffic, Traffic::Refuse | Traffic::Reset);
    let (from_client, mut to_client) = client.into_split();
    if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
        // Requests and answers are small and wait for each other; a failure shows in the transfer.
        let _ = (
            to_client.as_ref().set_nodelay(true),
            server.set_nodelay(true),
        );
        let (from_server, to_server) = server.into_split();
        let (cut, is_cut) = watch::channel(false);
        // When one direction ends, the other has nothing to tell: there are no half-closed
        // connections in this protocol.
        select! {
            _ = requests(from_client, to_server, changes.clone(), shared, cut) => {},
            _ = replies(from_server, &mut to_client, changes.clone(), is_cut) => {},
            _ = changes.wait_for(is_over) => {},
        }
    }
    if *changes.borrow() == Traffic::Reset {
        let _ = to_client.as_ref().set_zero_linger();
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    mut changes: Changes,
    shared: Weak<Shared>,
    cut: watch::Sender<bool>,
) -> Option<()> {
    loop {
        let request = message(&mut client).await?;
        pass(&mut changes, |traffic| {
            matches!(traffic, Traffic::HoldRequests | Traffic::Hold)
        })
        .await?;
        if shared.upgrade()?.is_cut(&request) {
            cut.send_replace(true);
        }
        server.write_all(&request).await.ok()?;
    }
}

async fn replies(
    mut server: OwnedReadHalf,
    client: &mut OwnedWriteHalf,
    mut changes: Changes,
    is_cut: watch::Receiver<bool>,
) -> Option<()> {
    loop {
        let reply = message(&mut server).await?;
        if *is_cut.borrow() {
            return None;
        }
        pass(&mut changes, |traffic| {
            matches!(traffic, Traffic::HoldReplies | Traffic::Hold)
        })
        .await?;
        client.write_all(&reply).await.ok()?;
    }
}

/// Waits while the traffic is held, and then as long as it is late. `None`: the proxy is gone.
async fn pass(changes: &mut Changes, holds: impl Fn(&Traffic) -> bool) -> Option<()> {
    let traffic = *changes.wait_for(|traffic| !holds(traffic)).await.ok()?;
    if let Traffic::Delay(time) = traffic {
        sleep(time).await;
    }
    Some(())
}

/// One whole message; each begins with its length.
async fn message(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_i32_le().await.ok()?;
    let mut message = length.to_le_bytes().to_vec();
    message.resize(usize::try_from(length).ok()?.max(message.len()), 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

/// The command that a message asks for: the first name in its document. `None` for the handshake's
/// older form.
fn command_of(message: &[u8]) -> Option<&str> {
    const OP_MSG: [u8; 4] = 2013i32.to_le_bytes();
    // A header of 16 bytes that ends with the operation, flags, a section of one document (0), the
    // document's length and the type of its first value.
    if message.get(12..16)? != OP_MSG || *message.get(20)? != 0 {
        return None;
    }
    std::str::from_utf8(message.get(26..)?.split(|byte| *byte == 0).next()?).ok()
}
