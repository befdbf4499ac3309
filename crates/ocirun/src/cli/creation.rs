//! The command line of `create` and `run`.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::descriptors::{self, Sockets};
use super::{container_id, switch, usage};
use crate::create::CreateOptions;
use crate::error::{Error, Result};

/// What only `run` knows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunOptions {
    pub(super) detach: bool,
    pub(super) keep: bool,
    pub(super) no_subreaper: bool,
}

/// What the command line asks for.
#[derive(Debug)]
pub(super) struct Options {
    create: CreateOptions,
    run: RunOptions,
    sockets: Sockets,
}

impl Options {
    /// Reads the command line of `command`.
    pub(super) fn parse(command: &str, parser: &mut lexopt::Parser) -> Result<Self> {
        let mut create = CreateOptions { bundle: PathBuf::from("."), ..CreateOptions::default() };
        let mut run = RunOptions::default();
        let (mut id, mut sockets) = (None, Sockets::default());
        let is_run = command == "run";
        while let Some(arg) = parser.next().map_err(usage)? {
            match arg {
                Short('b') | Long("bundle") => create.bundle = parser.value().map_err(usage)?.into(),
                Long("console-socket") => sockets.console = Some(descriptors::path(parser)?),
                Long("pidfd-socket") => sockets.pidfd = Some(descriptors::path(parser)?),
                Long("pid-file") => create.pid_file = Some(parser.value().map_err(usage)?.into()),
                Long("no-pivot") => create.no_pivot = switch(parser)?,
                Long("no-new-keyring") => create.no_new_keyring = switch(parser)?,
                Long("preserve-fds") => create.preserve_fds = descriptors::preserved(parser)?,
                Short('d') | Long("detach") if is_run => run.detach = switch(parser)?,
                Long("keep") if is_run => run.keep = switch(parser)?,
                Long("no-subreaper") if is_run => run.no_subreaper = switch(parser)?,
                Value(value) if id.is_none() => id = Some(container_id(value)?),
                other => return Err(usage(other.unexpected())),
            }
        }
        create.id =
            id.ok_or_else(|| Error::Usage(format!("{command} container: no container id was given")))?;
        Ok(Self { create, run, sockets })
    }

    /// Checks the descriptors that are handed on, and connects to the sockets.
    pub(super) fn connect(self) -> Result<(CreateOptions, RunOptions)> {
        let Self { mut create, run, sockets } = self;
        create.listen_fds = descriptors::listening();
        descriptors::check(create.listen_fds.saturating_add(create.preserve_fds))?;
        (create.console, create.pidfd_socket) = sockets.connect()?;
        Ok((create, run))
    }
}
