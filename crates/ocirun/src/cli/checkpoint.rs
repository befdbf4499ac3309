//! `checkpoint` and `restore`.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::foreground::Relay;
use super::{switch, text, text_of, usage};
use crate::checkpoint;
use crate::create::{Context, CreateOptions};
use crate::criu::CriuOptions;
use crate::error::{Error, Result};
use crate::lifecycle::{self, Force};

/// What both take: criu's own words.
fn common(name: &str, parser: &mut lexopt::Parser, options: &mut CriuOptions) -> Result<()> {
    match name {
        "image-path" => options.images = absolute(parser)?,
        "work-path" => options.work = Some(absolute(parser)?),
        "tcp-established" | "ext-unix-sk" | "shell-job" | "file-locks" | "auto-dedup" => {
            if switch(parser)? {
                options.more.push(format!("--{name}"));
            }
        }
        "manage-cgroups-mode" => {
            let mode = text_of(parser)?;
            if !["soft", "full", "strict", "ignore"].contains(&mode.as_str()) {
                return Err(Error::Usage(format!("parse command line: unknown --{name} {mode:?}")));
            }
            options.more.push(format!("--manage-cgroups={mode}"));
        }
        "lazy-pages" | "page-server" | "pre-dump" | "parent-path" | "status-fd" | "empty-ns"
        | "lsm-profile" | "lsm-mount-context" => {
            return Err(Error::Usage(format!("parse command line: --{name} is not supported by wharf-oci")));
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

/// `checkpoint`.
pub(super) fn save(context: &Context, parser: &mut lexopt::Parser, criu: Option<PathBuf>) -> Result<()> {
    let mut options = options(criu)?;
    let mut id = None;
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("leave-running") => options.leave_running = switch(parser)?,
            Long(name) => {
                let name = name.to_owned();
                common(&name, parser, &mut options)?;
            }
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("checkpoint container: no container id was given".to_owned()))?;
    checkpoint::checkpoint(context, &id, &finish(options))
}

/// `restore`: gives the status of the program unless it is detached.
pub(super) fn restore(context: &Context, parser: &mut lexopt::Parser, criu: Option<PathBuf>) -> Result<u8> {
    let mut options = options(criu)?;
    let mut create = CreateOptions { bundle: PathBuf::from("."), ..CreateOptions::default() };
    let (mut id, mut detach, mut subreaper) = (None, false, true);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('b') | Long("bundle") => create.bundle = parser.value().map_err(usage)?.into(),
            Long("pid-file") => create.pid_file = Some(parser.value().map_err(usage)?.into()),
            Short('d') | Long("detach") => detach = switch(parser)?,
            Long("no-subreaper") => subreaper = !switch(parser)?,
            Long("console-socket") => drop(parser.value().map_err(usage)?),
            Long("no-pivot") => create.no_pivot = switch(parser)?,
            Long(name) => {
                let name = name.to_owned();
                common(&name, parser, &mut options)?;
            }
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("restore container: no container id was given".to_owned()))?;
    create.id.clone_from(&id);
    if !detach && subreaper {
        sys::process::become_subreaper()?;
    }
    let relay = if detach { None } else { Some(Relay::new()?) };
    let init = checkpoint::restore(context, create, &finish(options))?;
    let Some(relay) = relay else { return Ok(0) };
    let status = relay.wait(&init, None)?;
    lifecycle::delete(context, &id, Force::Yes)?;
    Ok(status)
}
