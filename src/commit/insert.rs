//! A new document: a new session, or a login.

use std::sync::Arc;
use std::time::Duration;

use bson::RawBson;

use super::revocation::{self, Revocation};
use super::tombstone::{self, Tombstone};
use super::{Core, Done, Outcome, Written};
use crate::config::Config;
use crate::document::{Document, Filter, Update};
use crate::error::{Error, Operation, Result};
use crate::live::End;
use crate::record::field;
use crate::record::sealer::{Contents, Sealer};
use crate::record::token::{Id, Secret, Token};
use crate::state::plan::{CookieLife, InsertPlan, LoginPlan, late_changes};
use crate::state::{Replaces, Stored};
use crate::store::bounded::Bounded;
use crate::store::{Aged, Durability, Inserted, Updated};

/// How often a colliding id is drawn again. A second collision in a row already means that the
/// random bytes are not random.
const MAX_ID_DRAWS: usize = 3;

/// How long a load's lookup of a dead session's tombstone counts. A request that takes longer to store a
/// new session looks again: a login of the same browser may have come in between.
const LOOKUP_VALID_FOR: Duration = Duration::from_millis(100);

impl Core {
    pub(super) async fn insert(self: &Arc<Self>, plan: Box<InsertPlan>) -> Result<Done> {
        if self.was_replaced_meanwhile(&plan).await? {
            self.stats.overtaken.count();
            return Ok(Done::without_write(Outcome::Gone));
        }
        // Only a user's session is worth a wait for the disk.
        let durability = match plan.login {
            Some(_) => Durability::Identity,
            None => Durability::Data,
        };
        let draws = match plan.issued {
            Some(_) => 1,
            None => MAX_ID_DRAWS,
        };
        let epoch = self.epoch.current().await?;
        let replaced = plan
            .login
            .as_ref()
            .and_then(|login| login.replaces.as_ref());
        if replaced.is_some_and(|replaced| !epoch.has(&replaced.old.record.meta)) {
            if let Some(login) = &plan.login {
                log_dropped_login(&login.user);
            }
            return Ok(Done::without_write(Outcome::Gone));
        }
        for _ in 0..draws {
            let new = NewSession::draw(self, &plan, epoch.generation)?;
            let undo = new.undo.clone();
            let roll_back = || undo.run_and_log();
            let inserted = self.store.insert_or(new.documents(), durability, roll_back);
            match (inserted.await?, &plan.login) {
                (Inserted::Exists, _) => {}
                (_, None) => return Ok(new.done(plan.cookie)),
                (inserted, Some(login)) => {
                    let is_beside = inserted == Inserted::Beside;
                    // Boxed, so that a new session without a user does not carry the room for it.
                    return Box::pin(self.log_in(&plan, login, new, is_beside)).await;
                }
            }
        }
        Err(Error::store(Operation::CreateSession, EVERY_ID_TAKEN))
    }

    /// Finalizes the login whose session was inserted, and rolls it back if that fails.
    async fn log_in(
        self: &Arc<Self>,
        plan: &InsertPlan,
        login: &LoginPlan,
        mut new: NewSession,
        is_beside: bool,
    ) -> Result<Done> {
        match self.finalize_login(plan, login, &new, is_beside).await {
            Ok(Some(late)) => {
                let after = late.apply(&new.document, self.now());
                new.document = after.unwrap_or(new.document);
                Ok(new.done(plan.cookie))
            }
            Ok(None) => {
                if let Err(error) = new.undo.clone().run().await {
                    self.tasks.spawn(new.undo.run_and_log());
                    return Err(error.partly_done());
                }
                Ok(Done::without_write(Outcome::Gone))
            }
            Err(error) => {
                self.tasks.spawn(new.undo.run_and_log());
                Err(error)
            }
        }
    }

    async fn was_replaced_meanwhile(&self, plan: &InsertPlan) -> Result<bool> {
        if plan.dead.is_empty() {
            return Ok(false);
        }
        let is_fresh = plan.started.elapsed(&self.clock) < LOOKUP_VALID_FOR;
        if plan.dead_is_looked_up && is_fresh {
            return Ok(false);
        }
        let dead: Vec<_> = plan.dead.iter().map(|dead| (dead, None)).collect();
        let found = tombstone::look_up_any(self, &dead, &plan.started);
        Ok(Box::pin(found).await?.is_some())
    }

