//! The monitor's side: clients that come and go, their requests, the execs they asked for.
//!
//! Nothing here waits. A client that does not take its replies is not read from until it does, and is dropped when
//! too many have gathered; one that sends what is not of the protocol is told so.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::ExitRecord;
use rustix::io::Errno;
use sys::pages::Pages;
use sys::socket::{self, Blocking};

use super::client_state::Client;
use super::protocol::{Answer, Failure, FailureKind, MESSAGE_BYTES, MESSAGE_FDS, Op, Reply, Request, decode};
use super::request::{self, bad_request};
use super::{ExecKey, ExecResult, Host};
use crate::poll::{Kind, Poll, Ready, Token};

/// The most clients at once.
const CLIENTS: usize = 256;
/// The most requests served for one client before others get their turn.
const TURN: usize = 16;
/// Ends of execs that are remembered for who asks later.
const REMEMBERED: usize = 64;
/// The mode of the socket's file.
const MODE: u32 = 0o600;

/// The listening socket and its clients.
#[derive(Debug)]
pub struct Server {
    listener: OwnedFd,
    path: PathBuf,
    clients: Vec<Option<Client>>,
    /// Numbers each client that comes, so that a place used again is not taken for who was there before.
    arrivals: u64,
    execs: BTreeMap<u32, ExecState>,
    next_exec: u32,
    /// Who waits for the container's end.
    waiters: Vec<Asker>,
    record: Option<ExitRecord>,
    /// Held so that there is a descriptor to turn clients away with when all others are in use.
    spare: Option<OwnedFd>,
}

/// A client's request that is answered later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asker {
    index: u32,
    arrival: u64,
    seq: u64,
}

#[derive(Debug)]
struct ExecState {
    owner: Asker,
    kill_on_close: bool,
    waiters: Vec<Asker>,
    result: Option<ExecResult>,
}

