//! The messages of the control protocol, and how they go over a socket. docs/monitor-protocol.md is their text.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use model::ExitRecord;
use serde::{Deserialize, Serialize};
use sys::socket::{self, Received};

use super::{ExecKey, ExecResult, Status};
use crate::Error;

/// The protocol's version: in every message, either way.
pub const VERSION: u32 = 1;
/// The largest message, in bytes. A larger process specification is passed by descriptor.
pub const MESSAGE_BYTES: usize = 128 * 1024;
/// The most descriptors that come with a message.
pub const MESSAGE_FDS: usize = 8;
/// The largest process specification that is read from a descriptor.
pub const PROCESS_BYTES: usize = 4 * 1024 * 1024;

/// What a descriptor that comes with a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdRole {
    /// The OCI process specification, in a regular file or memfd.
    Process,
    /// The exec's stdin.
    Stdin,
    /// The exec's stdout.
    Stdout,
    /// The exec's stderr.
    Stderr,
    /// The monitor's end of an attach connection.
    Attach,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// The client's number for it: every reply to it has the same.
    #[serde(default)]
    pub seq: u64,
    /// What the descriptors are that come with it, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fds: Vec<FdRole>,
    /// What is asked.
    #[serde(flatten)]
    pub op: Op,
}

/// What can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Op {
    /// Who is there? Answered by [`Answer::Hello`].
    Hello,
    /// How is the container? Answered by [`Answer::State`].
    State,
    /// Start a process in the container. Answered by [`Answer::Started`] and, later, [`Answer::Ended`]; by
    /// [`Answer::Ended`] alone if it could not be started.
    Exec(Exec),
    /// Tell when an exec ends, or how it ended. Answered by [`Answer::Ended`].
    ExecWait {
        /// Which.
        exec: ExecKey,
    },
    /// Kill an exec and all its children. Answered by [`Answer::Done`].
    ExecCancel {
        /// Which.
        exec: ExecKey,
    },
    /// Send a signal to an exec's process. Answered by [`Answer::Done`].
    ExecSignal {
        /// Which.
        exec: ExecKey,
        /// The signal's number.
        signal: i32,
    },
    /// Set the size of an exec's terminal. Answered by [`Answer::Done`].
    ExecResize {
        /// Which.
        exec: ExecKey,
        /// Lines.
        rows: u16,
        /// Characters.
        columns: u16,
    },
    /// Set the size of the container's terminal. Answered by [`Answer::Done`].
    Resize {
        /// Lines.
        rows: u16,
        /// Characters.
        columns: u16,
    },
    /// Take the descriptor [`FdRole::Attach`], a SEQPACKET socket, as an attach client. Answered by
    /// [`Answer::Done`].
    Attach,
    /// Open the logs anew. Answered by [`Answer::Done`] when that is done.
    ReopenLog,
    /// Tell when the container has ended. Answered by [`Answer::Exit`].
    Wait,
    /// How did the container end? Answered by [`Answer::Exit`] at once.
    ExitRecord,
}

/// An exec, as asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The OCI process; absent if it comes as [`FdRole::Process`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<serde_json::Value>,
    /// Kill it with all its children after so many milliseconds from its start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Cancel it when this connection ends.
    #[serde(default)]
    pub kill_on_close: bool,
}

