//! Descriptors that callers hand on to the program, and the sockets on which they want one back.
//!
//! From 3 on come those of socket activation (`LISTEN_FDS`, sd_listen_fds(3)), then those of `--preserve-fds`.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use sys::Ctx as _;
use sys::socket::{Blocking, Kind, connect};

use super::{text_of, usage};
use crate::error::{Error, Result};

/// More than any process may have open.
const MAX: u32 = 1 << 16;

/// How many sockets the service manager has handed to this process, and to no other.
pub(super) fn listening() -> u32 {
    let own = std::process::id().to_string();
    let count = std::env::var("LISTEN_FDS").ok().and_then(|text| text.parse().ok());
    count.filter(|_| std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own)).unwrap_or(0).min(MAX)
}

/// The number of descriptors that the command line hands on, by their number or as the file of an option. Whether it
/// is one is told later.
pub(super) fn named(args: &[OsString]) -> u32 {
    const OPTION: &str = "--preserve-fds";
    let mut found = 0;
    for (index, arg) in args.iter().enumerate() {
        let arg = arg.to_str().unwrap_or_default();
        if let Some((_, fd)) = arg.split_once("/proc/self/fd/") {
            let fd = fd.parse().unwrap_or(0_u32).min(MAX);
            found = found.max(fd.saturating_sub(2));
        }
        let Some(value) = arg.strip_prefix(OPTION) else { continue };
        let next = args.get(index + 1).and_then(|arg| arg.to_str());
        let value = value.strip_prefix('=').or(next).unwrap_or_default();
        found = found.max(value.parse().unwrap_or(0).min(MAX));
    }
    found
}

/// The value of `--preserve-fds`.
pub(super) fn preserved(parser: &mut lexopt::Parser) -> Result<u32> {
    let count = text_of(parser)?;
    count
        .parse()
        .ok()
        .filter(|count| *count <= MAX)
        .ok_or_else(|| Error::Usage(format!("parse command line: --preserve-fds {count:?} is no number")))
}

/// Checks that the first `count` descriptors from 3 on are open. Only while none of them can be one of ours.
pub(super) fn check(count: u32) -> Result<()> {
    for fd in (3..).take(usize::try_from(count).unwrap_or(0)) {
        let path = format!("/proc/self/fd/{fd}");
        rustix::fs::readlink(&path, Vec::new()).ctx_with("hand on", || format!("descriptor {fd}"))?;
    }
    Ok(())
}

/// Sockets that the command line names, connected once the descriptors that are handed on were checked.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    /// Who gets the terminal.
    pub(super) console: Option<PathBuf>,
    /// Who gets the pidfd.
    pub(super) pidfd: Option<PathBuf>,
}

impl Sockets {
    pub(super) fn connect(self) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
        let connected = |path: Option<PathBuf>| path.map(|path| connect(path, Kind::Stream, Blocking::Yes));
        Ok((connected(self.console).transpose()?, connected(self.pidfd).transpose()?))
    }
}

/// The path that an option has as its value.
pub(super) fn path(parser: &mut lexopt::Parser) -> Result<PathBuf> {
    Ok(parser.value().map_err(usage)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_the_command_line_names_are_kept() {
        let kept = |line: &str| named(&line.split(' ').map(Into::into).collect::<Vec<_>>());
        assert_eq!(kept("wharf-oci create --bundle /x id"), 0);
        assert_eq!(kept("wharf-oci create --preserve-fds=2 id"), 2);
        assert_eq!(kept("wharf-oci --log /proc/self/fd/4 exec --process=/proc/self/fd/3 id"), 2);
        assert_eq!(kept("wharf-oci --log /proc/self/fd/0 exec --process /proc/self/fd/x id"), 0);
    }
}
