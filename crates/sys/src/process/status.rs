//! The status that wait(2) gives.

use model::Exit;

/// How a process ended (wait(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitStatus(i32);

impl WaitStatus {
    /// From the number that wait(2) gives.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Self {
        Self(raw)
    }

    /// The number that wait(2) gives.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// What it exited with, unless a signal ended it.
    #[must_use]
    pub const fn code(self) -> Option<i32> {
        if libc::WIFEXITED(self.0) { Some(libc::WEXITSTATUS(self.0)) } else { None }
    }

    /// The signal that ended it.
    #[must_use]
    pub const fn signal(self) -> Option<i32> {
        if libc::WIFSIGNALED(self.0) { Some(libc::WTERMSIG(self.0)) } else { None }
    }

    /// Whether it left a core.
    #[must_use]
    pub const fn core_dumped(self) -> bool {
        libc::WIFSIGNALED(self.0) && libc::WCOREDUMP(self.0)
    }

    /// Whether it exited with 0.
    #[must_use]
    pub const fn success(self) -> bool {
        self.0 == 0
    }

    /// The same as the model has it.
    #[must_use]
    pub fn exit(self) -> Exit {
        match (self.code(), self.signal()) {
            (Some(code), _) => u8::try_from(code).map_or(Exit::Lost, Exit::Code),
            (_, Some(signal)) => u8::try_from(signal).map_or(Exit::Lost, Exit::Signal),
            _ => Exit::Lost,
        }
    }
}

impl std::fmt::Display for WaitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code(), self.signal()) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (_, Some(signal)) => write!(f, "signal {signal}"),
            _ => write!(f, "wait status {:#x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses() {
        let status = WaitStatus::from_raw(7 << 8);
        assert_eq!((status.code(), status.signal(), status.exit()), (Some(7), None, Exit::Code(7)));
        let status = WaitStatus::from_raw(9 | 0x80);
        assert_eq!((status.code(), status.signal(), status.exit()), (None, Some(9), Exit::Signal(9)));
        assert!(status.core_dumped() && !status.success());
        assert_eq!(status.to_string(), "signal 9");
        assert!(WaitStatus::from_raw(0).success());
    }
}
