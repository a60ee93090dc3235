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
            let mut open = vec![*ended];
            let mut met = Vec::new();
            while let Some(ended) = open.pop() {
                let delete = |data: &mut Data| data.sessions.remove(&ended).is_some();
                if self.world.at(Kind::Delete, delete).await {
                    continue;
                }
                let find = |data: &mut Data| data.replaced.get(&ended).cloned();
                let next = self.world.at(Kind::Find, find).await;
                met.push(ended);
                let next = next.unwrap_or_default().into_iter();
                open.extend(next.filter(|next| !met.contains(next)));
            }
        }
    }

    async fn create(&mut self, ends: &[u32]) -> Outcome {
        let world = self.world.clone();
        let by_login = self.base.by_login;
        if let Some(dead) = self.dead
            && !by_login
        {
            let is_overtaken = |data: &mut Data| {
                let renewed = data
                    .sessions
                    .get(&dead)
                    .is_some_and(|stored| stored.renewed);
                renewed || data.replaced.contains_key(&dead)
            };
            if world.at(Kind::Find, is_overtaken).await {
                return Outcome::Gone;
            }
        }
        let session = self.base.id.expect("what is wanted is named");
        let secret = world.number();
        let (values, user) = (self.view(), self.base.user.clone());
        let replaces = self.base.replaces.take();
        let dead = self.dead.filter(|_| !self.is_locked);
        let named = replaces.as_ref().map(|(old, _, _)| *old);
        let marked = named.or(dead).into_iter().chain(ends.iter().copied());
        let marked: Vec<u32> = marked.filter(|_| by_login).collect();
        let goes_on = matches!(replaces, Some((_, Keep::All, _)));
        let next = |old: u32| (goes_on && named == Some(old)).then_some(session);
        let is_beside = world
            .at(Kind::Create, |data| {
                let stored = Stored {
                    values: values.clone(),
                    user: user.clone(),
                    secret,
                    renewed: false,
                };
                data.sessions.insert(session, stored);
                let mut is_beside = false;
                for old in &marked {
                    if data.replaced.contains_key(old) {
                        is_beside = true;
                        continue;
                    }
                    data.replaced.insert(*old, Vec::from_iter(next(*old)));
                    data.by_one.insert(*old, session);
                }
                is_beside
            })
            .await;
        for old in marked.iter().filter(|_| is_beside) {
            // It may be taken back just then, and another may be left.
            for _ in 0..3 {
                let again = |data: &mut Data| {
                    let replaced = data.replaced.get_mut(old)?;
                    replaced.extend(next(*old));
                    data.by_one.remove(old);
                    Some(())
                };
                if world.at(Kind::Update, again).await.is_some() {
                    break;
                }
                let anew = |data: &mut Data| {
                    let is_free = !data.replaced.contains_key(old);
                    if is_free {
                        data.replaced.insert(*old, Vec::from_iter(next(*old)));
                        data.by_one.insert(*old, session);
                    }
                    is_free
                };
                if world.at(Kind::Create, anew).await {
                    break;
                }
            }
        }
        let after = std::mem::take(&mut self.changes);
        let revocations = async {
            if user.is_some() {
                world.at(Kind::Find, |_| ()).await;
            }
        };
        let end = end_old(&world, session, &values, replaces, &after);
        let ((), stands) = join!(revocations, end);
        if !stands {
            world
                .at(Kind::Delete, |data| data.sessions.remove(&session))
                .await;
            for old in marked {
                let withdraw = |data: &mut Data| {
                    if data.by_one.get(&old) == Some(&session) {
                        data.by_one.remove(&old);
                        data.replaced.remove(&old);
                    }
                };
                world.at(Kind::Delete, withdraw).await;
            }
            return Outcome::Gone;
        }
        let token = Token { session, secret };
        self.given = Some(token);
        self.base = Base {
            id: Some(session),
            values,
            user,
            token: Some(token),
            by_login: false,
            replaces: None,
        };
        self.renews = false;
        Outcome::Fine
    }

    async fn update(&mut self, token: Token) -> Outcome {
        if self.changes.is_empty() && !self.renews {
            return Outcome::Fine;
        }
        let world = self.world.clone();
        let changes = std::mem::take(&mut self.changes);
        let mut token = token;
        let mut is_there = false;
        if std::mem::take(&mut self.renews) {
            let secret = world.number();
            is_there = world
                .at(Kind::Update, |data| {
                    let stored = data.sessions.get_mut(&token.session);
                    let Some(stored) = stored.filter(|stored| stored.secret == token.secret) else {
                        return false;
                    };
                    apply(&mut stored.values, &changes);
                    (stored.secret, stored.renewed) = (secret, true);
                    true
                })
                .await;
            if is_there {
                token.secret = secret;
                self.given = Some(token);
            }
        }
        if !is_there {
            is_there = world
                .at(Kind::Update, |data| {
                    let stored = data.sessions.get_mut(&token.session);
                    stored
                        .map(|stored| apply(&mut stored.values, &changes))
                        .is_some()
                })
                .await;
        }
        if !is_there {
            return Outcome::Gone;
        }
        apply(&mut self.base.values, &changes);
        self.base.token = Some(token);
        Outcome::Fine
    }

    /// Reads, changes and writes one value as if nobody else were there. What a pop takes is what
    /// was there before; what a modification answers is what is there after it.
    pub(super) async fn exchange(
        &mut self,
        key: &str,
        takes: bool,
        change: impl Fn(Option<&Value>) -> Option<Value>,
    ) -> Result<Option<Value>, &'static str> {
        let world = self.world.clone();
        let token = match self.base.token {
            Some(token) if !takes || self.base.values.contains_key(key) => token,
            _ => {
                let now = self.view().remove(key);
                let next = change(now.as_ref());
                if next.is_some() || now.is_some() {
                    let set = next.clone().map_or(Change::Remove, Change::Set);
                    self.change(key, set);
                }
                return Ok(if takes { now } else { next });
            }
        };
        let pending = self.changes.remove(key).unwrap_or_default();
        loop {
            let stored = self.base.values.get(key).cloned();
            let now = replay(stored.as_ref(), &pending);
            let next = change(now.as_ref());
            let output = if takes { now } else { next.clone() };
            if next == stored {
                self.forget_what_changes_nothing();
                return Ok(output);
            }
            let kind = if takes {
                Kind::UpdateReturning
            } else {
                Kind::Update
            };
            let wins = world
                .at(kind, |data| {
                    let found = data.sessions.get_mut(&token.session);
                    let found = found.filter(|found| found.secret == token.secret);
                    let Some(found) =
                        found.filter(|found| found.values.get(key) == stored.as_ref())
                    else {
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

/// The old session ends; what others did until then to what is kept is carried over. Whether the
/// new one stands: an elevation carries an older login on, and that is over when its session is.
async fn end_old(
    world: &World,
    new: u32,
    values: &Values,
    replaces: Option<(u32, Keep, Changes)>,
    after: &Changes,
) -> bool {
    let Some((old, keep, before)) = replaces else {
        return true;
    };
    if matches!(keep, Keep::Nothing) {
        world
            .at(Kind::Delete, |data| data.sessions.remove(&old))
            .await;
        return true;
    }
    let last = world
        .at(Kind::Take, |data| data.sessions.remove(&old))
        .await;
    let Some(mut wanted) = last.map(|last| last.values) else {
        return !matches!(keep, Keep::All);
    };
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
        return true;
    }
    // A logout of the old one may have followed it to the new one by now.
    let update = |data: &mut Data| {
        let Some(stored) = data.sessions.get_mut(&new) else {
            return false;
        };
        stored.values.retain(|key, _| !keep.has(key));
        stored.values.extend(wanted);
        true
    };
    world.at(Kind::Update, update).await
}
