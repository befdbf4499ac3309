//! A container's status: an immutable snapshot.

use std::path::PathBuf;

use model::{Exit, Id, Name, Oom, Reason, State};
use serde::{Deserialize, Serialize};

use crate::config::Labels;
use crate::request::Io;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit.
    pub exit: Exit,
    /// The status that shells show for it.
    pub code: u8,
    /// Why, in the CRI's words.
    pub reason: Reason,
    /// Whom the kernel killed for want of memory.
    pub oom: Oom,
    /// When, in nanoseconds since the epoch; None when nobody saw it.
    pub finished_ns: Option<u64>,
    /// The runtime's words when it never started.
    pub message: Option<String>,
}

/// A container as it was when it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its id.
    pub id: Id,
    /// Its name.
    pub name: Option<Name>,
    /// Its state.
    pub state: State,
    /// Its handler.
    pub handler: String,
    /// Its init while it is alive.
    pub pid: Option<i32>,
    /// When it was created, in nanoseconds since the epoch.
    pub created_ns: u64,
    /// When it was started.
    pub started_ns: Option<u64>,
    /// How it ended.
    pub ended: Option<Ended>,
    /// The user's bundle.
    pub bundle: PathBuf,
    /// Its log.
    pub log: Option<PathBuf>,
    /// Its streams.
    pub io: Io,
    /// Its cgroup: a path below the hierarchies' mount points, or systemd's slice:prefix:name.
    pub cgroup: String,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
}

impl Status {
    /// When it ended, if it has and somebody saw it.
    #[must_use]
    pub fn finished_ns(&self) -> Option<u64> {
        self.ended.as_ref()?.finished_ns
    }
}
