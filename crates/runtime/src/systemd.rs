//! systemd over D-Bus: the one thing asked of it here is a transient scope for a monitor.

use std::time::{Duration, Instant};

use zbus::Variant;

use crate::{Error, Result};

const OP: &str = "start scope";

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
    let manager = "org.freedesktop.systemd1.Manager";
    connection
        .call_method(
            Some("org.freedesktop.systemd1"),
            "/org/freedesktop/systemd1",
            Some(manager),
            "StartTransientUnit",
            &(unit, "fail", properties, others),
        )
        .await?;
    Ok(())
}
