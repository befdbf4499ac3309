//! The commands: what the command line asks for, read whole before anything is done.

use lexopt::prelude::*;
use model::signal::Signal;

use super::options::Globals;
use super::{
    EXEC_FAILED, Outcome, checkpoint, creation, exec, features, foreground, log, plain, report, spec,
};
use super::{container_id, one_id, switch, text, usage};
use crate::create::{self, Context};
use crate::error::{Error, Result};
use crate::lifecycle::{self, Force, Whom};
use crate::record::Dir;
use crate::sdnotify::{self, Notify};
use crate::{events, start, update};

/// What is to be done.
#[derive(Debug)]
pub(super) enum Command {
    Create(creation::Options),
    Run(creation::Options),
    Start(String),
    Exec(Box<exec::Options>),
    State(String),
    Kill(KillOptions),
    Delete(String, Force),
    List(report::ListOptions),
    Ps(report::PsOptions),
    Pause(String),
    Resume(String),
    Update(update::Options),
    Events(events::Options),
    Spec(spec::Options),
    Features,
    Checkpoint(checkpoint::SaveOptions),
    Restore(checkpoint::RestoreOptions),
}

/// Whom which signal goes to.
#[derive(Debug)]
pub(super) struct KillOptions {
    id: String,
    /// None is 0: as kill(2) has it, nothing is sent, and whether it runs is told.
    signal: Option<Signal>,
    whom: Whom,
}

impl Command {
    /// Reads the words after the command's name.
    pub(super) fn parse(name: &str, globals: &Globals, parser: &mut lexopt::Parser) -> Result<Self> {
        let criu = || globals.criu.clone();
        Ok(match name {
            "create" => Self::Create(creation::Options::parse(name, parser)?),
            "run" => Self::Run(creation::Options::parse(name, parser)?),
            "start" => Self::Start(one_id(name, parser)?),
            "exec" => Self::Exec(Box::new(exec::parse(parser)?)),
            "state" => Self::State(one_id(name, parser)?),
            "kill" => Self::Kill(parse_kill(parser)?),
            "delete" => parse_delete(parser).map(|(id, force)| Self::Delete(id, force))?,
            "list" => Self::List(report::parse_list(parser)?),
            "ps" => Self::Ps(report::parse_ps(parser)?),
            "pause" => Self::Pause(one_id(name, parser)?),
            "resume" => Self::Resume(one_id(name, parser)?),
            "update" => Self::Update(update::parse(parser)?),
            "events" => Self::Events(events::parse(parser)?),
            "spec" => Self::Spec(spec::parse(parser)?),
            "features" => features::parse(parser).map(|()| Self::Features)?,
            "checkpoint" => Self::Checkpoint(checkpoint::parse_save(parser, criu())?),
            "restore" => Self::Restore(checkpoint::parse_restore(parser, criu())?),
            other => {
                return Err(Error::Usage(format!(
                    "parse command line: unknown command {other:?}, see --help"
                )));
            }
        })
    }

    /// Does it; gives the exit status.
    pub(super) fn run(self, context: &Context, log: &log::Log) -> Outcome {
        let done = match self {
            // Its error is told apart from its program's status.
            Self::Exec(options) => {
                return exec::run(context, *options, log).map_err(|error| (error, EXEC_FAILED));
            }
            Self::Run(options) => return plain(foreground::run(context, options, log)),
            Self::Restore(options) => return plain(checkpoint::restore(context, options)),
            Self::Create(options) => create(context, options, log),
            Self::Start(id) => start(context, &id, log),
            Self::State(id) => report::state(context, &id),
            Self::Kill(options) => kill(context, &options),
            Self::Delete(id, force) => delete(context, &id, force, log),
            Self::List(options) => report::list(context, &options, log),
            Self::Ps(options) => report::processes(context, &options),
            Self::Pause(id) => lifecycle::pause(context, &id),
            Self::Resume(id) => lifecycle::resume(context, &id),
            Self::Update(options) => update::run(context, options),
            Self::Events(options) => events::run(context, options),
            Self::Spec(options) => spec::run(&options),
            Self::Features => features::run(),
            Self::Checkpoint(options) => checkpoint::save(context, &options),
        };
        plain(done).map(|()| 0)
    }
}

fn create(context: &Context, options: creation::Options, log: &log::Log) -> Result<()> {
    let (mut options, _) = options.connect()?;
    options.notify = sdnotify::host().is_some();
    let created = create::create(context, options)?;
    created.warnings.iter().for_each(|warning| log.warning(warning));
    Ok(())
}

fn start(context: &Context, id: &str, log: &log::Log) -> Result<()> {
    let dir = Dir::of(&context.root, id)?;
    let notify = match sdnotify::host().filter(|_| dir.start_socket().exists()) {
        Some(host) => Notify::new(&dir, &host)?,
        None => None,
    };
    start::start(context, id)?;
    // It runs: what fails from here on must not make it look as if it did not.
    if let Some(notify) = notify
        && let Ok(Some(init)) = dir.read().and_then(|record| record.init())
        && let Err(error) = notify.wait(&init)
    {
        log.warning(&error.to_string());
    }
    Ok(())
}

fn parse_kill(parser: &mut lexopt::Parser) -> Result<KillOptions> {
    let (mut id, mut signal, mut whom) = (None, None, Whom::Init);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('a') | Long("all") => whom = if switch(parser)? { Whom::All } else { Whom::Init },
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            Value(value) if signal.is_none() => signal = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("kill container: no container id was given".to_owned()))?;
    let signal = match signal.as_deref().unwrap_or("SIGTERM") {
        "0" => None,
        name => Some(name.parse().map_err(|error| Error::Usage(format!("kill container {id}: {error}")))?),
    };
    Ok(KillOptions { id, signal, whom })
}

fn kill(context: &Context, options: &KillOptions) -> Result<()> {
    match options.signal {
        Some(signal) => lifecycle::kill(context, &options.id, signal, options.whom),
        None => lifecycle::check_running(context, &options.id),
    }
}

fn parse_delete(parser: &mut lexopt::Parser) -> Result<(String, Force)> {
    let (mut id, mut force) = (None, Force::No);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('f') | Long("force") => force = if switch(parser)? { Force::Yes } else { Force::No },
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("delete container: no container id was given".to_owned()))?;
    Ok((id, force))
}

fn delete(context: &Context, id: &str, force: Force, log: &log::Log) -> Result<()> {
    for failure in lifecycle::delete(context, id, force)? {
        log.warning(&failure);
    }
    Ok(())
}
