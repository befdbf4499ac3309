//! systemd over D-Bus: a transient scope for a monitor, and the end of scopes.

use std::time::{Duration, Instant};

use zbus::Variant;

use crate::cgroups::Group;
use crate::{Error, Result};

const OP: &str = "start scope";
const DESTINATION: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// How long systemd may take to notice that a scope is empty, and to stop one when told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Puts the process `pid` into a new scope `unit` below `slice`, and returns when it is there.
///
/// Must be called on a thread that may block, of a tokio runtime.
///
/// # Errors
/// [`Error::Unsupported`] when systemd can't be reached or says no, [`Error::Timeout`].
pub(crate) fn start_scope(unit: &str, slice: &str, pid: i32, timeout: Duration) -> Result<()> {
    let end = Instant::now() + timeout;
    let timed_out = || Error::Timeout { op: OP, object: unit.to_owned(), after: timeout };
    let runtime =
        tokio::runtime::Handle::try_current().map_err(|error| Error::unsupported(OP, unit, error))?;
    runtime.block_on(async {
        let asked = tokio::time::timeout(timeout, ask(unit, slice, pid)).await;
        asked.map_err(|_| timed_out())?.map_err(|error| Error::unsupported(OP, unit, error))
    })?;
    // The job is done when the process is there; that is what is wanted, so that is what is looked at.
    while !sys::proc::cgroups(pid)?.iter().any(|line| line.path.ends_with(unit)) {
        if Instant::now() >= end {
            return Err(timed_out());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

async fn ask(unit: &str, slice: &str, pid: i32) -> zbus::Result<()> {
    let connection = zbus::Connection::system().await?;
    let pids = vec![u32::try_from(pid).unwrap_or(0)];
    let properties: Vec<(&str, Variant<'_>)> = vec![
        ("PIDs", Variant::from(pids)),
        ("Slice", Variant::from(slice)),
        ("Description", Variant::from("container monitor")),
        ("Delegate", Variant::from(false)),
        ("DefaultDependencies", Variant::from(false)),
        // A shutdown stops containers in their order; SIGPIPE is what a monitor does not mind.
        ("KillSignal", Variant::from(13_i32)),
        ("CollectMode", Variant::from("inactive-or-failed")),
    ];
    let others: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
    let arguments = (unit, "fail", properties, others);
    connection
        .call_method(Some(DESTINATION), OBJECT, Some(MANAGER), "StartTransientUnit", &arguments)
        .await?;
    Ok(())
}

/// Lets systemd take away the scope whose cgroup `group` is and has no process any more.
///
/// systemd keeps a scope for ever whose cgroup is removed before it has seen that it is empty. So it gets the
/// time to see it, and is told to stop the scope if it does not. What is there after that is the caller's.
pub(crate) fn forget_scope(group: &Group) {
    let path = group.path();
    let unit = path.rsplit('/').next().unwrap_or_default();
    if !unit.ends_with(".scope") || removed(group, PATIENCE) {
        return;
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    let told = runtime.block_on(async {
        tokio::time::timeout(PATIENCE, stop(unit)).await.is_ok_and(|answer| answer.is_ok())
    });
    if !told || !removed(group, PATIENCE) {
        tracing::warn!(unit, "systemd does not stop the scope");
    }
}

fn removed(group: &Group, timeout: Duration) -> bool {
    let end = Instant::now() + timeout;
    while !group.dirs().is_empty() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

async fn stop(unit: &str) -> zbus::Result<()> {
    let connection = zbus::Connection::system().await?;
    connection.call_method(Some(DESTINATION), OBJECT, Some(MANAGER), "StopUnit", &(unit, "replace")).await?;
    Ok(())
}
