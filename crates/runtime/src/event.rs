//! Events: what happened to containers, in order, kept until they are read.

use model::{Exit, Id, Oom};
use serde::{Deserialize, Serialize};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Happened {
    /// It was created.
    Created,
    /// Its program was started.
    Started,
    /// It was paused.
    Paused,
    /// It goes on.
    Resumed,
    /// Its limits were changed.
    Updated,
    /// A stop was asked for.
    Stopping,
    /// A checkpoint was made.
    Checkpointed,
    /// It was restored from a checkpoint.
    Restored,
    /// Its init ended.
    Exited {
        /// How.
        exit: Exit,
        /// Whom the kernel killed for want of memory.
        oom: Oom,
    },
    /// It is gone.
    Deleted,
}

/// One event of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The container.
    pub id: Id,
    /// When the container was created, in nanoseconds since the epoch: tells containers of one id apart.
    pub created_ns: u64,
    /// The number of the event among the container's, from 1, without holes.
    pub seq: u64,
    /// When, in nanoseconds since the epoch.
    pub time_ns: u64,
    /// What.
    #[serde(flatten)]
    pub happened: Happened,
}
