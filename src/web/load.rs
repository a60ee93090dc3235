//! Loads the session that a request's cookies name, or starts an empty one.

use std::borrow::Cow;
use std::sync::Arc;

use rocket::http::{ContentType, Method, SameSite};
use rocket::request::Request;

use crate::admin::Sessions;
use crate::clock::Started;
use crate::commit::{Core, tombstone};
use crate::config::Transport;
use crate::error::{Error, Result};
use crate::origin::{self, OriginHeaders, RequestTraits};
use crate::record::token::{Id, Token};
use crate::record::{Client, Record};
use crate::session::Session;
use crate::spans::RequestSpan;
use crate::state::{Creation, LoadOutcome, Loaded, NewReason, Stored};
use crate::web::client_ip::client;
use crate::web::cookie::{self, SessionCookies};
use crate::web::headers::RequestHeaders;
use crate::web::request_cache::request_span;

/// Checks where the request comes from, and loads its session.
pub(super) async fn load(
    request: &Request<'_>,
    sessions: &Sessions,
    started: Started,
    is_head: bool,
) -> Result<Session> {
    let core = &sessions.core;
    let span = request_span(request);
    let (arrived, client) = {
        let headers = RequestHeaders::read(request.headers());
        let mut arrived = Arrived::of(request, &headers, core)?;
        arrived.may_be_unseen = is_head || headers.is_prefetch;
        let client = match core.config.record_client {
            true => client(request, &headers, &core.config),
            false => Client::default(),
        };
        (arrived, client)
    };
    let loaded = load_arrived(arrived, core, started, &span).await;
    let loaded = loaded.inspect_err(Error::log)?;
    let core = Arc::clone(core);
    Ok(Session::new(core, loaded, client, started, span))
}

/// What a request brings, and may do, before its session is loaded.
struct Arrived {
    cookies: SessionCookies,
    brought_cookie: bool,
    creation: Creation,
    may_be_unseen: bool,
}

impl Arrived {
    /// Refuses the unsafe request of another site.
    fn of(request: &Request<'_>, headers: &RequestHeaders<'_>, core: &Core) -> Result<Self> {
        let source = Source::of(request, headers);
        let origin_headers = source.headers(headers, core.config.secure);
        let is_bearer = core.config.transport == Transport::Bearer;
        // No browser sends a bearer token by itself, so no other site can use it.
        if !is_bearer
            && !source.traits.is_exempt()
            && let Err(reason) = origin::check_origin(&origin_headers, &core.config.trusted_origins)
        {
            core.stats.refused.count();
            let method = request.method();
            rocket::warn!("Session: a {method} request was refused: {reason}");
            return Err(Error::CrossSite);
        }
        let cookies = SessionCookies::of(request, headers, &core.config);
        let brought_cookie = !is_bearer && !matches!(cookies, SessionCookies::None);
        let creation = if is_bearer {
            Creation::Allowed
        } else if !cookie::path_matches(&core.config.path, request.uri().path().as_str()) {
            Creation::Never
        } else if !brought_cookie && source.may_lack_cookie(&origin_headers, core.config.same_site)
        {
            Creation::OnlyByLogin
        } else {
            Creation::Allowed
        };
        Ok(Arrived {
            cookies,
            brought_cookie,
            creation,
            may_be_unseen: false,
        })
    }
}

async fn load_arrived(
    arrived: Arrived,
    core: &Core,
    started: Started,
    span: &RequestSpan,
) -> Result<Loaded> {
    let Arrived {
        cookies,
        brought_cookie,
        creation,
        may_be_unseen,
    } = arrived;
    let mut other_sessions = Vec::new();
    let outcome = match cookies {
        SessionCookies::None => LoadOutcome::New(NewReason::NoCookie),
        SessionCookies::Malformed => LoadOutcome::New(NewReason::Malformed),
        SessionCookies::TooMany => ambiguous(core),
        SessionCookies::Tokens(tokens) => {
            let _timer = core.latencies.time_load();
            // Boxed, as is what few requests need in it: the futures of most requests stay below the
            // 1,032 bytes that glibc's allocator serves from a cache of the thread. Larger blocks
            // take a lock, which workers wait for.
            let mut load = Box::pin(load_tokens(core, tokens, &started, &mut other_sessions));
            let load = load.as_mut();
            span.load(core.config.kind(), outcome_name, load).await?
        }
    };
    Ok(Loaded {
        outcome,
        other_sessions,
        brought_cookie,
        creation,
        may_be_unseen,
    })
}

