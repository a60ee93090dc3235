//! `Proxy`: a TCP proxy in front of one server, for what a network does to it.
//!
//! It lives in a thread of its own, so that it serves whatever becomes of the runtime of the test
//! that made it.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bson::{Document, doc};
use rocket::tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use rocket::tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use rocket::tokio::net::{TcpListener, TcpStream};
use rocket::tokio::sync::{Mutex as AsyncMutex, Semaphore, watch};
use rocket::tokio::time::sleep;
use rocket::tokio::{runtime, select, spawn};

use super::mongod::free_port;
use super::{off_runtime, wire};

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
    /// Both: the network is gone, and neither side is told.
    Hold,
    /// Connections are closed, and new ones refused: the process is gone.
    Refuse,
    /// Connections are reset, new ones once they are made.
    Reset,
}

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Fate {
    Pass,
    /// The server does it and answers; the reply is dropped and the connection closed.
    LoseReply,
    /// The server never sees it; the proxy answers with this error code.
    Refuse(i32),
    /// It reaches the server after `release`, even if the client has given up before.
    Hold,
    /// The server never sees it; the proxy answers that all statements but one found a document.
    MissOne,
}

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Dropped with the proxy, which ends its thread.
    traffic: watch::Sender<Traffic>,
    plans: Mutex<Plans>,
    released: Semaphore,
    target: AtomicU16,
}

type RefusalRule = Box<dyn Fn(&Document) -> Option<i32> + Send>;
/// Requests of a command that are kept for a test to look at: a soak sends millions.
pub const MAX_REQUESTS: usize = 1000;

type Rewrite = Box<dyn Fn(&mut Document) -> bool + Send>;

/// The fates of the next requests, by the name of their command, and what was seen so far.
#[derive(Default)]
struct Plans {
    fates: BTreeMap<String, VecDeque<Fate>>,
    /// Of commands of several statements.
    batch_fates: BTreeMap<String, VecDeque<Fate>>,
    refusals: Vec<RefusalRule>,
    rewrites: Vec<Rewrite>,
    requests: BTreeMap<String, VecDeque<Document>>,
    lost: usize,
    held: usize,
}

impl Proxy {
    /// In front of the server on this loopback port.
    pub async fn start(target: u16) -> Proxy {
        off_runtime(move || Proxy::start_blocking(target)).await
    }

