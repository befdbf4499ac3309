//! Our own terminal: raw while a container has it, and as it was afterwards.

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use runtime::Size;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Raw until dropped.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw.
    pub(crate) fn enter() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        let before = tcgetattr(stdin.as_fd()).context("--tty needs a terminal as standard input")?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin.as_fd(), OptionalActions::Drain, &raw).context("make the terminal raw")?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone; nothing is left to be set then.
        let _ = tcsetattr(std::io::stdin().as_fd(), OptionalActions::Drain, &self.before);
    }
}

/// The size of our terminal; none where standard input is something else.
pub(crate) fn size() -> Option<Size> {
    let stdin = std::io::stdin();
    if !isatty(stdin.as_fd()) {
        return None;
    }
    let size = tcgetwinsize(stdin.as_fd()).ok()?;
    Some(Size { rows: size.ws_row, columns: size.ws_col })
}