// ---- where the request comes from

/// What a request tells of its source.
struct Source<'r> {
    traits: RequestTraits,
    host: Option<Cow<'r, str>>,
    /// A page load in the address bar's own frame, as by a link.
    is_page_load: bool,
}

impl<'r> Source<'r> {
    fn of(request: &Request<'_>, headers: &RequestHeaders<'r>) -> Self {
        let content = headers.has_content_type.then(|| request.content_type());
        let is_form = |content: &ContentType| content.is_form() || content.is_form_data();
        Source {
            traits: RequestTraits {
                method_is_safe: matches!(
                    request.method(),
                    Method::Get | Method::Head | Method::Options | Method::Trace
                ),
                is_form: content.flatten().is_some_and(is_form),
                upgrades: headers.upgrades,
            },
            host: match headers.host.as_slice() {
                // HTTP/2 has `:authority` instead.
                [] => request.host().map(|host| host.to_string().into()),
                [host] => Some((*host).into()),
                _ => None,
            },
            is_page_load: headers.sec_fetch_dest == ["document"],
        }
    }

    fn headers<'a>(
        &'a self,
        headers: &'a RequestHeaders<'_>,
        secure_cookie: bool,
    ) -> OriginHeaders<'a> {
        OriginHeaders {
            secure_cookie,
            sec_fetch_site: &headers.sec_fetch_site,
            origin: &headers.origin,
            host: self.host.as_deref(),
        }
    }

    /// Returns whether the browser may have a session cookie that it did not send, because of
    /// `SameSite` (RFC 6265bis, 5.8.3). A session that this request created would replace it.
    fn may_lack_cookie(&self, headers: &OriginHeaders<'_>, same_site: Option<SameSite>) -> bool {
        let is_sent = match same_site {
            Some(SameSite::None) => true,
            Some(SameSite::Strict) => false,
            // `Lax` cookies go with links and other page loads, as from a search engine.
            Some(SameSite::Lax) | None => self.traits.is_exempt() && self.is_page_load,
        };
        !is_sent && origin::is_cross_site(headers)
    }
}

// ---- what is stored

async fn load_tokens(
    core: &Core,
    mut tokens: Vec<Token>,
    started: &Started,
    others: &mut Vec<Id>,
) -> Result<LoadOutcome> {
    match (tokens.pop(), tokens.is_empty()) {
        (Some(token), true) => load_one(core, token, started).await,
        (last, _) => {
            tokens.extend(last);
            Box::pin(load_several(core, tokens, started, others)).await
        }
    }
}

/// The outcome of a load, for its span.
fn outcome_name(loaded: &Result<LoadOutcome>) -> &'static str {
    match loaded {
        Ok(LoadOutcome::Live(_)) => "live",
        Ok(LoadOutcome::Replaced(_)) => "replaced",
        Ok(LoadOutcome::New(_) | LoadOutcome::Dead(..)) => "none",
        Err(_) => "error",
    }
}

/// Loads the session of the request's only token: one find, and one more when it is not there.
async fn load_one(core: &Core, token: Token, started: &Started) -> Result<LoadOutcome> {
    core.stats.loads.count();
    let record = core.load(&token.id).await?;
    match verify(core, &token, record) {
        Ok(record) => {
            core.stats.hits.count();
            Ok(LoadOutcome::Live(Box::new(Stored { record, token })))
        }
        Err(NewReason::Expired) if core.config.transport == Transport::Bearer => {
            Ok(LoadOutcome::New(NewReason::Expired))
        }
        Err(NewReason::Expired) => Ok(LoadOutcome::Dead(token.id, NewReason::Expired)),
        Err(reason) => {
            core.stats.misses.count();
            if core.config.transport == Transport::Bearer {
                // There is no cookie that a new session could overwrite.
                return Ok(LoadOutcome::New(reason));
            }
            let replaced = tombstone::look_up(core, &token.id, Some(&token), started);
            Ok(match Box::pin(replaced).await? {
                Some(replaced) => LoadOutcome::Replaced(Box::new(replaced)),
                None => LoadOutcome::Dead(token.id, reason),
            })
        }
    }
}

