//! What is stored when a request ends, operation by operation.

use super::*;

impl Request {
    /// The commit of the response. The cookie of an earlier save is sent if its token is still the
    /// session's.
    pub(super) async fn commit_last(&mut self) -> Outcome {
        let is_due = self.renews || !self.changes.is_empty();
        self.proves = self.given.is_some() && is_due;
        let earlier = self.given.filter(|_| self.given_is_known && !self.proves);
        let outcome = self.commit().await;
        if let Some(token) = earlier.filter(|earlier| self.given == Some(*earlier)) {
            let is_own = |data: &mut Data| {
                let stored = data.sessions.get(&token.session);
                stored.is_some_and(|stored| stored.secret == token.secret)
            };
            if !self.world.clone().at(Kind::Load, is_own).await {
                self.given = None;
            }
        }
        outcome
    }

    pub(super) async fn commit(&mut self) -> Outcome {
        let mut ends = std::mem::take(&mut self.ends);
        ends.append(&mut self.base.others);
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
        let mut held = Held::new(self.view(), world.number());
        let user = self.base.user.clone();
        let replaces = self.base.replaces.take();
        let proven = replaces.as_ref().map(|replaces| {
            let kept = replaces.held.iter();
            let kept = kept.filter(|(key, _)| replaces.keep.has(key));
            let kept = kept.map(|(key, value)| (key.clone(), value.clone()));
            let proof = (replaces.old.secret, kept.collect());
            (replaces.old.session, Some(proof))
        });
        let dead = self.dead.filter(|dead| !ends.contains(dead));
        // The login that it joins has made one.
        let joined = self.replaced.as_ref().map(|(old, _)| *old);
        let others = ends.iter().copied().chain(dead);
        let others = others.filter(|old| joined != Some(*old));
        let others = others.map(|old| (old, None));
        let marked: Vec<_> = proven.into_iter().chain(others).collect();
        let marked = if by_login { marked } else { Vec::new() };
        let tombstone = |proof: &Option<(u32, Values)>| Tombstone {
            by: Some(session),
            proof: proof.clone(),
        };
        let is_beside = world
            .at(Kind::Insert, |data| {
                let stored = Stored {
                    held: held.clone(),
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
        // Of several, it asks which were there before.
        let own: Vec<u32> = match is_beside && marked.len() > 1 {
            true => {
                let is_own = |data: &mut Data, old: &u32| {
                    let found = data.tombstones.get(old);
                    found.is_some_and(|found| found.by == Some(session))
                };
                let olds = || marked.iter().map(|(old, _)| *old);
                world
                    .at(Kind::Find, |data| {
                        olds().filter(|old| is_own(data, old)).collect()
                    })
                    .await
            }
            false => Vec::new(),
        };
        let others = marked.iter().filter(|(old, _)| !own.contains(old));
        for (old, proof) in others.filter(|_| is_beside) {
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
            self.dead = None; // it has its tombstone
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
            end_old(&world, session, &mut held, replaces, &after).await;
        }
        let token = Token { session, secret };
        self.given = Some(token);
        self.given_is_known = false;
        self.base = Base {
            held,
            user,
            token: Some(token),
            ..Base::nothing()
        };
        self.renews = false;
        Outcome::Fine
    }

    async fn update(&mut self, mut token: Token) -> Outcome {
        if self.changes.is_empty() && !self.renews && !self.proves {
            return Outcome::Fine;
        }
        let world = self.world.clone();
        let changes = std::mem::take(&mut self.changes);
        let old = token.secret;
        let renews = std::mem::take(&mut self.renews);
        if renews {
            token.secret = world.number();
        }
        // A database cannot count in what it cannot read.
        let compared = changes.iter().filter(|(_, changes)| is_relative(changes));
        let compared: Vec<&String> = match world.is_sealed {
            true => compared.map(|(key, _)| key).collect(),
            false => Vec::new(),
        };
        let mut seen = self.base.held.clone();
        // A token is replaced in one step with everything else, or nothing is done.
        let mut asks_for_token = renews || self.proves;
        let write = loop {
            let is_own = |stored: &Stored| !asks_for_token || stored.secret == old;
            let write = world
                .at(Kind::Update, |data| {
                    let write = data.number();
                    let stored = data.sessions.get_mut(&token.session);
                    let stored = stored.filter(|stored| is_own(stored))?;
                    let is_same = |key: &&String| stored.held.has_same(key, &seen, true);
                    if !compared.iter().all(is_same) {
                        return None;
                    }
                    stored.held.apply(&changes, write);
                    stored.secret = if renews { token.secret } else { stored.secret };
                    stored.renewed |= renews;
                    Some(write)
                })
                .await;
            if write.is_some() {
                break write;
            }
            if compared.is_empty() {
                if asks_for_token && !renews {
                    (asks_for_token, self.given) = (false, None);
                    continue;
                }
                break None;
            }
            let fresh = world
                .at(Kind::Load, |data| {
                    let stored = data.sessions.get(&token.session);
                    let stored = stored.filter(|stored| is_own(stored));
                    stored.map(|stored| stored.held.clone())
                })
                .await;
            match fresh {
                Some(fresh) => seen = fresh,
                None if asks_for_token && !renews => {
                    (asks_for_token, self.given) = (false, None);
                    seen = self.base.held.clone();
                }
                None => break None,
            }
        };
        let Some(write) = write else {
            if renews && !world.is_sealed {
                // Has another process sealed the session meanwhile?
                world.at(Kind::Load, |_| ()).await;
            }
            return Outcome::Gone;
        };
        if renews {
            (self.given, self.given_is_known) = (Some(token), true);
        }
        let held = &mut self.base.held;
        for key in compared {
            held.put(key, seen.values.get(key).cloned(), write);
        }
        held.apply(&changes, write);
        self.base.token = Some(token);
        self.forget_what_changes_nothing();
        Outcome::Fine
    }

    /// Adds to a stored value from outside: neither this request's changes nor its token matter.
    pub(super) async fn edit(&self, key: &str, by: i64) -> Result<bool, &'static str> {
        let Some(Token { session, .. }) = self.base.token else {
            return Ok(false);
        };
        let is_there = |data: &mut Data| data.sessions.contains_key(&session);
        if !self.world.at(Kind::Load, is_there).await {
            return Ok(false);
        }
        if self.world.is_sealed {
            return Err("SealedValues");
        }
        let add = Changes::from([(key.to_owned(), vec![Change::Add(by)])]);
        let write = |data: &mut Data| {
            let write = data.number();
            let stored = data.sessions.get_mut(&session);
            stored
                .map(|stored| stored.held.apply(&add, write))
                .is_some()
        };
        let is_done = self.world.at(Kind::Update, write).await;
        if !is_done {
            // Has it ended, or was it sealed meanwhile?
            self.world.at(Kind::Load, |_| ()).await;
        }
        Ok(is_done)
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
        let mut seen = self.base.held.clone();
        loop {
            let stored = seen.values.get(key).cloned();
            let next = change(stored.as_ref());
            let output = if takes { stored.clone() } else { next.clone() };
            if next == stored {
                self.base.held = seen;
                self.forget_what_changes_nothing();
                return Ok(output);
            }
            let write = world
                .at(Kind::Update, |data| {
                    let write = data.number();
                    let found = data.sessions.get_mut(&token.session);
                    let found = found.filter(|found| found.secret == token.secret);
                    let held = found.map(|found| &mut found.held);
                    let is_same = |held: &&mut Held| held.has_same(key, &seen, world.is_sealed);
                    held.filter(is_same)?.put(key, next.clone(), write);
                    Some(write)
                })
                .await;
            if let Some(write) = write {
                seen.put(key, next, write);
                self.base.held = seen;
                self.forget_what_changes_nothing();
                return Ok(output);
            }
            let fresh = world
                .at(Kind::Load, |data| {
                    let found = data.sessions.get(&token.session);
                    let found = found.filter(|found| found.secret == token.secret);
                    found.map(|found| found.held.clone())
                })
                .await;
            match fresh {
                Some(fresh) => seen = fresh,
                None => {
                    self.given = None;
                    // What else was changed belongs to the session still, if it was only renewed.
                    if self.changes.is_empty() && !self.renews {
                        self.lose();
                    }
                    return Err("Gone");
                }
            }
        }
    }
}

/// The old session ends; what others did until then to what is kept is carried over, unless its
/// token was replaced meanwhile.
async fn end_old(
    world: &World,
    new: u32,
    held: &mut Held,
    replaces: Option<Replaces>,
    after: &Changes,
) {
    let Some(Replaces {
        old, keep, before, ..
    }) = replaces
    else {
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
    let mut wanted = last.held.values;
    apply(&mut wanted, &before);
    wanted.retain(|key, _| keep.has(key));
    let kept_after = after.iter().filter(|(key, _)| keep.has(key));
    let kept_after: Changes = kept_after
        .map(|(key, changes)| (key.clone(), changes.clone()))
        .collect();
    apply(&mut wanted, &kept_after);
    let mut kept = held.values.clone();
    kept.retain(|key, _| keep.has(key));
    if kept == wanted {
        return;
    }
    let write = world.number();
    let carry_over = |held: &mut Held| {
        for key in &keep.0 {
            held.put(key, wanted.get(key).cloned(), write);
        }
    };
    carry_over(held);
    let update = |data: &mut Data| {
        if let Some(stored) = data.sessions.get_mut(&new) {
            carry_over(&mut stored.held);
        }
    };
    world.at(Kind::Update, update).await;
}
