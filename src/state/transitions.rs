//! Another session takes this one's place: login, logout, and what undoes them.
//!
//! What they do with the sessions that a request knows beside its own:
//!
//! | sessions | login | logout |
//! |---|---|---|
//! | `other_sessions`: the cookies prove them, though they may have expired | end when it is stored, with a tombstone each | are added to `ended` |
//! | `Login::other_sessions`: an earlier login of the request has taken them | end with the last login | are added to `ended` |
//! | `not_alive`: were not found | | are added to `ended` |
//! | `dead`: the cookie may name them | get a tombstone each | |
//! | `ended`: are deleted with the response | get a tombstone each | |

use bson::RawBson;
use indexmap::IndexSet;

use super::base::Follows;
use super::{Base, Deletion, Doubts, Login, NewReason, Replaces, Settings, State, Stored};
use crate::document::key::Field;
use crate::state::changes::{Change, Changes};

impl State {
    /// Starts a session of a user, with the kept values of this one.
    pub(crate) fn login(&mut self, user: RawBson, mut keep: IndexSet<Field>) {
        self.identity_changes += 1;
        // The changes of a write in flight are shown already. The old session has them, or not, when
        // this one is stored.
        let is_in_flight = self.in_flight.is_some();
        let write = self.in_flight.take().unwrap_or_default();
        self.doubts.add(&write);
        let return_to = Field::return_to();
        let mut wanted = keep.clone();
        wanted.insert(return_to.clone());
        let stored = match (&self.base, self.proof()) {
            // The values that the login which replaced the session has kept. (An earlier login of
            // this request has taken it already.)
            (Base::Empty, Some(proof)) => proof.kept.clone(),
            (base, _) => base.values(&wanted),
        };
        let stored_before = is_in_flight.then(|| stored.clone());
        let mut values = self.changes.after(write.changes.after(stored));
        let of_logged_out = self.return_to.take();
        if values.iter().any(|(field, _)| *field == return_to) {
            keep.insert(return_to);
        } else if let Some(address) = of_logged_out {
            // A session that is stored since the logout does not have it.
            self.changes
                .put(return_to.clone(), Change::Set(address.clone()));
            values.push((return_to.clone(), address));
            keep.insert(return_to);
        }
        let is_kept = |(field, _): &(Field, RawBson)| keep.contains(field);
        values.retain(is_kept);
        let before = std::mem::take(&mut self.changes);
        let mut other_sessions = std::mem::take(&mut self.other_sessions);
        let mut follows = stored_before.map(|stored| Follows {
            keep: keep.clone(),
            before: before.clone(),
            without: before.after(stored).into_iter().filter(is_kept).collect(),
        });
        let replaces = match std::mem::replace(&mut self.base, Base::Empty) {
            Base::Empty => None,
            Base::Stored(old) => Some(Replaces { old, keep, before }),
            // A second login in one request still replaces the one session that is stored. The values
            // that both logins keep are kept.
            Base::Login(login) => {
                let login = *login;
                other_sessions.extend(login.other_sessions);
                let earlier = login.follows.map(|first| Follows {
                    keep: first.keep.intersection(&keep).cloned().collect(),
                    before: first.before.and_then(before.clone()),
                    without: before
                        .after(first.without)
                        .into_iter()
                        .filter(is_kept)
                        .collect(),
                });
                follows = follows.or(earlier);
                login.replaces.map(|first| Replaces {
                    keep: first.keep.intersection(&keep).cloned().collect(),
                    before: first.before.and_then(before),
                    old: first.old,
                })
            }
        };
        self.base = Base::Login(Box::new(Login {
            user,
            values: values.into_iter().collect(),
            replaces,
            other_sessions,
            follows,
        }));
        self.settings = Settings::default();
        self.is_new = true;
        self.changed();
    }

    /// The values that a logout is to keep, as this request sees them.
    pub(crate) fn kept(&self, keep: &IndexSet<Field>) -> Vec<(Field, RawBson)> {
        let kept = keep.iter();
        let kept = kept.filter_map(|field| Some((field.clone(), self.get(field).ok()??)));
        kept.collect()
    }

    /// Sets values of a session that has none.
    pub(crate) fn set_all(&mut self, values: Vec<(Field, RawBson)>) {
        for (field, value) in values {
            self.changes.put(field, Change::Set(value));
        }
        self.changed();
    }

