//! The whole life of a container that does nothing.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use testkit::{Bundle, Scratch};

use crate::Scale;
use crate::bare::{Bare, quiet};
use crate::measure::{Contestant, Phases, in_turn, since};
use crate::ours::Ours;
use crate::report::Table;

/// Monitor and runtime, as they are measured together.
pub(crate) const PAIRS: [(&str, &str); 4] = [
    ("conmon", "runc"),
    ("wharf-monitor", "runc"),
    ("wharf-monitor", "crun"),
    ("wharf-monitor", "wharf-oci"),
];

const TEXT: &str = "A static no-op (busybox `true`) in a container as a CRI engine configures it: namespaces, ten mounts, masked \
                    paths, cgroup limits, capabilities, a seccomp profile of the usual size. `floor` does what the kernel must do for that \
                    and nothing else (clone, mounts, cgroups, exec; no seccomp, no state). All state is on a tmpfs.";

pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let bundle = |what: &str| Bundle::new(what, &["true"]).in_cgroup().seccomp();
    let mut contestants = vec![Contestant::of("floor", floor(bundle("floor")))];
    for runtime in ["runc", "crun", "wharf-oci"] {
        let (bare, bundle) = (Bare::new(runtime), bundle(runtime));
        contestants
            .push(Contestant::of(&format!("{runtime} alone"), bare.map(|bare| move || bare.life(&bundle))));
    }
    for (monitor, runtime) in PAIRS {
        let (ours, bundle) = (Ours::new(monitor, runtime), bundle("ours"));
        let name = format!("ours: {monitor} + {runtime}");
        contestants.push(Contestant::of(&name, ours.map(|ours| move || ours.life(&bundle))));
    }
    for runtime in ["runc", "crun"] {
        let podman = Podman::new(runtime);
        contestants.push(Contestant::new(format!("podman run: conmon + {runtime}"), move || podman.life()));
    }
    let series = in_turn(scale.rounds, contestants);
    Ok(vec![Table::of_times("life", "create, start, wait, delete", TEXT, &series)])
}

/// The floor program, which stands beside our static programs.
pub(crate) fn floor_program() -> Result<PathBuf> {
    let path = testkit::programs().join("floor");
    anyhow::ensure!(path.is_file(), "{}: not built: run cargo xtask build", path.display());
    Ok(path)
}

fn floor(bundle: Bundle) -> Result<impl FnMut() -> Result<Phases>> {
    let program = floor_program()?;
    Ok(move || {
        let begin = Instant::now();
        let mut command = Command::new(&program);
        command.arg("life").arg(bundle.rootfs()).arg(bundle.cgroup()).args(["/bin/busybox", "true"]);
        quiet(command)?;
        Ok(vec![("life", since(begin))])
    })
}

/// podman with storage of its own on a tmpfs, and a root file system instead of an image.
pub(crate) struct Podman {
    root: Scratch,
    runtime: &'static str,
}

impl Podman {
    pub(crate) fn new(runtime: &'static str) -> Self {
        let root = Scratch::tmpfs("bench-podman", 256 << 20);
        testkit::install_rootfs(&root.join("rootfs"));
        Self { root, runtime }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("podman");
        command.arg("--root").arg(self.root.join("storage")).arg("--runroot").arg(self.root.join("run"));
        command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", self.runtime]).args(arguments);
        command
    }

    /// `podman run` with what goes between it and the program.
    fn run(&self, how: &[&str]) -> Command {
        let mut command = self.command(&["run", "--network", "none", "--log-driver", "k8s-file"]);
        // podman's own choice is above what a machine without CAP_SYS_RESOURCE allows.
        command.args(["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000"]).args(how);
        command.arg("--rootfs").arg(self.root.join("rootfs"));
        command
    }

    fn life(&self) -> Result<Phases> {
        let begin = Instant::now();
        let mut command = self.run(&["--rm"]);
        command.arg("true");
        quiet(command)?;
        Ok(vec![("life", since(begin))])
    }

    /// Starts a container that runs on, called `b`.
    pub(crate) fn start(&self) -> Result<()> {
        let mut command = self.run(&["-d", "--name", "b"]);
        command.args(["sleep", "100000"]);
        quiet(command)
    }

    /// Runs `true` in it.
    pub(crate) fn exec(&self) -> Result<Phases> {
        let begin = Instant::now();
        quiet(self.command(&["exec", "b", "true"]))?;
        Ok(vec![("exec", since(begin))])
    }

    /// Removes it.
    pub(crate) fn stop(&self) {
        if let Err(error) = quiet(self.command(&["rm", "--force", "--time", "0", "b"])) {
            eprintln!("bench: {error:#}");
        }
    }
}
