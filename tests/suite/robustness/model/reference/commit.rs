//! What is stored when a request ends, operation by operation.

use super::*;

impl Request {
    pub(super) async fn commit(&mut self) -> Outcome {
        let ends = std::mem::take(&mut self.ends);
        let outcome = if self.base.token.is_none() && self.base.by_login {
            // What it replaces is announced before it is gone.
            let outcome = self.create(&ends).await;
            self.end_all(&ends).await;
            outcome
        } else {
            self.end_all(&ends).await;
            match self.base.token {
                Some(token) => self.update(token).await,
                None if self.is_wanted() => self.create(&[]).await,
                None => return Outcome::Fine,
            }
        };
        if matches!(outcome, Outcome::Gone) {
            self.lose();
        }
        outcome
    }

    async fn end_all(&self, ends: &[u32]) {
        for ended in ends {
            let delete = |data: &mut Data| data.sessions.remove(ended);
            self.world.at(Kind::Delete, delete).await;
        }
    }

    async fn create(&mut self, ends: &[u32]) -> Outcome {
        let world = self.world.clone();
        let by_login = self.base.by_login;
        if !by_login && self.replaced.is_some() {
            return Outcome::Gone;
        }
        if let Some(dead) = self.dead.filter(|_| !by_login && !self.is_looked_up) {
            let is_overtaken = |data: &mut Data| {
                let stored = data.sessions.get(&dead);
                stored.is_some_and(|stored| stored.renewed) || data.tombstones.contains_key(&dead)
            };
            if world.at(Kind::Find, is_overtaken).await {
                return Outcome::Gone;
            }
        }
        let (session, secret) = (world.number(), world.number());
        let (mut values, user) = (self.view(), self.base.user.clone());
        let replaces = self.base.replaces.take();
        let proven = replaces.as_ref().map(|replaces| {
            let kept = values.iter().filter(|(key, _)| replaces.keep.has(key));
            let kept = kept.map(|(key, value)| (key.clone(), value.clone()));
            let proof = (replaces.old.secret, kept.collect());
            (replaces.old.session, Some(proof))
        });
        let dead = self.dead.filter(|dead| !ends.contains(dead));
        let others = ends.iter().copied().chain(dead).map(|old| (old, None));
        let marked: Vec<_> = proven.into_iter().chain(others).collect();
        let marked = if by_login { marked } else { Vec::new() };
        let tombstone = |proof: &Option<(u32, Values)>| Tombstone {
            by: Some(session),
            proof: proof.clone(),
        };
        let is_beside = world
            .at(Kind::Insert, |data| {
                let stored = Stored {
                    values: values.clone(),
                    user: user.clone(),
                    secret,
                    renewed: false,
                };
                data.sessions.insert(session, stored);
                let mut is_beside = false;
                for (old, proof) in &marked {
                    if data.tombstones.contains_key(old) {
                        is_beside = true;
                        continue;
                    }
                    data.tombstones.insert(*old, tombstone(proof));
                }
                is_beside
            })
            .await;
        for (old, proof) in marked.iter().filter(|_| is_beside) {
            // It may be taken back just then, and another may be left.
            for _ in 0..3 {
                let again = |data: &mut Data| {
                    let found = data.tombstones.get_mut(old)?;
                    found.by = None;
                    if proof.is_some() {
                        found.proof = proof.clone();
                    }
                    Some(())
                };
                if world.at(Kind::Update, again).await.is_some() {
                    break;
                }
                let anew = |data: &mut Data| {
                    let is_free = !data.tombstones.contains_key(old);
                    if is_free {
                        data.tombstones.insert(*old, tombstone(proof));
                    }
                    is_free
                };
                if world.at(Kind::Insert, anew).await {
                    break;
                }
            }
        }
        let after = std::mem::take(&mut self.changes);
        if by_login {
            if let Some((old, _)) = &self.replaced {
                let join = |data: &mut Data| {
                    if let Some(found) = data.tombstones.get_mut(old) {
                        found.by = None;
                    }
                };
                world.at(Kind::Update, join).await;
            }
            // Nothing is revoked here.
            world.at(Kind::Find, |_| ()).await;
            end_old(&world, session, &mut values, replaces, &after).await;
        }
        let token = Token { session, secret };
        self.given = Some(token);
        self.base = Base {
            values,
            user,
            token: Some(token),
            by_login: false,
            replaces: None,
        };
        self.renews = false;
        Outcome::Fine
    }

    async fn update(&mut self, mut token: Token) -> Outcome {
        if self.changes.is_empty() && !self.renews {
            return Outcome::Fine;
        }
        let world = self.world.clone();
        let changes = std::mem::take(&mut self.changes);
        let old = token.secret;
        let renews = std::mem::take(&mut self.renews);
        if renews {
            token.secret = world.number();
        }
        let is_there = world
            .at(Kind::Update, |data| {
                let stored = data.sessions.get_mut(&token.session);
                // A token is replaced in one step with everything else, or nothing is done.
                let stored = stored.filter(|stored| !renews || stored.secret == old);
                let Some(stored) = stored else {
                    return false;
                };
                apply(&mut stored.values, &changes);
                stored.secret = if renews { token.secret } else { stored.secret };
                stored.renewed |= renews;
                true
            })
            .await;
        if !is_there {
            if renews {
                // Has another process sealed the session meanwhile?
                world.at(Kind::Load, |_| ()).await;
            }
            return Outcome::Gone;
        }
        if renews {
            self.given = Some(token);
        }
        apply(&mut self.base.values, &changes);
        self.base.token = Some(token);
        self.forget_what_changes_nothing();
        Outcome::Fine
    }

