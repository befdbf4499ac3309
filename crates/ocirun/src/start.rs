//! `start`: lets init become the container's program, and hears whether it did.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use model::oci::LinuxSeccomp;
use sys::Ctx as _;
use sys::pidfd::PidFd;
use sys::socket::{Blocking, Kind};

use crate::create::Context;
use crate::error::{Error, Result, point};
use crate::hooks;
use crate::init::MAX_MESSAGE;
use crate::record::{Dir, Record, Status};
use crate::seccomp::{self, ContainerProcessState};

/// Starts a created container.
///
/// # Errors
/// It is not created; the last steps of init failed, the program's execve(2) among them; a poststart hook failed, and then
/// the container is killed.
pub fn start(context: &Context, id: &str) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    let (status, init) = record.status(&dir)?;
    point("oci.start.begin")?;
    let cause = match (status, init) {
        (Status::Created, Some(init)) => return go(&dir, &record, &init),
        (Status::Stopped, _) => "cannot start a container that has stopped",
        _ => "cannot start an already running container",
    };
    Err(Error::State { op: "start", id: id.to_owned(), cause: cause.to_owned() })
}

fn go(dir: &Dir, record: &Record, init: &PidFd) -> Result<()> {
    let path = dir.start_socket();
    let refused = |cause: &str| Error::State { op: "start", id: record.id.clone(), cause: cause.to_owned() };
    let socket = match sys::socket::connect(&path, Kind::SeqPacket, Blocking::Yes) {
        Err(error) if matches!(error.errno(), Some(libc::ECONNREFUSED | libc::ENOENT)) => {
            return Err(refused("cannot start an already running container"));
        }
        result => result?,
    };
    let config = dir.config()?;
    point("oci.start.connected")?;
    // Before the word, not after it: whoever dies here leaves an init that was started or that ends because its
    // connection does, and never one that runs and is called created.
    sys::durable::remove(&path)?;
    point("oci.start.before-word")?;
    crate::init::send(&socket, b"s").map_err(|_| refused("init does not listen"))?;
    point("oci.start.word-sent")?;
    let profile = config.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let followed = follow(&socket, |number| {
        listener(init, number).and_then(|fd| notify(&fd, record, profile, init.pid(), "running"))
    });
    match followed {
        // Init took another's connection and closed its socket: ours was never accepted.
        Err(error) if error.errno() == Some(libc::ECONNRESET) && !init.is_dead()? => {
            return Err(refused("cannot start an already running container"));
        }
        result => result?,
    }
    point("oci.start.started")?;
    let state = record.state("running");
    let poststart = config.hooks.map(|hooks| hooks.poststart).unwrap_or_default();
    if let Err(error) = hooks::run(&poststart, "poststart", &state) {
        init.signal(libc::SIGKILL)?;
        return Err(error);
    }
    Ok(())
}

/// Hears a process out until it closes the connection by its execve(2). `told` gets the number of its notify descriptor.
///
/// # Errors
/// What the process tells; what `told` says.
pub(crate) fn follow(socket: &OwnedFd, mut told: impl FnMut(i32) -> Result<()>) -> Result<()> {
    let mut buffer = [0u8; MAX_MESSAGE];
    loop {
        // An execve(2) leaves nothing unread: a connection that is reset was not heard.
        let (len, _) = rustix::io::retry_on_intr(|| {
            rustix::net::recv(socket, &mut buffer, rustix::net::RecvFlags::empty())
        })
        .ctx("receive", "from the process")?;
        match buffer[..len].split_first() {
            None => return Ok(()),
            Some((b'l', number)) => {
                told(std::str::from_utf8(number).ok().and_then(|text| text.parse().ok()).unwrap_or(-1))?;
                rustix::io::write(socket, b"k").ctx("send", "to the process")?;
            }
            Some((_, text)) => return Err(Error::Step(String::from_utf8_lossy(text).into_owned())),
        }
    }
}

/// A copy of the notify descriptor `number` of the process.
pub(crate) fn listener(process: &PidFd, number: i32) -> Result<OwnedFd> {
    let flags = rustix::process::PidfdGetfdFlags::empty();
    Ok(rustix::process::pidfd_getfd(process.as_fd(), number, flags).ctx("copy", "notify descriptor")?)
}

/// Hands the notify descriptor `fd` of the process `pid` to the listener that the profile names.
pub(crate) fn notify(
    fd: &OwnedFd,
    record: &Record,
    profile: Option<&LinuxSeccomp>,
    pid: i32,
    status: &str,
) -> Result<()> {
    let Some(path) = profile.and_then(|profile| profile.listener_path.as_deref()) else { return Ok(()) };
    let state = ContainerProcessState {
        oci_version: record.oci_version.clone(),
        fds: vec!["seccompFd".to_owned()],
        pid,
        metadata: profile.and_then(|profile| profile.listener_metadata.clone()),
        state: record.state(status),
    };
    Ok(seccomp::send(Path::new(path), fd.as_fd(), &state)?)
}
