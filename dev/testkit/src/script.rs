//! Programs written in a line of shell: fake runtimes, fake monitors.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Writes an executable `dir/name` with `text` (which begins with `#!`) and gives its path.
///
/// A child writes it: if this process held it open for writing, a fork in another thread could carry the
/// descriptor along and the next exec would fail with ETXTBSY.
pub fn script(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    let mut child = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("spawn sh: {error}"));
    let mut input = child.stdin.take().expect("a pipe was asked for");
    input.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    drop(input);
    let status = child.wait().unwrap_or_else(|error| panic!("wait for sh: {error}"));
    assert!(status.success(), "write {}: sh ended with {status}", path.display());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_runs() {
        let dir = crate::Scratch::new("script");
        let path = script(&dir, "say", "#!/bin/sh\necho \"$1\"\n");
        let output = Command::new(path).arg("ahoy").output().expect("run");
        assert_eq!(output.stdout, b"ahoy\n");
    }
}
