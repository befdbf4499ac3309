//! A container: a handle that is cheap to clone, and the one way to change what is known of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use model::{Id, Name, State, Transition};
use sys::lock::FileLock;
use tokio::sync::watch;

use crate::blocking;
use crate::dir::Dir;
use crate::event::{Event, Happened};
use crate::record::Record;
use crate::runtimes::Inner;
use crate::status::{Ended, Status};
use crate::{Error, Result};

/// A container. Clones are the same container.
#[derive(Clone)]
pub struct Container {
    shared: Arc<Shared>,
}

/// What the clones share.
pub(crate) struct Shared {
    pub(crate) dir: Dir,
    pub(crate) runtimes: Arc<Inner>,
    /// The record as last seen, with its file's identity; swapped whole.
    seen: Mutex<Seen>,
    /// Told whenever `seen` changes; true once the container is deleted.
    changed: watch::Sender<bool>,
    /// Operations of this process on this container, one at a time: only one waits for the file lock.
    turn: Arc<tokio::sync::Mutex<()>>,
    watched: AtomicBool,
}

impl Shared {
    /// True for the one who shall watch.
    pub(crate) fn begin_watch(&self) -> bool {
        !self.watched.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    pub(crate) fn end_watch(&self) {
        self.watched.store(false, Ordering::Release);
    }
}

#[derive(Clone)]
struct Seen {
    record: Arc<Record>,
    status: Arc<Status>,
    mark: Mark,
}

/// Tells one state.json from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark {
    inode: u64,
    mtime: (i64, i64),
    size: i64,
}

impl Mark {
    pub(crate) fn of(dir: &Dir) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let meta = std::fs::metadata(dir.state()).ok()?;
        let size = i64::try_from(meta.size()).unwrap_or(i64::MAX);
        Some(Self { inode: meta.ino(), mtime: (meta.mtime(), meta.mtime_nsec()), size })
    }
}

impl std::fmt::Debug for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Container").field(&self.id().as_str()).finish()
    }
}

