//! From a message to what is asked: which descriptor is what, and an exec's process.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use serde::Deserialize;

use super::ExecRequest;
use super::protocol::{Exec, Failure, FailureKind, FdRole, PROCESS_BYTES, Request, VERSION};
use crate::Error;

/// The descriptors of a request.
#[derive(Debug, Default)]
pub(super) struct Roles {
    pub(super) attach: Option<OwnedFd>,
    process: Option<OwnedFd>,
    stdio: [Option<OwnedFd>; 3],
}

/// A failure that is the client's fault.
pub(super) fn bad_request(reason: impl Into<String>) -> Failure {
    Failure::new(FailureKind::BadRequest, reason)
}

/// Gives each descriptor its role.
pub(super) fn by_role(request: &Request, fds: Vec<OwnedFd>) -> Result<Roles, Failure> {
    let (named, came) = (request.fds.len(), fds.len());
    if named != came {
        return Err(bad_request(format!("{came} descriptors came where {named} are named")));
    }
    let mut roles = Roles::default();
    for (role, fd) in request.fds.iter().zip(fds) {
        let place = match role {
            FdRole::Process => &mut roles.process,
            FdRole::Stdin => &mut roles.stdio[0],
            FdRole::Stdout => &mut roles.stdio[1],
            FdRole::Stderr => &mut roles.stdio[2],
            FdRole::Attach => &mut roles.attach,
        };
        if place.replace(fd).is_some() {
            return Err(bad_request(format!("two descriptors are {role:?}")));
        }
    }
    Ok(roles)
}

/// What the process is asked to do. The process specification is looked at only as far as it concerns the monitor.
pub(super) fn exec_request(exec: Exec, roles: Roles) -> Result<ExecRequest, Failure> {
    let process = match (&exec.process, roles.process) {
        (Some(process), None) => process.to_string().into_bytes(),
        (None, Some(fd)) => read_process(&File::from(fd))?,
        (Some(_), Some(_)) => return Err(bad_request("the process came twice")),
        (None, None) => return Err(bad_request("exec needs a process")),
    };
    let terminal = process_terminal(&process)?;
    let timeout = exec.timeout_ms.map(Duration::from_millis);
    Ok(ExecRequest { process, stdio: roles.stdio, terminal, timeout })
}

/// Reads a process specification from a regular file: nothing else is sure not to block.
fn read_process(file: &File) -> Result<Vec<u8>, Failure> {
    let read = |error: std::io::Error| bad_request(format!("read process: {error}"));
    let found = file.metadata().map_err(read)?;
    let len = usize::try_from(found.len()).unwrap_or(usize::MAX);
    if !found.is_file() || len > PROCESS_BYTES {
        return Err(bad_request(format!(
            "the process must be in a regular file of at most {PROCESS_BYTES} bytes"
        )));
    }
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, 0).map_err(read)?;
    Ok(bytes)
}

/// Whether an OCI process specification asks for a terminal.
///
/// # Errors
/// It is no JSON object.
pub(super) fn process_terminal(process: &[u8]) -> Result<bool, Failure> {
    #[derive(Deserialize)]
    struct Process {
        #[serde(default)]
        terminal: bool,
    }
    let parsed: Result<Process, _> = serde_json::from_slice(process);
    parsed.map(|process| process.terminal).map_err(|error| bad_request(format!("process: {error}")))
}

/// The number of a request that could not be read otherwise; 0 if there is none.
pub(super) fn seq_of(bytes: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Numbered {
        #[serde(default)]
        seq: u64,
    }
    serde_json::from_slice(bytes).map_or(0, |numbered: Numbered| numbered.seq)
}

/// What to answer to `bytes`, of which `error` came.
pub(super) fn failure_of(bytes: &[u8], error: &Error) -> Failure {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    let version = serde_json::from_slice(bytes).map(|versioned: Versioned| versioned.version);
    let other = version.is_ok_and(|version| version != u64::from(VERSION));
    let kind = if other { FailureKind::Version } else { FailureKind::BadRequest };
    Failure::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn process_specifications() {
        let cases = [
            ("{}", Some(false)),
            (r#"{"terminal":true,"args":["sh"],"user":{"uid":0}}"#, Some(true)),
            (r#"{"terminal":false}"#, Some(false)),
            (r#"{"terminal":"yes"}"#, None),
            ("", None),
            ("{", None),
            ("null", None),
        ];
        for (text, expected) in cases {
            let got = process_terminal(text.as_bytes());
            assert_eq!(got.ok(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_process_is_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = process_terminal(&bytes);
            let _ = seq_of(&bytes);
        }
    }
}
