//! Terminals: pseudo-terminal pairs, sizes, raw mode (pty(7), termios(3)).

use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, Termios, Winsize};

use crate::{Ctx as _, Error, Result};

/// A pseudo-terminal: what one end writes the other reads.
#[derive(Debug)]
pub struct Pty {
    /// The end for who shows the terminal.
    pub master: OwnedFd,
    /// The end for the program.
    pub slave: OwnedFd,
}

/// A terminal's size, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Characters per line.
    pub columns: u16,
}

/// Whether a terminal turns a newline into carriage return and newline on output (`ONLCR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewlineOutput {
    /// As it is.
    Plain,
    /// `\r\n`.
    CarriageReturn,
}

/// Opens a new pair of `/dev/pts`, without making it anybody's controlling terminal. The slave comes from
/// the master itself (`TIOCGPTPEER`), not from a path.
pub fn openpty() -> Result<Pty> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = rustix::pty::openpt(flags).ctx("open", "/dev/ptmx")?;
    rustix::pty::unlockpt(&master).ctx("unlock", "pty")?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).ctx("open slave of", "pty")?;
    Ok(Pty { master, slave })
}

/// A terminal's size.
pub fn size(terminal: impl AsFd) -> Result<Size> {
    let size = rustix::termios::tcgetwinsize(terminal).ctx("get size of", "terminal")?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Sets a terminal's size; its foreground group gets SIGWINCH if it changes.
pub fn set_size(terminal: impl AsFd, size: Size) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).ctx("set size of", "terminal")
}

/// Sets what a newline is on output.
pub fn set_newline_output(terminal: impl AsFd, newline: NewlineOutput) -> Result<()> {
    let mut modes = rustix::termios::tcgetattr(&terminal).ctx("get modes of", "terminal")?;
    modes.output_modes.set(OutputModes::ONLCR, newline == NewlineOutput::CarriageReturn);
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &modes).ctx("set modes of", "terminal")
}

/// Whether it is a terminal.
#[must_use]
pub fn is_terminal(fd: impl AsFd) -> bool {
    rustix::termios::isatty(fd)
}

/// A terminal in raw mode, set back on drop.
#[derive(Debug)]
pub struct RawMode<Fd: AsFd> {
    terminal: Fd,
    before: Termios,
}

impl<Fd: AsFd> RawMode<Fd> {
    /// Every byte goes through as it is, in both directions (cfmakeraw of termios(3)).
    ///
    /// # Errors
    /// `ENOTTY` if it is no terminal.
    pub fn enter(terminal: Fd) -> Result<Self> {
        let before = rustix::termios::tcgetattr(&terminal).ctx("get modes of", "terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        rustix::termios::tcsetattr(&terminal, OptionalActions::Flush, &raw)
            .ctx("set modes of", "terminal")?;
        Ok(Self { terminal, before })
    }
}

impl<Fd: AsFd> Drop for RawMode<Fd> {
    fn drop(&mut self) {
        // A terminal that is gone has no modes to set back.
        let _ = rustix::termios::tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Turns the echo of what is typed on or off.
pub fn set_echo(terminal: impl AsFd, echo: bool) -> Result<()> {
    let mut modes = rustix::termios::tcgetattr(&terminal).ctx("get modes of", "terminal")?;
    modes.local_modes.set(LocalModes::ECHO, echo);
    rustix::termios::tcsetattr(&terminal, OptionalActions::Now, &modes).ctx("set modes of", "terminal")
}

/// Makes the terminal the controlling one of this process, a session's leader (`TIOCSCTTY`).
pub fn set_controlling(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).map_err(|error| Error::new("take", "terminal", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `bytes` to the slave, and what came of them at the master must be `wanted`.
    fn through(pty: &Pty, bytes: &[u8], wanted: &[u8]) {
        rustix::io::write(&pty.slave, bytes).unwrap();
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            // It may come in pieces.
            let mut buffer = [0; 64];
            let len = rustix::io::read(&pty.master, &mut buffer).unwrap();
            got.extend_from_slice(&buffer[..len]);
        }
        assert_eq!(got, wanted);
    }

    #[test]
    fn pairs_have_modes_and_a_size() {
        let pty = openpty().unwrap();
        assert!(is_terminal(&pty.slave) && is_terminal(&pty.master));
        through(&pty, b"a\n", b"a\r\n");
        set_newline_output(&pty.slave, NewlineOutput::Plain).unwrap();
        through(&pty, b"a\n", b"a\n");
        let wanted = Size { rows: 7, columns: 91 };
        set_size(&pty.master, wanted).unwrap();
        assert_eq!(size(&pty.slave).unwrap(), wanted);
    }

    #[test]
    fn raw_mode_is_set_back() {
        let pty = openpty().unwrap();
        let raw = RawMode::enter(&pty.slave).unwrap();
        through(&pty, b"a\n", b"a\n");
        drop(raw);
        through(&pty, b"a\n", b"a\r\n");
        let error = RawMode::enter(std::fs::File::open("/dev/null").unwrap()).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOTTY));
    }

    #[test]
    fn echo_is_switched() {
        let pty = openpty().unwrap();
        set_echo(&pty.slave, false).unwrap();
        rustix::io::write(&pty.master, b"secret\n").unwrap();
        through(&pty, b"shown", b"shown");
    }
}
