//! `checkpoint` and `restore`.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::descriptors::{self, Sockets};
use super::foreground::Relay;
use super::{container_id, switch, text_of, usage};
use crate::checkpoint;
use crate::create::{Context, CreateOptions};
use crate::criu::CriuOptions;
use crate::error::{Error, Result};
use crate::lifecycle::{self, Force};

/// Which of the two commands it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Checkpoint,
    Restore,
}

/// An option of criu's own: some have another name there.
fn criu_option(
    command: Command,
    name: &str,
    parser: &mut lexopt::Parser,
    options: &mut CriuOptions,
) -> Result<()> {
    use Command::{Checkpoint, Restore};
    let bad = |cause: String| Err(Error::Usage(format!("parse command line: --{name} {cause}")));
    match (name, command) {
        ("image-path", _) => options.images = absolute(parser)?,
        ("work-path", _) => options.work = Some(absolute(parser)?),
        ("tcp-established" | "tcp-close" | "ext-unix-sk" | "shell-job" | "file-locks" | "auto-dedup", _)
        | ("link-remap", Checkpoint)
        | ("lazy-pages", Restore) => {
            if switch(parser)? {
                options.more.push(format!("--{name}"));
            }
        }
        ("tcp-skip-in-flight", Checkpoint) => {
            if switch(parser)? {
                options.more.push("--skip-in-flight".to_owned());
            }
        }
        ("lsm-profile" | "lsm-mount-context", Restore) | ("network-lock", _) => {
            let value = text_of(parser)?;
            options.more.extend([format!("--{name}"), value]);
        }
        ("lazy-pages", Checkpoint) => options.lazy_pages = switch(parser)?,
        ("pre-dump", Checkpoint) => options.pre_dump = switch(parser)?,
        ("parent-path", Checkpoint) => {
            let path: PathBuf = parser.value().map_err(usage)?.into();
            if path.is_absolute() {
                return bad(format!("{}: it is not relative to --image-path", path.display()));
            }
            options.parent = Some(path);
        }
        ("page-server", Checkpoint) => {
            let text = text_of(parser)?;
            match text.rsplit_once(':').map(|(address, port)| (address, port.parse())) {
                Some((address, Ok(port))) if !address.is_empty() => {
                    let address = address.trim_start_matches('[').trim_end_matches(']');
                    options.page_server = Some((address.to_owned(), port));
                }
                _ => return bad(format!("{text:?} is not ADDRESS:PORT")),
            }
        }
        ("status-fd", Checkpoint) => {
            let text = text_of(parser)?;
            // criu inherits it, as it is none of ours.
            let open = |fd: u32| std::path::Path::new(&format!("/proc/self/fd/{fd}")).exists();
            match text.parse() {
                Ok(fd) if open(fd) => options.more.extend(["--status-fd".to_owned(), text]),
                _ => return bad(format!("{text:?} is no open descriptor")),
            }
        }
        ("empty-ns", _) => match text_of(parser)?.as_str() {
            "network" => options.more.extend(["--empty-ns".to_owned(), "net".to_owned()]),
            other => return bad(format!("{other:?}: only of network can it be")),
        },
        ("manage-cgroups-mode", _) => {
            let mode = text_of(parser)?;
            if !["soft", "full", "strict", "ignore"].contains(&mode.as_str()) {
                return Err(Error::Usage(format!("parse command line: unknown --{name} {mode:?}")));
            }
            options.more.push(format!("--manage-cgroups={mode}"));
        }
        _ => return Err(usage(Long(name).unexpected())),
    }
    Ok(())
}

fn absolute(parser: &mut lexopt::Parser) -> Result<PathBuf> {
    let path: PathBuf = parser.value().map_err(usage)?.into();
    std::path::absolute(&path).map_err(|error| sys::Error::new("resolve", path, error).into())
}

fn options(criu: Option<PathBuf>) -> Result<CriuOptions> {
    let images = std::path::absolute("checkpoint").map_err(|error| sys::Error::new("open", ".", error))?;
    Ok(CriuOptions {
        program: criu.filter(|path| !path.as_os_str().is_empty()),
        images,
        ..CriuOptions::default()
    })
}

/// As runc does if nothing is said: cgroups that are there are kept as they are.
fn finish(mut options: CriuOptions) -> CriuOptions {
    if !options.more.iter().any(|option| option.starts_with("--manage-cgroups")) {
        options.more.push("--manage-cgroups=soft".to_owned());
    }
    options
}

/// What the command line of `checkpoint` asks for.
#[derive(Debug)]
pub(super) struct SaveOptions {
    id: String,
    criu: CriuOptions,
}

/// Reads the command line of `checkpoint`.
pub(super) fn parse_save(parser: &mut lexopt::Parser, criu: Option<PathBuf>) -> Result<SaveOptions> {
    let mut options = options(criu)?;
    let mut id = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("leave-running") => options.leave_running = switch(parser)?,
            Long(name) => {
                let name = name.to_owned();
                criu_option(Command::Checkpoint, &name, parser, &mut options)?;
            }
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("checkpoint container: no container id was given".to_owned()))?;
    Ok(SaveOptions { id, criu: finish(options) })
}

/// `checkpoint`.
pub(super) fn save(context: &Context, options: &SaveOptions) -> Result<()> {
    checkpoint::checkpoint(context, &options.id, &options.criu)
}

/// What the command line of `restore` asks for.
#[derive(Debug)]
pub(super) struct RestoreOptions {
    create: CreateOptions,
    criu: CriuOptions,
    sockets: Sockets,
    detach: bool,
    subreaper: bool,
}

/// Reads the command line of `restore`.
pub(super) fn parse_restore(parser: &mut lexopt::Parser, criu: Option<PathBuf>) -> Result<RestoreOptions> {
    let mut options = options(criu)?;
    let mut create = CreateOptions { bundle: PathBuf::from("."), ..CreateOptions::default() };
    let (mut id, mut detach, mut subreaper, mut sockets) = (None, false, true, Sockets::default());
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('b') | Long("bundle") => create.bundle = parser.value().map_err(usage)?.into(),
            Long("pid-file") => create.pid_file = Some(parser.value().map_err(usage)?.into()),
            Short('d') | Long("detach") => detach = switch(parser)?,
            Long("no-subreaper") => subreaper = !switch(parser)?,
            Long("console-socket") => sockets.console = Some(descriptors::path(parser)?),
            Long("no-pivot") => create.no_pivot = switch(parser)?,
            Long(name) => {
                let name = name.to_owned();
                criu_option(Command::Restore, &name, parser, &mut options)?;
            }
            Value(value) if id.is_none() => id = Some(container_id(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("restore container: no container id was given".to_owned()))?;
    create.id = id;
    Ok(RestoreOptions { create, criu: finish(options), sockets, detach, subreaper })
}

/// `restore`: gives the status of the program unless it is detached.
pub(super) fn restore(context: &Context, options: RestoreOptions) -> Result<u8> {
    let RestoreOptions { mut create, criu, sockets, detach, subreaper } = options;
    let id = create.id.clone();
    (create.console, _) = sockets.connect()?;
    if !detach && subreaper {
        sys::process::become_subreaper()?;
    }
    let relay = if detach { None } else { Some(Relay::new()?) };
    let init = checkpoint::restore(context, create, &criu)?;
    let Some(relay) = relay else { return Ok(0) };
    let status = relay.wait(&init, None, None)?;
    lifecycle::delete(context, &id, Force::Yes)?;
    Ok(status)
}
