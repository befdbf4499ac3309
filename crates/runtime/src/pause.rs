//! Freezing a container's processes, and letting them go on.

use model::{State, Transition};

use crate::Result;
use crate::container::{Container, Locked};
use crate::event::Happened;
use crate::record::Record;

impl Container {
    /// Freezes all processes of the container.
    ///
    /// # Errors
    /// [`crate::Error::State`] unless it is running; [`crate::Error::Runtime`] when the runtime can't, or
    /// its state can't be written: then it is running still.
    pub async fn pause(&self) -> Result<()> {
        self.locked("pause", |locked| {
            locked.require(&[State::Running])?;
            let container = locked.container().clone();
            let (driver, id) = (container.driver(), container.id().clone());
            crate::point("pause.before-run")?;
            if let Err(error) = driver.run("pause", ["pause", id.as_str()], &[]) {
                // It may have frozen some of them: whatever it did is undone. The first error is the one to tell.
                if let Err(undo) = driver.run("pause", ["resume", id.as_str()], &[]) {
                    tracing::debug!(container = %id, error = %undo, "nothing to thaw after a failed pause");
                }
                return Err(error);
            }
            let done = crate::point("pause.after-run")
                .and_then(|()| locked.transition(Transition::Paused, Happened::Paused, |_| {}));
            done.inspect_err(|_| go_back(&container))
        })
        .await
    }

    /// Lets the processes of a paused container go on.
    ///
    /// # Errors
    /// [`crate::Error::State`] unless it is paused; [`crate::Error::Runtime`] when the runtime can't. When its
    /// state can't be written it is paused still.
    pub async fn resume(&self) -> Result<()> {
        self.locked("resume", |locked| {
            locked.require(&[State::Paused])?;
            let container = locked.container().clone();
            crate::point("resume.before-run")?;
            let ran = container.driver().run("resume", ["resume", container.id().as_str()], &[]);
            let done = ran
                .and_then(|_| crate::point("resume.after-run"))
                .and_then(|()| locked.transition(Transition::Resumed, Happened::Resumed, |_| {}));
            done.inspect_err(|_| go_back(&container))
        })
        .await
    }
}

/// What was done in part, or could not be written down: the kernel goes back to what the record says. Where that fails too, it is
/// recovery's.
fn go_back(container: &Container) {
    let Ok(record) = container.dir().load("pause") else { return };
    let command = match (record.state, frozen(&record)) {
        (State::Running, true) => "resume",
        (State::Paused, false) => "pause",
        _ => return,
    };
    if let Err(error) = container.driver().run(command, [command, record.id.as_str()], &[]) {
        tracing::warn!(container = %record.id, %error, "not as its record says until it is recovered");
    }
}

/// Whether its processes are frozen; false where nobody can tell.
pub(crate) fn frozen(record: &Record) -> bool {
    let Some(dir) = record.own_group().and_then(|group| group.dir("freezer")) else { return false };
    let says = |file: &str, words: &[&str]| {
        std::fs::read_to_string(dir.join(file)).is_ok_and(|text| words.iter().any(|word| text.contains(word)))
    };
    says("freezer.state", &["FROZEN", "FREEZING"]) || says("cgroup.events", &["frozen 1"])
}

/// Makes the record agree with the kernel, when a pause or resume was interrupted between the two.
pub(crate) fn reconcile(locked: &mut Locked) -> Result<()> {
    match (locked.record().state, frozen(locked.record())) {
        (State::Running, true) => locked.transition(Transition::Paused, Happened::Paused, |_| {}),
        (State::Paused, false) if locked.record().own_group().is_some() => {
            locked.transition(Transition::Resumed, Happened::Resumed, |_| {})
        }
        _ => Ok(()),
    }
}
