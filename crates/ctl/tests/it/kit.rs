//! A state root of its own with `wharf` on it.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use testkit::{LeakCheck, Scratch};

/// What a call of `wharf` gave.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A state root and a root file system. Everything is removed, and nothing may be left, when it is dropped.
pub struct Wharf {
    root: PathBuf,
    pub rootfs: PathBuf,
    leaks: Option<LeakCheck>,
    scratch: Option<Scratch>,
}

impl Wharf {
    pub fn new() -> Self {
        let leaks = LeakCheck::start();
        let scratch = Scratch::new("wharf");
        let rootfs = scratch.dir("rootfs");
        testkit::install_rootfs(&rootfs);
        Self { root: scratch.path().join("root"), rootfs, leaks: Some(leaks), scratch: Some(scratch) }
    }

    /// The words before the command.
    pub fn head(&self) -> Vec<String> {
        let monitor = testkit::monitor_under_test().path;
        let words = [
            env!("CARGO_BIN_EXE_wharf"),
            "--root",
            &self.root.to_string_lossy(),
            "--monitor",
            &monitor.to_string_lossy(),
        ];
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let head = self.head();
        let mut command = Command::new(&head[0]);
        command.args(&head[1..]).args(words).env("WHARF_HANDLER", self.handler()).env("PATH", path());
        command
    }

    pub fn handler(&self) -> &'static str {
        testkit::runtime_under_test().name()
    }

    /// `wharf WORDS…` with nothing to read.
    pub fn call(&self, words: &[&str]) -> Said {
        said(self.command(words).stdin(Stdio::null()).output().expect("run wharf"))
    }

    /// The same with `input` to read.
    pub fn feed(&self, words: &[&str], input: &str) -> Said {
        use std::io::Write as _;
        let mut child = self
            .command(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run wharf");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("feed wharf");
        drop(stdin);
        said(child.wait_with_output().expect("wait for wharf"))
    }

    /// The same, and it must succeed; gives its output without the last newline.
    pub fn ok(&self, words: &[&str]) -> String {
        let said = self.call(words);
        assert_eq!(said.code, 0, "{words:?}: {said:?}");
        said.out.trim_end().to_owned()
    }

    /// `run` or `create` with the root file system and these flags, then the program.
    pub fn with_rootfs<'a>(&'a self, head: &[&'a str], program: &[&'a str]) -> Vec<&'a str> {
        let rootfs = self.rootfs.to_str().expect("a plain path");
        head.iter().copied().chain(["--rootfs", rootfs]).chain(program.iter().copied()).collect()
    }

    /// A container that sleeps, by its name.
    pub fn sleeper(&self, name: &str) {
        self.ok(&self.with_rootfs(
            &["run", "-d", "--name", name],
            &["sh", "-c", "trap 'exit 3' TERM; sleep 1000 & wait"],
        ));
    }

    pub fn state(&self, name: &str) -> serde_json::Value {
        let text = self.ok(&["inspect", name]);
        serde_json::from_str::<serde_json::Value>(&text).expect("JSON")[0].clone()
    }
}

/// PATH with the place of the runtime under test in front: ours is not installed.
pub fn path() -> String {
    let runtime = testkit::runtime_under_test().path;
    let place = runtime.parent().expect("an absolute path").to_string_lossy().into_owned();
    format!("{place}:{}", std::env::var("PATH").unwrap_or_default())
}

fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Drop for Wharf {
    fn drop(&mut self) {
        let removed = self.call(&["rm", "--force", "--all"]);
        drop(self.scratch.take());
        if !std::thread::panicking() {
            assert_eq!(removed.code, 0, "{removed:?}");
            if let Some(leaks) = self.leaks.take() {
                leaks.finish();
            }
        }
    }
}