    /// Completes a stored login: its cookie may be sent only after this. Returns the update that this
    /// has made to the new session, such as other requests' changes of the kept values; `None` when
    /// the user's sessions were revoked meanwhile. The old session ends last: until then a failure
    /// leaves it as it was.
    async fn finalize_login(
        &self,
        plan: &InsertPlan,
        login: &LoginPlan,
        new: &NewSession,
        is_beside: bool,
    ) -> Result<Option<Update>> {
        let id = &new.token.id;
        if is_beside {
            self.join_tombstones(new).await?;
        }
        if let Some(old) = &login.joins {
            let filter = Filter::id(&tombstone::id_of(old));
            let update = tombstone::joined();
            self.store
                .update(filter, update, Durability::Identity)
                .await?;
        }
        let look = revocation::is_revoked(self, &login.user, &plan.started, new.generation);
        let mut changed = Update::default();
        match look.await? {
            Revocation::None => {}
            Revocation::Restarted(generation) => {
                changed.set(field::EPOCH, generation.unwrap_or(0));
                let filter = Filter::id(id.as_str());
                let updated = self
                    .store
                    .update(filter, changed.clone(), Durability::Identity);
                if updated.await? == Updated::Gone {
                    log_dropped_login(&login.user);
                    return Ok(None); // it was deleted with the document
                }
            }
            Revocation::Revoked => {
                log_dropped_login(&login.user);
                return Ok(None);
            }
        }
        let late = match &login.replaces {
            Some(replaces) => self.end_replaced(login, replaces, plan, new).await,
            None => Ok(Update::default()),
        };
        changed.merge(&late.map_err(Error::partly_done)?);
        Ok(Some(changed))
    }

    /// Adds this login to the tombstones that existed before it: all but those that were stored with it.
    async fn join_tombstones(&self, new: &NewSession) -> Result<()> {
        let stored = match new.tombstones.as_slice() {
            [_] => Vec::new(), // it is that one
            all => {
                self.store
                    .ages(all.iter().map(Tombstone::id).collect())
                    .await?
            }
        };
        let by = |aged: &Aged| {
            aged.document
                .get(tombstone::BY)
                .and_then(|by| Id::parse(by.as_str()?))
        };
        let own = stored
            .iter()
            .filter(|aged| by(aged).as_ref() == Some(&new.token.id));
        let own: Vec<_> = own.filter_map(|aged| aged.document.id()).collect();
        for tombstone in &new.tombstones {
            if !own.contains(&tombstone.id().as_str()) {
                self.put_tombstone(tombstone, &new.undo).await?;
            }
        }
        Ok(())
    }

    /// Adds this login to the tombstone of an earlier one. That may be rolled back at the same
    /// moment, so an update and an insert are tried in turn.
    pub(super) async fn put_tombstone(&self, tombstone: &Tombstone, undo: &RollBack) -> Result<()> {
        const MAX_ATTEMPTS: usize = 3;
        for _ in 0..MAX_ATTEMPTS {
            let (filter, update) = (Filter::id(&tombstone.id()), tombstone.update());
            let updated = self.store.update(filter, update, Durability::Identity);
            if updated.await? == Updated::Applied {
                return Ok(());
            }
            let (document, undo) = (vec![tombstone.document()], undo.clone());
            let roll_back = || undo.run_and_log();
            let inserted = self
                .store
                .insert_or(document, Durability::Identity, roll_back);
            if inserted.await? == Inserted::Stored {
                return Ok(());
            }
        }
        Err(Error::store(Operation::CreateSession, TOMBSTONE_CONTENTION))
    }

    /// Ends the session that a login replaces, and carries over the changes that other requests made
    /// to the kept keys until then. Returns the update that did so.
    async fn end_replaced(
        &self,
        login: &LoginPlan,
        replaces: &Replaces,
        plan: &InsertPlan,
        new: &NewSession,
    ) -> Result<Update> {
        let (old, cookie_name) = (&replaces.old.token, &self.config.cookie_name);
        let filter = Filter::id(old.id.as_str());
        let (live, ids) = (&self.live, [old.id.as_str()]);
        let user = Some(&login.user);
        if replaces.keep.is_empty() {
            let delete = self.store.delete(filter);
            let deleted = live.ending(&ids, End::Replaced, user, delete, |did| Some(*did));
            deleted.await?;
            return Ok(Update::default());
        }
        let take = self.store.take(filter);
        let last = live.ending(&ids, End::Replaced, user, take, |last| Some(last.is_some()));
        let last = last.await?;
        // Gone already, or of another token: who has the old one gets nothing that was stored since.
        let last = last.and_then(|last| self.read(last));
        let digest = old.digest(cookie_name);
        let last = last.filter(|last| last.token.matches(&digest));
        let Some(last) = last.and_then(|last| last.opened_by(old, cookie_name)) else {
            return Ok(Update::default());
        };
        let fresh = last.fields(|field| replaces.keep.contains(field));
        let mut update = late_changes(replaces, &login.after, &plan.values, &fresh);
        if let Some(sealer) = &new.sealer {
            update = sealer.seal_update(update)?;
        }
        if !update.is_empty() {
            let filter = Filter::id(new.token.id.as_str());
            let updated = self.store.update(filter, update.clone(), Durability::Data);
            updated.await?;
        }
        Ok(update)
    }
}

