//! Checkpoint and restore, by the runtime and criu.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use model::State;
use sys::Ctx as _;

use crate::cleanup::{What, destroy};
use crate::clock::now_ns;
use crate::config::find_program;
use crate::container::Locked;
use crate::create::Creation;
use crate::driver::Driver;
use crate::event::Happened;
use crate::process::{Program, args, said};
use crate::{CheckpointRequest, Container, CreateRequest, Error, Result, point};

const CHECKPOINT: &str = "checkpoint";
const RESTORE: &str = "restore";
/// How long criu may take to say whether it works here.
const CHECK_TIMEOUT: Duration = Duration::from_secs(20);

impl Container {
    /// Saves the container's processes with criu. Unless they are left running, the container ends with it.
    /// Goes to its end even if the caller is dropped.
    ///
    /// # Errors
    /// [`Error::State`] unless it is running or paused; [`Error::Unsupported`] where criu can't;
    /// [`Error::Runtime`] with the runtime's message.
    pub async fn checkpoint(&self, request: CheckpointRequest) -> Result<()> {
        self.locked(CHECKPOINT, move |locked| checkpoint(locked, &request)).await
    }

    /// Brings an exited container back from a checkpoint: its program goes on.
    ///
    /// # Errors
    /// [`Error::State`] unless it is exited; [`Error::NotFound`] without images; [`Error::Invalid`] if others than root and
    /// we can write them; else as [`Self::checkpoint`].
    pub async fn restore(&self, request: CheckpointRequest) -> Result<()> {
        self.locked(RESTORE, move |locked| restore(locked, &request)).await?;
        self.watch();
        Ok(())
    }
}

fn checkpoint(locked: &mut Locked, request: &CheckpointRequest) -> Result<()> {
    locked.require(&[State::Running, State::Paused])?;
    let container = locked.container().clone();
    let images = std::path::absolute(&request.images).ctx("resolve", &request.images)?;
    crate::dir::make_dirs(&images)?;
    point("checkpoint.begin")?;
    let work = container.dir().path();
    let mut command = args([CHECKPOINT, "--image-path"]);
    command.extend([images.as_os_str().to_owned(), "--work-path".into(), work.into()]);
    if request.leave_running {
        command.push("--leave-running".into());
    }
    if request.tcp_established {
        command.push("--tcp-established".into());
    }
    command.push(container.id().as_str().into());
    container
        .driver()
        .run(CHECKPOINT, command, &[])
        .map_err(|error| explain(CHECKPOINT, locked.record().id.as_str(), error))?;
    locked.change(Some(Happened::Checkpointed), |_| {})
}

/// The reason behind a failure, if it is that criu does not work here at all.
fn explain(op: &'static str, id: &str, error: Error) -> Error {
    let Some(criu) = find_program(Path::new("criu")) else {
        return Error::unsupported(op, id, "criu is not installed");
    };
    let check = Program {
        op,
        object: "criu",
        path: &criu,
        args: args(["check"]),
        stdin: &[],
        timeout: CHECK_TIMEOUT,
        stdout_max: 64 << 10,
    };
    match check.run() {
        Ok(ran) if !ran.status.success() => {
            let words = format!("criu does not work here: {}", said(&ran.stderr));
            Error::unsupported(op, id, words)
        }
        _ => error,
    }
}

fn restore(locked: &mut Locked, request: &CheckpointRequest) -> Result<()> {
    locked.require(&[State::Exited])?;
    let container = locked.container().clone();
    let inner = container.shared().runtimes.clone();
    let handler = inner.handler(&locked.record().handler.name)?;
    let images = std::path::absolute(&request.images).ctx("resolve", &request.images)?;
    if !images.is_dir() {
        return Err(Error::not_found(RESTORE, images.display()));
    }
    crate::images::check(RESTORE, &images)?;
    point("restore.begin")?;
    let dir = container.dir();
    let driver = || Driver::new(&locked.record().handler, dir, inner.config.command_timeout);
    // The runtime still has the one that ended, under the id that the new one needs.
    let left = destroy(dir, locked.record(), &driver(), What::Container);
    if let Some(error) = left.into_iter().next() {
        return Err(error);
    }
    for file in ["exit.json", "exit", "oom", "pidfile", "monitor.pid", "attach", "ctl", "winsz"] {
        sys::durable::remove(dir.file(file))?;
    }
    sys::durable::remove(dir.file("exits").join(dir.id().as_str()))?;
    let mut again = CreateRequest::new(dir.id().clone(), &locked.record().bundle);
    again.io = locked.record().io;
    let given_up = AtomicBool::new(false);
    let mut creation = Creation::again(&inner, &handler, &again, locked.record().clone(), &given_up);
    creation.restore_from(images, request.tcp_established);
    match creation.steps() {
        Ok(()) => {
            let made = creation.into_record();
            locked.change(Some(Happened::Restored), |record| {
                record.state = State::Running;
                record.init = made.init;
                record.monitor = made.monitor;
                record.started_ns = Some(now_ns());
                record.ended = None;
                record.stop = None;
            })
        }
        Err(error) => {
            let failed = destroy(dir, &creation.into_record(), &driver(), What::Create);
            for trouble in failed {
                tracing::warn!(container = %dir.id(), error = %trouble, "after a failed restore");
            }
            Err(explain(RESTORE, dir.id().as_str(), error))
        }
    }
}
