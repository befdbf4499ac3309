//! An exec by a monitor of its own that is started for it: waiting for its end, its time-out, its clean-up.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use model::Exit;
use sys::Ctx as _;

use super::session::{self, Session, Started};
use crate::attach::set_size_in;
use crate::monitor::{Answers, parse};
use crate::ready::Ready;
use crate::request::{ExecRequest, ExecStreams, Size};
use crate::{Container, Error, GivenUp, Result, blocking};

/// An exec that goes on.
#[derive(Debug)]
pub(super) struct Conmon {
    pub(super) session: Arc<Session>,
    answers: Answers,
    ready: Ready,
    timed_out: Arc<AtomicBool>,
    timer: Option<tokio::task::AbortHandle>,
}

impl Conmon {
    /// Starts it; gives the socket of its streams too.
    pub(super) async fn start(
        container: &Container,
        request: ExecRequest,
        streams: ExecStreams,
    ) -> Result<(Self, OwnedFd)> {
        let container = container.clone();
        let given_up = GivenUp::new();
        let flag = given_up.flag();
        let timeout = request.timeout;
        let started = blocking::long(move || {
            session::start(&container, &request, streams, &|| flag.load(Ordering::Relaxed))
        });
        let Started { session, answers, streams } = started.await?;
        let session = Arc::new(session);
        let timed_out = Arc::new(AtomicBool::new(false));
        let timer = timeout.map(|timeout| {
            let (session, timed_out) = (session.clone(), timed_out.clone());
            let timer = async move {
                // From the program's start, as conmon counts.
                tokio::time::sleep(timeout).await;
                timed_out.store(true, Ordering::Release);
                let kill = move || {
                    session.kill();
                    Ok(())
                };
                if let Err(error) = blocking::long(kill).await {
                    tracing::warn!(%error, "can't kill an exec whose time is up");
                }
            };
            // Aborted when the exec has ended, or is dropped and killed anyway.
            tokio::spawn(timer).abort_handle()
        });
        let ready = answers.ready()?;
        Ok((Self { session, answers, ready, timed_out, timer }, streams))
    }

    pub(super) async fn wait(&mut self) -> Result<Exit> {
        let line = self.answers.next_line(&self.ready).await?;
        let told = line.as_deref().map(parse);
        let kernel = || self.session.process.as_ref()?.exit_status().ok()?.map(|status| status.exit());
        let failed = |cause: String| Error::runtime("exec", self.session.id(), cause);
        let exit = match (told, kernel()) {
            _ if self.timed_out.load(Ordering::Acquire) => Exit::TimedOut,
            (Some(Err(cause)), _) => return Err(failed(format!("monitor answers {cause}"))),
            // The monitor has 128 + N for the signal N and for that status; the kernel tells them apart.
            (_, Some(exit)) => exit,
            (Some(Ok((number, _))), None) => i32::try_from(number).map_or(Exit::Lost, Exit::from_conmon),
            (None, None) => return Err(failed("the monitor ended before the program".to_owned())),
        };
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        let session = self.session.clone();
        let clean = move || {
            session.clean();
            Ok(())
        };
        blocking::long(clean).await?;
        Ok(exit)
    }

    pub(super) async fn resize(&self, size: Size) -> Result<()> {
        let session = self.session.clone();
        blocking::long(move || set_size_in(session.dir(), size)).await
    }

    pub(super) async fn kill(&self) -> Result<()> {
        let session = self.session.clone();
        let kill = move || {
            session.kill();
            Ok(())
        };
        blocking::long(kill).await
    }
}

impl Drop for Conmon {
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
