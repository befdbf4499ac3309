//! state.json: what is known of one container, versioned, replaced whole.

use std::path::PathBuf;

use model::{Id, Name, State};
use serde::{Deserialize, Serialize};
use sys::pidfd::PidFd;

use crate::Result;
use crate::cgroups::Group;
use crate::config::Labels;
use crate::event::Event;
use crate::request::Io;
use crate::status::{Ended, Status};

/// A process that was seen: its pid, and its start time so that a reused pid is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// The pid.
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot.
    pub(crate) start: u64,
}

/// The program that drives the container, as it was at the create: any process can go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HandlerRecord {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) root: Option<PathBuf>,
    #[serde(default)]
    pub(crate) args: Vec<String>,
    /// systemd makes the cgroup.
    #[serde(default)]
    pub(crate) systemd: bool,
}

/// The monitor of the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MonitorRecord {
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) env: Vec<(String, String)>,
    /// The monitor's process, once it is known.
    #[serde(default)]
    pub(crate) process: Option<Process>,
    /// Its cgroup: a path below the hierarchies, or a systemd scope's name.
    #[serde(default)]
    pub(crate) cgroup: Option<String>,
}

/// A stop that goes on: recovery finishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StopRecord {
    /// The first signal.
    pub(crate) signal: i32,
    /// When everything is killed, in nanoseconds of CLOCK_BOOTTIME.
    pub(crate) kill_at_ns: u64,
}

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// [`Record::VERSION`].
    pub(crate) version: u32,
    pub(crate) id: Id,
    #[serde(default)]
    pub(crate) name: Option<Name>,
    /// Who makes it, until it is made.
    #[serde(default)]
    pub(crate) maker: Option<Process>,
    /// The boot that it was made in.
    pub(crate) boot_id: String,
    pub(crate) state: State,
    pub(crate) handler: HandlerRecord,
    pub(crate) monitor: MonitorRecord,
    /// The container's init.
    #[serde(default)]
    pub(crate) init: Option<Process>,
    pub(crate) created_ns: u64,
    #[serde(default)]
    pub(crate) started_ns: Option<u64>,
    #[serde(default)]
    pub(crate) ended: Option<Ended>,
    pub(crate) bundle: PathBuf,
    #[serde(default)]
    pub(crate) log: Option<PathBuf>,
    pub(crate) io: Io,
    /// linux.cgroupsPath of the container's config.json.
    pub(crate) cgroup: String,
    /// The cgroup's path below the hierarchies' mount points.
    pub(crate) group: String,
    /// The cgroup was there before the container: nothing is killed in it or removed but by the runtime.
    #[serde(default)]
    pub(crate) shared_group: bool,
    /// The log was not there before the create: an undone create removes it.
    #[serde(default)]
    pub(crate) log_made: bool,
    /// A start was begun then: if nobody says how it went, the runtime is asked.
    #[serde(default)]
    pub(crate) starting_ns: Option<u64>,
    #[serde(default)]
    pub(crate) labels: Labels,
    #[serde(default)]
    pub(crate) annotations: Labels,
    /// A stop that goes on.
    #[serde(default)]
    pub(crate) stop: Option<StopRecord>,
    /// A delete has begun: it can only be finished.
    #[serde(default)]
    pub(crate) deleting: bool,
    /// The number of the last event, from 1.
    #[serde(default)]
    pub(crate) seq: u64,
    /// The last event: written to the streams after this record, again if that was interrupted.
    #[serde(default)]
    pub(crate) last_event: Option<Event>,
}

impl Process {
    /// This process.
    pub(crate) fn own() -> Result<Self> {
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        Ok(Self { pid, start: sys::proc::start_time(pid)? })
    }
}

impl Record {
    /// The version written and read.
    pub(crate) const VERSION: u32 = 1;

    /// The container's cgroup, if it is its alone.
    pub(crate) fn own_group(&self) -> Option<Group> {
        if self.shared_group { None } else { Group::at(&self.group) }
    }

    /// Its init, held, while it is there. None when it has ended and was reaped.
    pub(crate) fn hold_init(&self) -> Result<Option<PidFd>> {
        hold(self.init, &self.boot_id)
    }

    /// Whether the process that made it is alive.
    pub(crate) fn maker_lives(&self) -> Result<bool> {
        Ok(hold(self.maker, &self.boot_id)?.map_or(Ok(true), |maker| maker.is_dead()).is_ok_and(|dead| !dead))
    }

    /// Its monitor, held, while it is there.
    pub(crate) fn hold_monitor(&self) -> Result<Option<PidFd>> {
        hold(self.monitor.process, &self.boot_id)
    }

    /// The status that it stands for.
    pub(crate) fn status(&self) -> Status {
        Status {
            id: self.id.clone(),
            name: self.name.clone(),
            state: self.state,
            handler: self.handler.name.clone(),
            pid: self.init.filter(|_| self.state.is_alive()).map(|p| p.pid),
            created_ns: self.created_ns,
            started_ns: self.started_ns,
            ended: self.ended.clone(),
            bundle: self.bundle.clone(),
            log: self.log.clone(),
            io: self.io,
            cgroup: self.cgroup.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
        }
    }
}

/// A process of this boot, held by a pidfd, if it is still the one that was seen.
pub(crate) fn hold(process: Option<Process>, boot_id: &str) -> Result<Option<PidFd>> {
    match process {
        Some(process) if boot_id == crate::clock::boot_id()? => {
            Ok(PidFd::open_verified(process.pid, process.start)?)
        }
        _ => Ok(None),
    }
}
