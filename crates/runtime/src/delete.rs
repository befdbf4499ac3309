//! Delete.

use crate::{Container, Error, Result};

impl Container {
    /// Removes the container: processes, cgroup, files, name. Idempotent; what was begun can be repeated.
    ///
    /// # Errors
    /// [`Error::State`] when it is alive and not `force`; [`Error::Many`] with all that could not be removed.
    pub async fn delete(&self, force: bool) -> Result<()> {
        let _ = force;
        Err(Error::unsupported("delete", self.id(), "not written yet"))
    }
}
