//! The data key of a session that was stored without one: given to it before the first write that is
//! sealed, or by another process meanwhile.

use std::sync::Arc;

use super::Core;
use crate::document::Update;
use crate::error::Result;
use crate::record::sealer::Sealer;
use crate::record::token::Token;
use crate::record::{Record, field, unless_expired};
use crate::store::{Durability, Updated};

impl Core {
    /// Gives a session its data key, or opens the one that another request has given it meanwhile;
    /// `None` when the session has ended, or has another token by now, which this request's does not
    /// open. One round trip, once in the life of a session.
    pub(super) async fn with_data_key(
        &self,
        record: Record,
        token: &Token,
    ) -> Result<Option<Record>> {
        let sealer = Sealer::draw(&record.meta.id)?;
        let mut update = Update::default();
        update.set(field::SEAL, sealer.wrap(token, &self.config.cookie_name)?);
        let filter = unless_expired(record.meta.id.as_str(), self.now());
        let filter = record.with_same_token(filter).missing(field::SEAL);
        // As durable as an identity: if the key is lost, so are the values that are sealed with it.
        let updated = self
            .store
            .update(filter, update.clone(), Durability::Identity);
        if updated.await? == Updated::Applied {
            let record = record.after(&update, self.now()).unwrap_or(record);
            return Ok(Some(record.sealed_by(Some(Arc::new(sealer)))));
        }
        self.with_foreign_data_key(&record, token).await
    }

    /// Reads a session again, for the data key that another request has given it; `None` when it has
    /// none, or this request's token does not open it.
    pub(super) async fn with_foreign_data_key(
        &self,
        record: &Record,
        token: &Token,
    ) -> Result<Option<Record>> {
        let fresh = self.load(&record.meta.id).await?;
        let fresh = fresh.filter(|fresh| fresh.token.matches(&record.token));
        let fresh = fresh.filter(|fresh| !fresh.meta.is_expired(&self.config, self.now()));
        let fresh = fresh.and_then(|fresh| fresh.opened_by(token, &self.config.cookie_name));
        Ok(fresh.filter(|fresh| fresh.sealer().is_some()))
    }

    /// Opens a record that was read again.
    pub(super) fn reopen(
        &self,
        fresh: Record,
        earlier: &Record,
        token: Option<&Token>,
    ) -> Option<Record> {
        match (earlier.sealer(), token) {
            (None, Some(token)) => fresh.opened_by(token, &self.config.cookie_name),
            (None, None) => Some(fresh.written_plain()),
            (Some(_), _) => Some(fresh.opened_like(earlier)),
        }
    }
}
