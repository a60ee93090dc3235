//! Flash messages: said once, shown with the next page.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Session;
use crate::debug::opaque_debug;
use crate::document::key::Field;
use crate::error::Result;
use crate::state::changes::Change;

impl Session {
    /// Adds a message to the default flash queue, to be shown with the next page.
    ///
    /// A message is any serde type. It is stored with the response.
    ///
    /// ```
    /// # use rocket::{post, response::Redirect};
    /// # use rocket_mongo_session::{Error, Session};
    /// #[post("/save")]
    /// fn save(session: &Session) -> Result<Redirect, Error> {
    ///     session.flash("Saved.")?;
    ///     Ok(Redirect::to("/"))
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Queue::push`].
    pub fn flash(&self, message: impl Serialize) -> Result<()> {
        self.flash_queue("").push(message)
    }

    /// Returns a flash queue by its name.
    ///
    /// Any string without NUL is a name, and the empty one is the default queue's. Queues are not
    /// among the application's keys: [`keys`](Session::keys) does not list them, and
    /// [`clear`](Session::clear) leaves them.
    ///
    /// ```
    /// # use rocket_mongo_session::{Error, Session};
    /// async fn warnings(session: &Session) -> Result<Vec<String>, Error> {
    ///     session.flash_queue("warnings").push_unique("The disk is nearly full.")?;
    ///     session.flash_queue("warnings").pop().await
    /// }
    /// ```
    #[must_use]
    pub fn flash_queue<'s>(&'s self, name: &str) -> Queue<'s> {
        Queue {
            session: self,
            field: Field::of_queue(name),
        }
    }

    /// Takes the messages out of the default flash queue, at once; see [`Queue::pop`].
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
        self.flash_queue("").pop().await
    }

    /// Returns the messages of the default flash queue, which stay in it.
    ///
    /// # Errors
    ///
    /// As [`Queue::peek`].
    pub fn peek_flash<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        self.flash_queue("").peek()
    }
}

/// A flash queue of a session: messages in the order in which they were pushed.
pub struct Queue<'s> {
    session: &'s Session,
    field: Result<Field>,
}

impl Queue<'_> {
    /// Adds a message to the end of the queue.
    ///
    /// It is stored with the response. Requests that push at the same time all keep theirs.
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
        self.session.open_to_write()?.state.change(field, change)
    }

    /// Adds a message unless an equal one is in the queue, as this request sees it
    /// (`allow_duplicate=False` of Pyramid's ISession). While a save of the queue runs, or where the
    /// outcome of a save or pop is unknown, only the messages that this request has pushed since then count.
    ///
    /// Each call compares the message with the whole queue, and decrypts that in a sealed session. If
    /// a client chooses the number of calls, limit it.
    ///
    /// # Errors
    ///
    /// As [`push`](Queue::push).
    pub fn push_unique(&self, message: impl Serialize) -> Result<()> {
        let field = self.field.clone()?;
        let message = self.session.encode_element(&field, &message)?;
        let mut inner = self.session.open_to_write()?;
        if inner.state.has_element(&field, &message) {
            return Ok(());
        }
        inner.state.change(field, Change::Append(vec![message]))
    }

    /// Returns the messages, which stay in the queue. No round trip.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode) when a message is not a `T`.
    pub fn peek<T: DeserializeOwned>(&self) -> Result<Vec<T>> {
        let field = self.field.clone()?;
        Ok(self.session.read(&field)?.unwrap_or_default())
    }

    /// Takes the messages out of the queue, at once, in the order in which they were pushed.
    ///
    /// One round trip, and none when the queue was empty when the session was loaded. When several
    /// requests pop at the same time, each message goes to one of them, and none is delivered twice.
    /// Messages that were taken are lost if the process dies before the response, or the response
    /// becomes an error. In a HEAD request and a prefetch (`Sec-Purpose: prefetch`) the messages are
    /// returned and stay in the queue, because no person may see the response.
    ///
    /// # Errors
    ///
    /// [`Error::Decode`](crate::Error::Decode) when a message is not a `T`. The queue is emptied
    /// anyway, so that one bad message does not break every later page.
    ///
    /// [`Error::Gone`](crate::Error::Gone) when the session ended or was renewed by another
    /// request, and [`Error::Store`](crate::Error::Store) when the database failed: nothing is
    /// taken then. After [`Error::Unknown`](crate::Error::Unknown) they may have been taken.
    /// [`Error::BadKey`](crate::Error::BadKey), [`Error::Sealed`](crate::Error::Sealed).
    ///
    /// # Cancellation
    ///
    /// If the future is dropped (by a timeout around it, for instance), the messages may have been
    /// taken, and are lost then.
    pub async fn pop<T: DeserializeOwned + Send>(&self) -> Result<Vec<T>> {
        let field = self.field.clone()?;
        self.session.pop_all(field).await
    }
}

opaque_debug!(Queue<'_>);
