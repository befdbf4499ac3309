//! Where the container's output goes: log drivers, several at once.
//!
//! Each read of the container's output is one batch: [`Logs::write`] hands it to every driver, which cuts it into
//! lines ([`lines`]) and writes those that are complete at once. An unfinished line is held back until its newline
//! comes; if nothing more of it comes for half a second, a file gets what is there as a piece (a prompt must be seen),
//! while the journal waits on, as conmon does. So a line that a fast writer's buffers or our reads cut in two is
//! still one line. No timer runs unless something is held back, has failed, or has memory to give back.

mod file;
pub(crate) mod harness;
mod journal;
mod lines;
mod out;
mod queue;
mod rotate;
mod sender;
pub mod spec;
mod stamp;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use self::file::FileLog;
use self::journal::Journal;
use self::out::Limits;
use self::rotate::Policy;
use self::spec::Driver;
use crate::{Error, Stream};

/// How long after the last output the buffers' memory is given back.
const TRIM: Duration = Duration::from_secs(1);

/// The options that concern logs, as the command line has them after its own checks.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--log-path`, in order, unparsed: `DRIVER:PATH`, a bare driver, or a bare path.
    pub paths: Vec<String>,
    /// `--cid`.
    pub cid: String,
    /// `--name`.
    pub name: Option<String>,
    /// `--log-size-max`; `None` for none or ≤ 0.
    pub size_max: Option<u64>,
    /// `--log-global-size-max`; `None` for none or ≤ 0.
    pub global_size_max: Option<u64>,
    /// `--log-tag`.
    pub tag: Option<String>,
    /// `--log-label`, unparsed.
    pub labels: Vec<String>,
    /// `--no-container-partial-message`.
    pub no_partial_message: bool,
    /// `--log-rotate`.
    pub rotate: bool,
    /// `--log-max-files`.
    pub max_files: u32,
    /// `--log-allowlist-dir`.
    pub allowlist: Vec<PathBuf>,
    /// `--no-sync-log`.
    pub no_sync: bool,
}

/// The open logs of one container.
#[derive(Debug)]
pub struct Logs {
    sinks: Vec<Sink>,
    passthrough: bool,
    sync: bool,
    /// When the last output came, or all began, until memory has been given back.
    active: Option<Instant>,
}

#[derive(Debug)]
enum Sink {
    File(Box<FileLog>),
    Journal(Box<Journal>),
}

impl Logs {
    /// Parses and opens all logs. Nothing but opening files happens here: it comes before any fork.
    ///
    /// # Errors
    /// [`Error::Usage`] with the texts of the contract's §9, [`Error::Io`] for a file that can't be opened.
    pub fn open(options: &Options) -> Result<Self, Error> {
        Self::open_with(options, Path::new(journal::SOCKET))
    }

    /// As [`Logs::open`], with the journal's socket at another place.
    ///
    /// # Errors
    /// As [`Logs::open`].
    pub fn open_with(options: &Options, journal: &Path) -> Result<Self, Error> {
        let drivers = spec::parse_all(options)?;
        let passthrough = drivers.contains(&Driver::Passthrough);
        let limits = Limits { size: options.size_max, global: options.global_size_max };
        let policy = if options.rotate {
            Policy::Rotate { backups: options.max_files, allowlist: options.allowlist.clone() }
        } else {
            Policy::Replace
        };
        let mut sinks = Vec::new();
        for driver in drivers {
            match driver {
                Driver::File(path) => {
                    let file = FileLog::open(&path, limits, policy.clone())?;
                    sinks.push(Sink::File(Box::new(file)));
                }
                Driver::Journald => sinks.push(Sink::Journal(Box::new(Journal::open(options, journal)?))),
                Driver::None | Driver::Passthrough => {}
            }
        }
        Ok(Self { sinks, passthrough, sync: !options.no_sync, active: Some(Instant::now()) })
    }

    /// Whether the container is to get the caller's own descriptors.
    #[must_use]
    pub fn passthrough(&self) -> bool {
        self.passthrough
    }

    /// Takes what was read of `stream` at once. Whole lines are written in one batch; an unfinished one is
    /// held back until its end comes, it is full, or [`Logs::flush_in`] has passed. Never fails: what could not be
    /// written is kept, retried, at last dropped, counted and marked.
    pub fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for sink in &mut self.sinks {
            match sink {
                Sink::File(file) => file.write(stream, bytes),
                Sink::Journal(journal) => journal.write(stream, bytes),
            }
        }
        self.active = Some(Instant::now());
    }

    /// How long from now until [`Logs::tick`] wants to be called; `None`: nothing is held back.
    #[must_use]
    pub fn flush_in(&self) -> Option<Duration> {
        let trim = self.active.map(|active| active + TRIM);
        let files = self.sinks.iter().map(|sink| match sink {
            Sink::File(file) => file.deadline(),
            Sink::Journal(journal) => journal.deadline(),
        });
        let next = files.chain([trim]).flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Writes what has been held back for long enough, retries what failed, gives memory back: whether it did the last.
    pub fn tick(&mut self) -> bool {
        let now = Instant::now();
        let trim = self.active.is_some_and(|active| now >= active + TRIM);
        for sink in &mut self.sinks {
            match sink {
                Sink::File(file) => {
                    file.tick(now);
                    if trim {
                        file.trim();
                    }
                }
                Sink::Journal(journal) => {
                    journal.tick(now);
                    if trim {
                        journal.trim();
                    }
                }
            }
        }
        if trim {
            self.active = None;
            sys::pages::release_unused();
        }
        trim
    }

    /// Whether the container's output should rest for a moment: a journal is slow. Never for long if it takes nothing.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.sinks.iter().any(|sink| matches!(sink, Sink::Journal(journal) if journal.congested()))
    }

    /// After the container's end, before more of its output is written: waits for a journal that is slow.
    pub fn catch_up(&mut self) {
        for sink in &mut self.sinks {
            if let Sink::Journal(journal) = sink {
                journal.catch_up();
            }
        }
    }

    /// Opens the files anew under their names, as after a rename by kubelet.
    pub fn reopen(&mut self) {
        for sink in &mut self.sinks {
            if let Sink::File(file) = sink {
                file.reopen();
            }
        }
    }

    /// What goes wrong at present with a log, in words, for the monitor's own messages.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.sinks.iter().find_map(|sink| match sink {
            Sink::File(file) => file.failure(),
            Sink::Journal(journal) => journal.failure(),
        })
    }

    /// Writes everything held back and, unless `--no-sync-log`, brings the files to disk.
    pub fn close(&mut self) {
        for sink in &mut self.sinks {
            match sink {
                Sink::File(file) => file.close(self.sync),
                Sink::Journal(journal) => journal.close(),
            }
        }
        self.active = None;
    }
}
