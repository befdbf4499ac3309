//! Event streams on disk: one per container, and one for all that outlives them.
//!
//! An event is part of the record that it came with. It is appended to the streams after the record is
//! saved, and again by whoever next changes the container if that was interrupted: so none is lost, and a
//! reader leaves out what it has had.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use model::Id;
use sys::Ctx as _;
use sys::inotify::{Inotify, WatchFlags};
use sys::lock::FileLock;

use crate::dir::{Dir, Root};
use crate::event::{Event, Happened};
use crate::ready::Ready;
use crate::record::Record;
use crate::{Error, Result, Runtimes, blocking, point};

/// Bytes after which the common stream begins a new file; one old file is kept.
const ROTATE_AT: u64 = 32 << 20;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// Appends the record's last event to the streams unless it is there already.
pub(crate) fn publish(root: &Root, dir: &Dir, record: &Record) -> Result<()> {
    let Some(event) = &record.last_event else { return Ok(()) };
    let mut line = serde_json::to_vec(event).map_err(|error| Error::invalid("write", "event", error))?;
    line.push(b'\n');
    let own = dir.file("events");
    if ends_with(&own, &line)? {
        return Ok(());
    }
    point("event.before-common")?;
    append_line(root, &line)?;
    point("event.before-own")?;
    append(&own, &line)
}

/// Appends an event to the common stream alone.
pub(crate) fn append_common(root: &Root, event: &Event) -> Result<()> {
    let mut line = serde_json::to_vec(event).map_err(|error| Error::invalid("write", "event", error))?;
    line.push(b'\n');
    append_line(root, &line)
}

fn append_line(root: &Root, line: &[u8]) -> Result<()> {
    let _lock = FileLock::acquire(lock_path(root))?;
    rotate(root)?;
    append(&root.events(), line)
}

fn lock_path(root: &Root) -> PathBuf {
    root.path().join(".events.lock")
}

fn old_path(root: &Root) -> PathBuf {
    root.path().join(".events.1")
}

fn rotate(root: &Root) -> Result<()> {
    let path = root.events();
    if std::fs::metadata(&path).is_ok_and(|meta| meta.len() >= ROTATE_AT) {
        std::fs::rename(&path, old_path(root)).ctx("rename", &path)?;
    }
    Ok(())
}

/// Whether the file's end is `line`.
fn ends_with(path: &Path, line: &[u8]) -> Result<bool> {
    let mut file = match File::open(path).ctx("open", path) {
        Err(error) if error.is_gone() => return Ok(false),
        file => file?,
    };
    let size = file.metadata().ctx("stat", path)?.len();
    let Some(from) = size.checked_sub(u64::try_from(line.len()).unwrap_or(u64::MAX)) else {
        return Ok(false);
    };
    file.seek(SeekFrom::Start(from)).ctx("seek", path)?;
    let mut end = Vec::with_capacity(line.len());
    file.read_to_end(&mut end).ctx("read", path)?;
    Ok(end == line)
}

/// Appends a line; after a torn one (a full disk) it begins a line of its own.
fn append(path: &Path, line: &[u8]) -> Result<()> {
    let options = || OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = options().ctx("open", path)?;
    let size = file.metadata().ctx("stat", path)?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.seek(SeekFrom::Start(size - 1)).ctx("seek", path)?;
        file.read_exact(&mut last).ctx("read", path)?;
    }
    let mut bytes = Vec::with_capacity(line.len() + 1);
    if last != *b"\n" {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(line);
    file.write_all(&bytes).ctx("write", path)?;
    Ok(())
}

/// The events of all containers, in order. Nothing is left out silently: a reader that is so far behind
/// that events were thrown away gets an error, once, and goes on with what there is.
#[derive(Debug)]
pub struct Events {
    root: Root,
    since_ns: u64,
    /// The file that is read, its inode, and how far.
    file: Option<(File, u64)>,
    part: Vec<u8>,
    ready: VecDeque<Event>,
    /// The last number had of each container.
    had: HashMap<(Id, u64), u64>,
    inotify: Inotify,
    woken: Ready,
}

