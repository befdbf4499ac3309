//! A pseudo-terminal with a program behind it: how a person at a terminal is played.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

use crate::wait::wait_or;
use crate::wait_for;

/// Both ends of a pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// The terminal emulator's end.
    pub master: OwnedFd,
    /// The program's end.
    pub slave: OwnedFd,
}

impl Pty {
    /// Opens a pair, 24 rows of 80 columns.
    pub fn open() -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("open a pty");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("ptsname");
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, rustix::fs::Mode::empty())
            .expect("open the pty's slave");
        let pty = Self { master, slave };
        pty.resize(24, 80);
        pty
    }

    /// Sets the window's size; a foreground program gets SIGWINCH.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// The window's size: rows, columns.
    pub fn size(&self) -> (u16, u16) {
        let size = tcgetwinsize(&self.master).expect("window size");
        (size.ws_row, size.ws_col)
    }
}

fn resize(master: &OwnedFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("set the window size");
}

/// A program that runs on a pseudo-terminal as its controlling terminal. Killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts `argv` in a session of its own (through util-linux's `setsid --ctty`) on a new terminal.
    pub fn spawn(argv: &[&str], env: &[(&str, &str)]) -> Self {
        let Pty { master, slave } = Pty::open();
        let copy = |fd: &OwnedFd| fd.try_clone().expect("dup");
        let child = Command::new("setsid")
            .arg("--ctty")
            .args(argv)
            .envs(env.iter().copied())
            .stdin(copy(&slave))
            .stdout(copy(&slave))
            .stderr(slave)
            .spawn()
            .unwrap_or_else(|error| panic!("spawn setsid (package util-linux): {error}"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (File::from(copy(&master)), Arc::clone(&seen));
        // The thread ends with EIO, when the last program on the terminal has closed it.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().expect("no panic under this lock").extend_from_slice(&buffer[..count]);
            }
        });
        Self { child, master, seen }
    }

    /// Types text.
    pub fn send(&self, text: &str) {
        let mut writer = File::from(self.master.try_clone().expect("dup"));
        writer.write_all(text.as_bytes()).expect("type into the terminal");
    }

    /// Everything seen so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().expect("no panic under this lock")).into_owned()
    }

    /// Waits until `needle` was seen, and gives everything seen so far.
    pub fn expect(&self, needle: &str) -> String {
        let seen = || format!("{needle:?} on the terminal, which has {:?}", self.text());
        wait_or(seen, || Some(self.text()).filter(|text| text.contains(needle)))
    }

    /// Sets the window's size.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, rows, columns);
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        wait_for("the end of the terminal's program", || self.child.try_wait().expect("wait"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_on_a_terminal_talks_and_sees_its_size() {
        let mut terminal =
            Terminal::spawn(&["sh", "-c", "stty size; read x; echo got-$x; stty size; exit 3"], &[]);
        terminal.expect("24 80");
        terminal.resize(30, 100);
        terminal.send("salt\n");
        terminal.expect("got-salt");
        terminal.expect("30 100");
        assert_eq!(terminal.wait().code(), Some(3));
    }
}
