//! Writes: how durable they are, what is applied twice, times of the server, and indexes.

use std::time::{Duration, SystemTime};

use rocket::tokio::time::{Instant, sleep};
use rocket_mongo_session::mongodb::bson::{DateTime, Document, doc};

use super::Examination;
use super::connection::{Refused, ask, reply};
use super::report::Outcome;

/// The first number of the doctor's own commands: the driver begins with small ones.
const NUMBER: i64 = 1 << 32;
/// The server takes no transaction numbers: a standalone server.
const NO_NUMBERS: i32 = 20;

pub(super) async fn majority(this: &Examination) {
    this.report.begin("writing with majority acknowledgement");
    let scratch = this.scratch.collection();
    let concern = doc! { "w": "majority", "j": true, "wtimeout": 10_000 };
    let insert =
        doc! { "insert": scratch.name(), "documents": [{ "_id": "a" }], "writeConcern": concern };
    let weak = this.connection.options.write_concern.as_ref();
    let weak = weak.filter(|concern| {
        let text = format!("{:?}", concern.w);
        text.contains("Nodes") || concern.journal == Some(false)
    });
    match ask(&this.database, insert).await {
        Ok(said) if said.contains_key("writeConcernError") => {
            let error = said
                .get_document("writeConcernError")
                .cloned()
                .unwrap_or_default();
            let text = error.get_str("errmsg").unwrap_or_default();
            this.report
                .write("majority", Outcome::Broken, format!("written, but: {text}"));
        }
        Ok(_) if weak.is_some() => this.report.write_as(
            "majority",
            Outcome::Attention,
            "the majority acknowledges, but the URL asks for less (`w` or `journal`)",
            "An acknowledged login, logout or change can be lost when the primary fails.",
            "Remove `w` and `journal` from the URL.",
        ),
        Ok(_) => this
            .report
            .write("majority", Outcome::Holds, "acknowledged"),
        Err(refusal) => this.report.write("majority", Outcome::Broken, refusal),
    }
}

pub(super) async fn numbering(this: &Examination) {
    this.report.begin("sending a numbered write twice");
    match try_numbering(this).await {
        Ok((outcome, found)) if outcome == Outcome::Holds && this.connection.is_unnumbered => {
            let found = format!("{found}; the URL switches it off (retryWrites=false)");
            this.report.write_as(
                "numbering",
                Outcome::Attention,
                found,
                "A lost reply is a 503 that would not be needed.",
                "Remove retryWrites=false from the URL.",
            );
        }
        Ok((Outcome::Broken, found)) if this.connection.is_unnumbered => this.report.write_as(
            "numbering",
            Outcome::Attention,
            format!("{found}; the URL switches it off (retryWrites=false)"),
            "Nothing is sent again: a lost reply is a 503, and no write is applied twice.",
            "Leave retryWrites=false in the URL.",
        ),
        Ok((outcome, found)) => this.report.write("numbering", outcome, found),
        Err(refusal) if refusal.code == Some(NO_NUMBERS) && this.is_standalone() => {
            let found = "a standalone server takes no numbers; nothing is sent again there";
            this.report.write("numbering", Outcome::NotTried, found);
        }
        Err(refusal) if refusal.code == Some(NO_NUMBERS) => this.report.write_as(
            "numbering",
            Outcome::Attention,
            refusal,
            "Nothing is sent again: a lost reply is a 503, and no write is applied twice.",
            "Set retryWrites=false in the URL, which saves the attempt.",
        ),
        Err(refusal) => this.report.write("numbering", Outcome::Broken, refusal),
    }
}

async fn try_numbering(this: &Examination) -> Result<(Outcome, String), Refused> {
    let scratch = this.scratch.collection();
    let documents = [doc! { "_id": "a", "n": 0 }, doc! { "_id": "b", "n": 0 }];
    let insert = doc! { "insert": scratch.name(), "documents": documents.to_vec() };
    ask(&this.database, insert).await?;
    let mut session = reply(this.connection.client.start_session().into_future()).await?;
    let update = |number: i64| {
        let increment = |id: &str| doc! { "q": { "_id": id }, "u": { "$inc": { "n": 1 } } };
        doc! {
            "update": scratch.name(),
            "updates": [increment("a"), increment("b")],
            "ordered": false,
            "writeConcern": { "w": "majority" },
            "txnNumber": number,
        }
    };
    let mut send = async |number: i64| {
        let run = this
            .database
            .run_command(update(number))
            .session(&mut session);
        reply(run.into_future()).await
    };
    send(NUMBER).await?;
    let again = send(NUMBER).await?;
    let mut counts = Vec::new();
    for id in ["a", "b"] {
        let found = reply(scratch.find_one(doc! { "_id": id }).into_future()).await?;
        let n = found.as_ref().and_then(|found| found.get("n"));
        counts.push(
            n.and_then(|n| n.as_i32().map(i64::from).or(n.as_i64()))
                .unwrap_or_default(),
        );
    }
    if counts != [1, 1] {
        let found = format!("increments that were sent twice were applied {counts:?} times");
        return Ok((Outcome::Broken, found));
    }
    if send(NUMBER - 1).await.is_ok() {
        let found = "a command with an older number was applied after a newer one";
        return Ok((Outcome::Broken, found.to_owned()));
    }
    let is_said = again.contains_key("retriedStmtIds");
    let said = if is_said {
        ""
    } else {
        " (the server does not say so in its reply)"
    };
    Ok((
        Outcome::Holds,
        format!("applied once{said}; an older number is refused"),
    ))
}