/// A session that is about to be stored, and the tombstones of those that it replaces.
struct NewSession {
    token: Token,
    generation: Option<i64>,
    document: Document,
    sealer: Option<Arc<Sealer>>,
    tombstones: Vec<Tombstone>,
    undo: RollBack,
}

impl NewSession {
    fn draw(core: &Core, plan: &InsertPlan, generation: Option<i64>) -> Result<Self> {
        let token = match &plan.issued {
            Some(issued) => issued.clone(),
            None => Token::new(Id::draw()?, Secret::draw()?),
        };
        let config = &core.config;
        let meta = plan.meta(token.id.clone(), generation);
        let (contents, sealer) = Contents::new(&token, &plan.csrf, &plan.values, config)?;
        let document = meta.document(&contents);
        let is_limited = plan.login.is_some() && config.max_per_user.is_some();
        let document = match is_limited {
            true => document.with_server_time(field::LOGGED_IN),
            false => document,
        };
        let tombstones = tombstones(plan, &token.id, config)?;
        Ok(NewSession {
            generation,
            document,
            sealer: sealer.map(Arc::new),
            undo: RollBack::new(&core.store, &token.id, &tombstones),
            token,
            tombstones,
        })
    }

    fn documents(&self) -> Vec<Document> {
        let tombstones = self.tombstones.iter().map(Tombstone::document);
        std::iter::once(self.document.clone())
            .chain(tombstones)
            .collect()
    }

    fn done(self, cookie: CookieLife) -> Done {
        Done {
            outcome: Outcome::Applied,
            written: Some(Written::Inserted(
                self.document,
                self.sealer,
                self.token.clone(),
            )),
            cookie: Some((self.token, cookie)),
            undo: Some(self.undo),
        }
    }
}

fn tombstones(plan: &InsertPlan, id: &Id, config: &Config) -> Result<Vec<Tombstone>> {
    let Some(login) = &plan.login else {
        return Ok(Vec::new());
    };
    let tombstone = |old: &Id, proof| Tombstone {
        old: old.clone(),
        by: id.clone(),
        proof,
        expires: plan.times.accessed.plus(tombstone::KEPT_FOR),
    };
    let mut tombstones = Vec::new();
    if let Some(replaces) = &login.replaces {
        let Stored { record, token } = &*replaces.old;
        // What this request has set is not for those who have the old token.
        let kept = record.fields(|field| replaces.keep.contains(field));
        let proof = match &record.csrf {
            Some(csrf) => Some(Contents::new(token, csrf, kept, config)?.0),
            None => None,
        };
        tombstones.push(tombstone(replaces.id(), proof));
    }
    tombstones.extend(login.displaced.iter().map(|old| tombstone(old, None)));
    Ok(tombstones)
}

fn log_dropped_login(user: &RawBson) {
    rocket::warn!(
        "Session: the login of user {} was dropped, because the user's sessions were revoked after the \
         request had begun, or the request took more than an hour",
        revocation::describe_user(user),
    );
}

/// Undoes the attempt to store one session: the document, and the tombstones that record no other
/// login. No browser knows the session's token, so if this fails, a document is left that expires.
#[derive(Clone)]
pub(super) struct RollBack {
    store: Bounded,
    id: Id,
    tombstones: Vec<String>,
}

impl RollBack {
    pub(super) fn new(store: &Bounded, id: &Id, tombstones: &[Tombstone]) -> Self {
        RollBack {
            store: store.clone(),
            id: id.clone(),
            tombstones: tombstones.iter().map(Tombstone::id).collect(),
        }
    }

    async fn run(self) -> Result<()> {
        self.store.delete(Filter::id(self.id.as_str())).await?;
        let by = RawBson::String(self.id.to_string());
        for tombstone in self.tombstones {
            let own = Filter::id(&tombstone).equals(tombstone::BY, by.clone());
            self.store.delete(own).await?;
        }
        Ok(())
    }

    pub(super) async fn run_and_log(self) {
        if let Err(error) = self.run().await {
            error.log();
        }
    }
}

const TOMBSTONE_CONTENTION: &str =
    "could not record the login: 3 concurrent logins replaced the same session";

const EVERY_ID_TAKEN: &str =
    "every session id that was drawn exists already; check the system's random number generator";
