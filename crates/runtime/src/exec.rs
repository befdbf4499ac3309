//! Execs: programs in a running container, with their output collected or live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::Exit;
use sys::Ctx as _;

use crate::attach::{Attached, Output, set_size_in};
use crate::monitor::{Answers, parse};
use crate::ready::Ready;
use crate::request::{ExecOutput, ExecRequest, ExecStreams, Size};
use crate::{Container, Error, GivenUp, Result, blocking};

mod group;
mod session;
mod spec;

pub(crate) use session::sweep;
use session::{Session, Started};

/// A program that runs in a container. Dropping it before its end kills it with all that it started.
#[derive(Debug)]
pub struct Exec {
    session: Arc<Session>,
    streams: Attached,
    answers: Answers,
    ready: Ready,
    terminal: bool,
    timed_out: Arc<AtomicBool>,
    timer: Option<tokio::task::AbortHandle>,
    exit: Option<Exit>,
}

impl Exec {
    /// Its pid, in the host's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.session.pid
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
            return Err(Error::unsupported("resize exec in", self.session.id(), "it has no terminal"));
        }
        let session = self.session.clone();
        blocking::long(move || set_size_in(session.dir(), size)).await
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
        let line = self.answers.next_line(&self.ready).await?;
        let told = line.as_deref().map(parse);
        let kernel = || self.session.process.as_ref()?.exit_status().ok()?.map(|status| status.exit());
        let exit = match told {
            _ if self.timed_out.load(Ordering::Acquire) => Exit::TimedOut,
            Some(Ok((number, _))) => match kernel() {
                // The monitor has 128 + N for the signal N and for that status; the kernel tells them apart.
                Some(exit) => exit,
                None => i32::try_from(number).map_or(Exit::Lost, Exit::from_conmon),
            },
            Some(Err(cause)) => {
                return Err(Error::runtime("exec", self.session.id(), format!("monitor answers {cause}")));
            }
            None => match kernel() {
                Some(exit) => exit,
                None => {
                    let message = "the monitor ended before the program";
                    return Err(Error::runtime("exec", self.session.id(), message));
                }
            },
        };
        self.exit = Some(exit);
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        let session = self.session.clone();
        blocking::long(move || {
            session.clean();
            Ok(())
        })
        .await?;
        Ok(exit)
    }

    /// Kills it with all that it started; [`Self::wait`] then gives its exit.
    ///
    /// # Errors
    /// None but those of the blocking door.
    pub async fn kill(&self) -> Result<()> {
        let session = self.session.clone();
        blocking::long(move || {
            session.kill();
            Ok(())
        })
        .await
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        let session = self.session.clone();
        match tokio::runtime::Handle::try_current() {
            // It ends by itself, in bounded time.
            Ok(runtime) => _ = runtime.spawn_blocking(move || session.abort()),
            Err(_) => session.abort(),
        }
    }
}

impl Answers {
    /// The next line; None when the other end is closed without one. Cancel-safe.
    async fn next_line(&mut self, ready: &Ready) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            let n = match ready.read(|| self.fill()).await {
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                n => n.ctx("read", "sync pipe")?,
            };
            if n == 0 {
                return Ok(self.take_rest());
            }
        }
    }
}

impl Container {
    /// Runs a program in the container and gives its output. Returns when the program ends, even if
    /// something that it started keeps the pipes. A non-zero exit is a result. If the caller is dropped, or
    /// the time is up, the program is killed with all that it started.
    ///
    /// # Errors
    /// [`Error::State`] unless it is running; [`Error::Invalid`]; [`Error::Runtime`] when it can't be run.
    pub async fn exec_sync(&self, request: ExecRequest) -> Result<ExecOutput> {
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
        let container = self.clone();
        let given_up = GivenUp::new();
        let flag = given_up.flag();
        let timeout = request.timeout;
        let begin = tokio::time::Instant::now();
        let started = blocking::long(move || {
            session::start(&container, &request, streams, &|| flag.load(Ordering::Relaxed))
        });
        let Started { session, answers, streams: socket } = started.await?;
        let session = Arc::new(session);
        let timed_out = Arc::new(AtomicBool::new(false));
        let timer = timeout.map(|timeout| {
            let (session, timed_out) = (session.clone(), timed_out.clone());
            let timer = async move {
                tokio::time::sleep_until(begin + timeout).await;
                timed_out.store(true, Ordering::Release);
                // In a task of its own: an abort of the timer must not be one of the kill.
                let kill = move || {
                    session.kill();
                    Ok(())
                };
                if let Err(error) = blocking::long(kill).await {
                    tracing::warn!(%error, "can't kill an exec whose time is up");
                }
            };
            tokio::spawn(timer).abort_handle()
        });
        let ready = answers.ready()?;
        let terminal = streams.terminal.is_some();
        let streams = Attached::new(socket)?;
        Ok(Exec { session, streams, answers, ready, terminal, timed_out, timer, exit: None })
    }
}