    pub(super) fn start_blocking(target: u16) -> Proxy {
        let (port, listener) = listen();
        let (traffic, changes) = watch::channel(Traffic::Pass);
        let shared = Arc::new(Shared {
            traffic,
            plans: Mutex::default(),
            released: Semaphore::new(0),
            target: AtomicU16::new(target),
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

    /// Sends new connections to another server. Those that live stay where they are: `Reset` ends
    /// them.
    pub fn retarget(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
    }

    /// Decides the fates of the next requests of this command, in place of an earlier plan. Those
    /// that follow pass.
    pub fn plan(&self, command: &str, fates: impl IntoIterator<Item = Fate>) {
        let fates = fates.into_iter().collect();
        self.shared.plans().fates.insert(command.to_owned(), fates);
    }

    /// Decides the fates of the next commands of several statements, in place of those by
    /// [`plan`](Proxy::plan).
    pub fn plan_batches(&self, command: &str, fates: impl IntoIterator<Item = Fate>) {
        let fates = fates.into_iter().collect();
        let mut plans = self.shared.plans();
        plans.batch_fates.insert(command.to_owned(), fates);
    }

    /// The planned fates of batches that met none.
    pub fn unmet_batch_fates(&self, command: &str) -> usize {
        let plans = self.shared.plans();
        plans.batch_fates.get(command).map_or(0, VecDeque::len)
    }

    /// Loses replies: of the requests of this command from now on, `pass` are served as usual, and
    /// the `cut` that follow are done by the server, which answers, but the reply is dropped and
    /// the connection closed.
    pub fn cut_replies(&self, command: &str, pass: usize, cut: usize) {
        let passing = std::iter::repeat_n(Fate::Pass, pass);
        let losing = std::iter::repeat_n(Fate::LoseReply, cut);
        self.plan(command, passing.chain(losing));
    }

    /// Refuses every request, from now on, for which this gives an error code, as a service that
    /// does not know the command or an option of it.
    pub fn refuse_where(&self, refusal: impl Fn(&Document) -> Option<i32> + Send + 'static) {
        self.shared.plans().refusals.push(Box::new(refusal));
    }

    /// Changes requests on their way, from now on: those for which this returns true. A server behind it
    /// is one that does something else than it was asked for.
    pub fn rewrite(&self, rewrite: impl Fn(&mut Document) -> bool + Send + 'static) {
        self.shared.plans().rewrites.push(Box::new(rewrite));
    }

    /// How many replies were lost so far: a test of a lost reply is one only if one was lost.
    pub fn cuts(&self) -> usize {
        self.shared.plans().lost
    }

    /// How many requests were held so far.
    pub fn held(&self) -> usize {
        self.shared.plans().held
    }

    /// Forwards one held request to the server, now or when it comes.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// The last requests of this command, whatever became of them: [`MAX_REQUESTS`] at most.
    pub fn requests(&self, command: &str) -> Vec<Document> {
        let plans = self.shared.plans();
        let requests = plans.requests.get(command).into_iter().flatten();
        requests.cloned().collect()
    }
}

impl Shared {
    fn plans(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request as the server gets it, if it is another one.
    fn rewritten(&self, request: &Document) -> Option<Document> {
        let plans = self.plans();
        let mut request = request.clone();
        let changes = plans
            .rewrites
            .iter()
            .filter(|rewrite| rewrite(&mut request));
        (changes.count() > 0).then_some(request)
    }

    fn fate_of(&self, request: &Document) -> Fate {
        let mut plans = self.plans();
        let Some(name) = request.keys().next().cloned() else {
            return Fate::Pass;
        };
        let seen = plans.requests.entry(name.clone()).or_default();
        if seen.len() >= MAX_REQUESTS {
            seen.pop_front();
        }
        seen.push_back(request.clone());
        let refused = plans.refusals.iter().find_map(|refusal| refusal(request));
        if let Some(code) = refused {
            return Fate::Refuse(code);
        }
        let of_batch = match statements(request) {
            0 | 1 => None,
            _ => plans
                .batch_fates
                .entry(name.clone())
                .or_default()
                .pop_front(),
        };
        let planned = of_batch.or_else(|| plans.fates.entry(name).or_default().pop_front());
        let fate = planned.unwrap_or(Fate::Pass);
        plans.lost += usize::from(matches!(fate, Fate::LoseReply));
        plans.held += usize::from(matches!(fate, Fate::Hold));
        fate
    }
}

/// Listens on a port of the tests, for a runtime.
pub(super) fn listen() -> (u16, std::net::TcpListener) {
    // Not any port: while it refuses, the port is free, and no other may get it. Another process may
    // take it between the two calls, so this is tried again.
    let listens = (0..5).find_map(|_| {
        let port = free_port();
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
        Some((port, listener))
    });
    let (port, listener) = listens.expect("a port to listen on");
    listener
        .set_nonblocking(true)
        .expect("a listener for a runtime");
    (port, listener)
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
                let target = shared.target.load(Ordering::SeqCst);
                spawn(connection(client, changes.clone(), target, Arc::downgrade(&shared)));
            },
        }
    }
}

/// One client's connection, until either side ends it, a reply of it is cut, or the traffic says
/// so.
async fn connection(client: TcpStream, mut changes: Changes, target: u16, shared: Weak<Shared>) {
    let is_over = |traffic: &Traffic| matches!(traffic, Traffic::Refuse | Traffic::Reset);
    let (from_client, to_client) = client.into_split();
    // The proxy itself answers what it refuses.
    let to_client = AsyncMutex::new(to_client);
    if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await {
        // Requests and answers are small and wait for each other; a failure shows in the transfer.
        let _ = (
            to_client.lock().await.as_ref().set_nodelay(true),
            server.set_nodelay(true),
        );
        let (from_server, to_server) = server.into_split();
        let (cut, is_cut) = watch::channel(false);
        // When one direction ends, the other has nothing to tell: there are no half-closed
        // connections in this protocol.
        select! {
            _ = requests(from_client, &to_client, to_server, changes.clone(), shared, cut) => {},
            _ = replies(from_server, &to_client, changes.clone(), is_cut) => {},
            _ = changes.wait_for(is_over) => {},
        }
    }
    if *changes.borrow() == Traffic::Reset {
        let _ = to_client.lock().await.as_ref().set_zero_linger();
    }
}

async fn requests(
    mut client: OwnedReadHalf,
    to_client: &AsyncMutex<OwnedWriteHalf>,
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
        let asked = wire::request(&request);
        let rewritten = asked.as_ref().and_then(|asked| {
            let rewritten = shared.upgrade()?.rewritten(asked)?;
            wire::replacement(&request, &rewritten)
        });
        let fate = match &asked {
            Some(asked) => shared.upgrade()?.fate_of(asked),
            None => Fate::Pass,
        };
        let reply = match fate {
            Fate::Pass => None,
            Fate::LoseReply => {
                cut.send_replace(true);
                None
            }
            Fate::Hold => {
                let shared = shared.upgrade()?;
                shared.released.acquire().await.ok()?.forget();
                None
            }
            Fate::Refuse(code) => Some(refused(code)),
            Fate::MissOne => Some(all_but_one(&asked.unwrap_or_default())),
        };
        match reply {
            Some(reply) => {
                let reply = wire::reply(&request, &reply)?;
                to_client.lock().await.write_all(&reply).await.ok()?;
            }
            None => {
                let request = rewritten.as_ref().unwrap_or(&request);
                server.write_all(request).await.ok()?;
            }
        }
    }
}

async fn replies(
    mut server: OwnedReadHalf,
    client: &AsyncMutex<OwnedWriteHalf>,
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
        client.lock().await.write_all(&reply).await.ok()?;
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
pub(super) async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_i32_le().await.ok()?;
    let mut message = length.to_le_bytes().to_vec();
    message.resize(usize::try_from(length).ok()?.max(message.len()), 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

/// The reply to a command that was not carried out. The text of code 225 names `txnNumber`, as a
/// server's does.
fn refused(code: i32) -> Document {
    let text = match code {
        20 => "Transaction numbers are only allowed on a replica set member or mongos",
        225 => "Cannot start transaction with txnNumber 1, a newer txnNumber has already started",
        _ => "a refusal of the tests",
    };
    doc! { "ok": 0.0, "code": code, "codeName": "RefusedByTests", "errmsg": text }
}

/// The reply to an update of which one statement found nothing.
fn all_but_one(request: &Document) -> Document {
    let found = statements(request) - 1;
    doc! { "ok": 1.0, "n": found, "nModified": found }
}

fn statements(update: &Document) -> i32 {
    update.get_array("updates").map_or(0, Vec::len) as i32
}
