//! Execs: programs in a running container, with their output collected or live.

use std::time::Duration;

use model::Exit;

use crate::attach::{Attached, Output};
use crate::request::{ExecOutput, ExecRequest, ExecStreams, Size};
use crate::{Container, Error, Result, blocking};

mod conmon;
mod control;
mod group;
mod session;
mod spec;

pub(crate) use session::sweep;
pub(crate) use spec::build;

/// How long after its time-out an exec may take to begin and to be killed: longer than our monitor waits before it tells.
const LINGER: Duration = Duration::from_secs(10);

/// A program that runs in a container. Dropping it before its end kills it with all that it started.
#[derive(Debug)]
pub struct Exec {
    pid: i32,
    streams: Attached,
    terminal: bool,
    by: By,
    exit: Option<Exit>,
}

/// Who runs it.
#[derive(Debug)]
enum By {
    /// A monitor of its own, with conmon's command line.
    Conmon(conmon::Conmon),
    /// The container's monitor, which is ours.
    Wharf(control::Session),
}

impl Exec {
    /// Its pid, in the host's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its streams.
    #[must_use]
    pub fn streams(&self) -> &Attached {
        &self.streams
    }

    /// Sets its terminal's size.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it has none.
    pub async fn resize(&self, size: Size) -> Result<()> {
        if !self.terminal {
            let id = match &self.by {
                By::Conmon(exec) => exec.session.id(),
                By::Wharf(session) => session.id(),
            };
            return Err(Error::unsupported("resize exec in", id, "it has no terminal"));
        }
        match &self.by {
            By::Conmon(exec) => exec.resize(size).await,
            By::Wharf(session) => session.resize(size),
        }
    }

    /// Waits for its end. Its output must be read to the end before or meanwhile: what nobody reads holds
    /// it up. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the monitor dies.
    pub async fn wait(&mut self) -> Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let exit = match &mut self.by {
            By::Conmon(exec) => exec.wait().await?,
            By::Wharf(session) => session.wait().await?,
        };
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Kills it with all that it started; [`Self::wait`] then gives its exit.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the monitor is gone.
    pub async fn kill(&self) -> Result<()> {
        match &self.by {
            By::Conmon(exec) => exec.kill().await,
            By::Wharf(session) => session.kill(),
        }
    }
}

impl Container {
    /// Runs a program in the container and gives its output. Returns when the program ends, even if
    /// something that it started keeps the pipes. A non-zero exit is a result. If the caller is dropped, or
    /// the time is up, the program is killed with all that it started.
    ///
    /// # Errors
    /// [`Error::State`] unless it is running; [`Error::Invalid`]; [`Error::Runtime`] when it can't be run;
    /// [`Error::Timeout`] when the time is up before it began, or it is killed and does not end, as in a paused container.
    pub async fn exec_sync(&self, request: ExecRequest) -> Result<ExecOutput> {
        let Some(timeout) = request.timeout else { return self.run_to_end(request).await };
        let limit = timeout.saturating_add(LINGER);
        tokio::time::timeout(limit, self.run_to_end(request)).await.unwrap_or_else(|_| {
            Err(Error::Timeout { op: "exec", object: self.id().to_string(), after: timeout })
        })
    }

    async fn run_to_end(&self, request: ExecRequest) -> Result<ExecOutput> {
        let mut exec = self.exec(request, ExecStreams::default()).await?;
        let mut output = ExecOutput { stdout: Vec::new(), stderr: Vec::new(), exit: Exit::Lost };
        // The monitor closes the connection when the program has ended and its output is passed on.
        while let Some(piece) = exec.streams.read().await? {
            let (into, bytes) = match &piece {
                Output::Stdout(bytes) => (&mut output.stdout, bytes),
                Output::Stderr(bytes) => (&mut output.stderr, bytes),
            };
            let room = (ExecOutput::CAP - into.len()).min(bytes.len());
            into.extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
        output.exit = exec.wait().await?;
        Ok(output)
    }

    /// Runs a program in the container with live streams.
    ///
    /// # Errors
    /// As [`Self::exec_sync`]; [`Error::Timeout`] when it does not begin in its time.
    pub async fn exec(&self, request: ExecRequest, streams: ExecStreams) -> Result<Exec> {
        let (container, wanted) = (self.clone(), request.clone());
        if let Some(started) = blocking::long(move || control::start(&container, &wanted, streams)).await? {
            let pid = started.pid;
            let (session, pipes) = control::Session::new(self.id().as_str(), started)?;
            if let Some(Some(size)) = streams.terminal {
                session.resize(size)?;
            }
            let (streams, terminal) = (Attached::of_pipes(pipes), streams.terminal.is_some());
            return Ok(Exec { pid, streams, terminal, by: By::Wharf(session), exit: None });
        }
        let (exec, socket) = conmon::Conmon::start(self, request, streams).await?;
        let (pid, terminal) = (exec.session.pid, streams.terminal.is_some());
        Ok(Exec { pid, streams: Attached::new(socket)?, terminal, by: By::Conmon(exec), exit: None })
    }
}
