//! Event streams on disk: one per container, and one for all that outlives them.

use crate::Result;
use crate::dir::{Dir, Root};
use crate::record::Record;

/// Appends the record's last event to the streams unless it is there already.
pub(crate) fn publish(_root: &Root, _dir: &Dir, _record: &Record) -> Result<()> {
    Ok(())
}

/// The events of all containers, in order.
#[derive(Debug)]
pub struct Events {}

impl Events {
    /// The next event; waits for it.
    ///
    /// # Errors
    /// [`crate::Error::Sys`] when the stream can't be read.
    pub async fn next(&mut self) -> Result<crate::Event> {
        Err(crate::Error::unsupported("read", "events", "not written yet"))
    }

    /// The next event if it is there already.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn try_next(&mut self) -> Result<Option<crate::Event>> {
        Ok(None)
    }
}

impl crate::Runtimes {
    /// The events from `since` (nanoseconds since the epoch) on; 0: all that are kept. With `Events::next`
    /// it goes on for ever, with `Events::try_next` it ends at what has happened so far.
    ///
    /// # Errors
    /// [`crate::Error::Sys`] when the stream can't be opened.
    pub async fn events(&self, since_ns: u64) -> Result<Events> {
        let _ = since_ns;
        Ok(Events {})
    }
}
