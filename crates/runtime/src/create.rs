//! Create: a transaction of steps under one deadline.
//!
//! ```text
//! read bundle → reserve (directory, lock, id, name) → monitor cgroup → monitor process → its answer
//!             → the init is verified → state Created: the commit point
//! ```
//! What each step made is told by the record that was saved before it, so an undo after an error, and one by
//! another process after our death, are the same.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use model::{Id, State, Transition};
use sys::Ctx as _;
use sys::lock::FileLock;
use tokio::sync::oneshot;

use crate::blocking::Going;
use crate::bundle::{Bundle, cgroup_dir};
use crate::cgroups::Group;
use crate::cleanup::{release_name, remove_dir, remove_tree, undo_create};
use crate::clock::{boot_id, now_ns};
use crate::config::CgroupManager;
use crate::container::{Locked, Mark};
use crate::dir::Dir;
use crate::driver::Driver;
use crate::event::Happened;
use crate::handler::Handler;
use crate::record::{Process, Record};
use crate::runtimes::Inner;
use crate::{Container, CreateRequest, Error, GivenUp, Result, Runtimes, blocking, point};

mod monitor;

const OP: &str = "create";
/// How long the runtime's delete may take in an undo.
const UNDO_TIMEOUT: Duration = Duration::from_secs(30);

impl Runtimes {
    /// Makes a container: its init exists and waits for [`Container::start`].
    ///
    /// If the caller is dropped, the create is given up and undone in the background. On an error nothing
    /// is left.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Invalid`] for the request or its bundle, [`Error::Step`] with the step
    /// that failed and the runtime's own message.
    pub async fn create(&self, request: CreateRequest) -> Result<Container> {
        let handler = match &request.handler {
            Some(name) => self.handler(name)?,
            None => self.default_handler()?,
        };
        let inner = self.inner().clone();
        let id = request.id.clone();
        let given_up = GivenUp::new();
        let flag = given_up.flag();
        let (sender, receiver) = oneshot::channel();
        // Ends by the deadline and its undo; the caller that waits for it may be gone.
        let going = Going::begin();
        tokio::spawn(async move {
            let result = blocking::long(move || create(&inner, &handler, request, &flag)).await;
            // A caller that is gone drops what it did not take.
            let _ = sender.send(result.map(|container| Unclaimed(Some((container, going)))));
        });
        let result = receiver.await.map_err(|_| Error::Cancelled { op: OP, object: id.to_string() })?;
        let mut unclaimed = result?;
        let (container, _going) =
            unclaimed.0.take().ok_or_else(|| Error::Cancelled { op: OP, object: id.to_string() })?;
        container.watch();
        Ok(container)
    }
}

/// A container that its caller has not taken yet: deleted if it never does.
struct Unclaimed(Option<(Container, Going)>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        let (Some((container, going)), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        runtime.spawn(async move {
            let _going = going;
            if let Err(error) = container.delete(true).await {
                tracing::warn!(container = %container.id(), %error, "can't undo a create that was given up");
            }
        });
    }
}

/// A create that goes on.
pub(crate) struct Creation<'a> {
    inner: &'a Arc<Inner>,
    handler: &'a Handler,
    request: &'a CreateRequest,
    dir: Dir,
    record: Record,
    begin: Instant,
    timeout: Duration,
    given_up: &'a AtomicBool,
    /// More arguments for the monitor: what to restore from.
    more: Vec<OsString>,
}

fn create(
    inner: &Arc<Inner>,
    handler: &Handler,
    mut request: CreateRequest,
    given_up: &AtomicBool,
) -> Result<Container> {
    let begin = Instant::now();
    let systemd = handler.cgroup_manager() == CgroupManager::Systemd;
    let dir = inner.root.dir(&request.id);
    match request.log.as_mut().filter(|log| is_file_name(log)) {
        Some(log) => *log = dir.path().join(&log),
        None => check_log(&request)?,
    }
    let bundle = Bundle::read(&request, dir.path(), systemd)?;
    let timeout = handler.config().create_timeout;
    let timeout = request.deadline.map_or(timeout, |wanted| wanted.min(timeout));
    let record = first_record(handler, &request, &bundle)?;
    let request = &request;
    let mut creation =
        Creation { inner, handler, request, dir, record, begin, timeout, given_up, more: Vec::new() };
    let lock = creation.reserve(&bundle)?;
    match creation.steps() {
        Ok(()) => creation.commit(lock),
        Err(error) => Err(creation.undo(error)),
    }
}

