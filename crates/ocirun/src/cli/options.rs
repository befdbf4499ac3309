//! The options before the command.

use std::path::PathBuf;

use lexopt::prelude::*;

use super::{help, switch, text, text_of, usage};
use crate::error::{Error, Result};

/// The options before the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Globals {
    /// Where the containers' directories are.
    pub root: PathBuf,
    /// Where errors are written too.
    pub log: Option<PathBuf>,
    /// Whether they are written as JSON.
    pub json: bool,
    /// Who makes cgroups.
    pub systemd_cgroup: bool,
    /// Whether cgroups are made without the rights of root; found out if it is not said.
    pub rootless: Option<bool>,
    /// Whether to tell more.
    pub debug: bool,
    /// What saves and restores processes.
    pub criu: Option<PathBuf>,
}

/// What stands behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A command, whose own words follow.
    Command(String),
    /// A text to be shown, and nothing else.
    Show(String),
}

/// Reads them, and what is asked for.
pub(super) fn globals(parser: &mut lexopt::Parser) -> Result<(Globals, Asked)> {
    let help = || Asked::Show(help::PROGRAM.to_owned());
    let mut globals = Globals {
        root: default_root(),
        log: None,
        json: false,
        systemd_cgroup: false,
        rootless: None,
        debug: false,
        criu: None,
    };
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("root") => globals.root = parser.value().map_err(usage)?.into(),
            Long("log") => {
                let path: PathBuf = parser.value().map_err(usage)?.into();
                globals.log = Some(path).filter(|path| !path.as_os_str().is_empty());
            }
            Long("log-format") => {
                globals.json = match text_of(parser)?.as_str() {
                    "json" => true,
                    "text" => false,
                    other => {
                        return Err(Error::Usage(format!(
                            "parse command line: unknown log format {other:?}"
                        )));
                    }
                };
            }
            Long("systemd-cgroup") => globals.systemd_cgroup = switch(parser)?,
            Long("debug") => globals.debug = switch(parser)?,
            Long("rootless") => {
                let value = text_of(parser)?;
                globals.rootless = match value.as_str() {
                    "auto" | "" => None,
                    "true" | "1" => Some(true),
                    "false" | "0" => Some(false),
                    _ => {
                        return Err(Error::Usage(format!(
                            "parse command line: --rootless {value:?} is neither true, false nor auto"
                        )));
                    }
                };
            }
            Long("criu") => globals.criu = Some(parser.value().map_err(usage)?.into()),
            Short('v') | Long("version") => {
                let version = format!(
                    "wharf-oci version {}\nspec: {}\n",
                    env!("CARGO_PKG_VERSION"),
                    crate::plan::OCI_VERSION
                );
                return Ok((globals, Asked::Show(version)));
            }
            Short('h') | Long("help") => return Ok((globals, help())),
            Value(command) => {
                let command = text(command)?;
                if command == "help" {
                    return Ok((globals, help()));
                }
                if globals.root.is_relative() {
                    let here = std::env::current_dir().map_err(|e| sys::Error::new("open", ".", e))?;
                    globals.root = here.join(&globals.root);
                }
                return Ok((globals, Asked::Command(command)));
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    Ok((globals, help()))
}

/// /run/wharf-oci, or below the user's own directory for who is not root, or root of a user namespace of theirs.
fn default_root() -> PathBuf {
    let root = rustix::process::geteuid().is_root();
    let named_root = || std::env::var_os("USER").is_some_and(|name| name == "root");
    let of_user = !root || !crate::rights::is_real_root() && !named_root();
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|_| of_user);
    own.map_or_else(|| PathBuf::from(crate::DEFAULT_ROOT), |dir| PathBuf::from(dir).join("wharf-oci"))
}
