//! run, create, start, attach.

use std::process::ExitCode;

use runtime::{Attached, Container, Io, Runtimes, Stdin};

use super::{each, print};
use crate::args::{AttachArgs, CreateArgs, Global, RunArgs, StartArgs};
use crate::detach::DetachKeys;
use crate::streams::{Left, Peer, Session, Signals};
use crate::{request, setup};

/// How long an interrupted create may take to be undone.
const UNDO_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

pub(super) async fn run(global: &Global, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let detach = DetachKeys::parse(&args.detach_keys).map_err(anyhow::Error::msg)?;
    let container = make(global, &args.container).await?;
    let result = run_made(global, args, &container, detach).await;
    if let Err(error) = &result
        && args.rm
    {
        tracing::debug!(%error, "removing what did not run");
        container.delete(true).await?;
    }
    result
}

async fn run_made(
    global: &Global,
    args: &RunArgs,
    container: &Container,
    detach: DetachKeys,
) -> anyhow::Result<ExitCode> {
    if args.detach {
        container.start().await?;
        if args.rm {
            super::life::spawn_rm_when_over(global, container)?;
        }
        print(container.id())?;
        return Ok(ExitCode::SUCCESS);
    }
    let signals = Signals::listen()?;
    // Joined before the start: not a byte is missed.
    let attached = container.attach().await?;
    container.start().await?;
    let session = Session {
        stdin: args.container.interactive,
        terminal: args.container.tty,
        detach,
        forward_signals: true,
    };
    let code = hold(container, &attached, session, signals).await?;
    match code {
        Some(code) if args.rm => {
            container.delete(false).await?;
            Ok(ExitCode::from(code))
        }
        Some(code) => Ok(ExitCode::from(code)),
        None => {
            if args.rm {
                super::life::spawn_rm_when_over(global, container)?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The exit status of the container, or none when it goes on without us.
async fn hold(
    container: &Container,
    attached: &Attached,
    session: Session,
    signals: Signals,
) -> anyhow::Result<Option<u8>> {
    match session.hold(attached, Peer::Container(container), signals).await? {
        Left::Detached => Ok(None),
        Left::Ended => Ok(Some(container.wait().await?.code)),
        Left::Told(signal) => Ok(Some(128u8.saturating_add(u8::try_from(signal.number()).unwrap_or(0)))),
    }
}

pub(super) async fn create(global: &Global, args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let container = make(global, &args.container).await?;
    print(container.id())?;
    Ok(ExitCode::SUCCESS)
}

async fn make(global: &Global, args: &crate::args::ContainerArgs) -> anyhow::Result<Container> {
    let config = setup::config(global)?;
    let runtimes = Runtimes::from_config(&config)?;
    let mut request = request::prepare(args)?;
    if let Some(trust) = args.trust {
        let trust = match trust {
            crate::args::TrustArg::Trusted => model::trust::Trust::Trusted,
            crate::args::TrustArg::Untrusted => model::trust::Trust::Untrusted,
        };
        let handler = runtimes.handler_for(trust, args.process.privileged, args.handler.as_deref())?;
        request.handler = Some(handler.name().to_owned());
    }
    let (id, dir) = (request.id.clone(), config.root.join(request.id.as_str()));
    let mut asked = Signals::listen()?;
    tokio::select! {
        created = runtimes.create(request) => Ok(created?),
        signal = asked.next_end() => {
            // The create was dropped with its branch, and is being undone: it must not be left half done.
            let begin = std::time::Instant::now();
            while dir.exists() && begin.elapsed() < UNDO_TIMEOUT {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            anyhow::bail!("create {id}: given up for signal {signal}")
        }
    }
}

pub(super) async fn start(global: &Global, args: &StartArgs) -> anyhow::Result<ExitCode> {
    if !args.attach {
        return each(global, "start", &args.targets.containers, async |c| Ok(c.start().await?)).await;
    }
    let [name] = args.targets.containers.as_slice() else {
        anyhow::bail!("start --attach takes one container");
    };
    let signals = Signals::listen()?;
    let container = setup::runtimes(global)?.find(name).await?;
    let attached = container.attach().await?;
    container.start().await?;
    let session = Session {
        stdin: takes_input(&container),
        terminal: has_terminal(&container),
        detach: DetachKeys::parse("ctrl-p,ctrl-q").map_err(anyhow::Error::msg)?,
        forward_signals: true,
    };
    let code = hold(&container, &attached, session, signals).await?;
    Ok(ExitCode::from(code.unwrap_or(0)))
}

pub(super) async fn attach(global: &Global, args: &AttachArgs) -> anyhow::Result<ExitCode> {
    let signals = Signals::listen()?;
    let container = setup::runtimes(global)?.find(&args.container).await?;
    let attached = container.attach().await?;
    let session = Session {
        stdin: !args.no_stdin && takes_input(&container),
        terminal: has_terminal(&container),
        detach: DetachKeys::parse(&args.detach_keys).map_err(anyhow::Error::msg)?,
        forward_signals: true,
    };
    let code = hold(&container, &attached, session, signals).await?;
    Ok(ExitCode::from(code.unwrap_or(0)))
}

fn takes_input(container: &Container) -> bool {
    match container.status().io {
        Io::Terminal { .. } => crate::terminal::size().is_some(),
        Io::Pipes { stdin } => stdin != Stdin::None,
        Io::Null => false,
    }
}

fn has_terminal(container: &Container) -> bool {
    matches!(container.status().io, Io::Terminal { .. })
}
