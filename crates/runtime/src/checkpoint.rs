//! Checkpoint and restore, by the runtime and criu.

use crate::{CheckpointRequest, Container, Error, Result};

impl Container {
    /// Saves the container's processes with criu.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where criu or the runtime can't; [`Error::Runtime`] with their message.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<()> {
        let _ = request;
        Err(Error::unsupported("checkpoint", self.id(), "not written yet"))
    }

    /// Brings an exited container back from a checkpoint.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub async fn restore(&self, request: CheckpointRequest) -> Result<()> {
        let _ = request;
        Err(Error::unsupported("restore", self.id(), "not written yet"))
    }
}
