//! Execs without a runtime: cloned from this process straight into the container.
//!
//! Only for runtimes that are known to make containers of namespaces: the init of a virtual machine or of gVisor is not
//! in the world that its programs live in. There, and where this process lacks the power, the runtime's own exec is run.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use model::oci::{Process, Spec};
use ocirun::exec::{Begun, CgroupFiles, Streams, Target, cgroups_of, inherit};
use ocirun::process::ProcessPlan;
use ocirun::seccomp::Cache;
use sys::pidfd::PidFd;
use sys::process::caps::{self, Caps};
use sys::spawn::SingleThread;

use super::super::stdio;
use super::cgroup::ExecCgroup;
use crate::cli::Args;
use crate::control::ExecRequest;
use crate::message;

/// The runtimes whose containers are known to be namespaces of this kernel.
const KNOWN: [&str; 4] = ["wharf-oci", "runc", "crun", "youki"];
/// The longest configuration that is read, in bytes.
const CONFIG_MAX: u64 = 16 << 20;

/// What execs need of the container, made ready by the first of them.
#[derive(Debug, Default)]
pub(super) enum Inside {
    #[default]
    NotAsked,
    /// Only the runtime can.
    Never,
    Ready(Box<Prepared>),
}

#[derive(Debug)]
pub(super) struct Prepared {
    target: Target,
    proof: SingleThread,
    config: Spec,
    /// The freezer's state of the container; which file depends on the cgroup version.
    freezer: Option<OwnedFd>,
}

/// A process that was cloned, until it has executed its program.
#[derive(Debug)]
pub(super) struct Way {
    begun: Begun,
    plan: ProcessPlan,
    /// Where its terminal's master comes from.
    console: Option<OwnedFd>,
}

impl Inside {
    /// The container made ready, or None where only the runtime can.
    pub(super) fn ready(&mut self, args: &Args, init: i32) -> Option<&Prepared> {
        if let Self::NotAsked = self {
            *self = match Prepared::new(args, init) {
                Ok(prepared) => Self::Ready(Box::new(prepared)),
                Err(why) => {
                    message::debug(format_args!("execs are left to the runtime: {why}"));
                    Self::Never
                }
            };
            // A filter's compilation and the configuration have left much.
            sys::solo::give_back_memory();
        }
        match self {
            Self::Ready(prepared) if !prepared.is_frozen() => Some(prepared),
            // The runtime says in its own words that it can't.
            _ => None,
        }
    }
}

impl Prepared {
    fn new(args: &Args, init: i32) -> Result<Self, String> {
        let name = args.runtime.file_name().unwrap_or_default().to_string_lossy();
        if !KNOWN.contains(&&*name) {
            return Err(format!("{name} is not known to make containers of namespaces"));
        }
        if !ocirun::protect::is_protected().map_err(text)? {
            return Err("this program's file is not protected".to_owned());
        }
        if std::fs::read("/sys/fs/selinux/enforce").is_ok_and(|state| state.starts_with(b"1")) {
            return Err("SELinux is enforcing".to_owned());
        }
        let caps = caps::get().map_err(text)?;
        if caps.permitted & caps::mask(&[caps::SYS_ADMIN]) == 0 {
            return Err("this process lacks CAP_SYS_ADMIN".to_owned());
        }
        let path = args.bundle.as_deref().unwrap_or(Path::new(".")).join("config.json");
        let bytes = sys::durable::read_bounded(&path, CONFIG_MAX).map_err(text)?;
        let mut config: Spec =
            serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let cgroups = cgroups_of(init).map_err(text)?;
        let cache = Cache::new(&cache(args, &name));
        let init = PidFd::open(init).map_err(text)?;
        let mut target = with_power(|| Target::prepare(&args.cid, init, &config, &cgroups, Some(&cache)))?;
        if target.has_listener() {
            return Err("the seccomp profile has a listener".to_owned());
        }
        if config.linux.as_ref().is_none_or(|linux| linux.namespaces.is_empty()) || args.no_new_keyring {
            target = target.without_keyring();
        }
        // Of the configuration, execs need what they inherit.
        config = Spec { process: config.process, ..Spec::default() };
        let proof = SingleThread::check().map_err(text)?;
        Ok(Self { target, proof, config, freezer: freezer(&cgroups) })
    }

