//! The command line of the runtime's `exec`, and what it says when it fails.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::cli::Args;

/// The runtime's words are cut after so many bytes.
pub(crate) const WORDS_MAX: usize = 4096;

/// The process is read from descriptor 3, the log goes to 4.
pub(super) fn line(
    args: &Args,
    pidfile: &Path,
    cgroup: Option<&str>,
    console: Option<&Path>,
) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![args.runtime.clone().into()];
    line.extend(without_log(&args.runtime_args));
    line.extend(
        ["--log", "/proc/self/fd/4", "--log-format", "json", "exec", "--pid-file"].map(OsString::from),
    );
    line.push(pidfile.into());
    line.extend(["--process", "/proc/self/fd/3", "--detach"].map(OsString::from));
    if let Some(cgroup) = cgroup {
        line.extend(["--cgroup", cgroup].map(OsString::from));
    }
    if let Some(console) = console {
        line.extend([OsStr::new("--console-socket"), console.as_os_str()].map(OsString::from));
    }
    line.push(args.cid.clone().into());
    line
}

/// Without the options that say where the container's own runtime logs.
fn without_log(args: &[OsString]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        if text == "--log" || text == "--log-format" {
            args.next();
        } else if !text.starts_with("--log=") && !text.starts_with("--log-format=") {
            kept.push(arg.clone());
        }
    }
    kept
}

/// The last error in the runtime's log, or else all of the log.
pub(super) fn words(log: &OwnedFd) -> String {
    let mut buffer = vec![0u8; 65536];
    let len = rustix::io::pread(log, &mut buffer, 0).unwrap_or(0);
    words_of(&buffer[..len])
}

/// The same, of a log that was read.
pub(crate) fn words_of(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let mut words = last_error(&text).unwrap_or_else(|| text.trim().to_owned());
    if words.len() > WORDS_MAX {
        let end = (0..=WORDS_MAX).rev().find(|&at| words.is_char_boundary(at)).unwrap_or(0);
        words.truncate(end);
    }
    words
}

fn last_error(log: &str) -> Option<String> {
    log.lines().rev().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let grave = matches!(entry.get("level")?.as_str()?, "error" | "fatal" | "panic");
        grave.then(|| entry.get("msg").and_then(|msg| msg.as_str()).map(str::to_owned)).flatten()
    })
}

/// Whether the runtime has failed because it does not know the option, or has no such cgroups.
pub(crate) fn knows_no_cgroup(words: &str) -> bool {
    words.contains("cgroup")
        || words.contains("unrecognized option")
        || words.contains("unexpected argument")
        || words.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_of_others_are_left_out() {
        let args =
            ["--root", "/r", "--log", "/x", "--log-format=json", "--log=/y", "--debug"].map(OsString::from);
        assert_eq!(without_log(&args), ["--root", "/r", "--debug"].map(OsString::from));
    }

    #[test]
    fn the_last_error_is_told() {
        let log = "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"e1\"}\n\
                   {\"level\":\"error\",\"msg\":\"e2\"}\nnot json\n";
        assert_eq!(last_error(log), Some("e2".to_owned()));
        assert_eq!(last_error("{\"level\":\"info\",\"msg\":\"x\"}"), None);
    }
}
