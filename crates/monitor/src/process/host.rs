//! What the clients of the control socket may ask of this process.

use std::io;
use std::os::fd::OwnedFd;

use super::session::Session;
use super::stdio;
use crate::control::{ExecKey, ExecRequest, Host, Status};

impl Host for Session<'_> {
    fn status(&self) -> Status {
        Status {
            id: self.settled.args.cid.clone(),
            pid: self.pid,
            monitor_pid: i32::try_from(std::process::id()).unwrap_or(0),
            exit: self.ended.clone(),
            execs: self.execs.count(),
        }
    }

    fn resize(&mut self, exec: Option<ExecKey>, rows: u16, columns: u16) -> io::Result<()> {
        match exec {
            None => self.resize_terminal(rows, columns),
            Some(key) => stdio::resize(self.execs.terminal(key)?, rows, columns),
        }
    }

    fn reopen_logs(&mut self) {
        self.logs.reopen();
    }

    fn attach(&mut self, socket: OwnedFd) -> io::Result<()> {
        if self.ended.is_some() {
            return Err(io::Error::other("the container has ended"));
        }
        self.clients.add(socket, &self.poll)?;
        self.clients.set_reading(self.stdin.wants_more(), &self.poll);
        Ok(())
    }

    fn exec(&mut self, key: ExecKey, request: ExecRequest) -> io::Result<()> {
        if self.pid == 0 || self.ended.is_some() {
            return Err(io::Error::other("the container does not run"));
        }
        self.begin_exec(key, request)
    }

    fn cancel_exec(&mut self, key: ExecKey) -> io::Result<()> {
        self.cancel(key)
    }

    fn signal_exec(&mut self, key: ExecKey, signal: i32) -> io::Result<()> {
        let pid = self.execs.pid(key)?;
        super::session::send_signal(pid, signal);
        Ok(())
    }
}
