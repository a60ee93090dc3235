//! The checks, in the order of the report.

use std::sync::Arc;
use std::time::Duration;

use rocket::tokio::time::sleep;
use rocket::tokio::{join, select};
use rocket_mongo_session::mongodb::bson::doc;

use super::connection::ask;
use super::report::Outcome;
use super::{Examination, promises, server, streams, writes};

/// What is tried, what it means where it does not hold, and what to do.
pub struct Check {
    pub name: &'static str,
    pub tried: &'static str,
    pub means: &'static str,
    pub advice: &'static str,
}

pub const CHECKS: &[Check] = &[
    Check {
        name: "version",
        tried: "The series of the server is supported by its vendor today.",
        means: "This series gets no more security fixes.",
        advice: "Upgrade to a supported series, one step at a time.",
    },
    Check {
        name: "topology",
        tried: "The deployment is a replica set or a sharded cluster.",
        means: "Sessions are as durable as this one server: no majority, no failover, no events(). \
                After a lost reply a change is answered with 503, because a write cannot be sent again.",
        advice: "Run a replica set of three members in production.",
    },
    Check {
        name: "tls",
        tried: "The connection is encrypted, or does not leave this machine.",
        means: "A reader of the network can read what sessions hold, and change it.",
        advice: "Add tls=true to the URL, with the server's certificate.",
    },
    Check {
        name: "authentication",
        tried: "The server asks who connects.",
        means: "Everyone who reaches the port can read, change and end every session.",
        advice: "Switch authorization on, and use a user with the role readWrite on this database.",
    },
    Check {
        name: "latency",
        tried: "30 round trips, one after the other.",
        means: "A request with a session waits for one round trip, and one more where it changes the \
                session.",
        advice: "Run the application near the primary.",
    },
    Check {
        name: "connections",
        tried: "As many connections at once as the pool of one process may have.",
        means: "Requests wait for a connection, and are answered with 503 after the deadline.",
        advice: "Raise the server's limit, or lower max_connections in [default.databases.sessions].",
    },
    Check {
        name: "clock",
        tried: "The clock of the server and of this machine differ by less than a second.",
        means: "Expiry goes by the application's clock, the deletion of what expired by the \
                server's, and revocations compare the two.",
        advice: "Synchronize both by NTP.",
    },
    Check {
        name: "privileges",
        tried: "find, insert, update and remove; createIndex, dropIndex and collMod; changeStream.",
        means: "Without find, insert, update and remove no session works. Without createIndex, dropIndex and \
                collMod, set indexes = false and create the indexes by hand. Without changeStream, \
                events() is an error.",
        advice: "Grant the missing actions on the collection of the sessions.",
    },
    Check {
        name: "majority",
        tried: "A write that waits for the majority of the members, and for their journals.",
        means: "A login, logout or change that was answered with success can be lost by a failover.",
        advice: "Bring the members back that are down. Remove `w` and `journal` from the URL.",
    },
    Check {
        name: "numbering",
        tried: "A numbered batch of increments sent twice with one transaction number (a retryable \
                write), and then an older number.",
        means: "After a lost reply a batch is sent again, and an increment, a push or a login is applied \
                twice.",
        advice: "Set retryWrites=false in the URL: nothing is sent again then, and a lost reply is a 503.",
    },
    Check {
        name: "currentDate",
        tried: "$currentDate and $$NOW store the server's present time.",
        means: "Revocations and renewals cannot be put in order, so a login that a revocation should end \
                may stay.",
        advice: "Use another server.",
    },
    Check {
        name: "partial-index",
        tried: "An index with a partialFilterExpression, as listIndexes tells it afterwards.",
        means: "The index of users cannot be made, or holds every session: lists and ends of a user's sessions \
                read the whole collection, or the index takes more memory.",
        advice: "Make the index {user: 1, created: 1, _id: 1} without the expression, and set indexes = false.",
    },
    Check {
        name: "ttl",
        tried: "An expired document is deleted by a TTL index.",
        means: "Expired sessions are refused anyway, but their documents stay, with what they hold.",
        advice: "Run `rocket-mongo-session purge` every hour.",
    },
    Check {
        name: "change-streams",
        tried: "A change stream tells an insertion, a change and a deletion, in this order.",
        means: "events() and `rocket-mongo-session watch` are an error, or miss what ends. Ended does not \
                need them.",
        advice: "Do without events(), or use a replica set of MongoDB.",
    },
    Check {
        name: "conformance",
        tried: "Every promise that the storage of sessions makes, each on a collection of its own.",
        means: "See the lines below, one for each promise that is broken.",
        advice: "Do not use this deployment for sessions.",
    },
    Check {
        name: "races",
        tried: "Concurrent writes to the same sessions, again and again for some seconds.",
        means: "Concurrent requests overwrite each other, or an ended session comes back.",
        advice: "Do not use this deployment for sessions.",
    },
];

pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|check| check.name)
}

pub fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Runs those that were asked for.
pub(super) async fn run(examination: Arc<Examination>) {
    let this = &*examination;
    for check in CHECKS.iter().filter(|check| !this.wants(check.name)) {
        this.report
            .write(check.name, Outcome::NotTried, "left out by --only");
    }
    server::look(this).await;
    if !server::privileges(this).await {
        this.report.leave_out("the privileges are not enough");
        return;
    }
    select! {
        () = try_all(&examination) => {}
        () = gone(this) => {
            this.report.stop("the server does not reply any more");
            this.report.leave_out("the server does not reply any more");
        }
    }
}

/// Returns when the server does not reply, time after time.
async fn gone(this: &Examination) {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut failures = 0;
    while failures < 3 {
        sleep(PAUSE).await;
        match ask(&this.database, doc! { "ping": 1 }).await {
            Ok(_) => failures = 0,
            Err(_) => failures += 1,
        }
    }
}

async fn try_all(examination: &Arc<Examination>) {
    let this = &**examination;
    // What waits for the server's own timer runs beside the rest.
    join!(this.check("ttl", writes::ttl(this)), async {
        this.check("majority", writes::majority(this)).await;
        this.check("numbering", writes::numbering(this)).await;
        this.check("currentDate", writes::current_date(this)).await;
        this.check("partial-index", writes::partial_index(this))
            .await;
        this.check("change-streams", streams::look(this)).await;
        this.check("conformance", promises::conformance(examination))
            .await;
        this.check("races", promises::races(this)).await;
        this.report
            .begin("waiting for the server to delete an expired document");
    });
}

impl Examination {
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == name)
    }

    /// Runs a check if it was asked for.
    pub(super) async fn check(&self, name: &str, check: impl Future<Output = ()>) {
        if self.wants(name) {
            check.await;
        }
    }
}
