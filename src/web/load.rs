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
use crate::origin::{self, OriginHeaders};
use crate::record::token::Token;
use crate::record::{Client, Record};
use crate::session::Session;
use crate::spans::RequestSpan;
use crate::state::{Creation, Deletion, LoadOutcome, Loaded, NewReason, Stored};
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
    let (cookies, mut loaded, client) = {
        let headers = RequestHeaders::read(request.headers());
        let (cookies, mut loaded) = read_request(request, &headers, core)?;
        loaded.may_be_unseen = is_head || headers.is_prefetch;
        let client = match core.config.record_client {
            true => client(request, &headers, &core.config),
            false => Client::default(),
        };
        (cookies, loaded, client)
    };
    let load = load_cookies(cookies, &mut loaded, core, started, &span);
    load.await.inspect_err(Error::log)?;
    let core = Arc::clone(core);
    Ok(Session::new(core, loaded, client, started, span))
}

/// Refuses an unsafe request of another site. For any other request, returns the session cookies, and
/// a [`Loaded`] that says what the request may create. Its outcome is that of a request without a
/// cookie, until [`load_cookies`] sets it.
fn read_request(
    request: &Request<'_>,
    headers: &RequestHeaders<'_>,
    core: &Core,
) -> Result<(SessionCookies, Loaded)> {
    let config = &core.config;
    let host = host(request, headers);
    let origin_headers = OriginHeaders {
        secure_cookie: config.secure,
        sec_fetch_site: &headers.sec_fetch_site,
        origin: &headers.origin,
        host: host.as_deref(),
    };
    let is_exempt = is_exempt(request, headers);
    let is_bearer = config.transport == Transport::Bearer;
    // No browser sends a bearer token by itself, so no other site can use it.
    if !is_bearer
        && !is_exempt
        && let Err(reason) = origin::check_origin(&origin_headers, &config.trusted_origins)
    {
        core.stats.refused.count();
        let method = request.method();
        rocket::warn!("Session: a {method} request was refused: {reason}");
        return Err(Error::CrossSite);
    }
    let cookies = SessionCookies::of(request, headers, config);
    let brought_cookie = !is_bearer && !matches!(cookies, SessionCookies::None);
    // A top-level navigation, as by a link.
    let is_page_load = is_exempt && headers.sec_fetch_dest == ["document"];
    let creation = if is_bearer {
        Creation::Allowed
    } else if !cookie::path_matches(&config.path, request.uri().path().as_str()) {
        Creation::Never
    } else if !brought_cookie && may_lack_cookie(&origin_headers, is_page_load, config.same_site) {
        Creation::OnlyByLogin
    } else {
        Creation::Allowed
    };
    let loaded = Loaded {
        outcome: LoadOutcome::New(NewReason::NoCookie),
        other_sessions: Vec::new(),
        not_alive: Vec::new(),
        brought_cookie,
        creation,
        may_be_unseen: false,
    };
    Ok((cookies, loaded))
}

/// Looks up the sessions that the cookies name. Sets the outcome, and the sessions beside it.
async fn load_cookies(
    cookies: SessionCookies,
    loaded: &mut Loaded,
    core: &Core,
    started: Started,
    span: &RequestSpan,
) -> Result<()> {
    loaded.outcome = match cookies {
        SessionCookies::None => return Ok(()),
        SessionCookies::Malformed => LoadOutcome::New(NewReason::Malformed),
        SessionCookies::TooMany => ambiguous(core),
        SessionCookies::Tokens(tokens) => {
            let _timer = core.latencies.time_load();
            // Boxed, as are all parts of this future that few requests need: the futures of most
            // requests stay below the 1,032 bytes that glibc's allocator serves from a cache of the
            // thread. Larger blocks take a lock, which workers wait for.
            let mut load = Box::pin(load_tokens(core, tokens, &started, loaded));
            let load = load.as_mut();
            span.load(core.config.kind(), outcome_name, load).await?
        }
    };
    Ok(())
}

// ---- where the request comes from

