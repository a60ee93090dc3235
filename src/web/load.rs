//! Loads the session that a request's cookies name, or starts an empty one.

use std::borrow::Cow;
use std::sync::Arc;

use rocket::http::{ContentType, Method, SameSite};
use rocket::request::Request;
#[cfg(feature = "tracing")]
use tracing::level_filters::LevelFilter;

use crate::admin::Sessions;
use crate::clock::Started;
use crate::commit::{Core, tombstone};
use crate::config::Transport;
use crate::error::{Error, Result};
use crate::origin::{self, OriginHeaders};
use crate::record::token::{Id, Token};
use crate::record::{Client, Record};
use crate::session::Session;
use crate::spans::RequestSpan;
use crate::state::{Creation, Deletion, LoadOutcome, Loaded, NewReason, Stored};
use crate::web::client_ip::client;
use crate::web::cookie::{self, SessionCookies};
use crate::web::headers::RequestHeaders;

/// Checks where the request comes from, and loads its session.
pub(super) async fn load(
    request: &Request<'_>,
    sessions: &Sessions,
    started: Started,
    is_head: bool,
) -> Result<Session> {
    let core = &sessions.core;
    let span = request_span(request);
    let (traits, client) = {
        let headers = RequestHeaders::read(request.headers());
        let traits = read_request(request, &headers, is_head, core)?;
        let client = match core.config.record_client {
            true => client(request, &headers, &core.config),
            false => Client::default(),
        };
        (traits, client)
    };
    let loaded = load_cookies(traits, core, started, &span).await;
    let loaded = loaded.inspect_err(Error::log)?;
    let core = Arc::clone(core);
    Ok(Session::new(core, loaded, client, started, span))
}

/// What a request shows before its session is looked up.
struct RequestTraits {
    cookies: SessionCookies,
    brought_cookie: bool,
    creation: Creation,
    may_be_unseen: bool,
}

/// The sessions beside the request's own that its tokens name, as [`Loaded`] has them.
#[derive(Default)]
struct FurtherSessions {
    other_sessions: Vec<Id>,
    not_alive: Vec<Deletion>,
}

impl FurtherSessions {
    /// Adds a session that this token does not open.
    fn add(&mut self, core: &Core, token: &Token, reason: NewReason) {
        let id = token.id.clone();
        match reason {
            // The token was the right one, and by another process's clock it may open it still.
            NewReason::Expired => self.other_sessions.push(id),
            NewReason::NotFound => self.not_alive.push(Deletion {
                id,
                token: Some(token.digest(&core.config.cookie_name)),
            }),
            _ => {}
        }
    }
}

/// Reads the session cookies and what the request may create. Refuses an unsafe request of another
/// site.
fn read_request(
    request: &Request<'_>,
    headers: &RequestHeaders<'_>,
    is_head: bool,
    core: &Core,
) -> Result<RequestTraits> {
    let config = &core.config;
    let host = host(request, headers);
    let origin_headers = OriginHeaders {
        secure_cookie: config.secure,
        sec_fetch_site: &headers.sec_fetch_site,
        origin: &headers.origin,
        host: host.as_deref(),
    };
    let is_exempt = origin::is_exempt(
        is_safe(request.method()),
        is_form(request, headers),
        headers.upgrades,
    );
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
    Ok(RequestTraits {
        cookies,
        brought_cookie,
        creation,
        may_be_unseen: is_head || headers.is_prefetch,
    })
}

