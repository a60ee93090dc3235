//! Flash messages: said once, shown with the next page.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Session;
use crate::changes::Change;
use crate::error::Result;
use crate::key::Field;
use crate::value;

impl Session {
    /// Adds a message to the default flash queue; any serializable type. Written with the answer.
    ///
    /// # Errors
    ///
    /// As [`Queue::push`].
    pub fn flash(&self, message: impl Serialize) -> Result<()> {
        self.queue("").push(message)
    }

    /// A named flash queue; any string is a name, and the empty one is the default queue's. Queues
    /// are no application keys: neither `keys` nor `clear` knows them.
    #[must_use]
    pub fn queue<'s>(&'s self, name: &str) -> Queue<'s> {
        Queue {
            session: self,
            field: Field::of_queue(name),
        }
    }

    /// Takes the messages of the default flash queue. See [`Queue::pop`].
    ///
    /// ```
    /// # use rocket::get;
    /// # use rocket_mongo_session::{Error, Session};
    /// #[get("/")]
    /// async fn index(session: &Session) -> Result<String, Error> {
    ///     let messages: Vec<String> = session.pop_flash().await?;
    ///     Ok(messages.join("\n"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::pop`].
    pub async fn pop_flash<T: DeserializeOwned + Send>(&self) -> Result<Vec<T>> {
        self.queue("").pop().await
    }

    /// The messages of the default flash queue, which stay in it.
    ///
    /// # Errors
    ///
    /// As [`Queue::peek`].
    pub fn peek_flash<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.queue("").peek()
    }
}

/// A flash queue of a session: messages in the order in which they were pushed.
pub struct Queue<'s> {
    session: &'s Session,
    field: Result<Field>,
}

impl Queue<'_> {
    /// Adds a message to the end. Concurrent requests all keep theirs.
    ///
    /// # Errors
    ///
    /// [`Error::BadKey`](crate::Error::BadKey) when the queue's name contains NUL;
    /// [`Error::Encode`](crate::Error::Encode), [`Error::TooLarge`](crate::Error::TooLarge),
    /// [`Error::Sealed`](crate::Error::Sealed).
    pub fn push(&self, message: impl Serialize) -> Result<()> {
        let field = self.field.clone()?;
        let message = self.session.encode_element(&field, &message)?;
        let change = Change::Append(vec![message]);
        self.session.open()?.state.change(field, change)
    }

    /// Adds a message unless an equal one is in the queue, as this request sees it (ISession's
    /// `allow_duplicate=False`).
    ///
    /// # Errors
    ///
    /// As [`push`](Queue::push).
    pub fn push_unique(&self, message: impl Serialize) -> Result<()> {
        let field = self.field.clone()?;
        let message = self.session.encode_element(&field, &message)?;
        let mut inner = self.session.open()?;
        let queue = inner.state.get(&field);
        let messages = queue.and_then(|queue| value::array(queue.as_raw_bson_ref()));
        if messages.is_some_and(|messages| messages.contains(&message)) {
            return Ok(());
        }
        inner.state.change(field, Change::Append(vec![message]))
    }

    /// The messages, which stay in the queue. No round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode) when a message is not a `T`.
    pub fn peek<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let field = self.field.clone()?;
        Ok(self.session.read(&field)?.unwrap_or_default())
    }

    /// Takes the messages out of the queue, at once: one round trip, and none when the queue was
    /// empty when the session was loaded. Whatever races, a message is never delivered twice and
    /// never lost, unless the process dies between the pop and the answer.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode) when a message is not a `T`, and those of
    /// [`Session::modify`]. Nothing is taken then, except perhaps after
    /// [`Error::Unknown`](crate::Error::Unknown).
    pub async fn pop<T: DeserializeOwned + Send>(&self) -> Result<Vec<T>> {
        let field = self.field.clone()?;
        self.session.pop_all(field).await
    }
}

/// Shows no message.
impl fmt::Debug for Queue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}