/// Whether it is a name without a directory, as a log in the container's own directory has it.
fn is_file_name(path: &Path) -> bool {
    path.file_name() == Some(path.as_os_str())
        && path.to_str().is_some_and(|name| !name.contains([':', '\n']))
}

fn check_log(request: &CreateRequest) -> Result<()> {
    let Some(log) = &request.log else { return Ok(()) };
    let bad = |cause: &str| Error::invalid(OP, format!("{}: log {}", request.id, log.display()), cause);
    if !log.is_absolute() {
        return Err(bad("is no absolute path, nor a file name"));
    }
    if log.to_str().is_none_or(|text| text.contains([':', '\n', '\0'])) {
        return Err(bad("has a colon, a newline or what is no UTF-8, which a monitor can't take"));
    }
    if log.is_dir() {
        return Err(bad("is a directory"));
    }
    if log.parent().is_none_or(|parent| !parent.is_dir()) {
        return Err(bad("is in no directory"));
    }
    Ok(())
}

/// The cgroup of a container's monitor; systemd's is known when it is made.
fn monitor_group(handler: &Handler, id: &Id) -> Option<String> {
    let parent = handler.config().monitor.cgroup.as_deref().unwrap_or("/wharfinger-monitor");
    let by_us = handler.cgroup_manager() != CgroupManager::Systemd;
    by_us.then(|| format!("{}/{id}", parent.trim_end_matches('/')))
}

fn first_record(handler: &Handler, request: &CreateRequest, bundle: &Bundle) -> Result<Record> {
    let mut monitor = handler.monitor_record();
    monitor.cgroup = monitor_group(handler, &request.id);
    let group = cgroup_dir(&bundle.cgroup, &request.id);
    let shared_group = Group::at(&group).is_none_or(|group| !group.pids().is_empty());
    Ok(Record {
        version: Record::VERSION,
        id: request.id.clone(),
        name: request.name.clone(),
        maker: Some(Process::own()?),
        boot_id: boot_id()?,
        state: State::Creating,
        handler: handler.record(),
        monitor,
        init: None,
        created_ns: now_ns(),
        starting_ns: None,
        started_ns: None,
        ended: None,
        bundle: bundle.path.clone(),
        log: request.log.clone(),
        log_made: request.log.as_ref().is_some_and(|log| !log.exists()),
        io: request.io,
        cgroup: bundle.cgroup.clone(),
        group,
        shared_group,
        labels: request.labels.clone(),
        annotations: request.annotations.clone(),
        stop: None,
        deleting: false,
        seq: 0,
        last_event: None,
    })
}

impl<'a> Creation<'a> {
    /// The monitor's steps once more, for a container that has its directory and ended.
    pub(crate) fn again(
        inner: &'a Arc<Inner>,
        handler: &'a Handler,
        request: &'a CreateRequest,
        record: Record,
        given_up: &'a AtomicBool,
    ) -> Self {
        let mut record = record;
        record.init = None;
        record.monitor = handler.monitor_record();
        record.monitor.cgroup = monitor_group(handler, &record.id);
        let dir = inner.root.dir(&request.id);
        let (begin, timeout, more) = (Instant::now(), handler.config().create_timeout, Vec::new());
        Self { inner, handler, request, dir, record, begin, timeout, given_up, more }
    }

    /// Lets the runtime restore instead of create.
    pub(crate) fn restore_from(&mut self, images: PathBuf, tcp_established: bool) {
        self.more = vec!["--restore".into(), images.into()];
        if tcp_established {
            self.more.push("--runtime-opt=--tcp-established".into());
        }
    }

    /// The record, as far as it came.
    pub(crate) fn into_record(self) -> Record {
        self.record
    }
}

