//! Create: a transaction of steps, each with its undo.

use crate::{Container, CreateRequest, Error, Result, Runtimes};

impl Runtimes {
    /// Makes a container: its init exists and waits for [`Container::start`].
    ///
    /// If the caller is dropped, the create goes on and is undone. On an error nothing is left.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for the request or its bundle, [`Error::Step`] with the step
    /// that failed and the runtime's own message.
    pub async fn create(&self, request: CreateRequest) -> Result<Container> {
        Err(Error::unsupported("create", request.id, "not written yet"))
    }
}
