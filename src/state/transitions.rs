//! Another session takes this one's place: login, logout, and what undoes them.

use bson::RawBson;

use super::{Base, Dead, Keep, New, Old, Replaces, Settings, State};
use crate::state::changes::Changes;

impl State {
    /// A new session for a principal, with the kept values of this one. `None` keeps the
    /// principal that there is.
    pub(crate) fn login(&mut self, user: Option<RawBson>, keep: Keep) {
        self.identity += 1;
        // A change of privilege is no new login: what the session set for itself goes on.
        let settings = match user {
            Some(_) => Settings::default(),
            None => self.own_times(),
        };
        if user.is_some() && user.as_ref() != self.user() {
            self.spared = None; // it was another user's
        }
        let user = user.or_else(|| self.user().cloned());
        // What is being written is shown, and is in the old session, or not, by the time this one
        // is stored.
        let sent = self.sent.take().unwrap_or_default().changes;
        let mut values = self.changes.after(sent.after(self.base.values()));
        values.retain(|(field, _)| keep.has(field));
        let before = std::mem::take(&mut self.changes);
        let replaces = match std::mem::replace(&mut self.base, Base::empty()) {
            Base::Stored(stored) => Some(Replaces {
                old: Old::Ours(stored),
                keep,
                before,
            }),
            // A second login in one request still replaces the one session that is stored, whose
            // values then have been through both; what is kept is what both keep.
            Base::New(new) => new.replaces.map(|first| Replaces {
                keep: first.keep.and(keep),
                before: first.before.and_then(before),
                old: first.old,
            }),
        };
        self.settings = settings;
        self.base = Base::New(Box::new(New {
            user,
            values: values.into_iter().collect(),
            replaces,
            by_login: true,
            ..New::default()
        }));
        self.size = self.base.size();
        self.is_new = true;
        self.name_itself();
    }

    fn own_times(&self) -> Settings {
        let (timeout, max_age) = match &self.base {
            Base::Stored(stored) => (stored.record.timeout, stored.record.max_age),
            Base::New(_) => (None, None),
        };
        let stored = Settings {
            timeout,
            max_age,
            ..Settings::default()
        };
        let sent = self.sent.as_ref().map(|sent| sent.settings.clone());
        let all = stored
            .and_then(sent.unwrap_or_default())
            .and_then(self.settings.clone());
        Settings {
            timeout: all.timeout,
            max_age: all.max_age,
            ..Settings::default()
        }
    }

    /// Forgets everything. The stored session, if there is one, is deleted with the answer.
    pub(crate) fn logout(&mut self) {
        self.identity += 1;
        let ended = match std::mem::replace(&mut self.base, Base::empty()) {
            Base::Stored(stored) => Some(stored.record.id.clone()),
            Base::New(new) => new.replaces.map(|replaces| replaces.old.id().clone()),
        };
        let expired = self.dead.take_if(|dead| dead.expired).map(|dead| dead.id);
        self.ended.extend(ended.into_iter().chain(expired));
        self.ended.append(&mut self.other_sessions);
        self.removal |= self.brought_cookie;
        self.forget();
        self.size = self.base.size();
        self.is_new = true;
    }

    /// Drops what the request did since the last save; a logout stands.
    pub(crate) fn discard(&mut self) {
        self.forget();
        let base = std::mem::replace(&mut self.base, Base::empty());
        self.base = match base {
            Base::New(new) => match new.replaces {
                Some(replaces) => {
                    self.is_new = false;
                    match replaces.old {
                        Old::Ours(stored) => Base::Stored(stored),
                        Old::LegacySession(ancestor) => Base::ancestor(ancestor),
                    }
                }
                None => Base::empty(),
            },
            stored @ Base::Stored(_) => stored,
        };
        self.size = self.base.size();
    }

    fn forget(&mut self) {
        self.sent = None;
        self.changes = Changes::default();
        self.settings = Settings::default();
    }

    /// The stored session is gone: the browser's cookie is a dead one from here on.
    pub(crate) fn lost(&mut self) {
        let id = match &self.base {
            Base::Stored(stored) => Some(&stored.record.id),
            Base::New(new) => new.ancestor().map(|ancestor| &ancestor.id),
        };
        if let Some(id) = id.cloned() {
            self.dead = Some(Dead::new(id));
        }
        self.forget();
        self.base = Base::empty();
        self.size = self.base.size();
        self.is_new = true;
    }
}
