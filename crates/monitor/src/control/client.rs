//! A blocking client, for tools and tests. The daemon has its own around [`super::protocol`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use model::ExitRecord;
use sys::socket::{self, Blocking, Kind};

use super::protocol::{self, Answer, Exec, FdRole, Op, Reply, Request, VERSION};
use super::{ExecKey, ExecResult, Status};
use crate::Error;

/// A connection to a monitor.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    seq: u64,
    /// Replies to other requests than the one last waited for.
    early: VecDeque<(Reply, Vec<OwnedFd>)>,
}

/// An exec that was begun.
#[derive(Debug)]
pub struct Started {
    /// The request's number: the end is reported under it.
    pub seq: u64,
    /// Its name.
    pub exec: ExecKey,
    /// Its process, as the host counts.
    pub pid: i32,
    /// Its terminal's master, if it has one.
    pub terminal: Option<OwnedFd>,
}

impl Client {
    /// Connects to the monitor that listens at `path`.
    ///
    /// # Errors
    /// [`Error::Io`]: nobody listens there.
    pub fn connect(path: &Path) -> Result<Self, Error> {
        let socket = socket::connect(path, Kind::SeqPacket, Blocking::Yes)
            .map_err(|error| Error::io("connect to", path.display(), error.source))?;
        Ok(Self { socket, seq: 0, early: VecDeque::new() })
    }

    /// Sends a request and answers its number.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Protocol`].
    pub fn send(&mut self, op: Op, fds: &[(FdRole, BorrowedFd<'_>)]) -> Result<u64, Error> {
        self.seq += 1;
        let (roles, fds): (Vec<_>, Vec<_>) = fds.iter().copied().unzip();
        let request = Request { version: VERSION, seq: self.seq, fds: roles, op };
        protocol::send(&self.socket, &request, &fds)?;
        Ok(self.seq)
    }

    /// Waits for the next reply to number `seq`.
    ///
    /// # Errors
    /// [`Error::Refused`] with the monitor's words, [`Error::Io`] when it is gone, [`Error::Protocol`].
    pub fn reply(&mut self, seq: u64) -> Result<(Answer, Vec<OwnedFd>), Error> {
        let (reply, fds) = match self.early.iter().position(|(reply, _)| reply.seq == seq) {
            Some(place) => self.early.remove(place),
            None => None,
        }
        .map_or_else(|| self.receive(seq), Ok)?;
        Ok((reply.result()?, fds))
    }

    fn receive(&mut self, seq: u64) -> Result<(Reply, Vec<OwnedFd>), Error> {
        loop {
            let gone = || Error::io("receive from", "monitor", std::io::ErrorKind::UnexpectedEof);
            let (reply, fds) = protocol::recv(&self.socket)?.ok_or_else(gone)?;
            if reply.seq == seq {
                return Ok((reply, fds));
            }
            self.early.push_back((reply, fds));
        }
    }

    fn call(&mut self, op: Op, fds: &[(FdRole, BorrowedFd<'_>)]) -> Result<Answer, Error> {
        let seq = self.send(op, fds)?;
        Ok(self.reply(seq)?.0)
    }

    /// How the container is.
    ///
    /// # Errors
    /// As [`Client::reply`]; so with all that follow.
    pub fn state(&mut self) -> Result<Status, Error> {
        match self.call(Op::State, &[])? {
            Answer::State { status } => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Does what has no other answer than that it is done.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn act(&mut self, op: Op, fds: &[(FdRole, BorrowedFd<'_>)]) -> Result<(), Error> {
        match self.call(op, fds)? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Begins an exec. `Err` holds its end if it could not be started.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn exec(
        &mut self,
        exec: Exec,
        fds: &[(FdRole, BorrowedFd<'_>)],
    ) -> Result<Result<Started, ExecResult>, Error> {
        let seq = self.send(Op::Exec(exec), fds)?;
        match self.reply(seq)? {
            (Answer::Started { exec, pid }, fds) => {
                Ok(Ok(Started { seq, exec, pid, terminal: fds.into_iter().next() }))
            }
            (Answer::Ended { result, .. }, _) => Ok(Err(result)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Waits for an exec's end.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn exec_end(&mut self, started: &Started) -> Result<ExecResult, Error> {
        match self.reply(started.seq)?.0 {
            Answer::Ended { result, .. } => Ok(result),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for the container's end.
    ///
    /// # Errors
    /// As [`Client::reply`].
    pub fn wait(&mut self) -> Result<ExitRecord, Error> {
        match self.call(Op::Wait, &[])? {
            Answer::Exit { record: Some(record) } => Ok(record),
            other => Err(unexpected(&other)),
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Protocol(format!("unexpected answer {answer:?}"))
}
