//! Signals to a container's init.

use model::{Signal, State};

use crate::blocking;
use crate::container::Container;
use crate::record::Record;
use crate::{Error, Result};

impl Container {
    /// Sends a signal to the container's init. A paused container takes it when it is resumed, except
    /// SIGKILL: that thaws it, so that it ends at once.
    ///
    /// # Errors
    /// [`Error::State`] when it has no process (any more).
    pub async fn kill(&self, signal: Signal) -> Result<()> {
        const OP: &str = "kill";
        let container = self.clone();
        // No lock: nothing is changed, and a signal must get through whatever else goes on.
        blocking::long(move || {
            let record = container.present(OP)?;
            if !record.state.is_alive() {
                return Err(Error::State { op: OP, id: record.id.to_string(), state: record.state });
            }
            crate::point("kill.before-signal")?;
            if !signal_init(&record, signal)? {
                return Err(Error::State { op: OP, id: record.id.to_string(), state: State::Exited });
            }
            if signal == Signal::KILL && record.state == State::Paused {
                let resumed = container.driver().run(OP, ["resume", record.id.as_str()], &[]);
                // On cgroup v2 it dies frozen, perhaps before it could be thawed; or somebody else thawed it.
                let dead = || match record.hold_init() {
                    Ok(Some(init)) => init.is_dead().unwrap_or(false),
                    held => held.is_ok(),
                };
                if let Err(error) = resumed
                    && crate::pause::frozen(&record)
                    && !dead()
                {
                    return Err(error);
                }
            }
            Ok(())
        })
        .await
    }
}

/// Sends `signal` to the very process that is the container's init; false when that has ended.
pub(crate) fn signal_init(record: &Record, signal: Signal) -> Result<bool> {
    let Some(process) = record.hold_init()? else { return Ok(false) };
    if process.is_dead()? {
        return Ok(false);
    }
    match process.signal(signal.number()) {
        Err(error) if error.is_gone() => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}