impl Container {
    /// `mark` is of before `record` was read: what replaced it meanwhile is read with the next look.
    pub(crate) fn new(runtimes: Arc<Inner>, dir: Dir, record: Record, mark: Mark) -> Self {
        let seen = Seen { status: Arc::new(record.status()), record: Arc::new(record), mark };
        let shared = Shared {
            dir,
            runtimes,
            seen: Mutex::new(seen),
            changed: watch::Sender::new(false),
            turn: Arc::default(),
            watched: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn from_shared(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Id {
        self.shared.dir.id()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.record().name.clone()
    }

    /// Its status: a snapshot. Costs one stat(2), and a read when another process changed the container.
    /// Forks nothing and waits for no lock.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.refresh();
        self.seen().status.clone()
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is deleted meanwhile without having ended in our sight.
    pub async fn wait(&self) -> Result<Ended> {
        let mut changed = self.shared.changed.subscribe();
        self.watch();
        loop {
            self.refresh();
            if let Some(ended) = self.seen().status.ended.clone() {
                return Ok(ended);
            }
            if *changed.borrow_and_update() || changed.changed().await.is_err() {
                return Err(Error::not_found("wait", self.id()));
            }
        }
    }

    /// The record as last seen.
    pub(crate) fn record(&self) -> Arc<Record> {
        self.seen().record.clone()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.shared.dir
    }

    /// Told at each change of the record that this process sees; the value is true once it is deleted.
    pub(crate) fn changes(&self) -> watch::Receiver<bool> {
        self.shared.changed.subscribe()
    }

    fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the record again if another process replaced it.
    pub(crate) fn refresh(&self) {
        let Some(mark) = Mark::of(self.dir()) else { return };
        if mark == self.seen().mark {
            return;
        }
        // A record that can't be read just now leaves what was seen before.
        let Ok(record) = self.dir().load("status") else { return };
        if self.is(&record) {
            self.put(record, mark);
        } else {
            self.shared.runtimes.forget_this(self);
        }
    }

    /// Whether `record` is this container's, and not that of a later one with the same id.
    fn is(&self, record: &Record) -> bool {
        record.created_ns == self.seen().record.created_ns
    }

    /// The record as it is now.
    ///
    /// # Errors
    /// [`Error::NotFound`] once it is deleted, even if there is another with its id.
    pub(crate) fn present(&self, op: &'static str) -> Result<Arc<Record>> {
        if self.is_there() { Ok(self.record()) } else { Err(Error::not_found(op, self.id())) }
    }

    /// Whether it is still there: neither deleted nor replaced by another with its id.
    pub(crate) fn is_there(&self) -> bool {
        self.refresh();
        !*self.shared.changed.borrow() && self.dir().state().exists()
    }

    fn put(&self, record: Record, mark: Mark) {
        let seen = Seen { status: Arc::new(record.status()), record: Arc::new(record), mark };
        *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        self.shared.changed.send_if_modified(|_| true);
    }

    /// Tells those that wait that it is deleted.
    pub(crate) fn mark_deleted(&self) {
        self.shared.changed.send_replace(true);
    }

    /// Does `work` with the container to itself: in turn among this process's operations, with the file
    /// lock held, and with the record read anew. The work goes to its end even if the caller is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the container is gone; the work's own.
    pub(crate) async fn locked<T: Send + 'static>(
        &self,
        op: &'static str,
        work: impl FnOnce(&mut Locked) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = self.shared.turn.clone().lock_owned().await;
        let container = self.clone();
        blocking::long(move || {
            let mut locked = container.lock(op)?;
            let result = work(&mut locked);
            drop(locked);
            drop(turn);
            result
        })
        .await
    }

    /// The blocking half of [`Self::locked`].
    pub(crate) fn lock(&self, op: &'static str) -> Result<Locked> {
        let lock = self.dir().lock(op)?;
        let record = self.dir().load(op)?;
        if !self.is(&record) {
            self.shared.runtimes.forget_this(self);
            return Err(Error::not_found(op, self.id()));
        }
        Ok(Locked { container: self.clone(), op, record, _lock: lock })
    }
}

/// A container that nobody else changes meanwhile.
pub(crate) struct Locked {
    container: Container,
    op: &'static str,
    record: Record,
    _lock: FileLock,
}

impl Locked {
    pub(crate) fn adopt(container: Container, op: &'static str, record: Record, lock: FileLock) -> Self {
        Self { container, op, record, _lock: lock }
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// # Errors
    /// [`Error::State`] unless the state is one of `allowed`.
    pub(crate) fn require(&self, allowed: &[State]) -> Result<()> {
        if allowed.contains(&self.record.state) {
            return Ok(());
        }
        Err(Error::State { op: self.op, id: self.record.id.to_string(), state: self.record.state })
    }

    /// Makes `transition`, with what `also` changes in the record, durable and seen; `happened` becomes
    /// an event.
    ///
    /// # Errors
    /// [`Error::State`] where the state does not allow it; what writing gives.
    pub(crate) fn transition(
        &mut self,
        transition: Transition,
        happened: Happened,
        also: impl FnOnce(&mut Record),
    ) -> Result<()> {
        let Some(state) = self.record.state.after(transition) else {
            return Err(Error::State {
                op: self.op,
                id: self.record.id.to_string(),
                state: self.record.state,
            });
        };
        self.change(Some(happened), |record| {
            record.state = state;
            also(record);
        })
    }

    /// Changes the record: durable, then seen, then told as an event if something `happened`.
    pub(crate) fn change(
        &mut self,
        happened: Option<Happened>,
        with: impl FnOnce(&mut Record),
    ) -> Result<()> {
        let mut record = self.record.clone();
        crate::stream::publish(&self.container.shared.runtimes.root, self.container.dir(), &record)?;
        with(&mut record);
        if let Some(happened) = happened {
            record.seq += 1;
            record.last_event = Some(Event {
                id: record.id.clone(),
                created_ns: record.created_ns,
                seq: record.seq,
                time_ns: crate::clock::now_ns(),
                happened,
            });
        }
        crate::point("change.before-save")?;
        self.container.dir().save(&record)?;
        self.record = record.clone();
        self.container.put(record, Mark::of(self.container.dir()).unwrap_or_default());
        crate::point("change.after-save")?;
        crate::stream::publish(&self.container.shared.runtimes.root, self.container.dir(), &self.record)
    }
}