impl Creation<'_> {
    fn id(&self) -> &Id {
        &self.request.id
    }

    fn step<T>(&self, step: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| Error::Step { id: self.id().to_string(), step, source: Box::new(error) })
    }

    /// Makes the directory and takes the id and the name. Whoever sees the directory finds it locked.
    fn reserve(&self, bundle: &Bundle) -> Result<FileLock> {
        const STEP: &str = "reserve";
        let temp = self.temp_dir();
        let made = self.fill(&temp, bundle);
        let lock = match self.step(STEP, made) {
            Ok(lock) => lock,
            Err(error) => {
                // Swept by recovery if it can't be removed now; the first error is the one to tell.
                let _ = remove_tree(&temp);
                return Err(error);
            }
        };
        if let Err(error) = self.publish(&temp) {
            let _ = remove_tree(&temp);
            return Err(error);
        }
        if let Err(error) = self.take_name() {
            // The directory is ours and holds nothing yet.
            let _ = remove_dir(&self.inner.root, &self.dir);
            return Err(error);
        }
        Ok(lock)
    }

    fn temp_dir(&self) -> PathBuf {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let start = sys::proc::start_time(i32::try_from(pid).unwrap_or(0)).unwrap_or(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.inner.root.path().join(format!(".new-{pid}-{start}-{number}-{}", self.id()))
    }

    fn fill(&self, temp: &std::path::Path, bundle: &Bundle) -> Result<FileLock> {
        use std::os::unix::fs::DirBuilderExt as _;
        point("create.begin")?;
        std::fs::DirBuilder::new().mode(0o700).create(temp).ctx("mkdir", temp)?;
        let dir = self.dir.at(temp.to_owned());
        let lock = FileLock::acquire(dir.file("lock"))?;
        point("create.dir-made")?;
        let config = serde_json::to_vec(&bundle.config)
            .map_err(|error| Error::invalid("write", dir.file("config.json").display(), error))?;
        std::fs::create_dir(dir.file("exits")).ctx("mkdir", dir.file("exits"))?;
        sys::durable::replace_path(dir.file("config.json"), &config, 0o600)?;
        dir.save(&self.record)?;
        point("create.before-visible")?;
        Ok(lock)
    }

    /// Gives the directory its name, which is the id's reservation.
    fn publish(&self, temp: &std::path::Path) -> Result<()> {
        let taken = || Error::Exists { op: OP, object: self.id().to_string(), what: "the id" };
        for _ in 0..2 {
            let cwd = rustix::fs::CWD;
            let flags = rustix::fs::RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(cwd, temp, cwd, self.dir.path(), flags) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error).ctx("rename", temp).map_err(Into::into),
            }
            // It may be what a dead process left half made.
            if !crate::recover::sweep_creating(self.inner, &self.dir)? {
                return Err(taken());
            }
        }
        Err(taken())
    }

    fn take_name(&self) -> Result<()> {
        let Some(name) = &self.record.name else { return Ok(()) };
        self.step("reserve name", point("create.before-name"))?;
        let root = &self.inner.root;
        let link = root.names().join(name.as_str());
        let _lock = root.lock()?;
        if let Some(other) = root.named(name)? {
            let owner = root.dir(&other).load(OP);
            if owner.is_ok_and(|record| record.name.as_ref() == Some(name) && record.id != *self.id()) {
                return Err(Error::Exists { op: OP, object: name.to_string(), what: "the name" });
            }
            // Left by a delete that was interrupted.
            sys::durable::remove(&link)?;
        }
        std::os::unix::fs::symlink(self.id().as_str(), &link).ctx("link", &link)?;
        Ok(())
    }

    fn driver(&self) -> Driver {
        Driver::new(&self.record.handler, &self.dir, self.inner.config.command_timeout)
    }

    /// The commit point: from here on it is a container.
    fn commit(self, lock: FileLock) -> Result<Container> {
        let container =
            Container::new(self.inner.clone(), self.dir.clone(), self.record.clone(), Mark::default());
        let mut before = self.record.clone();
        before.state = State::Creating;
        let mut locked = Locked::adopt(container.clone(), OP, before, lock);
        let record = self.record.clone();
        let committed = locked.transition(Transition::Created, Happened::Created, |saved| {
            saved.init = record.init;
            saved.monitor = record.monitor.clone();
            saved.shared_group = record.shared_group;
        });
        let sized = committed.and_then(|()| match self.request.io {
            crate::Io::Terminal { size: Some(size) } => crate::attach::set_size(&self.dir, size),
            _ => Ok(()),
        });
        if let Err(error) = self.step("commit", sized) {
            let mut this = self;
            this.record = locked.record().clone();
            let error = this.undo(error);
            drop(locked);
            return Err(error);
        }
        self.inner.known().insert(container.id().clone(), container.clone());
        drop(locked);
        Ok(container)
    }

    /// Undoes everything; gives the error that was the reason.
    fn undo(&self, error: Error) -> Error {
        let driver = self.driver().within(UNDO_TIMEOUT.min(self.inner.config.command_timeout));
        let failed = undo_create(&self.inner.root, &self.dir, &self.record, &driver);
        for trouble in failed {
            tracing::warn!(container = %self.id(), error = %trouble, "undo of a create is left to recovery");
        }
        if self.record.state != State::Creating
            && let Err(trouble) = crate::delete::tell_deleted(&self.inner.root, &self.record)
        {
            tracing::warn!(container = %self.id(), error = %trouble, "can't tell that a create was undone");
        }
        // The name too: a create that failed before it was taken has none to release.
        let _ = release_name(&self.inner.root, &self.record);
        error
    }
}