/// Returns the request's host; `None` when it is missing or repeated.
fn host<'r>(request: &Request<'_>, headers: &RequestHeaders<'r>) -> Option<Cow<'r, str>> {
    match headers.host.as_slice() {
        // HTTP/2 has `:authority` instead.
        [] => request.host().map(|host| host.to_string().into()),
        [host] => Some((*host).into()),
        _ => None,
    }
}

/// Returns whether the request needs no check of its origin.
fn is_exempt(request: &Request<'_>, headers: &RequestHeaders<'_>) -> bool {
    let method_is_safe = matches!(
        request.method(),
        Method::Get | Method::Head | Method::Options | Method::Trace
    );
    let content = headers.has_content_type.then(|| request.content_type());
    let is_form = |content: &ContentType| content.is_form() || content.is_form_data();
    let is_form = content.flatten().is_some_and(is_form);
    origin::is_exempt(method_is_safe, is_form, headers.upgrades)
}

/// Returns whether the browser may have a session cookie that it did not send, because of `SameSite`
/// (RFC 6265bis, 5.8.3). A session that this request created would replace it.
fn may_lack_cookie(
    headers: &OriginHeaders<'_>,
    is_page_load: bool,
    same_site: Option<SameSite>,
) -> bool {
    let is_sent = match same_site {
        Some(SameSite::None) => true,
        Some(SameSite::Strict) => false,
        // `Lax` cookies go with links and other page loads, as from a search engine.
        Some(SameSite::Lax) | None => is_page_load,
    };
    !is_sent && origin::is_cross_site(headers)
}

// ---- the stored session

async fn load_tokens(
    core: &Core,
    mut tokens: Vec<Token>,
    started: &Started,
    loaded: &mut Loaded,
) -> Result<LoadOutcome> {
    match (tokens.pop(), tokens.is_empty()) {
        (Some(token), true) => load_one(core, token, started, loaded).await,
        (last, _) => {
            tokens.extend(last);
            Box::pin(load_several(core, tokens, started, loaded)).await
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
async fn load_one(
    core: &Core,
    token: Token,
    started: &Started,
    loaded: &mut Loaded,
) -> Result<LoadOutcome> {
    core.stats.loads.count();
    let record = core.load(&token.id).await?;
    let verified = verify(core, &token, record);
    if let Err(reason) = verified {
        loaded.not_alive.extend(deletion(core, &token, reason));
    }
    match verified {
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
/// HTTP can set cookies too (RFC 6265bis, 8.6). `loaded` gets the other sessions that the tokens
/// prove, and those that were not found. If none is alive, one of them may have been replaced by a
/// login, whose cookie no new session may overwrite: one more find.
async fn load_several(
    core: &Core,
    tokens: Vec<Token>,
    started: &Started,
    loaded: &mut Loaded,
) -> Result<LoadOutcome> {
    core.stats.loads.count();
    let mut ids: Vec<String> = tokens.iter().map(|token| token.id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let records = core.load_all(ids, |_| true).await?;
    let (mut alive, mut missing) = (Vec::new(), Vec::new());
    for token in tokens {
        let record = records.iter().find(|record| record.meta.id == token.id);
        match verify(core, &token, record.cloned()) {
            Ok(record) => alive.push(Stored { record, token }),
            Err(NewReason::Expired) => loaded.other_sessions.push(token.id),
            Err(reason) => {
                loaded.not_alive.extend(deletion(core, &token, reason));
                missing.push(token);
            }
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
            let alive = alive.map(|stored| stored.record.meta.id);
            loaded.other_sessions.extend(alive);
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

/// Returns what a logout deletes for a token whose session was not alive.
fn deletion(core: &Core, token: &Token, reason: NewReason) -> Option<Deletion> {
    let id = token.id.clone();
    match reason {
        NewReason::Expired => Some(id.into()), // the token was the right one
        NewReason::NotFound => Some(Deletion {
            id,
            token: Some(token.digest(&core.config.cookie_name)),
        }),
        _ => None,
    }
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