pub(super) async fn current_date(this: &Examination) {
    this.report.begin("storing the server's time");
    match try_current_date(this).await {
        Ok(None) => this
            .report
            .write("currentDate", Outcome::Holds, "both are the server's time"),
        Ok(Some(found)) => this.report.write("currentDate", Outcome::Broken, found),
        Err(refusal) => this.report.write("currentDate", Outcome::Broken, refusal),
    }
}

/// What is wrong with the times, if anything is.
async fn try_current_date(this: &Examination) -> Result<Option<String>, Refused> {
    let scratch = this.scratch.collection();
    let now = async || -> Result<Option<i64>, Refused> {
        let hello = ask(&this.database, doc! { "hello": 1 }).await?;
        Ok(hello
            .get_datetime("localTime")
            .ok()
            .map(|at| at.timestamp_millis()))
    };
    let insert = doc! { "insert": scratch.name(), "documents": [{ "_id": "a" }, { "_id": "b" }] };
    ask(&this.database, insert).await?;
    let before = now().await?;
    let by_operator = doc! { "q": { "_id": "a" }, "u": { "$currentDate": { "at": true } } };
    let by_pipeline = doc! { "q": { "_id": "b" }, "u": [{ "$set": { "at": "$$NOW" } }] };
    let update = doc! { "update": scratch.name(), "updates": [by_operator, by_pipeline] };
    ask(&this.database, update).await?;
    let after = now().await?;
    for (id, name) in [("a", "$currentDate"), ("b", "$$NOW")] {
        let found = reply(scratch.find_one(doc! { "_id": id }).into_future()).await?;
        let at = found
            .as_ref()
            .and_then(|found| found.get_datetime("at").ok());
        let Some(at) = at.map(|at| at.timestamp_millis()) else {
            return Ok(Some(format!("{name} stored no date")));
        };
        // $$NOW may be the time at which the command came; another member's clock may be asked.
        const SLACK_MILLIS: i64 = 1_000;
        let is_early = before.is_some_and(|before| at < before - SLACK_MILLIS);
        let is_late = after.is_some_and(|after| at > after + SLACK_MILLIS);
        if is_early || is_late {
            return Ok(Some(format!(
                "{name} stored another time than the server's"
            )));
        }
    }
    Ok(None)
}

pub(super) async fn partial_index(this: &Examination) {
    this.report.begin("making a partial index");
    let scratch = this.scratch.collection();
    let expression = doc! { "user": { "$exists": true } };
    let index = doc! {
        "key": { "user": 1, "created": 1, "_id": 1 },
        "name": "session_user",
        "partialFilterExpression": expression,
    };
    let create = doc! { "createIndexes": scratch.name(), "indexes": [index] };
    if let Err(refusal) = ask(&this.database, create).await {
        return this
            .report
            .write("partial-index", refusal.outcome(), refusal);
    }
    match ask(&this.database, doc! { "listIndexes": scratch.name() }).await {
        Ok(listed) if listed.to_string().contains("partialFilterExpression") => {
            this.report.write(
                "partial-index",
                Outcome::Holds,
                "made, and told by listIndexes",
            );
        }
        Ok(_) => {
            let found = "made, but listIndexes does not tell the expression";
            this.report.write("partial-index", Outcome::Broken, found);
        }
        Err(refusal) => {
            let found = format!("made, but listIndexes was {refusal}");
            this.report
                .write("partial-index", Outcome::Attention, found);
        }
    }
}

pub(super) async fn ttl(this: &Examination) {
    if this.is_quick {
        return this
            .report
            .write("ttl", Outcome::NotTried, "left out by --quick");
    }
    let started = Instant::now();
    match try_ttl(this, started).await {
        Ok(true) => {
            let found = format!("deleted after {} s", started.elapsed().as_secs());
            this.report.write("ttl", Outcome::Holds, found);
        }
        Ok(false) => {
            let found = format!("still there after {} s", started.elapsed().as_secs());
            this.report.write("ttl", Outcome::Broken, found);
        }
        Err(refusal) => this.report.write("ttl", refusal.outcome(), refusal),
    }
}

async fn try_ttl(this: &Examination, started: Instant) -> Result<bool, Refused> {
    let scratch = this.scratch.collection();
    let index =
        doc! { "key": { "expires": 1 }, "name": "session_expires", "expireAfterSeconds": 0 };
    let create = doc! { "createIndexes": scratch.name(), "indexes": [index] };
    ask(&this.database, create).await?;
    let past = DateTime::from_system_time(SystemTime::now() - Duration::from_secs(3600));
    let expired: Document = doc! { "_id": "a", "expires": past };
    ask(
        &this.database,
        doc! { "insert": scratch.name(), "documents": [expired] },
    )
    .await?;
    while started.elapsed() < this.ttl_patience {
        let found = reply(scratch.find_one(doc! { "_id": "a" }).into_future()).await?;
        if found.is_none() {
            return Ok(true);
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(false)
}
