//! Delete.

use model::State;

use crate::cleanup::{What, destroy, release_name, remove_dir};
use crate::clock::now_ns;
use crate::container::Locked;
use crate::dir::Root;
use crate::event::{Event, Happened};
use crate::record::Record;
use crate::{Container, Error, Result, point, stream};

const OP: &str = "delete";

impl Container {
    /// Removes the container: processes, cgroup, files, name. What is gone is deleted, and what was begun
    /// can be repeated. Goes to its end even if the caller is dropped.
    ///
    /// # Errors
    /// [`Error::State`] when it is alive and not `force`; [`Error::Many`] with all that could not be removed.
    pub async fn delete(&self, force: bool) -> Result<()> {
        match self.locked(OP, move |locked| delete(locked, force)).await {
            Err(Error::NotFound { .. }) => {
                self.shared().runtimes.forget_this(self);
                Ok(())
            }
            result => result,
        }
    }
}

/// Deletes a container that is held.
pub(crate) fn delete(locked: &mut Locked, force: bool) -> Result<()> {
    if !force && !locked.record().deleting {
        locked.require(&[State::Exited])?;
    }
    let container = locked.container().clone();
    let inner = container.shared().runtimes.clone();
    point("delete.begin")?;
    locked.change(None, |record| record.deleting = true)?;
    point("delete.marked")?;
    let init = locked.record().hold_init()?;
    let mut errors = destroy(container.dir(), locked.record(), &container.driver(), What::Container);
    if errors.is_empty()
        && let Err(error) = crate::watch::commit(locked, init.as_ref())
    {
        errors.push(error);
    }
    if errors.is_empty() {
        let finish = finish(&inner.root, locked);
        errors.extend(finish.err());
    }
    match errors.len() {
        0 => {
            inner.forget_this(&container);
            Ok(())
        }
        1 => Err(errors.remove(0)),
        _ => Err(Error::Many { op: OP, object: container.id().to_string(), causes: errors }),
    }
}

fn finish(root: &Root, locked: &mut Locked) -> Result<()> {
    if locked.record().last_event.as_ref().is_none_or(|event| event.happened != Happened::Deleted) {
        locked.change(Some(Happened::Deleted), |_| {})?;
    }
    point("delete.told")?;
    release_name(root, locked.record())?;
    point("delete.name-released")?;
    remove_dir(root, locked.container().dir())
}

/// Tells in the common stream that a container, whose directory is gone, is deleted.
pub(crate) fn tell_deleted(root: &Root, record: &Record) -> Result<()> {
    let event = Event {
        id: record.id.clone(),
        created_ns: record.created_ns,
        seq: record.seq + 1,
        time_ns: now_ns(),
        happened: Happened::Deleted,
    };
    stream::append_common(root, &event)
}
