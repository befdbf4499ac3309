//! Hooks: programs that get the container's state on their standard input.
//!
//! Its input is a file in memory: to write more than a pipe takes, one would wait for a hook that never reads.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, Stdio};
use std::time::Duration;

use model::oci::{Hook, State};

use crate::error::{Error, Result};

/// As much of a failed hook's words as an error shows.
const MAX_WORDS: u64 = 1024;

/// Runs `hooks` one after the other, and stops at the first that fails.
///
/// # Errors
/// [`Error::Hook`]: it can't be run, exits with a status that is not 0, is killed, or takes longer than it may.
pub(crate) fn run(hooks: &[Hook], kind: &'static str, state: &State) -> Result<()> {
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_vec(state).unwrap_or_default();
    hooks.iter().try_for_each(|hook| {
        run_one(hook, &text).map_err(|cause| Error::Hook { kind, path: hook.path.clone(), cause })
    })
}

fn run_one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    let said = |error: std::io::Error| sys::Error::new("", "", error).cause();
    let file = || {
        let made = rustix::fs::memfd_create(c"hook", rustix::fs::MemfdFlags::CLOEXEC);
        made.map(File::from).map_err(|error| said(error.into()))
    };
    let (mut input, mut words) = (file()?, file()?);
    input.write_all(state).and_then(|()| input.rewind()).map_err(said)?;
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    let stderr = words.try_clone().map_err(said)?;
    command.stdin(input).stdout(Stdio::null()).stderr(stderr);
    let mut child = command.spawn().map_err(said)?;
    if let Some(seconds) = hook.timeout {
        let id = i32::try_from(child.id()).unwrap_or(0);
        let pidfd = sys::pidfd::PidFd::open(id).map_err(|error| error.to_string())?;
        let limit = Duration::from_secs(seconds.unsigned_abs());
        if !pidfd.wait(Some(limit)).map_err(|error| error.to_string())? {
            child.kill().map_err(said)?;
            child.wait().map_err(said)?;
            return Err(format!("still running after {seconds} s"));
        }
    }
    let status = child.wait().map_err(said)?;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("killed by signal {}", signal.unwrap_or(0)),
    };
    let mut text = Vec::new();
    // The words only explain; without them the status does.
    let _ignored = words.rewind().and_then(|()| words.take(MAX_WORDS).read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(if text.is_empty() { how } else { format!("{how}: {text}") })
}
