//! The command line of runc, as far as callers use it.

mod checkpoint;
mod command;
mod creation;
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

use lexopt::prelude::*;
use model::Id;

use crate::create::Context;
use crate::error::{Error, Result};
use crate::protect;

use command::Command;
use options::Asked;
pub use options::Globals;
pub(crate) use report::print;
pub(crate) use usage as one_line_usage;

/// What `exec` ends with where it fails itself, as runc does.
const EXEC_FAILED: u8 = 255;

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
    let (globals, asked) = plain(options::globals(&mut parser))?;
    log.configure(&globals);
    let name = match asked {
        Asked::Show(text) => return plain(report::print(&text)).map(|()| 0),
        Asked::Command(name) => name,
    };
    if matches!(name.as_str(), "create" | "run" | "exec") {
        let kept = descriptors::named(&original).saturating_add(descriptors::listening());
        plain(protect::reexec(&original, Some(kept)))?;
    }
    let command = match Command::parse(&name, &globals, &mut parser) {
        Ok(command) => command,
        Err(Error::Help) if let Some(text) = help::of(&name) => {
            return plain(report::print(&text)).map(|()| 0);
        }
        // As its other errors: they are told apart from its program's status.
        Err(error) => return Err((error, if name == "exec" { EXEC_FAILED } else { 1 })),
    };
    let context = Context { root: globals.root, systemd: globals.systemd_cgroup, rootless: globals.rootless };
    log.debug(&format!("command {name}, root {}", context.root.display()));
    command.run(&context, log)
}

/// For the harness: arguments without end or sense, up to what would be done.
pub(crate) fn look_at(args: Vec<OsString>) {
    let mut parser = lexopt::Parser::from_args(args);
    let Ok((globals, Asked::Command(name))) = options::globals(&mut parser) else { return };
    assert!(globals.root.is_absolute(), "{}", globals.root.display());
    if let Err(error) = Command::parse(&name, &globals, &mut parser) {
        assert!(matches!(error, Error::Help) || error.to_string().lines().count() == 1, "{error}");
    }
}

/// The one argument that most commands take.
pub(crate) fn one_id(command: &str, parser: &mut lexopt::Parser) -> Result<String> {
    let mut id = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    id.ok_or_else(|| Error::Usage(format!("{command} container: no container id was given")))
}

pub(crate) fn text(value: OsString) -> Result<String> {
    value.into_string().map_err(|value| Error::Usage(format!("parse command line: {value:?} is not UTF-8")))
}

/// The id of a container, checked at once: it is in all that is said from here on.
pub(crate) fn container_id(value: OsString) -> Result<String> {
    let id = text(value)?;
    Id::new(&id).map_err(|error| Error::invalid("container id", error.to_string()))?;
    Ok(id)
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
