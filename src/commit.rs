//! Carries a decision out: the writes before an answer, in the order that keeps at most one token
//! of a browser usable.

use std::collections::HashSet;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::document::{Document, Filter, Update};
use crate::error::Result;
use crate::record::Record;
use crate::record::token::{Id, Token};
use crate::state::Stored;
use crate::state::plan::{CookieLife, Decision, Write};
use crate::stats::Counters;
use crate::store::bounded::Bounded;

pub(crate) mod backoff;
mod insert;
pub(crate) mod tombstone;
mod update;

/// How many sessions an end follows that went on under other ids, all within a minute.
const MOVES: usize = 16;

/// What a commit works with.
pub(crate) struct Core {
    pub(crate) store: Bounded,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) stats: Arc<Counters>,
}

/// What became of the writes.
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    /// The stored session as it is now, if that was asked for.
    pub(crate) stored: Option<Stored>,
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

/// What a write has left in the store.
enum Written {
    Nothing,
    Gone,
    New(Document, Token),
    Changed(Box<(Record, Update, Token)>),
}

impl Written {
    fn outcome(&self) -> Outcome {
        match self {
            Written::Nothing => Outcome::Nothing,
            Written::Gone => Outcome::Gone,
            Written::New(..) | Written::Changed(_) => Outcome::Applied,
        }
    }

    /// The session as it is stored now.
    fn stored(self) -> Option<Stored> {
        let (record, token) = match self {
            Written::Nothing | Written::Gone => return None,
            Written::New(document, token) => (Record::parse(document)?, token),
            Written::Changed(changed) => {
                let (record, update, token) = *changed;
                (record.after(&update)?, token)
            }
        };
        Some(Stored { record, token })
    }
}

impl Core {
    /// `goes_on` asks for the stored session as it is afterwards, because the request goes on.
    pub(crate) async fn run(&self, decision: Decision, goes_on: bool) -> Result<Done> {
        let Decision { end, write } = decision;
        let (written, cookie) = match write {
            // A login that comes after a logout: its cookie must be announced before the old session
            // is gone, or a late answer of another tab overwrites it. The logout stands either way.
            Write::Create(create) if create.by_login && !end.is_empty() => {
                let marker_for = create.marker_for.clone();
                let created = self.create(*create).await;
                if let Err(error) = self.end_all(&end).await {
                    if let Ok((Written::New(_, token), _)) = created {
                        insert::abandon(&self.store, token.id, marker_for);
                    }
                    return Err(error);
                }
                created?
            }
            write => {
                self.end_all(&end).await?;
                match write {
                    Write::Nothing => (Written::Nothing, None),
                    Write::Touch(touch) => {
                        self.store.touch(touch);
                        (Written::Nothing, None)
                    }
                    Write::Create(create) => self.create(*create).await?,
                    Write::Update(mut alter) => {
                        if goes_on {
                            // The handler is told, and what it is told must be so.
                            alter.filter = alter.filter.alone();
                        }
                        self.update(*alter).await?
                    }
                }
            }
        };
        let outcome = written.outcome();
        match outcome {
            Outcome::Applied => self.stats.commits.count(),
            Outcome::Gone => self.stats.gone.count(),
            Outcome::Nothing if !end.is_empty() => self.stats.commits.count(),
            Outcome::Nothing => {}
        }
        Ok(Done {
            outcome,
            stored: if goes_on { written.stored() } else { None },
            cookie,
        })
    }

    async fn end_all(&self, ids: &[Id]) -> Result<()> {
        for id in ids {
            self.end(id.clone(), |id| Filter::id(id.as_str())).await?;
        }
        Ok(())
    }

    /// Ends a session; whether there was one. When an elevation was faster in carrying it on under
    /// another id, that one is the same login, and ends: more round trips, only there.
    pub(crate) async fn end(&self, id: Id, filter: impl Fn(&Id) -> Filter) -> Result<bool> {
        let (mut open, mut met) = (vec![id], HashSet::new());
        let mut ended = false;
        while let Some(id) = open.pop() {
            if self.store.delete(filter(&id)).await? {
                ended = true;
                continue;
            }
            let marker = Filter::ids(vec![tombstone::of_login(&id)]);
            let found = self.store.find(marker, 0, 1).await?;
            met.insert(id);
            let next = found.first().map(tombstone::next).unwrap_or_default();
            open.extend(next.into_iter().filter(|next| !met.contains(next)));
            if met.len() > MOVES {
                break;
            }
        }
        Ok(ended)
    }
}
