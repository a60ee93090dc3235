//! Carries a decision out: the writes before an answer, in the order that keeps at most one token
//! of a browser usable.

use std::sync::Arc;
use std::time::Duration;

use bson::RawBson;
use bson::raw::RawBsonRef;
use rand::RngExt;
use rocket::tokio::time::{Instant, sleep};

use crate::ancestor::Ancestor;
use crate::changes::Changes;
use crate::clock::Clock;
use crate::commit::{Alter, CookieLife, Create, Decision, Replacement, Write, late_changes};
use crate::config::Config;
use crate::document::{Document, Filter, Operation, Update};
use crate::error::{Error, Result};
use crate::record::{Record, alive, change, field, marker, seconds};
use crate::state::{Keep, Stored};
use crate::stats::Counters;
use crate::store::bounded::Bounded;
use crate::store::{Created, Durability, Updated};
use crate::token::{Id, Token};

/// How long a login's marker, and a renewal, keep late answers of other requests from
/// overwriting the new cookie.
const OVERTAKING: Duration = Duration::from_secs(60);
/// How many sessions beyond `max_per_user` one login ends. There are more only where the limit is
/// new, and the next logins end those.
const AT_ONCE: u32 = 1000;
/// How many elevations of one login, all within a minute, its end follows.
const MOVES: usize = 8;
/// How often a colliding id is drawn again. A second collision in a row already means that the
/// random bytes are not random.
const DRAWS: usize = 3;

/// What a commit works with.
#[derive(Clone)]
pub(crate) struct Committer {
    pub(crate) store: Bounded,
    pub(crate) config: Arc<Config>,
    pub(crate) clock: Clock,
    pub(crate) stats: Arc<Counters>,
}

/// What became of the writes.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    /// The stored session as it is now.
    pub(crate) stored: Option<Stored>,
    afterwards: Option<Box<dyn FnOnce() -> Option<Stored> + Send>>,
    pub(crate) cookie: Option<(Token, CookieLife)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing had to be written before the answer.
    Nothing,
    Applied,
    /// The session ended, or was overtaken, while the request ran: its changes were dropped.
    Gone,
}

impl Done {
    fn nothing() -> Self {
        Done {
            outcome: Outcome::Nothing,
            stored: None,
            afterwards: None,
            cookie: None,
        }
    }

    fn look_again(&mut self) {
        self.stored = self.afterwards.take().and_then(|look| look());
    }

    fn gone() -> Self {
        Done {
            outcome: Outcome::Gone,
            ..Done::nothing()
        }
    }
}

impl Committer {
    /// `goes_on` asks for the stored session as it is afterwards, because the request goes on.
    pub(crate) async fn run(&self, decision: Decision, goes_on: bool) -> Result<Done> {
        for id in &decision.end {
            self.end(id.clone(), |id| Filter::id(id.as_str())).await?;
        }
        let mut done = match decision.write {
            Write::Nothing => Done::nothing(),
            Write::Touch(touch) => {
                self.store.touch(touch);
                Done::nothing()
            }
            Write::Create(create) => self.create(*create).await?,
            Write::Update(mut alter) => {
                if goes_on {
                    // The handler is told, and what it is told must be so.
                    alter.filter = alter.filter.alone();
                }
                self.update(*alter).await?
            }
        };
        if goes_on {
            done.look_again();
        }
        match done.outcome {
            Outcome::Applied => self.stats.commits.count(),
            Outcome::Gone => self.stats.gone.count(),
            Outcome::Nothing if !decision.end.is_empty() => self.stats.commits.count(),
            Outcome::Nothing => {}
        }
        Ok(done)
    }

    /// Ends a session; whether there was one. When an elevation was faster in carrying it on under
    /// another id, that one is the same login, and ends: one more round trip, only there.
    pub(crate) async fn end(&self, id: Id, filter: impl Fn(&Id) -> Filter) -> Result<bool> {
        let mut id = id;
        for _ in 0..MOVES {
            if self.store.delete(filter(&id)).await? {
                return Ok(true);
            }
            let marker = Filter::ids(vec![marker::of_login(&id)]);
            let found = self.store.find(marker, 0, 1).await?;
            match found.first().and_then(marker::next) {
                Some(next) => id = next,
                None => break,
            }
        }
        Ok(false)
    }

