//! Execs and attachments: programs in a container, and clients of its streams.

use model::Exit;

use crate::request::{ExecOutput, ExecRequest, ExecStreams, Size};
use crate::{Container, Error, Result};

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Of the standard output, or of the terminal.
    Stdout(Vec<u8>),
    /// Of the standard error.
    Stderr(Vec<u8>),
}

/// A client of a container's or an exec's streams. Dropping it detaches.
#[derive(Debug)]
pub struct Attached {}

impl Attached {
    /// The next output; None at the end. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Sys`] when the connection breaks.
    pub async fn read(&self) -> Result<Option<Output>> {
        Ok(None)
    }

    /// Writes all of `bytes` to its input. Not cancel-safe: a part may have been written.
    ///
    /// # Errors
    /// [`Error::Sys`] when the connection breaks.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// Ends the input.
    ///
    /// # Errors
    /// [`Error::Sys`] when the connection breaks.
    pub fn close_stdin(&self) -> Result<()> {
        Ok(())
    }
}

/// A program that runs in a container. Dropping it kills it with all that it started.
#[derive(Debug)]
pub struct Exec {}

impl Exec {
    /// Its pid, in the host's pid namespace.
    #[must_use]
    pub fn pid(&self) -> i32 {
        0
    }

    /// Its streams.
    #[must_use]
    pub fn streams(&self) -> &Attached {
        &Attached {}
    }

    /// Sets its terminal's size.
    ///
    /// # Errors
    /// [`Error::State`] when it has none.
    pub async fn resize(&self, size: Size) -> Result<()> {
        let _ = size;
        Ok(())
    }

    /// Waits for its end, having read its output to the end before. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Runtime`] when the monitor dies.
    pub async fn wait(&mut self) -> Result<Exit> {
        Ok(Exit::Lost)
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
        let _ = request;
        Err(Error::unsupported("exec", self.id(), "not written yet"))
    }

    /// Runs a program in the container with live streams.
    ///
    /// # Errors
    /// As [`Self::exec_sync`].
    pub async fn exec(&self, request: ExecRequest, streams: ExecStreams) -> Result<Exec> {
        let _ = (request, streams);
        Err(Error::unsupported("exec", self.id(), "not written yet"))
    }

    /// Connects to the container's streams, from now on. Any number of clients may.
    ///
    /// # Errors
    /// [`Error::State`] unless it is alive.
    pub async fn attach(&self) -> Result<Attached> {
        Err(Error::unsupported("attach", self.id(), "not written yet"))
    }

    /// Sets the size of the container's terminal.
    ///
    /// # Errors
    /// [`Error::State`] when it has none or is not alive.
    pub async fn resize(&self, size: Size) -> Result<()> {
        let _ = size;
        Err(Error::unsupported("resize", self.id(), "not written yet"))
    }

    /// Lets the monitor open the log's path anew, after it was renamed. Returns once the file is there.
    ///
    /// # Errors
    /// [`Error::State`] when it is not alive, [`Error::Timeout`].
    pub async fn reopen_log(&self) -> Result<()> {
        Err(Error::unsupported("reopen log of", self.id(), "not written yet"))
    }

    /// Saves the container's processes with criu.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where criu or the runtime can't; [`Error::Runtime`] with their message.
    pub async fn checkpoint(&self, request: crate::CheckpointRequest) -> Result<()> {
        let _ = request;
        Err(Error::unsupported("checkpoint", self.id(), "not written yet"))
    }

    /// Brings an exited container back from a checkpoint.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub async fn restore(&self, request: crate::CheckpointRequest) -> Result<()> {
        let _ = request;
        Err(Error::unsupported("restore", self.id(), "not written yet"))
    }
}