/// A reply: either `ok` or `error` is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`].
    pub version: u32,
    /// The request's number; 0 if it could not be told.
    #[serde(default)]
    pub seq: u64,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<Answer>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl Reply {
    /// A reply to number `seq`.
    #[must_use]
    pub fn new(seq: u64, result: Result<Answer, Failure>) -> Self {
        let (ok, error) = match result {
            Ok(answer) => (Some(answer), None),
            Err(failure) => (None, Some(failure)),
        };
        Self { version: VERSION, seq, ok, error }
    }

    /// The answer, or why there is none.
    ///
    /// # Errors
    /// [`Error::Refused`] with the monitor's words; [`Error::Protocol`] if it said neither.
    pub fn result(self) -> Result<Answer, Error> {
        match (self.ok, self.error) {
            (Some(answer), _) => Ok(answer),
            (None, Some(failure)) => Err(Error::Refused(failure.message)),
            (None, None) => Err(Error::Protocol("neither ok nor error".into())),
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Answer {
    /// Who is there.
    Hello {
        /// The program, with its version.
        program: String,
        /// The container.
        status: Status,
    },
    /// How the container is.
    State {
        /// The container.
        status: Status,
    },
    /// The exec runs. With a terminal, its master comes along as the only descriptor.
    Started {
        /// Its name from now on.
        exec: ExecKey,
        /// Its process, as the host counts.
        pid: i32,
    },
    /// The exec is over.
    Ended {
        /// Which.
        exec: ExecKey,
        /// How.
        result: ExecResult,
    },
    /// How the container ended; `None` if it has not.
    Exit {
        /// The durable record.
        record: Option<ExitRecord>,
    },
    /// It is done.
    Done,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of reason.
    pub kind: FailureKind,
    /// In words.
    pub message: String,
}

impl Failure {
    /// A failure of `kind`.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Reasons, as far as a client may act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The message is not one of this protocol, or not complete.
    BadRequest,
    /// The message is of another version.
    Version,
    /// There is no such exec.
    NotFound,
    /// The system did not do it.
    Failed,
}

/// A message's bytes.
#[must_use]
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    // Maps with string keys and numbers only: there is nothing that JSON could not hold.
    serde_json::to_vec(message).unwrap_or_default()
}

/// A message of these bytes.
///
/// # Errors
/// [`Error::Protocol`]: they are none, or of another version.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let protocol = |error: serde_json::Error| Error::Protocol(error.to_string());
    let Versioned { version } = serde_json::from_slice(bytes).map_err(protocol)?;
    if version != VERSION {
        return Err(Error::Protocol(format!("version {version} where {VERSION} is known")));
    }
    serde_json::from_slice(bytes).map_err(protocol)
}

/// Sends a message with its descriptors.
///
/// # Errors
/// [`Error::Io`], also `WouldBlock` if the socket does not block; [`Error::Protocol`] if it is too large.
pub fn send(socket: impl AsFd, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let bytes = encode(message);
    if bytes.len() > MESSAGE_BYTES {
        return Err(Error::Protocol(format!("{} bytes are too many", bytes.len())));
    }
    let sent = socket::send_with_fds(socket, &bytes, fds);
    sent.map(drop).map_err(|error| Error::io("send to", "monitor", error.source))
}

/// Receives a reply with its descriptors; `None` when the monitor has closed the connection.
///
/// # Errors
/// [`Error::Io`], also `WouldBlock` if the socket does not block; [`Error::Protocol`] if it is none of this
/// protocol.
pub fn recv(socket: impl AsFd) -> Result<Option<(Reply, Vec<OwnedFd>)>, Error> {
    let mut buffer = vec![0; MESSAGE_BYTES];
    let Received { len, fds, truncated, fds_truncated } =
        socket::recv_with_fds(socket, &mut buffer, MESSAGE_FDS)
            .map_err(|error| Error::io("receive from", "monitor", error.source))?;
    if truncated || fds_truncated {
        return Err(Error::Protocol("the message or its descriptors did not fit".into()));
    }
    if len == 0 {
        return Ok(None);
    }
    Ok(Some((decode(&buffer[..len])?, fds)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_documented() {
        let exec = Exec { process: Some(serde_json::json!({"args": ["true"]})), ..Exec::default() };
        let requests = [
            (Op::Hello, vec![], r#"{"version":1,"seq":7,"op":"hello"}"#),
            (Op::ReopenLog, vec![], r#"{"version":1,"seq":7,"op":"reopen-log"}"#),
            (Op::Attach, vec![FdRole::Attach], r#"{"version":1,"seq":7,"fds":["attach"],"op":"attach"}"#),
            (
                Op::ExecResize { exec: ExecKey(3), rows: 24, columns: 80 },
                vec![],
                r#"{"version":1,"seq":7,"op":"exec-resize","exec":3,"rows":24,"columns":80}"#,
            ),
            (
                Op::Exec(exec),
                vec![FdRole::Stdout],
                r#"{"version":1,"seq":7,"fds":["stdout"],"op":"exec","process":{"args":["true"]},"kill_on_close":false}"#,
            ),
        ];
        for (op, fds, text) in requests {
            let request = Request { version: VERSION, seq: 7, fds, op };
            assert_eq!(String::from_utf8(encode(&request)).unwrap(), text);
            assert_eq!(decode::<Request>(text.as_bytes()).unwrap(), request);
        }
        let replies = [
            (Ok(Answer::Done), r#"{"version":1,"seq":7,"ok":{"type":"done"}}"#),
            (
                Ok(Answer::Started { exec: ExecKey(3), pid: 40 }),
                r#"{"version":1,"seq":7,"ok":{"type":"started","exec":3,"pid":40}}"#,
            ),
            (
                Err(Failure::new(FailureKind::NotFound, "no exec 9")),
                r#"{"version":1,"seq":7,"error":{"kind":"not-found","message":"no exec 9"}}"#,
            ),
        ];
        for (result, text) in replies {
            let reply = Reply::new(7, result);
            assert_eq!(String::from_utf8(encode(&reply)).unwrap(), text);
            assert_eq!(decode::<Reply>(text.as_bytes()).unwrap(), reply);
        }
    }

    #[test]
    fn what_is_refused() {
        let cases = [
            "",
            "{}",
            "[]",
            r#"{"version":1}"#,
            r#"{"version":2,"op":"hello"}"#,
            r#"{"version":"1","op":"hello"}"#,
            r#"{"version":1,"op":"no-such"}"#,
            r#"{"version":1,"op":"resize","rows":65536,"columns":1}"#,
            r#"{"version":1,"op":"exec-cancel"}"#,
            r#"{"version":1,"op":"hello","fds":["no-such"]}"#,
        ];
        for text in cases {
            assert!(matches!(decode::<Request>(text.as_bytes()), Err(Error::Protocol(_))), "{text}");
        }
        // What a later minor addition may bring is no reason to fail.
        assert!(decode::<Request>(br#"{"version":1,"op":"hello","new":{"a":1}}"#).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Reply>(&bytes);
        }

        #[test]
        fn no_json_is_too_strange(
            op in "[a-z-]{0,12}", key in "[a-z_]{0,8}", value in "(null|-?[0-9]{1,20}|\"[a-z]*\"|\\[\\]|\\{\\})",
        ) {
            let text = format!(r#"{{"version":1,"op":"{op}","{key}":{value},"exec":{value},"rows":{value}}}"#);
            if let Ok(request) = decode::<Request>(text.as_bytes()) {
                prop_assert_eq!(decode::<Request>(&encode(&request)).unwrap(), request);
            }
        }
    }
}
