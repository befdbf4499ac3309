//! Reads a container's log: its past, and, when following, what comes until the container is over.
//!
//! Records that are pieces of one line are joined. Rotated files are read before the file itself; a
//! rotation while reading is followed, and nothing that was written before it is lost.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use rustix::fs::inotify;
use sys::Ctx as _;
use tokio::io::unix::AsyncFd;

use self::read::{Core, Pumped};
use crate::blocking;
use crate::container::Container;
use crate::{Error, Result};

mod files;
mod join;
mod read;

pub use self::join::{LINE_MAX, LogLine};
pub(crate) use self::read::lines_of;

/// What is wanted of a log.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Go on until the container is over.
    pub follow: bool,
    /// Only lines of this time or later, in nanoseconds since the epoch.
    pub since_ns: Option<u64>,
    /// Only lines before this time.
    pub until_ns: Option<u64>,
    /// Only the last so many lines of those that are there at the beginning.
    pub tail: Option<usize>,
}

/// Lines of a log, one after the other. Dropping it in the middle costs nothing.
pub struct LogReader {
    path: PathBuf,
    follow: bool,
    lines: VecDeque<LogLine>,
    step: Step,
    /// Resolves when nothing more will be written.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    watch: Option<AsyncFd<OwnedFd>>,
}

type Work = Pin<Box<dyn Future<Output = Result<(Core, Pumped)>> + Send>>;

enum Step {
    /// There may be more to read.
    Idle(Option<Core>),
    /// All was read that was there.
    Waiting(Option<Core>),
    /// A read goes on; `last` when nothing was to be written any more as it began.
    Reading {
        work: Work,
        last: bool,
    },
    Done,
}

impl fmt::Debug for LogReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogReader")
            .field("path", &self.path)
            .field("follow", &self.follow)
            .finish_non_exhaustive()
    }
}

impl Container {
    /// Reads its log.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when its output is not kept; [`Error::Sys`] when the log can't be opened.
    pub async fn logs(&self, options: LogOptions) -> Result<LogReader> {
        let Some(path) = self.record().log.clone() else {
            return Err(Error::unsupported("read log of", self.id(), "its output is not kept"));
        };
        let container = self.clone();
        let over = async move {
            // However it ended, or that it is deleted: nothing more comes.
            let _ = container.wait().await;
        };
        LogReader::open(path, options, over).await
    }
}

impl LogReader {
    /// Reads the log at `path`, of which nothing more will be written once `over` resolves. A file that is
    /// not there (yet) is an empty one.
    ///
    /// # Errors
    /// [`Error::Sys`] when the directory or the file can't be read.
    pub async fn open(
        path: impl Into<PathBuf>,
        options: LogOptions,
        over: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self> {
        let path = path.into();
        // Watched before the first read, so that no write falls between.
        let watch = if options.follow { Some(watch(&path)?) } else { None };
        let (follow, opened) = (options.follow, path.clone());
        let core = blocking::quick(move || Core::open(&opened, options)).await?;
        Ok(Self {
            path,
            follow,
            lines: VecDeque::new(),
            step: Step::Idle(Some(core)),
            over: Box::pin(over),
            is_over: false,
            watch,
        })
    }

    /// The next line; none when there is no more, and, when following, the container is over. Safe to be
    /// cancelled: no line is lost.
    ///
    /// # Errors
    /// [`Error::Sys`] when the log can't be read; the reader is at its end then.
    pub async fn next(&mut self) -> Result<Option<LogLine>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            match &mut self.step {
                Step::Done => return Ok(None),
                Step::Idle(core) => {
                    let Some(core) = core.take() else { return Ok(None) };
                    let last = self.is_over || !self.follow;
                    self.step = Step::Reading { work: pump(core, last), last };
                }
                Step::Reading { work, last } => {
                    let last = *last;
                    let read = work.await;
                    self.step = Step::Done;
                    let (core, pumped) = read?;
                    self.lines.extend(pumped.lines);
                    if last && pumped.at_end {
                        continue;
                    }
                    self.step =
                        if pumped.at_end { Step::Waiting(Some(core)) } else { Step::Idle(Some(core)) };
                }
                Step::Waiting(core) => {
                    if self.is_over {
                        self.step = Step::Idle(core.take());
                        continue;
                    }
                    tokio::select! {
                        () = &mut self.over => self.is_over = true,
                        changed = changed(self.watch.as_ref(), &self.path) => changed?,
                    }
                    self.step = Step::Idle(core.take());
                }
            }
        }
    }
}

fn pump(mut core: Core, last: bool) -> Work {
    Box::pin(blocking::quick(move || {
        let pumped = core.pump(last)?;
        Ok((core, pumped))
    }))
}

/// Watches the directory: for writes to the file, and for another file that gets its name.
fn watch(path: &Path) -> Result<AsyncFd<OwnedFd>> {
    use inotify::{CreateFlags, WatchFlags};
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ctx("make", "inotify")?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
    inotify::add_watch(&fd, dir, events).ctx("watch", dir)?;
    #[expect(deprecated, reason = "its replacement is unsafe for types in general; an OwnedFd is always fit")]
    let watch = AsyncFd::new(fd).ctx("watch", dir)?;
    Ok(watch)
}

/// Waits until something happened to a file whose name begins with the log's.
async fn changed(watch: Option<&AsyncFd<OwnedFd>>, path: &Path) -> Result<()> {
    let Some(watch) = watch else { return std::future::pending().await };
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    loop {
        let mut ready = watch.readable().await.ctx("watch", path)?;
        if drain(watch.get_ref(), name, path)? {
            return Ok(());
        }
        ready.clear_ready();
    }
}

/// Takes all events that are there; true when one is about `name` or a name that begins with it.
fn drain(fd: &OwnedFd, name: &[u8], path: &Path) -> Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    let mut ours = false;
    loop {
        match reader.next() {
            Ok(event) => {
                let about = event.file_name().is_none_or(|file| file.to_bytes().starts_with(name));
                ours |= about || event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(ours),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Ok(Err(error).ctx("watch", path)?),
        }
    }
}
