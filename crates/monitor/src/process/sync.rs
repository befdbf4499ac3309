//! The pipes to the caller: what is reported on them, and how (contract §3).

use std::io;
use std::os::fd::{AsFd as _, OwnedFd, RawFd};

use crate::cli::high::Api;
use crate::{Error, message};

/// podman reads through a buffer of this size, from a socket that cuts what is longer.
pub const MESSAGE_MAX: usize = 4096;

/// Which event a number belongs to: with [`Api::V0`] it decides the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The process exists, or could not be made.
    Pid,
    /// The exec ended, or could not be made.
    ExitCode,
}

/// One message, with its newline; never longer than [`MESSAGE_MAX`].
#[must_use]
pub fn encode(api: Api, key: Key, number: i32, text: &str) -> Vec<u8> {
    let key = match (api, key) {
        (Api::V1, _) => "data",
        (Api::V0, Key::Pid) => "pid",
        (Api::V0, Key::ExitCode) => "exit_code",
    };
    if text.is_empty() {
        return format!("{{\"{key}\": {number}}}\n").into_bytes();
    }
    let mut line = format!("{{\"{key}\": {number}, \"message\": \"");
    let end = "\"}\n";
    for c in text.chars() {
        let before = line.len();
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\t' => line.push_str("\\t"),
            '\r' => line.push_str("\\r"),
            c if c.is_control() => line.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => line.push(c),
        }
        if line.len() + end.len() > MESSAGE_MAX {
            line.truncate(before);
            break;
        }
    }
    line.push_str(end);
    line.into_bytes()
}

/// A pipe whose number the caller put into the environment.
#[derive(Debug)]
pub struct Pipe {
    fd: Option<OwnedFd>,
}

impl Pipe {
    /// Takes over the descriptor that the variable `name` tells of; without the variable there is no pipe.
    ///
    /// # Errors
    /// The value is no number, or the number is not open.
    pub fn from_env(name: &'static str) -> Result<Self, Error> {
        let Some(value) = std::env::var_os(name) else { return Ok(Self { fd: None }) };
        let number: Option<RawFd> = value.to_str().and_then(|value| value.parse().ok());
        let Some(number) = number else {
            return Err(Error::Usage(format!("unable to parse {name} {:?}", value.to_string_lossy())));
        };
        let fd =
            sys::solo::adopt(number).map_err(|cause| Error::io("use", format!("{name} {number}"), cause))?;
        Ok(Self { fd: Some(fd) })
    }

    /// No pipe.
    #[must_use]
    pub fn none() -> Self {
        Self { fd: None }
    }

    /// The descriptor, if there is a pipe.
    #[must_use]
    pub fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    /// Waits for one read: any byte, or the end, lets us go on.
    // Its buffer must not become part of the frame that lasts as long as the process.
    #[inline(never)]
    pub fn wait(&self) {
        let Some(fd) = &self.fd else { return };
        let mut buffer = [0u8; 8192];
        while let Err(error) = rustix::io::read(fd, &mut buffer) {
            match error {
                rustix::io::Errno::INTR => {}
                rustix::io::Errno::AGAIN => {
                    let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
                    // A failed wait means another turn, which reads again.
                    let _ = rustix::event::poll(&mut fds, None);
                }
                error => {
                    message::warning(format_args!("read start pipe: {error}"));
                    return;
                }
            }
        }
    }

    /// Sends one message in one write. A caller who is gone is not an error: the pipe is closed.
    pub fn send(&mut self, message: &[u8]) {
        let Some(fd) = &self.fd else { return };
        loop {
            match rustix::io::write(fd, message) {
                Ok(_) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::OUT)];
                    let patience = rustix::event::Timespec { tv_sec: 10, tv_nsec: 0 };
                    if !matches!(rustix::event::poll(&mut fds, Some(&patience)), Ok(1..)) {
                        break;
                    }
                }
                Err(error) => {
                    message::debug(format_args!("write sync pipe: {error}"));
                    break;
                }
            }
        }
        self.fd = None;
    }

    /// Whether the other end is closed, as far as can be seen without blocking. Absent pipes count as open.
    ///
    /// # Errors
    /// poll(2)'s.
    pub fn hung_up(&self) -> io::Result<bool> {
        let Some(fd) = &self.fd else { return Ok(false) };
        let mut fds =
            [rustix::event::PollFd::from_borrowed_fd(fd.as_fd(), rustix::event::PollFlags::empty())];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(fds[0].revents().intersects(rustix::event::PollFlags::HUP | rustix::event::PollFlags::ERR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_by_version_and_event() {
        let cases = [
            (Api::V0, Key::Pid, 4052, "", "{\"pid\": 4052}\n"),
            (
                Api::V0,
                Key::ExitCode,
                -1,
                "command timed out",
                "{\"exit_code\": -1, \"message\": \"command timed out\"}\n",
            ),
            (Api::V1, Key::Pid, 7, "", "{\"data\": 7}\n"),
            (
                Api::V1,
                Key::ExitCode,
                -1,
                "a\"b\\\n\u{1}é",
                "{\"data\": -1, \"message\": \"a\\\"b\\\\\\n\\u0001é\"}\n",
            ),
        ];
        for (api, key, number, text, expected) in cases {
            assert_eq!(String::from_utf8(encode(api, key, number, text)).unwrap(), expected);
        }
    }

    #[test]
    fn long_texts_are_cut_and_stay_json() {
        for text in ["x".repeat(9000), "\u{1}".repeat(9000), "é\"".repeat(9000)] {
            let message = encode(Api::V1, Key::Pid, -1, &text);
            assert!(message.len() <= MESSAGE_MAX && message.len() > MESSAGE_MAX - 8);
            let value: serde_json::Value = serde_json::from_slice(&message).unwrap();
            assert!(text.starts_with(value["message"].as_str().unwrap()));
        }
    }
}
