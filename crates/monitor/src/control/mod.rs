//! The control protocol: what our own daemon asks of a monitor beside conmon's contract.
//!
//! docs/monitor-protocol.md is its text. SOCK_SEQPACKET, JSON messages with a version, descriptors by SCM_RIGHTS, the peer's uid checked.
//! [`Server`] keeps the clients and their state; what is asked is done by a [`Host`], the process, which later
//! tells the server of what came of it.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use model::{Exit, ExitRecord, Usage};
use serde::{Deserialize, Serialize};

pub mod client;
mod client_state;
pub mod protocol;
mod request;
mod server;

pub use client::Client;
pub use server::Server;

/// One exec among those a monitor serves, named by the monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExecKey(pub u32);

/// An exec that a client asks for.
#[derive(Debug)]
pub struct ExecRequest {
    /// The OCI process, as JSON.
    pub process: Vec<u8>,
    /// The client's stdin, stdout, stderr; what is missing becomes /dev/null.
    /// With `process.terminal` the first one (a socket or pty of the client's) stays unused: the terminal's master
    /// is sent to the client instead, see [`Server::exec_started`].
    pub stdio: [Option<OwnedFd>; 3],
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// Kill it with all its children after this time, counted from its start.
    pub timeout: Option<Duration>,
}

/// How an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecResult {
    /// How.
    pub exit: Exit,
    /// The runtime's words when it could not be started; empty otherwise.
    #[serde(default)]
    pub message: String,
    /// When, in nanoseconds since the epoch.
    pub finished_ns: u64,
    /// What it used.
    #[serde(default)]
    pub usage: Usage,
}

/// What a monitor says of its container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The container's id.
    pub id: String,
    /// Its init's pid.
    pub pid: i32,
    /// The monitor's own pid.
    pub monitor_pid: i32,
    /// How it ended, once it has.
    pub exit: Option<ExitRecord>,
    /// Execs that run.
    pub execs: u32,
}

/// The process that does what the clients ask for. All calls return at once.
pub trait Host {
    /// What is known of the container now.
    fn status(&self) -> Status;
    /// Sets the size of the container's terminal, or of an exec's.
    ///
    /// # Errors
    /// There is no terminal, or no such exec.
    fn resize(&mut self, exec: Option<ExecKey>, rows: u16, columns: u16) -> io::Result<()>;
    /// Opens the logs anew.
    fn reopen_logs(&mut self);
    /// Takes a connected SEQPACKET socket in as an attach client.
    ///
    /// # Errors
    /// The container has ended, or descriptors are short.
    fn attach(&mut self, socket: OwnedFd) -> io::Result<()>;
    /// Begins an exec; `Server::exec_started` and `Server::exec_ended` follow for `key`.
    ///
    /// # Errors
    /// It can't even be tried: the container has ended, or descriptors are short.
    fn exec(&mut self, key: ExecKey, request: ExecRequest) -> io::Result<()>;
    /// Kills an exec with all its children. It ends as any other does.
    ///
    /// # Errors
    /// There is no such exec.
    fn cancel_exec(&mut self, key: ExecKey) -> io::Result<()>;
    /// Sends a signal to an exec's process.
    ///
    /// # Errors
    /// There is no such exec, or kill(2)'s.
    fn signal_exec(&mut self, key: ExecKey, signal: i32) -> io::Result<()>;
}

/// Reads a process specification as the server does, for [`crate::harness`].
pub(crate) fn look_at_process(bytes: &[u8]) {
    // Whatever comes of it is as good.
    let _ = request::process_terminal(bytes);
    request::seq_of(bytes);
}
