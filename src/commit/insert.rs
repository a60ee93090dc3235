//! A new document: a new session, a login, an elevation, the move of an ancestor's session.

use std::time::Duration;

use bson::RawBson;

use super::{Core, Written};
use crate::commit::tombstone;
use crate::document::{Document, Filter};
use crate::error::{Error, Result, cause};
use crate::record::legacy::LegacySession;
use crate::record::token::{Id, Token};
use crate::record::{Record, Summary, alive, field, seconds};
use crate::state::Keep;
use crate::state::plan::{CookieLife, Create, Replacement, late_changes};
use crate::store::bounded::Bounded;
use crate::store::{Durability, Inserted, Updated};

/// How long a login's marker, and a renewal, keep late answers of other requests from
/// overwriting the new cookie.
const OVERTAKING: Duration = Duration::from_secs(60);
/// How many sessions beyond `max_per_user` one login ends. There are more only where the limit is
/// new, and the next logins end those.
const AT_ONCE: u32 = 1000;
/// How often a colliding id is drawn again. A second collision in a row already means that the
/// random bytes are not random.
const DRAWS: usize = 3;

impl Core {
    pub(super) async fn create(
        &self,
        mut create: Create,
    ) -> Result<(Written, Option<(Token, CookieLife)>)> {
        if let Some(dead) = &create.unless_overtaken
            && self.was_overtaken(dead).await?
        {
            self.stats.overtaken.count();
            return Ok((Written::Gone, None));
        }
        let document = self.insert(&mut create).await?;
        match self.settle_in(&create).await {
            Ok(true) => {}
            Ok(false) => {
                withdraw(&self.store, create.token.id, create.marker_for).await?;
                return Ok((Written::Gone, None));
            }
            Err(error) => {
                abandon(&self.store, create.token.id, create.marker_for);
                return Err(error);
            }
        }
        let cookie = Some((create.token.clone(), create.cookie));
        Ok((Written::New(document, create.token), cookie))
    }

    /// Whether the session that a dead cookie names was replaced by a login or renewed so recently
    /// that the new cookie may still be on its way.
    async fn was_overtaken(&self, dead: &Id) -> Result<bool> {
        let ids = vec![dead.as_str().to_owned(), tombstone::of_login(dead)];
        let found = self.store.find(Filter::ids(ids), 0, 2).await?;
        let now = self.clock.now();
        Ok(found.iter().any(|document| {
            if document.id() == Some(dead.as_str()) {
                let renewed = Summary::parse(document).and_then(|summary| summary.renewed);
                renewed.is_some_and(|at| now <= at.plus(OVERTAKING))
            } else {
                tombstone::expires(document).is_some_and(|until| now <= until)
            }
        }))
    }