    fn is_frozen(&self) -> bool {
        let Some(file) = &self.freezer else { return false };
        let mut state = [0u8; 256];
        let len = rustix::io::pread(file, &mut state, 0).unwrap_or(0);
        let state = &state[..len];
        // v1: freezer.state; v2: cgroup.events.
        state.starts_with(b"FR") || state.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1")
    }

    /// Clones the process of `request`; its pid and how to hear of it.
    pub(super) fn begin(
        &self,
        request: &mut ExecRequest,
        cgroup: Option<&ExecCgroup>,
        oom_score_adj: Option<i32>,
    ) -> Result<(i32, Way), String> {
        let mut process: Process =
            serde_json::from_slice(&request.process).map_err(|error| format!("parse process: {error}"))?;
        inherit(&mut process, &self.config);
        let mut warnings = Vec::new();
        let mut plan = ProcessPlan::new(&process, &mut warnings).map_err(text)?;
        for warning in warnings {
            message::debug(warning);
        }
        // Not ours, which is that of a process that must not be chosen.
        plan.oom_score_adj = plan.oom_score_adj.or(oom_score_adj);
        let own = cgroup.map(|cgroup| CgroupFiles::open(std::iter::once(cgroup.dir()))).transpose();
        let own = own.map_err(text)?;
        let (near, far) = if plan.terminal.is_some() {
            let (near, far) =
                sys::socket::pair(sys::socket::Kind::SeqPacket, sys::socket::Blocking::No).map_err(text)?;
            (Some(near), Some(far))
        } else {
            (None, None)
        };
        let mut stdio = std::mem::take(&mut request.stdio);
        if plan.terminal.is_none() {
            for place in stdio.iter_mut().filter(|place| place.is_none()) {
                *place = Some(stdio::dev_null().map_err(text)?);
            }
        }
        let streams = Streams { stdio, console: far, kept: 0 };
        let begun = with_power(|| self.target.begin(self.proof, &plan, streams, own.as_ref()))?;
        Ok((begun.process().pid(), Way { begun, plan, console: near }))
    }
}

impl Way {
    /// Readable when [`Way::follow`] gets on.
    pub(super) fn watched(&self) -> std::os::fd::BorrowedFd<'_> {
        self.begun.as_fd()
    }

    /// Goes on without waiting: true once the program runs.
    ///
    /// # Errors
    /// What failed, in one line.
    pub(super) fn follow(&mut self) -> Result<bool, String> {
        let raises = !self.plan.rlimits.is_empty();
        if raises {
            with_power(|| self.begun.follow(&self.plan))
        } else {
            self.begun.follow(&self.plan).map_err(text)
        }
    }

    /// Its terminal's master, which it has sent before its program.
    pub(super) fn terminal(&self) -> io::Result<Option<OwnedFd>> {
        let Some(console) = &self.console else { return Ok(None) };
        let master = stdio::receive_terminal(console)?
            .ok_or_else(|| io::Error::other("the process sent no terminal"))?;
        stdio::prepare_terminal(&master)?;
        Ok(Some(master))
    }
}

/// Calls `f` with all the power that was put aside (see `harden::drop_power`); without it before and after.
fn with_power<T, E: std::fmt::Display>(f: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    let now = caps::get().map_err(text)?;
    caps::set(Caps { effective: now.permitted, ..now }).map_err(text)?;
    let result = f();
    caps::set(now).map_err(text)?;
    result.map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Where compiled filters are kept: with wharf-oci's, since its containers have the same.
fn cache(args: &Args, runtime: &str) -> PathBuf {
    let mut root = PathBuf::from(ocirun::DEFAULT_ROOT);
    if runtime == "wharf-oci" {
        let mut given = args.runtime_args.iter().map(|arg| arg.to_string_lossy());
        while let Some(arg) = given.next() {
            if arg == "--root" {
                root = given.next().map_or(root, |root| PathBuf::from(&*root));
            } else if let Some(value) = arg.strip_prefix("--root=") {
                root = PathBuf::from(value);
            }
        }
    }
    root.join(".seccomp")
}

/// The file that tells whether the container is frozen.
fn freezer(cgroups: &[PathBuf]) -> Option<OwnedFd> {
    let open = |path: PathBuf| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).ok()
    };
    let file = |name: &str| cgroups.iter().find_map(|dir| open(dir.join(name)));
    file("freezer.state").or_else(|| file("cgroup.events"))
}
