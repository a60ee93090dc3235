//! The guide: a page for each subject. Start with [`start`].
//!
//! | how do I … | page |
//! |---|---|
//! | start? | [`start`] |
//! | understand what happens between a cookie and the database? | [`how_it_works`] |
//! | store a value, a counter, a list? | [`values`] |
//! | change a value that concurrent requests change too? | [`values`](values#concurrent-requests) |
//! | sign users in and out, with a guard for routes? | [`sign_in`] |
//! | sign users in through an identity provider (OpenID Connect)? | [`sign_in`](sign_in#single-sign-on) |
//! | hash passwords with argon2? | [`recipes`](recipes#passwords-with-argon2) |
//! | ask for a second factor, or for the password once more? | [`sign_in`](sign_in#a-second-factor) |
//! | show a user's devices and end them? | [`sign_in`](sign_in#a-users-devices) |
//! | give a session a new secret from time to time? | [`Session::renew`](crate::Session::renew) |
//! | log a user out everywhere? | [`recipes`](recipes#log-out-everywhere) |
//! | keep users signed in ("remember me")? | [`timeouts`] |
//! | show a message on the next page? | [`flash`] |
//! | protect forms and `fetch()`? | [`csrf`] |
//! | use Tera, HTMX, uploads, a single-page application on another origin? | [`recipes`] |
//! | take a POST from a payment or identity provider? | [`recipes`](recipes#returns-from-payment-and-identity-providers) |
//! | end streams and websockets with their session? | [`streams`] |
//! | hear what happens to sessions (audit trail)? | [`streams`](streams#what-happens-to-sessions) |
//! | handle errors and outages? | [`errors`] |
//! | test my application? | [`testing`], on a real MongoDB: [`recipes`](recipes#integration-tests-on-a-real-mongodb) |
//! | find out why sessions are lost? | [`troubleshooting`] |
//! | configure it? | [`configuration`] |
//! | have several kinds of session, or bearer tokens? | [`kinds`] |
//! | encrypt what sessions contain? | [`sealed`] |
//! | go live? | [`going_live`], with nginx: [`recipes`](recipes#nginx-and-tls), with Docker: [`recipes`](recipes#docker) |
//! | share a database, or sessions, between applications? | [`operation`](operation#several-applications-on-one-database) |
//! | use a replica set or a sharded cluster? | [`operation`](operation#replica-sets-and-shards) |
//! | run it: connections, Kubernetes probes, logs, indexes, privileges, backups? | [`operation`] |
//! | export counters to Prometheus? | [`recipes`](recipes#prometheus) |
//! | upgrade, deploy, use Atlas, answer a request for personal data? | [`data`] |
//! | know its limits? | [`limits`] |
//! | come from another library? | [`migration`] |
//! | find a call? | [`calls`] |
//!
//! These modules exist in the documentation alone: they are empty, and no program can import them.

#[allow(unused_imports)]
use crate::*;

#[doc = include_str!("guide/start.md")]
#[doc(alias("quick start", "getting started", "install", "hello world"))]
pub mod start {}

#[doc = include_str!("guide/how_it_works.md")]
#[doc(alias("architecture", "lifecycle", "round trip", "overview", "caching"))]
pub mod how_it_works {}

#[doc = include_str!("guide/values.md")]
#[doc(alias("concurrent", "atomic", "race condition", "counter", "serde"))]
pub mod values {}

#[doc = include_str!("guide/sign_in.md")]
#[doc(alias("authentication", "session fixation", "devices", "privileges"))]
#[doc(alias(
    "2fa",
    "mfa",
    "totp",
    "single sign-on",
    "sso",
    "oidc",
    "oauth",
    "admin",
    "rate limit"
))]
pub mod sign_in {}

#[doc = include_str!("guide/flash.md")]
#[doc(alias("message", "post redirect get"))]
pub mod flash {}

#[doc = include_str!("guide/csrf.md")]
#[doc(alias("same-origin", "cross-site request forgery", "forbidden", "403"))]
pub mod csrf {}

#[doc = include_str!("guide/timeouts.md")]
#[doc(alias("absolute timeout", "idle timeout", "remember me", "expiry", "sliding"))]
pub mod timeouts {}

#[doc = include_str!("guide/streams.md")]
#[doc(alias(
    "websocket",
    "sse",
    "server-sent events",
    "audit trail",
    "long request"
))]
pub mod streams {}

#[doc = include_str!("guide/errors.md")]
#[doc(alias("outage", "503", "catcher", "error page"))]
pub mod errors {}

#[doc = include_str!("guide/testing.md")]
#[doc(alias("unit test", "force_login", "time travel", "local client"))]
pub mod testing {}

#[doc = include_str!("guide/troubleshooting.md")]
#[doc(alias("my session is lost", "session lost", "logged out", "new session"))]
#[doc(alias("cookie not set", "debugging", "faq"))]
pub mod troubleshooting {}

#[doc = include_str!("guide/recipes.md")]
#[doc(alias(
    "nginx", "proxy", "tls", "https", "docker", "cors", "spa", "react", "vite"
))]
#[doc(alias("htmx", "tera", "template", "upload", "multipart", "button", "payment"))]
#[doc(alias(
    "log out everywhere",
    "single-page",
    "logout_everywhere",
    "prometheus",
    "argon2",
    "password"
))]
#[doc(alias("form_post", "webhook", "integration test", "cookbook"))]
pub mod recipes {}

#[doc = include_str!("../docs/configuration.md")]
#[doc(alias("Rocket.toml", "environment variable", "settings", "options"))]
pub mod configuration {}

#[doc = include_str!("guide/kinds.md")]
#[doc(alias("several sessions", "bearer token", "mobile", "okapi", "openapi"))]
pub mod kinds {}

#[doc = include_str!("guide/sealed.md")]
#[doc(alias("encryption", "encryption at rest", "seal"))]
pub mod sealed {}

#[doc = include_str!("guide/going_live.md")]
#[doc(alias("production", "deployment", "release", "__Host-"))]
#[doc(alias("x-forwarded-for", "samesite", "same-site"))]
pub mod going_live {}

#[doc = include_str!("guide/operation.md")]
#[doc(alias("metrics", "opentelemetry", "tracing"))]
#[doc(alias("kubernetes", "health", "logs", "index", "role", "backup", "sharding"))]
pub mod operation {}

#[doc = include_str!("guide/data.md")]
#[doc(alias("mongodb+srv"))]
#[doc(alias("upgrade", "rolling deploy", "version", "compatibility", "atlas"))]
#[doc(alias("gdpr", "erasure", "retention", "stored document", "schema"))]
pub mod data {}

#[doc = include_str!("guide/limits.md")]
#[doc(alias(
    "guarantees",
    "consistency",
    "durability",
    "custom store",
    "redis",
    "postgres"
))]
pub mod limits {}

#[doc = include_str!("guide/migration.md")]
#[doc(alias("express-session", "connect-mongo", "pyramid", "rocket_flex_session"))]
pub mod migration {}

#[doc = include_str!("guide/calls.md")]
#[doc(alias("cheat sheet", "api overview"))]
pub mod calls {}
