//! A monitor called by conmon's contract, without our library: what the monitor itself adds.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sys::pidfd::PidFd;
use sys::process::Command;
use testkit::{Bundle, Scratch, unique_id};

use crate::Scale;
use crate::bare::{Bare, PATIENCE};
use crate::measure::{Contestant, Phases, in_turn, since};
use crate::report::Table;

const TEXT: &str = "What a monitor adds to `runtime create`: from the spawn of the monitor to the container's pid on its sync pipe, \
                    without our library, beside `runtime create` alone. The same container as above.";

/// A monitor over a runtime, with directories of its own on a tmpfs.
pub(crate) struct Monitored {
    monitor: PathBuf,
    pub(crate) bare: Bare,
    dir: Scratch,
}

/// A container that a monitor made.
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) init: PidFd,
    pub(crate) monitor: PidFd,
    pub(crate) log: PathBuf,
}

impl Monitored {
    pub(crate) fn new(monitor: &str, runtime: &str) -> Result<Self> {
        let found = std::panic::catch_unwind(|| testkit::Monitor::named(monitor).path);
        let monitor = found.map_err(|_| anyhow::anyhow!("{monitor} is not there"))?;
        let dir = Scratch::tmpfs("bench-mon", 2 << 30);
        dir.dir("exits");
        dir.dir("sockets");
        Ok(Self { monitor, bare: Bare::new(runtime)?, dir })
    }

    /// Where exit files appear.
    pub(crate) fn exits(&self) -> PathBuf {
        self.dir.join("exits")
    }

    fn common<'a>(&self, id: &str, log: &std::path::Path) -> Command<'a> {
        let mut command = Command::new(&self.monitor);
        command.inherit_env().args(["-c", id, "-u", id, "-n", id, "-r"]).arg(self.bare.program());
        command.args(["--runtime-arg", "--root", "--runtime-arg"]).arg(self.bare.root());
        command.arg("-l").arg(log).arg("--exit-dir").arg(self.exits());
        command.arg("--socket-dir-path").arg(self.dir.join("sockets"));
        command
    }

    /// Creates a container of a bundle and starts nothing yet.
    pub(crate) fn create(&self, bundle: &Bundle) -> Result<Made> {
        self.create_logging(bundle, None)
    }

    /// As [`Monitored::create`], with the log at another place.
    pub(crate) fn create_logging(&self, bundle: &Bundle, log: Option<&std::path::Path>) -> Result<Made> {
        let id = unique_id("mon");
        let home = self.dir.dir(&id);
        let log = log.map_or_else(|| home.join("log"), std::path::Path::to_owned);
        let (reader, writer) = sys::socket::pair(sys::socket::Kind::Stream, sys::socket::Blocking::Yes)?;
        let mut command = self.common(&id, &log);
        command
            .arg("-b")
            .arg(bundle.path())
            .arg("-p")
            .arg(home.join("pid"))
            .arg("-P")
            .arg(home.join("monitor"));
        command.env("_OCI_SYNCPIPE", "3").fd(writer.as_fd(), 3);
        let child = command.spawn()?;
        drop(command);
        drop(writer);
        child.wait()?;
        let monitor = fs::read_to_string(home.join("monitor")).context("read the monitor's pid file")?;
        let monitor = PidFd::open(monitor.trim().parse().context("parse the monitor's pid file")?)?;
        let init = pid_message(reader)?;
        Ok(Made { id, init: PidFd::open(init)?, monitor, log })
    }

    /// As [`Monitored::create`], and starts it.
    pub(crate) fn start(&self, bundle: &Bundle) -> Result<Made> {
        let made = self.create(bundle)?;
        self.bare.call(&["start", &made.id])?;
        Ok(made)
    }

    /// Kills and removes; waits until the monitor is gone.
    pub(crate) fn remove(&self, made: &Made) -> Result<()> {
        made.init.signal(9)?;
        if !made.monitor.wait(Some(PATIENCE))? {
            bail!("the monitor does not end");
        }
        self.bare.call(&["delete", "--force", &made.id])
    }

    /// Runs one exec to its end in a container.
    pub(crate) fn exec(&self, made: &Made, spec: &std::path::Path) -> Result<Phases> {
        let begin = Instant::now();
        let mut command = self.common(&made.id, &self.dir.join(&made.id).join("exec.log"));
        command
            .args(["--sync", "-e", "--exec-process-spec"])
            .arg(spec)
            .arg("-p")
            .arg(self.dir.join(&made.id).join("exec.pid"));
        let ended = command.spawn()?.wait()?;
        let time = since(begin);
        if ended.status.exit() != model::Exit::Code(0) {
            bail!("exec through the monitor: {:?}", ended.status);
        }
        Ok(vec![("exec", time)])
    }

    /// A file with the specification of an exec's process.
    pub(crate) fn process(&self, bundle: &Bundle, args: &[&str]) -> Result<PathBuf> {
        let mut process = bundle.spec()["process"].clone();
        process["args"] = args.into();
        let path = self.dir.join("process.json");
        fs::write(&path, process.to_string()).context("write the process specification")?;
        Ok(path)
    }
}

/// Reads `{"data": PID}` or `{"pid": PID}`.
fn pid_message(reader: std::os::fd::OwnedFd) -> Result<i32> {
    let mut socket = std::os::unix::net::UnixStream::from(reader);
    socket.set_read_timeout(Some(PATIENCE)).context("set a time-out")?;
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    while !text.ends_with(b"\n") {
        let count = socket.read(&mut piece).context("read the sync pipe")?;
        if count == 0 {
            break;
        }
        text.extend_from_slice(&piece[..count]);
    }
    let message: serde_json::Value = serde_json::from_slice(&text).context("parse the monitor's message")?;
    let pid = message["pid"].as_i64().or_else(|| message["data"].as_i64()).unwrap_or(-1);
    match i32::try_from(pid) {
        Ok(pid @ 1..) => Ok(pid),
        _ => bail!("the monitor says {message}"),
    }
}

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let bundle = Bundle::new("create", &["true"]).in_cgroup().seccomp();
    let mut contestants = Vec::new();
    for runtime in ["runc", "wharf-oci"] {
        let (bare, bundle) = (Bare::new(runtime), &bundle);
        let run = bare.map(|bare| {
            move || {
                let begin = Instant::now();
                bare.create(bundle)?;
                let time = since(begin);
                bare.call(&["delete", "--force", bundle.id()])?;
                Ok(vec![("create", time)])
            }
        });
        contestants.push(Contestant::of(&format!("{runtime} create"), run));
        for monitor in ["conmon", "wharf-monitor"] {
            let run = Monitored::new(monitor, runtime).map(|monitored| {
                move || {
                    let begin = Instant::now();
                    let made = monitored.create(bundle)?;
                    let time = since(begin);
                    monitored.remove(&made)?;
                    Ok(vec![("create", time)])
                }
            });
            let whose = if monitor == "conmon" { "" } else { "ours: " };
            contestants.push(Contestant::of(&format!("{whose}{monitor} + {runtime} create"), run));
        }
    }
    let series = in_turn(scale.rounds, contestants);
    Ok(vec![Table::of_times("create", "create through a monitor", TEXT, &series)])
}
