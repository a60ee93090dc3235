//! A stored session as lists show it.

use std::time::Duration;

use super::{Client, Fields, Own, deadline};
use crate::clock::Moment;
use crate::document::Document;
use crate::record::token::Id;

/// A stored session as lists show it: without its values and secrets.
pub(crate) struct Summary {
    pub(crate) id: Id,
    pub(crate) created: Moment,
    pub(crate) accessed: Moment,
    pub(crate) renewed: Option<Moment>,
    pub(crate) client: Client,
    expires: Moment,
    timeout: Own,
}

impl Summary {
    pub(crate) fn parse(document: &Document) -> Option<Self> {
        let mut fields = Fields::default();
        for element in document.raw()? {
            let (name, value) = element.ok()?;
            fields.take(name, value)?;
        }
        let client = fields.client();
        Some(Summary {
            id: fields.id?,
            created: fields.created?,
            accessed: fields.accessed?,
            renewed: fields.renewed,
            client,
            expires: fields.expires?,
            timeout: fields.timeout,
        })
    }

    /// As [`Record::deadline`].
    pub(crate) fn deadline(&self, timeout: Option<Duration>, lifetime: Option<Duration>) -> Moment {
        let (created, accessed) = (self.created, self.accessed);
        deadline(
            self.expires,
            created,
            accessed,
            self.timeout,
            timeout,
            lifetime,
        )
    }
}
