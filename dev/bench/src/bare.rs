//! An OCI runtime by itself, as a script would call it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sys::pidfd::PidFd;
use testkit::{Bundle, Scratch};

use crate::measure::{Phases, since};

/// How long any single step may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A runtime with a root of its own on a tmpfs.
pub(crate) struct Bare {
    program: PathBuf,
    root: Scratch,
}

impl Bare {
    pub(crate) fn new(runtime: &str) -> Result<Self> {
        let runtime = std::panic::catch_unwind(|| testkit::Runtime::named(runtime).path);
        let program = runtime.map_err(|_| anyhow::anyhow!("not installed"))?;
        Ok(Self { program, root: Scratch::tmpfs("bench-root", 64 << 20) })
    }

    /// The program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// The directory given as `--root`.
    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Runs a command of the runtime; no streams.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.root.path()).args(arguments);
        quiet(command)
    }

    /// Makes a container and gives its init.
    pub(crate) fn create(&self, bundle: &Bundle) -> Result<PidFd> {
        let file = self.root.join("pid");
        let path = bundle.path().to_string_lossy();
        self.call(&["create", "--bundle", &path, "--pid-file", &file.to_string_lossy(), bundle.id()])?;
        let pid = fs::read_to_string(&file).context("read the pid file")?;
        Ok(PidFd::open(pid.trim().parse().context("parse the pid file")?)?)
    }

    /// create, start, wait, delete.
    pub(crate) fn life(&self, bundle: &Bundle) -> Result<Phases> {
        let begin = Instant::now();
        let init = self.create(bundle)?;
        let created = since(begin);
        self.call(&["start", bundle.id()])?;
        if !init.wait(Some(PATIENCE))? {
            bail!("the container does not end");
        }
        let ended = since(begin);
        self.call(&["delete", bundle.id()])?;
        Ok(vec![("create", created), ("start, wait", ended - created), ("delete", since(begin) - ended)])
    }
}

/// Runs a program to its end without streams; its error text becomes the error.
pub(crate) fn quiet(mut command: Command) -> Result<()> {
    // A file, not a pipe: what stays behind with the pipe open must not be waited for.
    let words = Scratch::new("bench-words");
    let file = fs::File::create(words.join("stderr")).context("make a file for the error text")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
    let status = command.status().with_context(|| format!("run {:?}", command.get_program()))?;
    if !status.success() {
        let text = fs::read_to_string(words.join("stderr")).unwrap_or_default();
        bail!("{:?}: {status}: {}", command.get_program(), text.trim());
    }
    Ok(())
}