    /// Inserts the document and, for a login, its markers, in one command.
    async fn insert(&self, create: &mut Create) -> Result<Document> {
        // Only who the session belongs to is worth a wait for the disk.
        let durability = if create.record.user.is_some() || create.replaces.is_some() {
            Durability::Identity
        } else {
            Durability::Data
        };
        for _ in 0..DRAWS {
            let document = create.record.document();
            let mut documents = vec![document.clone()];
            documents.extend(create.marker_for.iter().map(|old| self.marker(old, create)));
            match self.store.insert(documents, durability).await {
                Ok(Inserted::Stored) => return Ok(document),
                Ok(Inserted::Beside) => {
                    return match self.mark_again(create).await {
                        Ok(()) => Ok(document),
                        Err(error) => {
                            abandon(
                                &self.store,
                                create.token.id.clone(),
                                create.marker_for.clone(),
                            );
                            Err(error)
                        }
                    };
                }
                Ok(Inserted::Exists) => {
                    create.token.id = Id::draw()?;
                    create.record.id = create.token.id.clone();
                }
                Err(error) => {
                    if matches!(error, Error::Unknown { .. }) {
                        abandon(
                            &self.store,
                            create.token.id.clone(),
                            create.marker_for.clone(),
                        );
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::store("creating a session", EveryIdTaken))
    }

    fn marker(&self, old: &Id, create: &Create) -> Document {
        let now = self.clock.now();
        let goes_on = next(old, create).is_some();
        tombstone::replaced(old, now, now.plus(OVERTAKING), &create.token.id, goes_on)
    }

    /// Some marker is there already, of a login that failed or of another elevation: it must say as
    /// much of this one, before the old session is gone.
    async fn mark_again(&self, create: &Create) -> Result<()> {
        for old in &create.marker_for {
            self.mark_beside(old, create).await?;
        }
        Ok(())
    }

    /// It may be taken back just then, and another may be left: both ways in turn.
    async fn mark_beside(&self, old: &Id, create: &Create) -> Result<()> {
        for _ in 0..3 {
            let now = self.clock.now();
            let id = tombstone::of_login(old);
            let update = tombstone::once_more(now, now.plus(OVERTAKING), next(old, create));
            let filter = Filter::id(&id);
            let updated = self.store.update(filter, update, Durability::Identity);
            if updated.await? == Updated::Applied {
                return Ok(());
            }
            let marker = vec![self.marker(old, create)];
            let created = self.store.insert(marker, Durability::Identity);
            if created.await? == Inserted::Stored {
                return Ok(());
            }
        }
        Err(Error::store("creating a session", NoMarker))
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
        let fresh = match LegacySession::parse(&last) {
            Some(ancestor) => Some(ancestor.values),
            None => Record::parse(last).map(|record| record.fields()),
        };
        let Some(fresh) = fresh else {
            return Ok(true); // nobody can read it: what was loaded is kept
        };
        let update = late_changes(replacement, &create.record.values, &fresh);
        if update.is_empty() {
            return Ok(true);
        }
        let filter = Filter::id(create.token.id.as_str());
        let updated = self.store.update(filter, update, Durability::Data).await?;
        Ok(updated == Updated::Applied)
    }

    /// Whether a revocation of this user's sessions, or of all, began after this request did.
    async fn was_revoked(&self, user: &RawBson, create: &Create) -> Result<bool> {
        // A request can be held open for as long as its client likes. What was revoked since it came
        // in is not known for ever; but of what it only carries on the old session's end tells.
        let goes_on = create.replaces.as_ref().is_some_and(Replacement::goes_on);
        if !goes_on && self.clock.now() >= create.started.plus(tombstone::REVOCATION) {
            return Ok(true);
        }
        let ids = vec![tombstone::ALL.to_owned(), tombstone::of_user(user)];
        let found = self.store.find(Filter::ids(ids), 0, 2).await?;
        Ok(found.iter().any(|document| {
            let spared = match document.id() {
                Some(tombstone::ALL) => None,
                _ => create.spared,
            };
            let since = spared.map_or(create.started, |at| at.max(create.started));
            tombstone::at(document).is_some_and(|at| at > since)
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
}

/// Takes a session back that must not be, and then what it announced, unless another login has
/// spoken of the same: no cookie is on its way to the browser, which may begin anew.
async fn withdraw(store: &Bounded, id: Id, marker_for: Vec<Id>) -> Result<()> {
    store.delete(Filter::id(id.as_str())).await?;
    let by = RawBson::String(id.to_string());
    for old in marker_for {
        let marker = Filter::id(&tombstone::of_login(&old)).equals(tombstone::BY, by.clone());
        store.delete(marker).await?;
    }
    Ok(())
}

/// Takes a session back whose login failed half-way, without making anybody wait. Nobody has its
/// token, so what this leaves behind when it fails is a document that expires.
pub(super) fn abandon(store: &Bounded, id: Id, marker_for: Vec<Id>) {
    let store = store.clone();
    if let Ok(runtime) = rocket::tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            if let Err(error) = withdraw(&store, id, marker_for).await {
                error.log();
            }
        });
    }
}

/// The session that carries an old one on, if it does.
fn next<'a>(old: &Id, create: &'a Create) -> Option<&'a Id> {
    let replacement = create.replaces.as_ref()?;
    (replacement.goes_on() && replacement.old == *old).then_some(&create.token.id)
}

cause!(
    NoMarker,
    "other logins of the same browser came in between, again and again"
);
cause!(
    EveryIdTaken,
    "every id that was drawn is taken: are the random bytes random?"
);
