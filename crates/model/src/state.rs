//! The states of a container and the ways between them.
//!
//! ```text
//! Creating ──created──► Created ──started──► Running ◄──pause/resume──► Paused
//!    │                     │ │                  │                         │
//!    │                     │ └──stop──┐       stop                      stop
//!    │                     │          ▼         ▼                         │
//!    │                     │        Stopping ◄──────────────────────────-─┘
//!    │                     │          │         │
//!    └─failed: undone      └─exited──►└─exited─►└─exited──► Exited ──deleted──► (gone)
//! ```
//! `Unknown` is an answer and not a state on disk: it says that the kernel, the monitor or the runtime
//! could not be asked just now. Nothing is ever derived from it.

use serde::{Deserialize, Serialize};

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its create goes on; it is not listed yet.
    Creating,
    /// Its init exists and waits for start.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// A stop was asked for and its processes have not all gone.
    Stopping,
    /// Its init has ended; the exit is known.
    Exited,
    /// Cannot be told now.
    Unknown,
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// The create came to its end.
    Created,
    /// The program was started.
    Started,
    /// Its processes were frozen.
    Paused,
    /// Its processes were thawed.
    Resumed,
    /// A stop was asked for.
    StopAsked,
    /// Its init ended.
    Exited,
}

impl State {
    /// The state after `what`, or none where that may not happen in this state.
    #[must_use]
    pub fn after(self, what: Transition) -> Option<Self> {
        use Transition as T;
        Some(match (self, what) {
            (Self::Creating, T::Created) => Self::Created,
            (Self::Created, T::Started) | (Self::Paused, T::Resumed) => Self::Running,
            (Self::Running, T::Paused) => Self::Paused,
            (Self::Created | Self::Running | Self::Paused | Self::Stopping, T::StopAsked) => Self::Stopping,
            (Self::Created | Self::Running | Self::Paused | Self::Stopping, T::Exited) => Self::Exited,
            _ => return None,
        })
    }

    /// Whether a process of the container may be there.
    #[must_use]
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Created | Self::Running | Self::Paused | Self::Stopping)
    }

    /// The state's name for people and programs: lower case, as in the OCI runtime specification.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }

    /// The CRI's four values (`ContainerState` of api.proto): what is not created, and not over, runs.
    #[must_use]
    pub fn cri(self) -> &'static str {
        match self {
            Self::Creating | Self::Created => "CONTAINER_CREATED",
            Self::Running | Self::Paused | Self::Stopping => "CONTAINER_RUNNING",
            Self::Exited => "CONTAINER_EXITED",
            Self::Unknown => "CONTAINER_UNKNOWN",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Created, Creating, Exited, Paused, Running, Stopping, Unknown};
    use super::Transition as T;

    #[test]
    fn every_pair_of_state_and_transition() {
        let allowed = [
            (Creating, T::Created, Created),
            (Created, T::Started, Running),
            (Running, T::Paused, Paused),
            (Paused, T::Resumed, Running),
            (Created, T::StopAsked, Stopping),
            (Running, T::StopAsked, Stopping),
            (Paused, T::StopAsked, Stopping),
            (Stopping, T::StopAsked, Stopping),
            (Created, T::Exited, Exited),
            (Running, T::Exited, Exited),
            (Paused, T::Exited, Exited),
            (Stopping, T::Exited, Exited),
        ];
        for state in [Creating, Created, Running, Paused, Stopping, Exited, Unknown] {
            for what in [T::Created, T::Started, T::Paused, T::Resumed, T::StopAsked, T::Exited] {
                let expected = allowed.iter().find(|(s, w, _)| (*s, *w) == (state, what)).map(|(.., to)| *to);
                assert_eq!(state.after(what), expected, "{state:?} {what:?}");
            }
        }
    }
}
