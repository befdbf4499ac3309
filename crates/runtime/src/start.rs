//! Start.

use crate::{Container, Error, Result};

impl Container {
    /// Starts the program of a created container.
    ///
    /// # Errors
    /// [`Error::State`]; [`Error::Runtime`] with the runtime's message: then the container is Exited, 128.
    pub async fn start(&self) -> Result<()> {
        Err(Error::unsupported("start", self.id(), "not written yet"))
    }
}