    /// Adds to a stored value from outside: neither this request's changes nor its token matter.
    pub(super) async fn edit(&self, key: &str, by: i64) -> bool {
        let Some(Token { session, .. }) = self.base.token else {
            return false;
        };
        let is_there = |data: &mut Data| data.sessions.contains_key(&session);
        if !self.world.at(Kind::Load, is_there).await {
            return false;
        }
        let add = Changes::from([(key.to_owned(), vec![Change::Add(by)])]);
        let write = |data: &mut Data| {
            let stored = data.sessions.get_mut(&session);
            stored
                .map(|stored| apply(&mut stored.values, &add))
                .is_some()
        };
        let is_done = self.world.at(Kind::Update, write).await;
        if !is_done {
            // Has it ended, or was it sealed meanwhile?
            self.world.at(Kind::Load, |_| ()).await;
        }
        is_done
    }

    /// Reads, changes and writes one value as if no other request were there. What a pop takes is
    /// what was there before; what a modification answers is what is there after it.
    pub(super) async fn exchange(
        &mut self,
        key: &str,
        takes: bool,
        change: impl Fn(Option<&Value>) -> Option<Value>,
    ) -> Result<Option<Value>, &'static str> {
        let world = self.world.clone();
        let is_kept = |login: &Replaces| login.keep.has(key);
        let must_save = match self.base.token {
            Some(_) => self.changes.contains_key(key),
            None => self.base.replaces.as_ref().is_some_and(is_kept),
        };
        if must_save && let Outcome::Gone = self.commit().await {
            return Err("Gone");
        }
        let token = match self.base.token {
            Some(token) => token,
            None => {
                let now = self.view().remove(key);
                let next = change(now.as_ref());
                if next.is_some() || now.is_some() {
                    let set = next.clone().map_or(Change::Remove, Change::Set);
                    self.change(key, set);
                }
                return Ok(if takes { now } else { next });
            }
        };
        loop {
            let stored = self.base.values.get(key).cloned();
            let next = change(stored.as_ref());
            let output = if takes { stored.clone() } else { next.clone() };
            if next == stored {
                self.forget_what_changes_nothing();
                return Ok(output);
            }
            let kind = match takes {
                true => Kind::UpdateReturning,
                false => Kind::Update,
            };
            let wins = world
                .at(kind, |data| {
                    let found = data.sessions.get_mut(&token.session);
                    let found = found.filter(|found| found.secret == token.secret);
                    let same =
                        |found: &&mut Stored| is_equal(found.values.get(key), stored.as_ref());
                    let Some(found) = found.filter(same) else {
                        return false;
                    };
                    match &next {
                        Some(next) => found.values.insert(key.to_owned(), next.clone()),
                        None => found.values.remove(key),
                    };
                    true
                })
                .await;
            if wins {
                match next {
                    Some(next) => self.base.values.insert(key.to_owned(), next),
                    None => self.base.values.remove(key),
                };
                self.forget_what_changes_nothing();
                return Ok(output);
            }
            let fresh = world
                .at(Kind::Load, |data| {
                    let found = data.sessions.get(&token.session);
                    let found = found.filter(|found| found.secret == token.secret);
                    found.map(|found| found.values.clone())
                })
                .await;
            match fresh {
                Some(fresh) => self.base.values = fresh,
                None => {
                    self.lose();
                    return Err("Gone");
                }
            }
        }
    }
}

/// Whether two values are the same to a database, which has one zero.
fn is_equal(one: Option<&Value>, other: Option<&Value>) -> bool {
    let is_zero = |value: Option<&Value>| {
        let zeros = [0.0, -0.0].map(shown);
        value.is_some_and(|value| zeros.contains(value))
    };
    one == other || is_zero(one) && is_zero(other)
}

/// The old session ends; what others did until then to what is kept is carried over, unless its
/// token was replaced meanwhile.
async fn end_old(
    world: &World,
    new: u32,
    values: &mut Values,
    replaces: Option<Replaces>,
    after: &Changes,
) {
    let Some(Replaces { old, keep, before }) = replaces else {
        return;
    };
    let end = |data: &mut Data| data.sessions.remove(&old.session);
    if keep.0.is_empty() {
        world.at(Kind::Delete, end).await;
        return;
    }
    let last = world.at(Kind::Take, end).await;
    let Some(last) = last.filter(|last| last.secret == old.secret) else {
        return;
    };
    let mut wanted = last.values;
    apply(&mut wanted, &before);
    wanted.retain(|key, _| keep.has(key));
    let kept_after = after.iter().filter(|(key, _)| keep.has(key));
    let kept_after: Changes = kept_after
        .map(|(key, changes)| (key.clone(), changes.clone()))
        .collect();
    apply(&mut wanted, &kept_after);
    let mut kept = values.clone();
    kept.retain(|key, _| keep.has(key));
    if kept == wanted {
        return;
    }
    values.retain(|key, _| !keep.has(key));
    values.extend(wanted.clone());
    let update = |data: &mut Data| {
        if let Some(stored) = data.sessions.get_mut(&new) {
            stored.values.retain(|key, _| !keep.has(key));
            stored.values.extend(wanted);
        }
    };
    world.at(Kind::Update, update).await;
}