impl Server {
    /// Makes the socket at `path` (any length; a stale one is replaced), mode 0600, and watches it under
    /// `Kind::ControlListener`.
    ///
    /// # Errors
    /// The directory is not there or not writable, or descriptors are short.
    pub fn bind(path: &Path, poll: &Poll) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = socket::listen(path, socket::Kind::SeqPacket, Blocking::No, MODE)?;
        poll.add(&listener, Token::of(Kind::ControlListener), Ready::IN)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            clients: Vec::new(),
            arrivals: 0,
            execs: BTreeMap::new(),
            next_exec: 1,
            waiters: Vec::new(),
            record: None,
            spare: spare(),
        })
    }

    /// Accepts who is waiting, after checking who it is.
    pub fn accept(&mut self, poll: &Poll) {
        loop {
            match socket::accept(&self.listener, Blocking::No) {
                Ok(Some(fd)) => self.admit(fd, poll),
                Ok(None) => return,
                Err(error) => {
                    let full = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
                    if !error.errno().is_some_and(|errno| full.contains(&errno))
                        || self.spare.take().is_none()
                    {
                        return;
                    }
                    // Turn one away, or the listener would stay ready for ever.
                    drop(socket::accept(&self.listener, Blocking::No));
                    self.spare = spare();
                }
            }
        }
    }

    fn admit(&mut self, fd: OwnedFd, poll: &Poll) {
        let own = rustix::process::geteuid().as_raw();
        let Ok(peer) = socket::peer_cred(&fd) else { return };
        if peer.uid != 0 && peer.uid != own {
            return;
        }
        let free = self.clients.iter().position(Option::is_none).unwrap_or(self.clients.len());
        let Ok(index) = u32::try_from(free) else { return };
        if free >= CLIENTS || poll.add(&fd, Token::nth(Kind::ControlClient, index), Ready::IN).is_err() {
            return;
        }
        self.arrivals += 1;
        let client = Client::new(fd, self.arrivals);
        match self.clients.get_mut(free) {
            Some(place) => *place = Some(client),
            None => self.clients.push(Some(client)),
        }
    }

    /// Serves client `index`, which is `ready`.
    pub fn ready(&mut self, index: u32, ready: Ready, host: &mut dyn Host, poll: &Poll) {
        if ready.intersects(Ready::OUT) {
            self.with_client(index, poll, Client::flush);
        }
        if !ready.intersects(Ready::IN | Ready::HUP | Ready::ERR) {
            return;
        }
        let Ok(mut buffer) = Pages::new(MESSAGE_BYTES) else { return };
        for _ in 0..TURN {
            let Some(client) = self.client(index) else { return };
            if client.is_behind() && !ready.intersects(Ready::HUP | Ready::ERR) {
                return;
            }
            let seen = (client.arrival, socket::recv_with_fds(client.fd(), &mut buffer, MESSAGE_FDS));
            let (arrival, received) = match seen {
                (arrival, Ok(received)) => (arrival, received),
                (_, Err(error)) if error.errno() == Some(Errno::AGAIN.raw_os_error()) => return,
                (_, Err(_)) => return self.drop_client(index, host, poll),
            };
            if received.len == 0 {
                return self.drop_client(index, host, poll);
            }
            let asker = |seq| Asker { index, arrival, seq };
            if received.truncated || received.fds_truncated {
                let reason = "the message has too many bytes or descriptors";
                self.reply(asker(0), Err(bad_request(reason)), None, poll);
                continue;
            }
            match decode::<Request>(&buffer[..received.len]) {
                Ok(request) => {
                    let asker = asker(request.seq);
                    if let Some(result) = self.serve(asker, request, received.fds, host) {
                        self.reply(asker, result, None, poll);
                    }
                }
                Err(error) => {
                    let failure = request::failure_of(&buffer[..received.len], &error);
                    let seq = request::seq_of(&buffer[..received.len]);
                    self.reply(asker(seq), Err(failure), None, poll);
                }
            }
        }
    }

    /// Does what is asked, or begins it. `None`: the answer comes later.
    fn serve(
        &mut self,
        asker: Asker,
        request: Request,
        fds: Vec<OwnedFd>,
        host: &mut dyn Host,
    ) -> Option<Result<Answer, Failure>> {
        let roles = match request::by_role(&request, fds) {
            Ok(roles) => roles,
            Err(failure) => return Some(Err(failure)),
        };
        let done = |result: io::Result<()>| result.map(|()| Answer::Done).map_err(|error| failed(&error));
        Some(match request.op {
            Op::Hello => Ok(Answer::Hello {
                program: concat!("wharf-monitor ", env!("CARGO_PKG_VERSION")).into(),
                status: host.status(),
            }),
            Op::State => Ok(Answer::State { status: host.status() }),
            Op::Resize { rows, columns } => done(host.resize(None, rows, columns)),
            Op::ReopenLog => {
                host.reopen_logs();
                Ok(Answer::Done)
            }
            Op::Attach => match roles.attach {
                Some(fd) => done(host.attach(fd)),
                None => Err(bad_request("attach needs a descriptor")),
            },
            Op::ExitRecord => Ok(Answer::Exit { record: self.record.clone() }),
            Op::Wait => match &self.record {
                Some(record) => Ok(Answer::Exit { record: Some(record.clone()) }),
                None => {
                    self.waiters.push(asker);
                    return None;
                }
            },
            Op::Exec(exec) => {
                let kill_on_close = exec.kill_on_close;
                let begun = request::exec_request(exec, roles)
                    .and_then(|exec| self.begin_exec(asker, kill_on_close, exec, host));
                match begun {
                    Ok(()) => return None,
                    Err(failure) => Err(failure),
                }
            }
            Op::ExecWait { exec } => match self.execs.get_mut(&exec.0) {
                None => Err(no_exec(exec)),
                Some(ExecState { result: Some(result), .. }) => {
                    Ok(Answer::Ended { exec, result: result.clone() })
                }
                Some(state) => {
                    state.waiters.push(asker);
                    return None;
                }
            },
            Op::ExecCancel { exec } => self.running(exec).and_then(|()| done(host.cancel_exec(exec))),
            Op::ExecSignal { exec, signal } => {
                self.running(exec).and_then(|()| done(host.signal_exec(exec, signal)))
            }
            Op::ExecResize { exec, rows, columns } => {
                self.running(exec).and_then(|()| done(host.resize(Some(exec), rows, columns)))
            }
        })
    }

    fn begin_exec(
        &mut self,
        owner: Asker,
        kill_on_close: bool,
        exec: super::ExecRequest,
        host: &mut dyn Host,
    ) -> Result<(), Failure> {
        let key = ExecKey(self.next_exec);
        host.exec(key, exec).map_err(|error| failed(&error))?;
        self.next_exec += 1;
        self.execs.insert(key.0, ExecState { owner, kill_on_close, waiters: Vec::new(), result: None });
        Ok(())
    }

    fn running(&self, exec: ExecKey) -> Result<(), Failure> {
        match self.execs.get(&exec.0) {
            Some(ExecState { result: None, .. }) => Ok(()),
            _ => Err(no_exec(exec)),
        }
    }

    /// The exec's process runs. `terminal` is its master if it has one: it goes to the client.
    pub fn exec_started(&mut self, key: ExecKey, pid: i32, terminal: Option<BorrowedFd<'_>>, poll: &Poll) {
        let Some(state) = self.execs.get(&key.0) else { return };
        // Without a descriptor left for a copy the client gets none, and says what it thinks of that.
        let terminal = terminal.and_then(|terminal| terminal.try_clone_to_owned().ok());
        self.reply(state.owner, Ok(Answer::Started { exec: key, pid }), terminal, poll);
    }

    /// The exec is over, or never began ([`model::Exit::StartError`]).
    pub fn exec_ended(&mut self, key: ExecKey, result: &ExecResult, poll: &Poll) {
        let Some(state) = self.execs.get_mut(&key.0) else { return };
        state.result = Some(result.clone());
        let mut askers = std::mem::take(&mut state.waiters);
        askers.insert(0, state.owner);
        for asker in askers {
            self.reply(asker, Ok(Answer::Ended { exec: key, result: result.clone() }), None, poll);
        }
        let ended: Vec<u32> =
            self.execs.iter().filter(|(_, state)| state.result.is_some()).map(|(key, _)| *key).collect();
        for key in &ended[..ended.len().saturating_sub(REMEMBERED)] {
            self.execs.remove(key);
        }
    }

    /// The container has ended and its record is durable: tell all who wait.
    pub fn exited(&mut self, record: &ExitRecord, poll: &Poll) {
        self.record = Some(record.clone());
        for asker in std::mem::take(&mut self.waiters) {
            self.reply(asker, Ok(Answer::Exit { record: Some(record.clone()) }), None, poll);
        }
    }

    /// Sends what can still be sent without blocking, closes all and removes the socket.
    pub fn close(&mut self) {
        for client in self.clients.iter_mut().flatten() {
            // Whoever does not take it now reads the record from disk.
            client.flush();
        }
        self.clients.clear();
        // It may have been removed with its directory already.
        let _ = std::fs::remove_file(&self.path);
    }

    fn client(&mut self, index: u32) -> Option<&mut Client> {
        self.clients.get_mut(usize::try_from(index).ok()?)?.as_mut()
    }

    /// Replies to `asker` if it is still there.
    fn reply(&mut self, asker: Asker, result: Result<Answer, Failure>, fd: Option<OwnedFd>, poll: &Poll) {
        if self.client(asker.index).is_some_and(|client| client.arrival == asker.arrival) {
            let reply = Reply::new(asker.seq, result);
            self.with_client(asker.index, poll, |client| client.send(&reply, fd));
        }
    }

    /// Lets a client be sent to, then watches it for what it can do next. One that can't be watched or sent to is
    /// broken off: it then becomes ready, reads as ended, and is dropped with all that hangs on it.
    fn with_client(&mut self, index: u32, poll: &Poll, send: impl FnOnce(&mut Client)) {
        let Some(client) = self.client(index) else { return };
        let was_behind = client.is_behind();
        send(client);
        let is_behind = client.is_behind();
        if is_behind != was_behind {
            let interest = if is_behind { Ready::OUT } else { Ready::IN };
            if poll.modify(client.fd(), Token::nth(Kind::ControlClient, index), interest).is_err() {
                client.break_off();
            }
        }
    }

    fn drop_client(&mut self, index: u32, host: &mut dyn Host, poll: &Poll) {
        let place = usize::try_from(index).ok().and_then(|place| self.clients.get_mut(place));
        let Some(client) = place.and_then(Option::take) else { return };
        // Closing ends the watch too; this is for copies that a fork may hold.
        let _ = poll.remove(client.fd());
        let theirs = |asker: &Asker| asker.arrival == client.arrival;
        self.waiters.retain(|asker| !theirs(asker));
        for (key, exec) in &mut self.execs {
            exec.waiters.retain(|asker| !theirs(asker));
            if exec.kill_on_close && exec.result.is_none() && theirs(&exec.owner) {
                // It may have ended meanwhile, which is as good.
                let _ = host.cancel_exec(ExecKey(*key));
            }
        }
        while self.clients.last().is_some_and(Option::is_none) {
            self.clients.pop();
        }
    }
}

fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

fn failed(error: &io::Error) -> Failure {
    Failure::new(FailureKind::Failed, error.to_string())
}

fn no_exec(exec: ExecKey) -> Failure {
    Failure::new(FailureKind::NotFound, format!("no exec {} runs", exec.0))
}