    // ---- a new document

    async fn create(&self, mut create: Create) -> Result<Done> {
        if let Some(dead) = &create.unless_overtaken
            && self.was_overtaken(dead).await?
        {
            self.stats.overtaken.count();
            return Ok(Done::gone());
        }
        let document = self.insert(&mut create).await?;
        let id = create.token.id.as_str();
        match self.settle_in(&create).await {
            Ok(true) => {}
            Ok(false) => {
                self.store.delete(Filter::id(id)).await?;
                return Ok(Done::gone());
            }
            Err(error) => {
                self.store.abandon(id);
                return Err(error);
            }
        }
        let token = create.token.clone();
        Ok(Done {
            outcome: Outcome::Applied,
            stored: None,
            afterwards: Some(Box::new(move || {
                let record = Record::parse(document)?;
                Some(Stored { record, token })
            })),
            cookie: Some((create.token, create.cookie)),
        })
    }

    /// Whether the session that a dead cookie names was replaced by a login or renewed so recently
    /// that the new cookie may still be on its way.
    async fn was_overtaken(&self, dead: &Id) -> Result<bool> {
        let ids = vec![dead.as_str().to_owned(), marker::of_login(dead)];
        let found = self.store.find(Filter::ids(ids), 0, 2).await?;
        let now = self.clock.now();
        Ok(found.into_iter().any(|document| {
            if document.id() == Some(dead.as_str()) {
                let renewed = Record::parse(document).and_then(|record| record.renewed);
                renewed.is_some_and(|at| now <= at.plus(OVERTAKING))
            } else {
                marker::expires(&document).is_some_and(|until| now <= until)
            }
        }))
    }

