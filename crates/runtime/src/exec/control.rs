//! An exec through the control socket of our own monitor: two clones there, pipes of our own here, and no
//! file. The monitor kills the program with its whole tree when the connection ends.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use model::Exit;
use monitor::control::protocol::{self, Answer, Exec, FdRole, Op, Request, VERSION};
use monitor::control::{ExecKey, ExecResult};
use rustix::pipe::{PipeFlags, pipe_with};
use sys::Ctx as _;
use sys::socket::{Blocking, Kind, connect};
use tokio::sync::watch;

use super::session::require_running;
use super::spec;
use crate::attach::pipes::Pipes;
use crate::ready::Ready;
use crate::request::{ExecRequest, ExecStreams, Size};
use crate::{Container, Error, Result, point};

const OP: &str = "exec";
/// How long the monitor may take to start the program.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const START: u64 = 1;

/// What begun.
#[derive(Debug)]
pub(super) struct Started {
    socket: OwnedFd,
    key: ExecKey,
    pub(super) pid: i32,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

/// An exec that goes on. Dropped, the connection ends, and with it the program.
#[derive(Debug)]
pub(super) struct Session {
    id: String,
    socket: Arc<OwnedFd>,
    key: ExecKey,
    result: watch::Receiver<Option<ExecResult>>,
    task: tokio::task::AbortHandle,
}

/// Starts the program; blocking. None where the container has no monitor of ours, or one that can't: then
/// the runtime's own exec can.
///
/// # Errors
/// As [`Container::exec_sync`].
pub(super) fn start(
    container: &Container,
    request: &ExecRequest,
    streams: ExecStreams,
) -> Result<Option<Started>> {
    let path = container.dir().file("control");
    if !path.exists() {
        return Ok(None);
    }
    require_running(&*container.present(OP)?)?;
    let process = spec::process(container.dir(), request, streams)?;
    point("exec.begin")?;
    let socket = match connect(&path, Kind::SeqPacket, Blocking::Yes) {
        // Nobody listens any more: the monitor was killed.
        Err(error) if error.is_gone() || error.errno() == Some(111) => return Ok(None),
        socket => socket?,
    };
    point("exec.connected")?;
    let timeout = Some(START_TIMEOUT);
    rustix::net::sockopt::set_socket_timeout(&socket, rustix::net::sockopt::Timeout::Recv, timeout)
        .ctx("set time-out of", &path)?;
    let process = sys::memfd::sealed("process", &process)?;
    let pipe = || pipe_with(PipeFlags::CLOEXEC).ctx("create", "pipe");
    let terminal = streams.terminal.is_some();
    let stdin = if streams.stdin && !terminal { Some(pipe()?) } else { None };
    let (out, err) = if terminal { (None, None) } else { (Some(pipe()?), Some(pipe()?)) };
    let mut fds: Vec<(FdRole, BorrowedFd<'_>)> = vec![(FdRole::Process, process.as_fd())];
    fds.extend(stdin.as_ref().map(|(theirs, _)| (FdRole::Stdin, theirs.as_fd())));
    fds.extend(out.as_ref().map(|(_, theirs)| (FdRole::Stdout, theirs.as_fd())));
    fds.extend(err.as_ref().map(|(_, theirs)| (FdRole::Stderr, theirs.as_fd())));
    let timeout_ms =
        request.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1));
    let exec = Exec { process: None, timeout_ms, kill_on_close: true };
    let failed = |error: monitor::Error| Error::runtime(OP, container.id(), error);
    send(&socket, START, Op::Exec(exec), &fds).map_err(failed)?;
    point("exec.asked")?;
    let (reply, mut came) = protocol::recv(&socket).map_err(failed)?.ok_or_else(|| gone(container.id()))?;
    point("exec.started")?;
    let answer = match reply.result() {
        Err(monitor::Error::Refused(reason)) => {
            tracing::debug!(container = %container.id(), reason, "the monitor leaves the exec to the runtime");
            return Ok(None);
        }
        answer => answer.map_err(failed)?,
    };
    let (key, pid) = match answer {
        Answer::Started { exec, pid } => (exec, pid),
        Answer::Ended { result, .. } if result.exit == Exit::TimedOut => {
            let after = request.timeout.unwrap_or_default();
            return Err(Error::Timeout { op: OP, object: container.id().to_string(), after });
        }
        Answer::Ended { result, .. } => return Err(Error::runtime(OP, container.id(), result.message)),
        other => return Err(Error::runtime(OP, container.id(), format!("monitor answers {other:?}"))),
    };
    let (stdin, stdout, stderr) = match (out, came.pop()) {
        (Some((ours, _)), _) => (stdin.map(|(_, ours)| ours), ours, err.map(|(ours, _)| ours)),
        (None, Some(master)) => (Some(master.try_clone().ctx("duplicate", "terminal")?), master, None),
        (None, None) => return Err(Error::runtime(OP, container.id(), "the monitor sent no terminal")),
    };
    Ok(Some(Started { socket, key, pid, stdin, stdout, stderr }))
}

