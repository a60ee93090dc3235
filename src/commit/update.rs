//! A change of a stored document.

use bson::raw::RawBsonRef;

use super::{Core, Written};
use crate::commit::backoff::Backoff;
use crate::document::{Filter, Operation, Update};
use crate::error::{Error, Result};
use crate::record::token::Token;
use crate::record::{Record, change};
use crate::state::changes::Changes;
use crate::state::plan::{Alter, CookieLife};
use crate::store::Updated;

impl Core {
    pub(super) async fn update(
        &self,
        alter: Alter,
    ) -> Result<(Written, Option<(Token, CookieLife)>)> {
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
        Ok((Written::Gone, None))
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
        let mut backoff = Backoff::new(self.store.deadline());
        loop {
            let (mut condition, mut update) = (filter.clone(), update.clone());
            for (name, relative) in relative.iter() {
                let stored = record.get(name);
                let value = relative.apply(stored).map_err(|reason| Error::Mismatch {
                    key: name.display(),
                    reason,
                })?;
                condition = condition.still(name.clone(), stored.map(RawBsonRef::to_raw_bson));
                let operation = value.map_or(Operation::Unset, Operation::Set);
                change(&mut update, name.clone(), operation);
            }
            let updated = self
                .store
                .update(condition, update.clone(), alter.durability)
                .await?;
            if updated == Updated::Applied {
                return Ok((updated, update));
            }
            let fresh = self.store.load(record.id.as_str()).await?;
            let Some(fresh) = fresh.filter(|fresh| filter.matches(fresh)) else {
                return Ok((Updated::Gone, update)); // it was another condition that failed
            };
            let Some(fresh) = Record::parse(fresh) else {
                return Ok((Updated::Gone, update));
            };
            self.stats.conflicts.count();
            record = fresh;
            backoff.wait("changing a session").await?;
        }
    }
}

impl Alter {
    fn applied(self, update: Update, with_cookie: bool) -> (Written, Option<(Token, CookieLife)>) {
        let token = match &self.cookie {
            Some((token, _)) => token.clone(),
            None => self.token,
        };
        let cookie = self.cookie.filter(|_| with_cookie);
        let written = Written::Changed(Box::new((self.base, update, token)));
        (written, cookie)
    }
}
