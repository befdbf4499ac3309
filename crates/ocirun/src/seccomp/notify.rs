//! Hands the descriptor of `SCMP_ACT_NOTIFY` to the listener (config-linux.md, "containerProcessState").

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType,
};
use serde::Serialize;

use super::Error;

/// What the listener is told with the descriptor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProcessState {
    /// Version of the specification.
    pub oci_version: String,
    /// What each descriptor is: `seccompFd`.
    pub fds: Vec<String>,
    /// The process that has the filter, as the runtime sees it.
    pub pid: i32,
    /// `listenerMetadata` of the profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<String>,
    /// The container's state.
    pub state: model::oci::State,
}

/// Sends `fd` and `state` to the socket at `path`.
///
/// # Errors
/// Nobody listens there, or the socket does not take the message.
pub fn send(path: &Path, fd: BorrowedFd<'_>, state: &ContainerProcessState) -> Result<(), Error> {
    let failed = |what: &str, cause: &dyn std::fmt::Display| {
        Error::because(&format!("{what} {}", path.display()), cause)
    };
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|e| failed("make socket for", &e))?;
    let address = SocketAddrUnix::new(path).map_err(|e| failed("connect to", &e))?;
    rustix::net::connect(&socket, &address).map_err(|e| failed("connect to", &e))?;
    let message = serde_json::to_vec(state).map_err(|e| failed("describe the container to", &e))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::net::sendmsg(&socket, &[IoSlice::new(&message)], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(|e| failed("send to", &e))?;
    let mut rest = &message[sent..];
    while !rest.is_empty() {
        let sent =
            rustix::net::send(&socket, rest, SendFlags::NOSIGNAL).map_err(|e| failed("send to", &e))?;
        rest = &rest[sent..];
    }
    Ok(())
}