/// The events whose lines `bytes` end; what is left of the last line stays in `part`.
pub(crate) fn events_in(part: &mut Vec<u8>, bytes: &[u8]) -> Vec<Event> {
    part.extend_from_slice(bytes);
    let Some(end) = part.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let rest = part.split_off(end + 1);
    let lines = std::mem::replace(part, rest);
    // A line that is no event is the torn half of one that comes again.
    lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

impl Runtimes {
    /// The events from `since_ns` (nanoseconds since the epoch) on; 0: all that are kept. With
    /// [`Events::next`] it goes on for ever, with [`Events::try_next`] it ends at what has happened so far.
    ///
    /// # Errors
    /// [`Error::Sys`] when the stream can't be opened.
    pub async fn events(&self, since_ns: u64) -> Result<Events> {
        let root = self.inner().root.clone();
        let inotify = Inotify::new()?;
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify.add(root.path(), what)?;
        let woken = Ready::of(&inotify)?;
        let (part, ready, had) = (Vec::new(), VecDeque::new(), HashMap::new());
        Ok(Events { root, since_ns, file: None, part, ready, had, inotify, woken })
    }
}

impl Events {
    /// The next event; waits for it. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Sys`] when the stream can't be read, or when events were thrown away before they were read.
    pub async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.try_next().await? {
                return Ok(event);
            }
            self.woken.woken().await?;
            // What happened is told by the files; this only empties the queue.
            self.inotify.take()?;
        }
    }

    /// The next event if it is there already. Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn try_next(&mut self) -> Result<Option<Event>> {
        loop {
            while let Some(event) = self.ready.pop_front() {
                if self.is_new(&event) {
                    return Ok(Some(event));
                }
            }
            let root = self.root.clone();
            let from = self.file.as_ref().map(|(file, inode)| (file.try_clone(), *inode));
            let read = blocking::quick(move || {
                let from = match from {
                    Some((file, inode)) => Some((file.ctx("open", root.events())?, inode)),
                    None => None,
                };
                read(&root, from)
            })
            .await?;
            match read {
                Read::Nothing => return Ok(None),
                Read::File { file, inode, gap } => {
                    self.file = Some((file, inode));
                    self.part.clear();
                    if gap {
                        let cause = "events were thrown away before they were read";
                        return Err(sys::Error::other("read", self.root.events(), cause).into());
                    }
                }
                Read::Bytes(bytes) => self.ready.extend(events_in(&mut self.part, &bytes)),
            }
        }
    }

    fn is_new(&mut self, event: &Event) -> bool {
        let key = (event.id.clone(), event.created_ns);
        if self.had.get(&key).is_some_and(|seq| event.seq <= *seq) {
            return false;
        }
        self.had.insert(key, event.seq);
        if self.had.len() > 4096 && event.happened == Happened::Deleted {
            // Far more than live at once: those that are gone can come again only at once.
            self.had.retain(|(id, _), _| self.root.dir(id).path().exists());
        }
        event.time_ns >= self.since_ns
    }
}

enum Read {
    Nothing,
    Bytes(Vec<u8>),
    File { file: File, inode: u64, gap: bool },
}

/// Reads on, or opens the next file. Clones of a file share their position.
fn read(root: &Root, from: Option<(File, u64)>) -> Result<Read> {
    let Some((mut file, inode)) = from else {
        return Ok(match open(&old_path(root))?.or(open(&root.events())?) {
            Some((file, inode)) => Read::File { file, inode, gap: false },
            None => Read::Nothing,
        });
    };
    // First the question, then the reading: who appends holds the lock that the renaming needs.
    let current = open(&root.events())?;
    let mut bytes = vec![0; CHUNK];
    let n = file.read(&mut bytes).ctx("read", root.events())?;
    bytes.truncate(n);
    if n > 0 {
        return Ok(Read::Bytes(bytes));
    }
    match current {
        Some((_, now)) if now == inode => Ok(Read::Nothing),
        None => Ok(Read::Nothing),
        Some((file, now)) => Ok(match open(&old_path(root))? {
            Some((_, old)) if old == inode => Read::File { file, inode: now, gap: false },
            Some((file, inode)) => Read::File { file, inode, gap: true },
            None => Read::File { file, inode: now, gap: true },
        }),
    }
}

fn open(path: &Path) -> Result<Option<(File, u64)>> {
    match File::open(path).ctx("open", path) {
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error.into()),
        Ok(file) => {
            let inode = file.metadata().ctx("stat", path)?.ino();
            Ok(Some((file, inode)))
        }
    }
}
