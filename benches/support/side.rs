//! The applications that are compared, and the same sessions in the collection of each.

use super::app::{Kind, Settings};
use super::child::App;
use super::load::{Connection, Visitor};
use super::server::{Deployment, Server};

/// The collection of the first session application, whose documents and indexes the application by
/// hand gets as well.
pub const SESSIONS: &str = "session";
const BY_HAND: &str = "by_hand";

/// An application and its collection.
pub struct Side {
    pub name: String,
    pub collection: String,
    pub app: App,
    settings: Settings,
}

impl Side {
    pub fn is_by_hand(&self) -> bool {
        self.settings.kind == Kind::ByHand
    }

    /// Whether the values are readable with the cookie alone.
    pub fn is_sealed(&self) -> bool {
        matches!(self.settings.kind, Kind::Session { seal: true, .. })
    }

    /// Another process takes the place of the application, on another port.
    pub fn restart(&mut self) {
        self.app = App::start(&self.settings);
    }
}

/// The application by hand first, then one with sessions for each of `share`, and one that seals them.
pub async fn start(server: &Server, share: &[bool], sealed: bool) -> Vec<Side> {
    let plain = share.iter().map(|share| (*share, false));
    let kinds = plain.chain(sealed.then_some((true, true)));
    let sessions = kinds.enumerate().map(|(at, (share, seal))| {
        let collection = match at {
            0 => SESSIONS.to_owned(),
            _ => format!("{SESSIONS}_{at}"),
        };
        let settings = Settings {
            kind: Kind::Session { share, seal },
            url: server.url(),
            collection: collection.clone(),
            majority: false,
        };
        Side {
            name: match (share, seal) {
                (_, true) => "sealed".to_owned(),
                (true, false) => "shared".to_owned(),
                (false, false) => "alone".to_owned(),
            },
            collection,
            app: App::start(&settings),
            settings,
        }
    });
    let mut sides: Vec<Side> = sessions.collect();
    server.copy_indexes(SESSIONS, BY_HAND).await;
    let settings = Settings {
        kind: Kind::ByHand,
        url: server.url(),
        collection: BY_HAND.to_owned(),
        majority: server.deployment == Deployment::ReplicaSet,
    };
    let by_hand = Side {
        name: "by hand".to_owned(),
        collection: BY_HAND.to_owned(),
        app: App::start(&settings),
        settings,
    };
    sides.insert(0, by_hand);
    sides
}

/// Creates sessions with a number of keys and bytes for each side, in its collection.
pub async fn seed(
    server: &Server,
    sides: &[Side],
    count: usize,
    keys: usize,
    bytes: usize,
) -> Vec<Vec<Visitor>> {
    let mut all = vec![Vec::new()];
    for side in sides.iter().filter(|side| !side.is_by_hand()) {
        let mut connection = Connection::open(side.app.addr).await;
        let mut visitors = Vec::new();
        for _ in 0..count {
            let path = format!("/fill?keys={keys}&bytes={bytes}");
            let (cookie, _) = connection.get(&path, None).await;
            let cookie = cookie.expect("a new session's cookie");
            visitors.push(Visitor { cookie, n: 0 });
        }
        all.push(visitors);
    }
    // There, the id alone is the cookie.
    let ids: Vec<&str> = all[1].iter().map(Visitor::id).collect();
    server.copy_documents(SESSIONS, BY_HAND, &ids).await;
    let by_hand = ids.iter().map(|id| Visitor {
        cookie: format!("session={id}"),
        n: 0,
    });
    all[0] = by_hand.collect();
    all
}
