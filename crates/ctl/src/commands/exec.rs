//! exec.

use std::process::{Command, ExitCode, Stdio};

use anyhow::Context as _;
use model::Exit;
use runtime::{ExecRequest, ExecStreams};

use super::print;
use crate::args::{ExecArgs, Global};
use crate::detach::DetachKeys;
use crate::streams::{Left, Peer, Session, Signals};
use crate::{request, setup, terminal, users};

pub(super) async fn exec(global: &Global, args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let container = setup::runtimes(global)?.find(&args.container).await?;
    if args.detach {
        // A process of our own holds it, as nothing else would.
        let arguments = std::env::args_os().skip(1).filter(|a| a != "--detach" && a != "-d");
        let child = background(arguments)?;
        print(child)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut wanted = ExecRequest::new(args.args.iter().cloned());
    for variable in request::variables(&args.env) {
        if let Some((name, value)) = variable.split_once('=') {
            wanted.env.insert(name.to_owned(), value.to_owned());
        }
    }
    wanted.cwd.clone_from(&args.workdir);
    wanted.timeout = args.timeout;
    if let Some(user) = &args.user {
        let pid =
            container.status().pid.with_context(|| format!("exec {}: it does not run", container.id()))?;
        let user = users::look_up(format!("/proc/{pid}/root").as_ref(), user)?;
        wanted.user = Some(format!("{}:{}", user.uid, user.gid));
    }
    let streams = ExecStreams { stdin: args.interactive, terminal: args.tty.then(terminal::size) };
    let signals = Signals::listen()?;
    let mut exec = container.exec(wanted, streams).await?;
    let session = Session {
        stdin: args.interactive,
        terminal: args.tty,
        detach: DetachKeys::parse("").map_err(anyhow::Error::msg)?,
        forward_signals: false,
    };
    if let Left::Told(signal) = session.hold(exec.streams(), Peer::Exec(&exec), signals).await? {
        // Dropping it ends it with all that it started.
        return Ok(ExitCode::from(128u8.saturating_add(u8::try_from(signal.number()).unwrap_or(0))));
    }
    let exit = exec.wait().await?;
    if exit == Exit::TimedOut {
        anyhow::bail!("exec {}: not done in its time, killed", container.id());
    }
    Ok(ExitCode::from(exit.code()))
}

/// Starts this program again in a session of its own with nothing on its standard streams.
pub(super) fn background(arguments: impl Iterator<Item = std::ffi::OsString>) -> anyhow::Result<u32> {
    use std::os::unix::process::CommandExt as _;
    let program = std::env::current_exe().context("find our own program")?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .context("start in the background")?;
    Ok(child.id())
}