/// Loads the sessions of several tokens with one find. The request's session is the one that is
/// alive; if none or more than one is, none is believed, because a sibling domain or a page on plain
/// HTTP can set cookies too (RFC 6265bis, 8.6). `others` gets the other sessions that the tokens
/// prove. If none is alive, one of them may have been replaced by a login, whose cookie no new session
/// may overwrite: one more find.
async fn load_several(
    core: &Core,
    tokens: Vec<Token>,
    started: &Started,
    others: &mut Vec<Id>,
) -> Result<LoadOutcome> {
    core.stats.loads.count();
    let mut ids: Vec<String> = tokens.iter().map(|token| token.id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let records = core.load_many(ids).await?;
    let (mut alive, mut missing) = (Vec::new(), Vec::new());
    for token in tokens {
        let record = records.iter().find(|record| record.meta.id == token.id);
        match verify(core, &token, record.cloned()) {
            Ok(record) => alive.push(Stored { record, token }),
            Err(NewReason::Expired) => others.push(token.id),
            Err(_) => missing.push(token),
        }
    }
    if alive.is_empty() && !missing.is_empty() && core.config.transport == Transport::Cookie {
        let tokens = missing.iter().map(|token| (&token.id, Some(token)));
        let tokens: Vec<_> = tokens.collect();
        if let Some(replaced) = tombstone::look_up_any(core, &tokens, started).await? {
            return Ok(LoadOutcome::Replaced(Box::new(replaced)));
        }
    }
    match (alive.pop(), alive.is_empty()) {
        (Some(stored), true) => {
            core.stats.hits.count();
            Ok(LoadOutcome::Live(Box::new(stored)))
        }
        (last, _) => {
            let alive = alive.into_iter().chain(last);
            others.extend(alive.map(|stored| stored.record.meta.id));
            Ok(ambiguous(core))
        }
    }
}

fn ambiguous(core: &Core) -> LoadOutcome {
    core.stats.ambiguous.count();
    if core.config.transport == Transport::Bearer {
        rocket::warn!("Session: a request sent several `Authorization` headers; all are ignored");
        return LoadOutcome::New(NewReason::Ambiguous);
    }
    rocket::warn!(
        "Session: a request sent several `{}` cookies, and not exactly one of them names a live \
         session; all of them are ignored",
        core.config.cookie_name
    );
    LoadOutcome::New(NewReason::Ambiguous)
}

/// Returns the record, opened, if the token proves it and it has not expired.
fn verify(core: &Core, token: &Token, record: Option<Record>) -> Result<Record, NewReason> {
    let (config, stats) = (&core.config, &core.stats);
    // With a collation the database can find another id than the one that was asked for.
    let record = record
        .filter(|record| record.meta.id == token.id)
        .ok_or(NewReason::NotFound)?;
    let digest = token.digest(&config.cookie_name);
    if !record.token.matches(&digest) {
        stats.wrong_secrets.count();
        return Err(NewReason::WrongSecret);
    }
    if record.meta.is_expired(config, core.now()) {
        stats.expired.count();
        return Err(NewReason::Expired);
    }
    let opened = record.opened_by(token, &config.cookie_name);
    opened.ok_or_else(|| {
        // The token and the wrapped key are always written in one update: another writer wrote one.
        let id = &token.id;
        rocket::warn!("session {id}: the sealed session does not open and was ignored");
        NewReason::NotFound
    })
}

#[cfg(test)]
mod tests;