    /// Inserts the document and, for a login, its marker, in one command.
    async fn insert(&self, create: &mut Create) -> Result<Document> {
        let now = self.clock.now();
        for _ in 0..DRAWS {
            let document = create.record.document();
            let mut documents = vec![document.clone()];
            if let Some(old) = &create.marker_for {
                let id = marker::of_login(old);
                let goes_on = create.replaces.as_ref().is_some_and(Replacement::goes_on);
                let next = goes_on.then_some(&create.token.id);
                documents.push(marker::document(&id, now, now.plus(OVERTAKING), next));
            }
            // Only who the session belongs to is worth a wait for the disk.
            let durability = if create.record.user.is_some() || create.replaces.is_some() {
                Durability::Identity
            } else {
                Durability::Data
            };
            match self.store.create(documents, durability).await {
                Ok(Created::Stored) => return Ok(document),
                Ok(Created::Exists) => {
                    create.token.id = Id::draw()?;
                    create.record.id = create.token.id.clone();
                }
                Err(error) => {
                    if matches!(error, Error::Unknown { .. }) {
                        self.store.abandon(create.token.id.as_str());
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::store("creating a session", EveryIdTaken))
    }

    /// What must have happened before the new session's token may leave: the old session is gone,
    /// no revocation was faster, and the user has no more sessions than allowed. `false` when the
    /// new session must not be.
    async fn settle_in(&self, create: &Create) -> Result<bool> {
        // Who carries a session on adds none to those that count: nobody is to make room for it.
        let goes_on = create.replaces.as_ref().is_some_and(Replacement::goes_on);
        if let Some(user) = create.record.user.as_ref().filter(|_| !goes_on)
            && !self.cap(user, create).await?
        {
            return Ok(false);
        }
        let revoked = async {
            match &create.record.user {
                Some(user) => self.was_revoked(user, create).await,
                None => Ok(false),
            }
        };
        let ended = async {
            match &create.replaces {
                Some(replacement) => self.end_old(replacement, create).await,
                None => Ok(true),
            }
        };
        let (revoked, ended) = rocket::tokio::join!(revoked, ended);
        Ok(ended? && !revoked?)
    }

    /// Ends the session that the new one replaces; `false` when another request was faster in
    /// moving an ancestor's.
    async fn end_old(&self, replacement: &Replacement, create: &Create) -> Result<bool> {
        let filter = Filter::id(replacement.old.as_str());
        if matches!(replacement.keep, Keep::Nothing) {
            // That it is gone already is what was wanted.
            self.store.delete(filter).await?;
            return Ok(true);
        }
        let Some(last) = self.store.take(filter).await? else {
            // A login proved who it is by itself. An elevation only carries an older login on,
            // which was ended meanwhile (revoked, logged out) or replaced: it must not come back.
            return Ok(!replacement.goes_on());
        };
        let fresh = match Ancestor::parse(&last) {
            Some(ancestor) => Some(ancestor.values),
            None => Record::parse(last).map(|record| record.fields()),
        };
        let update = late_changes(
            replacement,
            &create.record.values,
            &fresh.unwrap_or_default(),
        );
        if update.is_empty() {
            return Ok(true);
        }
        let filter = Filter::id(create.token.id.as_str());
        let updated = self.store.update(filter, update, Durability::Data).await?;
        Ok(updated == Updated::Applied)
    }

    /// Whether a revocation of this user's sessions, or of all, began after this request did.
    async fn was_revoked(&self, user: &RawBson, create: &Create) -> Result<bool> {
        let ids = vec![marker::ALL.to_owned(), marker::of_user(user)];
        let found = self.store.find(Filter::ids(ids), 0, 2).await?;
        Ok(found.iter().any(|document| {
            let spared = match document.id() {
                Some(marker::ALL) => None,
                _ => create.spared,
            };
            let since = spared.map_or(create.started, |at| at.max(create.started));
            marker::at(document).is_some_and(|at| at > since)
        }))
    }

    /// Ends the oldest sessions of a user beyond `max_per_user`; `false` when the new one is among
    /// them, because that many other logins came later meanwhile. All logins at one moment agree
    /// on the order, so that whoever counts last leaves no more than allowed, and not none.
    async fn cap(&self, user: &RawBson, create: &Create) -> Result<bool> {
        let Some(most) = self.config.max_per_user else {
            return Ok(true);
        };
        let theirs = || {
            let sessions = Filter::all().equals(field::USER, user.clone());
            // The one that this one replaces ends by itself, a moment later.
            let others = match &create.replaces {
                Some(replacement) => sessions.except(replacement.old.as_str()),
                None => sessions,
            };
            alive(others, self.clock.now())
        };
        let count = self.store.count(theirs()).await?;
        if count <= u64::from(most) {
            return Ok(true);
        }
        // Others end sessions, too: what counts is how many there are when they are looked at.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let limit = count.min(most.saturating_add(AT_ONCE));
        let oldest = self.store.find(theirs(), 0, limit).await?;
        let surplus = oldest.len().saturating_sub(most as usize);
        if surplus == 0 {
            return Ok(true);
        }
        let is_new = |document: &Document| document.id() == Some(create.token.id.as_str());
        // Who came in the same millisecond came before: only what is later displaces a login.
        let is_later = oldest.get(surplus).is_some_and(|next| {
            let created = next.get(field::CREATED).and_then(seconds);
            created > Some(create.record.created)
        });
        let stays = !(is_later && oldest.iter().take(surplus).any(is_new));
        let others = oldest.iter().filter(|document| !is_new(document));
        for document in others.take(if stays { surplus } else { surplus - 1 }) {
            if let Some(id) = document.id().and_then(Id::parse) {
                // Under its new name, too, if it was carried on meanwhile.
                self.end(id, |id| Filter::id(id.as_str())).await?;
            }
        }
        Ok(stays)
    }

    // ---- a stored document

    async fn update(&self, alter: Alter) -> Result<Done> {
        let (filter, update) = (alter.filter.clone(), alter.update.clone());
        let (updated, update) = self.attempt(&alter, filter, update).await?;
        if updated == Updated::Applied {
            return Ok(alter.applied(update, true));
        }
        // Perhaps only the token is another's by now (a renewal was faster): the data still
        // belongs to this session, but the cookie that goes with it must not be sent.
        if let Some((filter, update)) = alter.without_token.clone()
            && !(update.is_empty() && alter.relative.is_empty())
        {
            let filter = filter.alone(); // rare, and nothing that others should wait for
            let (updated, update) = self.attempt(&alter, filter, update).await?;
            if updated == Updated::Applied {
                return Ok(alter.applied(update, false));
            }
        }
        Ok(Done::gone())
    }

    async fn attempt(
        &self,
        alter: &Alter,
        filter: Filter,
        update: Update,
    ) -> Result<(Updated, Update)> {
        if !alter.relative.is_empty() {
            return self
                .compare_and_set(alter, filter, update, &alter.relative)
                .await;
        }
        let result = self
            .store
            .update(filter.clone(), update.clone(), alter.durability)
            .await;
        match result {
            Ok(updated) => Ok((updated, update)),
            // A count or an append met a value that another request stored meanwhile: opaque, or
            // at the end of its range. By compare-and-set it fits, or its error is told.
            Err(Error::Mismatch { .. }) => {
                let relative = alter.changes.relative();
                self.compare_and_set(alter, filter, update, &relative).await
            }
            Err(error) => Err(error),
        }
    }

    /// An update in which some values are set to what they become from what they were, on the
    /// condition that they are still that; again on fresh data until it wins.
    async fn compare_and_set(
        &self,
        alter: &Alter,
        filter: Filter,
        update: Update,
        relative: &Changes,
    ) -> Result<(Updated, Update)> {
        let mut record = alter.base.clone();
        let mut turns = Turns::new(self.store.deadline());
        loop {
            let (mut filter, mut update) = (filter.clone(), update.clone());
            for (name, relative) in relative.iter() {
                let stored = record.get(name);
                let value = relative.apply(stored).map_err(|reason| Error::Mismatch {
                    key: name.display(),
                    reason,
                })?;
                filter = filter.still(name.clone(), stored.map(RawBsonRef::to_raw_bson));
                let operation = value.map_or(Operation::Unset, Operation::Set);
                change(&mut update, name.clone(), operation);
            }
            let updated = self
                .store
                .update(filter, update.clone(), alter.durability)
                .await?;
            if updated == Updated::Applied || relative.is_empty() {
                return Ok((updated, update));
            }
            let fresh = self.store.load(record.id.as_str()).await?;
            let Some(fresh) = fresh.and_then(Record::parse) else {
                return Ok((Updated::Gone, update));
            };
            let is_same = relative.iter().all(|(name, _)| {
                let value = |record: &Record| record.get(name).map(RawBsonRef::to_raw_bson);
                value(&record) == value(&fresh)
            });
            if is_same {
                // It was another condition that failed.
                return Ok((Updated::Gone, update));
            }
            self.stats.conflicts.count();
            record = fresh;
            turns.wait("changing a session").await?;
        }
    }
}

impl Alter {
    fn applied(self, update: Update, with_cookie: bool) -> Done {
        let (base, token) = (self.base, self.token);
        let token = match &self.cookie {
            Some((token, _)) => token.clone(),
            None => token,
        };
        Done {
            outcome: Outcome::Applied,
            stored: None,
            afterwards: Some(Box::new(move || {
                let record = base.after(&update)?;
                Some(Stored { record, token })
            })),
            cookie: self.cookie.filter(|_| with_cookie),
        }
    }
}

/// The attempts of one compare-and-set: each waits a little longer, at random, so that requests
/// that collided do not meet again, until the deadline ends them.
pub(crate) struct Turns {
    until: Instant,
    pause: Duration,
}

impl Turns {
    pub(crate) fn new(deadline: Duration) -> Self {
        Turns {
            until: Instant::now() + deadline,
            pause: Duration::from_millis(1),
        }
    }

    pub(crate) async fn wait(&mut self, doing: &'static str) -> Result<()> {
        let longest = u64::try_from(self.pause.as_micros()).unwrap_or(u64::MAX);
        let pause = Duration::from_micros(rand::rng().random_range(0..=longest));
        self.pause = (self.pause * 2).min(Duration::from_millis(32));
        if Instant::now() + pause >= self.until {
            return Err(Error::store(doing, TooManyTurns));
        }
        sleep(pause).await;
        Ok(())
    }
}

macro_rules! cause {
    ($name:ident, $text:literal) => {
        #[derive(Debug)]
        struct $name;

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($text)
            }
        }

        impl std::error::Error for $name {}
    };
}

cause!(
    EveryIdTaken,
    "every id that was drawn is taken: are the random bytes random?"
);
cause!(
    TooManyTurns,
    "other requests changed the same value until the deadline"
);
