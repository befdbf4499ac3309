//! The command line of runc, as far as callers use it.

mod checkpoint;
mod descriptors;
pub(crate) mod exec;
mod features;
mod foreground;
mod help;
mod log;
mod options;
mod report;
mod spec;

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;
use model::signal::Signal;

use crate::create::{self, Context, CreateOptions};
use crate::error::{Error, Result};
use crate::lifecycle::{self, Force, Whom};
use crate::protect;
use crate::record::Dir;
use crate::sdnotify::{self, Notify};
use crate::start;

use descriptors::Sockets;
pub use options::Globals;
pub(crate) use report::print;
pub(crate) use usage as one_line_usage;

/// Runs the command line `args`, the program's name first, and gives the exit status.
#[must_use]
pub fn main(args: Vec<OsString>) -> u8 {
    let mut log = log::Log::default();
    match run(args, &mut log) {
        Ok(status) => status,
        Err((error, status)) => {
            log.error(&error.to_string());
            status
        }
    }
}

/// What a command gives: an exit status, or an error and its status.
type Outcome = Result<u8, (Error, u8)>;

fn plain<T>(result: Result<T>) -> Result<T, (Error, u8)> {
    result.map_err(|error| (error, 1))
}

pub(crate) fn usage(error: lexopt::Error) -> Error {
    if matches!(&error, lexopt::Error::UnexpectedOption(option) if option == "--help" || option == "-h") {
        return Error::Help;
    }
    let text = error.to_string();
    Error::Usage(format!("parse command line: {}", text.lines().next().unwrap_or("")))
}

fn run(args: Vec<OsString>, log: &mut log::Log) -> Outcome {
    let original = args.clone();
    let mut parser = lexopt::Parser::from_iter(args);
    let (globals, command) = plain(options::globals(&mut parser))?;
    log.configure(&globals);
    let Some(command) = command else { return Ok(0) };
    match (dispatch(&globals, &command, original, parser, log), help::of(&command)) {
        (Err((Error::Help, _)), Some(text)) => plain(report::print(&text)).map(|()| 0),
        (outcome, _) => outcome,
    }
}

fn dispatch(
    globals: &Globals,
    command: &str,
    original: Vec<OsString>,
    mut parser: lexopt::Parser,
    log: &log::Log,
) -> Outcome {
    if matches!(command, "create" | "run" | "exec") {
        let kept = descriptors::named(&original).saturating_add(descriptors::listening());
        plain(protect::reexec(&original, Some(kept)))?;
    }
    let context =
        Context { root: globals.root.clone(), systemd: globals.systemd_cgroup, rootless: globals.rootless };
    log.debug(&format!("command {command}, root {}", context.root.display()));
    match command {
        "create" => plain(create_command(&context, &mut parser, log)).map(|()| 0),
        "run" => plain(foreground::run(&context, &mut parser, log)),
        "start" => plain(one_id("start", &mut parser).and_then(|id| start(&context, &id, log))).map(|()| 0),
        // Its error is told apart from its program's status by 255, as runc does.
        "exec" => exec::run(&context, &mut parser, log).map_err(|error| (error, 255)),
        "state" => {
            plain(one_id("state", &mut parser).and_then(|id| report::state(&context, &id))).map(|()| 0)
        }
        "kill" => plain(kill(&context, &mut parser)).map(|()| 0),
        "delete" => plain(delete(&context, &mut parser, log)).map(|()| 0),
        "list" => plain(report::list(&context, &mut parser, log)).map(|()| 0),
        "ps" => plain(report::processes(&context, &mut parser)).map(|()| 0),
        "pause" => {
            plain(one_id("pause", &mut parser).and_then(|id| lifecycle::pause(&context, &id))).map(|()| 0)
        }
        "resume" => {
            plain(one_id("resume", &mut parser).and_then(|id| lifecycle::resume(&context, &id))).map(|()| 0)
        }
        "update" => plain(crate::update::run(&context, &mut parser)).map(|()| 0),
        "events" => plain(crate::events::run(&context, &mut parser)).map(|()| 0),
        "spec" => plain(spec::run(&mut parser)).map(|()| 0),
        "features" => plain(features::run(&mut parser)).map(|()| 0),
        "checkpoint" => plain(checkpoint::save(&context, &mut parser, globals.criu.clone())).map(|()| 0),
        "restore" => plain(checkpoint::restore(&context, &mut parser, globals.criu.clone())),
        other => {
            plain(Err(Error::Usage(format!("parse command line: unknown command {other:?}, see --help"))))
        }
    }
}