    /// Forgets everything. The stored session, and others that the request's cookies prove, are
    /// deleted with the response.
    pub(crate) fn logout(&mut self) {
        self.identity_changes += 1;
        if let Ok(Some(address)) = self.get(&Field::return_to()) {
            self.return_to = Some(address);
        }
        let ended = match std::mem::replace(&mut self.base, Base::Empty) {
            Base::Empty => None,
            Base::Stored(stored) => Some(stored.record.meta.id.clone()),
            Base::Login(login) => {
                self.other_sessions.extend(login.other_sessions);
                login.replaces.map(|replaces| replaces.id().clone())
            }
        };
        let ended = ended.into_iter().chain(self.other_sessions.drain(..));
        self.ended.extend(ended.map(Deletion::from));
        self.ended.append(&mut self.not_alive);
        self.removes_cookie |= self.brought_cookie;
        if let Some(replaced) = &mut self.replaced {
            // A new session would still overwrite the cookie of the login that replaced it.
            replaced.proof = None;
        }
        self.forget(NewReason::Ended);
    }

    /// Drops the request's changes since the last save, but not a logout. A login that is being stored
    /// stays, unless the request has logged in again since.
    pub(crate) fn discard(&mut self) {
        self.changes = Changes::default();
        self.settings = Settings::default();
        if self.in_flight.is_none() {
            self.drop_login();
        }
        self.changed();
    }

    /// A write has failed, and so have all changes since: a login that it was to store is dropped.
    pub(crate) fn discard_all(&mut self) {
        self.in_flight = None;
        self.discard();
    }

    fn drop_login(&mut self) {
        let base = std::mem::replace(&mut self.base, Base::Empty);
        self.base = match base {
            Base::Login(login) => {
                self.other_sessions.extend(login.other_sessions);
                match login.replaces {
                    Some(replaces) => {
                        self.is_new = self.why_new.is_some();
                        Base::Stored(replaces.old)
                    }
                    None => {
                        self.doubts = Doubts::default(); // they were about another document
                        Base::Empty
                    }
                }
            }
            base => base,
        };
    }

    /// A write that the request began before it logged in or out has stored nothing: the login keeps
    /// nothing of it.
    pub(crate) fn former_is_lost(&mut self) {
        if let Base::Login(login) = &mut self.base
            && let Some(Follows { without, .. }) = login.follows.take()
        {
            login.values = without;
            self.changed();
        }
    }

    /// A write that the request began before it logged in or out has stored this. Returns whether it
    /// is the session that a login replaces, or was to replace.
    pub(crate) fn former_is_stored(&mut self, stored: Stored) -> bool {
        let is_known = match &mut self.base {
            Base::Empty => false,
            Base::Login(login) => login.former_is_stored(stored),
            Base::Stored(current) => {
                let is_same = current.record.meta.id == stored.record.meta.id;
                if is_same {
                    **current = stored; // with the token that it has now
                }
                is_same
            }
        };
        self.changed();
        is_known
    }

    /// The stored session has ended elsewhere, or its token was replaced: the browser's cookie is a
    /// dead one from here on.
    pub(crate) fn session_ended(&mut self) {
        if let Base::Stored(stored) = &self.base {
            let id = &stored.record.meta.id;
            // The cookie of a session that this request has stored has not reached the browser.
            if !self.dead.contains(id) {
                self.dead.push(id.clone());
            }
            self.dead_is_looked_up = false;
            // The session may live on under another token. The request has proven it, so a login and a
            // logout end it.
            if !self.other_sessions.contains(id) {
                self.other_sessions.push(id.clone());
            }
        }
        self.base = Base::Empty;
        self.forget(NewReason::Ended);
    }

    fn forget(&mut self, reason: NewReason) {
        self.in_flight = None;
        self.changes = Changes::default();
        self.settings = Settings::default();
        self.doubts = Doubts::default();
        self.is_new = true;
        self.why_new = Some(reason);
        self.changed();
    }

    /// After every change: the size counts anew, and values that were read before are out of date.
    pub(super) fn changed(&mut self) {
        self.version += 1;
        self.size = self.measure();
    }
}