/// Looks up the sessions that the cookies name.
async fn load_cookies(
    traits: RequestTraits,
    core: &Core,
    started: Started,
    span: &RequestSpan,
) -> Result<Loaded> {
    let mut further = FurtherSessions::default();
    let outcome = match traits.cookies {
        SessionCookies::None => LoadOutcome::New(NewReason::NoCookie),
        SessionCookies::Malformed => LoadOutcome::New(NewReason::Malformed),
        SessionCookies::TooMany => ambiguous(core),
        SessionCookies::Tokens(tokens) => {
            let _timer = core.latencies.time_load();
            // Boxed, as are all parts of this future that few requests need: the futures of most
            // requests stay below the 1,032 bytes that glibc's allocator serves from a cache of the
            // thread. Larger blocks take a lock, which workers wait for.
            let mut load = Box::pin(load_one_or_several(core, tokens, &started, &mut further));
            let load = load.as_mut();
            span.load(core.config.kind(), outcome_name, load).await?
        }
    };
    Ok(Loaded {
        outcome,
        other_sessions: further.other_sessions,
        not_alive: further.not_alive,
        brought_cookie: traits.brought_cookie,
        creation: traits.creation,
        may_be_unseen: traits.may_be_unseen,
    })
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

/// Returns whether the method is safe (RFC 9110, 9.2.1).
fn is_safe(method: Method) -> bool {
    matches!(
        method,
        Method::Get | Method::Head | Method::Options | Method::Trace
    )
}

/// Returns whether the request carries a form, by its `Content-Type`.
fn is_form(request: &Request<'_>, headers: &RequestHeaders<'_>) -> bool {
    let content = headers.has_content_type.then(|| request.content_type());
    let is_form = |content: &ContentType| content.is_form() || content.is_form_data();
    content.flatten().is_some_and(is_form)
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

/// Returns the request's span: the `tracing::Span` that the application keeps in the request-local
/// state, or else the current one.
fn request_span(request: &Request<'_>) -> RequestSpan {
    #[cfg(feature = "tracing")]
    let span = RequestSpan::new(match LevelFilter::current() {
        LevelFilter::OFF => tracing::Span::none(), // nothing takes spans
        _ => request.local_cache(tracing::Span::current).clone(),
    });
    #[cfg(not(feature = "tracing"))]
    let (span, _) = (RequestSpan, request);
    span
}

// ---- the stored session

async fn load_one_or_several(
    core: &Core,
    mut tokens: Vec<Token>,
    started: &Started,
    further: &mut FurtherSessions,
) -> Result<LoadOutcome> {
    let stats = &core.stats;
    stats.loads.count();
    let outcome = match (tokens.pop(), tokens.is_empty()) {
        (Some(token), true) => load_one(core, token, started, further).await,
        (last, _) => {
            tokens.extend(last);
            Box::pin(load_several(core, tokens, started, further)).await
        }
    }?;
    match &outcome {
        LoadOutcome::Live(_) => stats.hits.count(),
        LoadOutcome::New(NewReason::Expired) | LoadOutcome::Dead(_, NewReason::Expired) => {
            stats.expired.count();
        }
        LoadOutcome::New(_) | LoadOutcome::Dead(..) | LoadOutcome::Replaced(_) => {
            stats.misses.count();
        }
    }
    Ok(outcome)
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
    further: &mut FurtherSessions,
) -> Result<LoadOutcome> {
    let record = core.load(&token.id).await?;
    let verified = verify(core, &token, record);
    if let Err(reason) = verified {
        further.add(core, &token, reason);
    }
    match verified {
        Ok(record) => Ok(LoadOutcome::Live(Box::new(Stored { record, token }))),
        Err(NewReason::Expired) if core.config.transport == Transport::Bearer => {
            Ok(LoadOutcome::New(NewReason::Expired))
        }
        Err(NewReason::Expired) => Ok(LoadOutcome::Dead(token.id, NewReason::Expired)),
        Err(reason) => {
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
/// HTTP can set cookies too (RFC 6265bis, 8.6). `further` gets the other sessions that the tokens
/// prove, and those that were not found. If none is alive, one of them may have been replaced by a
/// login, whose cookie no new session may overwrite: one more find.
async fn load_several(
    core: &Core,
    tokens: Vec<Token>,
    started: &Started,
    further: &mut FurtherSessions,
) -> Result<LoadOutcome> {
    let mut ids: Vec<String> = tokens.iter().map(|token| token.id.to_string()).collect();
    ids.sort_unstable();
    ids.dedup();
    let records = core.load_all(ids, |_| true).await?;
    let (mut alive, mut missing) = (Vec::new(), Vec::new());
    for token in tokens {
        let record = records.iter().find(|record| record.meta.id == token.id);
        match verify(core, &token, record.cloned()) {
            Ok(record) => alive.push(Stored { record, token }),
            Err(reason) => {
                further.add(core, &token, reason);
                if reason != NewReason::Expired {
                    missing.push(token);
                }
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
        (Some(stored), true) => Ok(LoadOutcome::Live(Box::new(stored))),
        (last, _) => {
            let alive = alive.into_iter().chain(last);
            let alive = alive.map(|stored| stored.record.meta.id);
            further.other_sessions.extend(alive);
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
    let config = &core.config;
    // With a collation the database can find another id than the one that was asked for.
    let record = record
        .filter(|record| record.meta.id == token.id)
        .ok_or(NewReason::NotFound)?;
    let digest = token.digest(&config.cookie_name);
    if !record.token.matches(&digest) {
        core.stats.wrong_secrets.count();
        return Err(NewReason::WrongSecret);
    }
    if record.meta.is_expired(config, core.now()) {
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
