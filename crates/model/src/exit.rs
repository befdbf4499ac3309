//! How a container's init, or an exec, ended.

use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(u8),
    /// This signal ended it.
    Signal(u8),
    /// It was not ended in its time and was killed (execs and `--timeout`).
    TimedOut,
    /// It never ran: the runtime could not start it.
    StartError,
    /// It is gone and nobody saw how.
    Lost,
}

impl Exit {
    /// The status as shells, podman and the CRI show it: the code, 128 + signal, 137 for a time-out,
    /// 128 for what never started, 255 for what nobody saw.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128u8.saturating_add(signal),
            Self::TimedOut => 137,
            Self::StartError => 128,
            Self::Lost => 255,
        }
    }

    /// From the status that conmon writes: 128 + N is taken for the signal N, as conmon encodes both alike.
    #[must_use]
    pub fn from_conmon(status: i32) -> Self {
        match u8::try_from(status) {
            Err(_) => Self::TimedOut,
            Ok(status @ 129..=192) => Self::Signal(status - 128),
            Ok(status) => Self::Code(status),
        }
    }
}

/// Whom the kernel killed for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oom {
    /// Nobody.
    #[default]
    None,
    /// A process of the container, but not its init.
    Child,
    /// The container's init.
    Init,
}

/// Why a container is over, in the CRI's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// Status 0.
    Completed,
    /// Another status, or a signal.
    Error,
    /// The kernel killed its init for want of memory.
    OOMKilled,
    /// It never started.
    StartError,
    /// Nobody saw how.
    Unknown,
}

impl Reason {
    /// The reason for `exit` when `oom` was seen.
    #[must_use]
    pub fn of(exit: Exit, oom: Oom) -> Self {
        match (exit, oom) {
            (Exit::StartError, _) => Self::StartError,
            (Exit::Lost, _) => Self::Unknown,
            (_, Oom::Init) => Self::OOMKilled,
            (Exit::Code(0), _) => Self::Completed,
            _ => Self::Error,
        }
    }

    /// The word, as the CRI has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OOMKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What the process and the children it waited for used (getrusage(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_us: u64,
    /// The largest resident set, in KiB.
    pub max_rss_kib: u64,
}

/// What the monitor writes down when a container's init has ended, before it tells anyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The record's format: [`ExitRecord::VERSION`].
    pub version: u32,
    /// The container.
    pub id: String,
    /// Its init's pid.
    pub pid: i32,
    /// How it ended.
    pub exit: Exit,
    /// Whom the kernel killed for want of memory.
    #[serde(default)]
    pub oom: Oom,
    /// When, in nanoseconds since the epoch.
    pub finished_ns: u64,
    /// When, in nanoseconds of CLOCK_BOOTTIME: comparable within one boot whatever the clock was set to.
    pub boottime_ns: u64,
    /// The boot it belongs to: /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
}

impl ExitRecord {
    /// The version written and read.
    pub const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_reasons() {
        let cases = [
            (Exit::Code(0), Oom::None, 0, Reason::Completed),
            (Exit::Code(0), Oom::Child, 0, Reason::Completed),
            (Exit::Code(3), Oom::Child, 3, Reason::Error),
            (Exit::Signal(9), Oom::None, 137, Reason::Error),
            (Exit::Signal(9), Oom::Init, 137, Reason::OOMKilled),
            (Exit::TimedOut, Oom::None, 137, Reason::Error),
            (Exit::StartError, Oom::None, 128, Reason::StartError),
            (Exit::Lost, Oom::Init, 255, Reason::Unknown),
        ];
        for (exit, oom, code, reason) in cases {
            assert_eq!((exit.code(), Reason::of(exit, oom)), (code, reason), "{exit:?} {oom:?}");
        }
    }

    #[test]
    fn what_conmon_writes() {
        let cases = [
            (0, Exit::Code(0)),
            (128, Exit::Code(128)),
            (137, Exit::Signal(9)),
            (255, Exit::Code(255)),
            (-1, Exit::TimedOut),
        ];
        for (status, exit) in cases {
            assert_eq!(Exit::from_conmon(status), exit);
        }
    }
}