/// The one argument that most commands take.
pub(crate) fn one_id(command: &str, parser: &mut lexopt::Parser) -> Result<String> {
    let mut id = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    id.ok_or_else(|| Error::Usage(format!("{command} container: no container id was given")))
}

pub(crate) fn text(value: OsString) -> Result<String> {
    value.into_string().map_err(|value| Error::Usage(format!("parse command line: {value:?} is not UTF-8")))
}

pub(crate) fn text_of(parser: &mut lexopt::Parser) -> Result<String> {
    text(parser.value().map_err(usage)?)
}

/// A boolean option may have a value, `--detach=false`, as Go's flags do.
pub(crate) fn switch(parser: &mut lexopt::Parser) -> Result<bool> {
    match parser.optional_value() {
        None => Ok(true),
        Some(value) => match value.to_str() {
            Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
            Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
            _ => Err(Error::Usage(format!("parse command line: {value:?} is neither true nor false"))),
        },
    }
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

fn create_command(context: &Context, parser: &mut lexopt::Parser, log: &log::Log) -> Result<()> {
    let (mut options, _) = create_options("create", parser)?;
    options.notify = sdnotify::host().is_some();
    let created = create::create(context, options)?;
    created.warnings.iter().for_each(|warning| log.warning(warning));
    Ok(())
}

/// What only `run` knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunOptions {
    pub(crate) detach: bool,
    pub(crate) keep: bool,
    pub(crate) no_subreaper: bool,
}

/// The options of create and run.
pub(crate) fn create_options(
    command: &str,
    parser: &mut lexopt::Parser,
) -> Result<(CreateOptions, RunOptions)> {
    let mut options = CreateOptions { bundle: PathBuf::from("."), ..CreateOptions::default() };
    let mut run = RunOptions::default();
    let (mut id, mut sockets) = (None, Sockets::default());
    let is_run = command == "run";
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('b') | Long("bundle") => options.bundle = parser.value().map_err(usage)?.into(),
            Long("console-socket") => sockets.console = Some(descriptors::path(parser)?),
            Long("pidfd-socket") => sockets.pidfd = Some(descriptors::path(parser)?),
            Long("pid-file") => options.pid_file = Some(parser.value().map_err(usage)?.into()),
            Long("no-pivot") => options.no_pivot = switch(parser)?,
            Long("no-new-keyring") => options.no_new_keyring = switch(parser)?,
            Long("preserve-fds") => options.preserve_fds = descriptors::preserved(parser)?,
            Short('d') | Long("detach") if is_run => run.detach = switch(parser)?,
            Long("keep") if is_run => run.keep = switch(parser)?,
            Long("no-subreaper") if is_run => run.no_subreaper = switch(parser)?,
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    options.id = id.ok_or_else(|| Error::Usage(format!("{command} container: no container id was given")))?;
    options.listen_fds = descriptors::listening();
    descriptors::check(options.listen_fds.saturating_add(options.preserve_fds))?;
    (options.console, options.pidfd_socket) = sockets.connect()?;
    Ok((options, run))
}

fn kill(context: &Context, parser: &mut lexopt::Parser) -> Result<()> {
    let (mut id, mut signal, mut whom) = (None, None, Whom::Init);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('a') | Long("all") => whom = if switch(parser)? { Whom::All } else { Whom::Init },
            Value(value) if id.is_none() => id = Some(text(value)?),
            Value(value) if signal.is_none() => signal = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("kill container: no container id was given".to_owned()))?;
    let signal = signal.unwrap_or_else(|| "SIGTERM".to_owned());
    // As kill(2) has it: nothing is sent, and whether it runs is told.
    if signal == "0" {
        return lifecycle::check_running(context, &id);
    }
    let signal: Signal =
        signal.parse().map_err(|error| Error::Usage(format!("kill container {id}: {error}")))?;
    lifecycle::kill(context, &id, signal, whom)
}

fn delete(context: &Context, parser: &mut lexopt::Parser, log: &log::Log) -> Result<()> {
    let (mut id, mut force) = (None, Force::No);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('f') | Long("force") => force = if switch(parser)? { Force::Yes } else { Force::No },
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("delete container: no container id was given".to_owned()))?;
    for failure in lifecycle::delete(context, &id, force)? {
        log.warning(&failure);
    }
    Ok(())
}
