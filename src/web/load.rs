//! How a request comes by its session: from its headers to what is stored.

use std::sync::Arc;

use rocket::http::Method;
use rocket::request::Request;

use crate::admin::Sessions;
use crate::clock::Moment;
use crate::document::Document;
use crate::error::{Error, Result};
use crate::origin::{self, OriginHeaders, RequestTraits};
use crate::record::legacy::LegacySession;
use crate::record::token::Token;
use crate::record::{Client, Record};
use crate::session::Session;
use crate::state::{LoadOutcome, Stored};
use crate::web::cookie::{self, Presented};

/// Loads the session that a request's cookie names, or begins a new one.
pub(super) async fn load(
    request: &Request<'_>,
    sessions: &Sessions,
    started: Moment,
) -> Result<Session> {
    let core = &sessions.core;
    if let Err(reason) = same_site(request, sessions) {
        core.stats.refused.count();
        rocket::warn!(
            "Session: a {} request was refused: {reason}",
            request.method()
        );
        return Err(Error::CrossSite);
    }
    let config = &core.config;
    let headers = request.headers();
    let presented = if headers.contains("Cookie") {
        cookie::read(headers, config)
    } else {
        // Rocket's local client fills the jar alone; over the wire there is no jar without it.
        match request.cookies().get(&config.cookie_name) {
            Some(cookie) => cookie::parse(cookie.value(), config),
            None => Presented::Nothing,
        }
    };
    let client = if config.record_client {
        client(request)
    } else {
        Client::default()
    };
    let arrival = arrive(presented, sessions).await.inspect_err(Error::log)?;
    Ok(Session::new(Arc::clone(core), arrival, client, started))
}

/// Whether the request comes from the site's own pages, or from one that may ask for it.
fn same_site(request: &Request<'_>, sessions: &Sessions) -> Result<(), origin::CrossSite> {
    let config = &sessions.core.config;
    let headers = request.headers();
    let content = request.content_type();
    let manner = RequestTraits {
        method_is_safe: matches!(
            request.method(),
            Method::Get | Method::Head | Method::Options | Method::Trace
        ),
        is_form: content.is_some_and(|content| content.is_form() || content.is_form_data()),
        upgrades: headers.contains("Upgrade"),
    };
    if manner.is_exempt() {
        return Ok(());
    }
    let all = |name| headers.get(name).collect::<Vec<&str>>();
    let (sites, origins, hosts) = (all("Sec-Fetch-Site"), all("Origin"), all("Host"));
    // HTTP/2 says it outside the headers.
    let authority = request.host().map(ToString::to_string);
    let claims = OriginHeaders {
        secure_cookie: config.secure,
        sec_fetch_site: &sites,
        origin: &origins,
        host: match hosts.as_slice() {
            [] => authority.as_deref(),
            [host] => Some(host),
            _ => None,
        },
    };
    origin::judge(&claims, &config.trusted_origins)
}

fn client(request: &Request<'_>) -> Client {
    const LONGEST: usize = 128;
    let agent = request.headers().get_one("User-Agent").map(|agent| {
        let printable = agent.chars().filter(|c| !c.is_control() && !is_format(*c));
        printable.take(LONGEST).collect()
    });
    Client {
        agent,
        // The peer itself: what a proxy or a client claims in a header is not believed here.
        ip: request.remote().map(|peer| peer.ip().to_string()),
    }
}

/// Characters that are not seen and change how others are: a list of devices shows this text.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

async fn arrive(presented: Presented, sessions: &Sessions) -> Result<LoadOutcome> {
    let stats = &sessions.core.stats;
    match presented {
        Presented::Nothing => Ok(LoadOutcome::Nothing),
        Presented::Several => {
            stats.ambiguous.count();
            Ok(LoadOutcome::Nothing)
        }
        Presented::Token(token) => {
            stats.loads.count();
            let document = sessions.core.store.load(token.id.as_str()).await?;
            Ok(recognize(document, token, sessions))
        }
        Presented::LegacySession(id) => {
            stats.loads.count();
            let document = sessions.core.store.load(id.as_str()).await?;
            let config = &sessions.core.config;
            let Some(ancestor) = document.as_ref().and_then(LegacySession::parse) else {
                sessions.missed();
                return Ok(LoadOutcome::Dead(id));
            };
            let now = sessions.core.clock.now();
            if !ancestor.is_alive(now, config.timeout, config.lifetime) {
                stats.expired.count();
                return Ok(LoadOutcome::Expired(id));
            }
            stats.hits.count();
            Ok(LoadOutcome::LegacySession(Box::new(ancestor)))
        }
    }
}

/// Whether the document that a token names is its browser's own, and alive.
fn recognize(document: Option<Document>, token: Token, sessions: &Sessions) -> LoadOutcome {
    let (config, stats) = (&sessions.core.config, &sessions.core.stats);
    let record = document.and_then(|document| {
        let id = document.id().unwrap_or_default().to_owned();
        let record = Record::parse(document);
        if record.is_none() {
            // Not overwritten: somebody may want to look at it.
            rocket::warn!("Session: the stored document {id:?} is malformed and not used.");
        }
        record
    });
    // A collation of somebody's can find another id than the one that was asked for.
    let Some(record) = record.filter(|record| record.id == token.id) else {
        sessions.missed();
        return LoadOutcome::Dead(token.id);
    };
    let digest = token.secret.digest(&config.cookie_name);
    if !record.token.matches(&digest) {
        stats.wrong_secrets.count();
        sessions.missed();
        return LoadOutcome::Locked(token.id);
    }
    if record.deadline(config.timeout, config.lifetime) < sessions.core.clock.now() {
        stats.expired.count();
        return LoadOutcome::Expired(token.id);
    }
    stats.hits.count();
    LoadOutcome::Live(Box::new(Stored { record, token }))
}