fn send(socket: &OwnedFd, seq: u64, op: Op, fds: &[(FdRole, BorrowedFd<'_>)]) -> Result<(), monitor::Error> {
    let (roles, fds): (Vec<_>, Vec<_>) = fds.iter().copied().unzip();
    protocol::send(socket, &Request { version: VERSION, seq, fds: roles, op }, &fds)
}

fn gone(id: impl ToString) -> Error {
    Error::runtime(OP, id, "the monitor ended before the program")
}

impl Session {
    /// Goes on in tokio: gives the session and its streams.
    pub(super) fn new(id: &str, started: Started) -> Result<(Self, Pipes)> {
        let ready = Ready::of(&started.socket)?;
        let socket = Arc::new(started.socket);
        let (told, result) = watch::channel(None);
        let (end, ended) = watch::channel(false);
        let theirs = socket.clone();
        // Ends with the exec, or is aborted with its session.
        let task = tokio::spawn(async move {
            if let Some(result) = last_word(&theirs, &ready).await {
                told.send_replace(Some(result));
            }
            end.send_replace(true);
        });
        let pipes = Pipes::new(started.stdin, started.stdout, started.stderr, ended)?;
        let session = Self { id: id.to_owned(), socket, key: started.key, result, task: task.abort_handle() };
        Ok((session, pipes))
    }

    pub(super) async fn wait(&mut self) -> Result<Exit> {
        let result = self.result.wait_for(Option::is_some).await;
        let result = result.map_err(|_| gone(&self.id))?;
        Ok(result.as_ref().map_or(Exit::Lost, |result| result.exit))
    }

    pub(super) fn kill(&self) -> Result<()> {
        self.ask(Op::ExecCancel { exec: self.key })
    }

    pub(super) fn resize(&self, size: Size) -> Result<()> {
        self.ask(Op::ExecResize { exec: self.key, rows: size.rows, columns: size.columns })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Asks for what is only confirmed; who reads the connection skips that.
    fn ask(&self, op: Op) -> Result<()> {
        send(&self.socket, START + 1, op, &[]).map_err(|error| Error::runtime(OP, &self.id, error))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
        // Whoever still holds it: the monitor sees the end now. One that is gone is fine.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// Reads replies until the exec's end; None when the connection ends before.
async fn last_word(socket: &OwnedFd, ready: &Ready) -> Option<ExecResult> {
    loop {
        let receive = || {
            // The socket blocks, for who began; one that is readable has a whole message for its one reader.
            if !sys::poll::readable(socket, Some(Duration::ZERO))? {
                return Err(std::io::ErrorKind::WouldBlock.into());
            }
            protocol::recv(socket).map_err(std::io::Error::other)
        };
        let (reply, _) = ready.read(receive).await.ok()??;
        if let (START, Some(Answer::Ended { result, .. })) = (reply.seq, reply.ok) {
            return Some(result);
        }
    }
}
