//! `checkpoint` and `restore`, by criu.
//!
//! The images are criu's, with one file of ours ([`Outside`]). A restore makes the cgroup and lets criu make all else: it
//! runs in a mount namespace of its own, in which the root filesystem is a mount, as criu wants it.

use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::oci::LinuxResources;
use rustix::fs::{Mode, OFlags};
use rustix::process::Signal;
use sys::pidfd::PidFd;
use sys::spawn::{self, Cloned, SingleThread};
use sys::{Ctx as _, durable};

use crate::cgroup::{Cgroup, Layout};
use crate::create::{self, Context, CreateOptions, Undo};
use crate::criu::{self, CriuOptions, Given, Outside};
use crate::error::{Error, Result};
use crate::hooks;
use crate::lifecycle::{self, Force};
use crate::namespaces::Kind;
use crate::plan::{InitPlan, Switches, What};
use crate::record::{Dir, MAX_DOCUMENT, Status};

fn refused(op: &'static str, id: &str, cause: impl Into<String>) -> Error {
    Error::State { op, id: id.to_owned(), cause: cause.into() }
}

/// Saves a container's processes. Unless they are left running, or only their memory was saved, the container is gone then.
///
/// # Errors
/// It does not run, has a terminal, or criu can't; then it goes on as before.
pub fn checkpoint(context: &Context, id: &str, options: &CriuOptions) -> Result<()> {
    const OP: &str = "checkpoint";
    let dir = Dir::of(&context.root, id)?;
    let record = dir.read()?;
    let (status, init) = record.status(&dir)?;
    let Some(init) = init.filter(|_| matches!(status, Status::Running | Status::Paused)) else {
        return Err(refused(OP, id, format!("container not running: {}", status.as_str())));
    };
    let spec = dir.config()?;
    let plan = InitPlan::new(&spec, &record.bundle, id, Switches::default(), &mut Vec::new())?;
    if plan.process.terminal.is_some() {
        return Err(refused(OP, id, "it has a terminal"));
    }
    make_dir(&options.images)?;
    if let Some(parent) = options.parent.as_ref().map(|parent| options.images.join(parent)) {
        rustix::fs::stat(&parent).ctx("open images", parent)?;
    }
    let streams = (0..3).map(|fd| {
        let path = format!("/proc/{}/fd/{fd}", init.pid());
        Ok(std::fs::read_link(&path).ctx("read link", path)?.to_string_lossy().into_owned())
    });
    let binds: Vec<PathBuf> = binds(&plan).map(|(point, _)| point).collect();
    let (inside, host) = (sys::proc::mounts_of(init.pid())?, sys::proc::mounts()?);
    let outside = Outside {
        streams: streams.collect::<Result<_>>()?,
        mounts: criu::outside_mounts(&inside, &host, &binds),
        network: match plan.namespaces.joined(Kind::Network) {
            Some(_) => {
                let path = format!("/proc/{}/ns/net", init.pid());
                Some(rustix::fs::stat(&path).ctx("stat", path)?.st_ino)
            }
            None => None,
        },
    };
    let path = options.images.join(Outside::FILE);
    let bytes = serde_json::to_vec(&outside).map_err(std::io::Error::from).ctx("write", &path)?;
    let freezer = record.cgroup.as_ref().and_then(|cgroup| {
        let controller = if cgroup.unified { "" } else { "freezer" };
        cgroup.paths.get(controller).map(PathBuf::as_path)
    });
    // criu thaws what it found thawed only: a container that was paused is paused afterwards too.
    criu::run(options, &criu::dump_args(options, init.pid(), &record.rootfs, &outside, freezer), false)?;
    if options.pre_dump {
        return Ok(());
    }
    std::fs::write(&path, bytes).ctx("write", &path)?;
    if !options.leave_running {
        lifecycle::delete(context, id, Force::Yes)?;
    }
    Ok(())
}

/// The bind mounts of a container: where, and from where.
fn binds(plan: &InitPlan) -> impl Iterator<Item = (PathBuf, PathBuf)> {
    plan.mounts.iter().filter_map(|mount| match &mount.what {
        // Without what a path may have twice: the kernel's tables don't either.
        What::Bind(source) => Some((Path::new(&mount.destination).components().collect(), source.clone())),
        _ => None,
    })
}

fn make_dir(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path);
    Ok(made.ctx("make directory", path)?)
}

/// Makes a container that goes on where its checkpoint was made.
///
/// # Errors
/// The id is taken, there is no checkpoint, criu can't. Nothing is left.
pub fn restore(context: &Context, create: CreateOptions, options: &CriuOptions) -> Result<PidFd> {
    const OP: &str = "restore";
    let proof = SingleThread::check()?;
    let id = create.id.clone();
    let dir = Dir::of(&context.root, &id)?;
    if dir.exists() {
        return Err(Error::Exists(id));
    }
    if !options.images.join("inventory.img").exists() {
        return Err(refused(OP, &id, format!("there is no checkpoint in {}", options.images.display())));
    }
    let mut warnings = Vec::new();
    let bundle = create::read_bundle(context, &create, &mut warnings)?;
    let plan = &bundle.plan;
    if plan.process.terminal.is_some() {
        return Err(refused(OP, &id, "it has a terminal"));
    }
    let path = options.images.join(Outside::FILE);
    let text = durable::read_bounded(&path, MAX_DOCUMENT)?;
    let mut outside: Outside = serde_json::from_slice(&text)
        .map_err(|error| sys::Error::other("parse", &path, error.to_string()))?;
    dir.make()?;
    let mut undo = Undo::new(&dir);
    let layout = Layout::detect()?;
    let no_resources = LinuxResources::default();
    // systemd makes no scope without a process, and none outlives its last.
    let first = context.systemd.then(|| Placeholder::start(proof)).transpose()?;
    let pid = first.as_ref().map_or(0, Placeholder::pid);
    let cgroup = Cgroup::create(&layout, &create::request(context, &id, &bundle, &no_resources), pid)?;
    let cgroup = undo.cgroup.insert(cgroup);
    let cgroups = roots(&layout, cgroup);
    // What config.json says now, not what was when the images were made, or what they say was.
    let now: Vec<(PathBuf, PathBuf)> = binds(plan).collect();
    let devices = plan.devices.iter().map(|device| Path::new(&device.path));
    let ours: Vec<&Path> = devices.chain(cgroup.paths.values().map(PathBuf::as_path)).collect();
    outside.confine(&now, &ours).map_err(|cause| refused(OP, &id, cause))?;
    let network = plan.namespaces.joined(Kind::Network).map(|path| {
        // Not closed by criu's execve: it is handed on.
        rustix::fs::open(path, OFlags::RDONLY, Mode::empty()).ctx("open namespace", path)
    });
    let network = network.transpose()?;
    private_root(&plan.rootfs)?;
    let needs_hooks = plan.needs_parent();
    let given = Given {
        pid_file: dir.path().join("criu.pid"),
        cgroups,
        network: network.as_ref().map(AsFd::as_fd),
        stopped: needs_hooks,
    };
    let ran = criu::run(options, &criu::restore_args(options, &plan.rootfs, &outside, &given), true);
    // Also where it failed: what it made so far must end.
    let text = std::fs::read_to_string(&given.pid_file).unwrap_or_default();
    undo.init = text.trim().parse().ok().and_then(|pid| PidFd::open(pid).ok());
    ran?;
    drop(first);
    let pid = undo.init.as_ref().map(PidFd::pid).ok_or_else(|| refused(OP, &id, "criu wrote no pid"))?;
    let init = PidFd::open(pid)?;
    let record = create::record(&id, pid, &bundle, undo.cgroup.clone())?;
    let state = record.state("running");
    undo.poststop = Some((plan.hooks.poststop.clone(), state.clone()));
    if needs_hooks {
        let early = record.state("creating");
        hooks::run(&plan.hooks.prestart, "prestart", &early)?;
        hooks::run(&plan.hooks.create_runtime, "createRuntime", &early)?;
        if let Some(cgroup) = &undo.cgroup {
            cgroup.signal(Signal::CONT)?;
        }
    }
    dir.write_config(&bundle.bytes)?;
    dir.write(&record)?;
    if let Some(path) = &create.pid_file {
        create::write_pid_file(path, pid)?;
    }
    hooks::run(&plan.hooks.poststart, "poststart", &state)?;
    durable::remove(&given.pid_file)?;
    undo.disarm();
    Ok(init)
}

/// A process that only is there, in a scope that waits for its own.
struct Placeholder(PidFd);

impl Placeholder {
    fn start(proof: SingleThread) -> Result<Self> {
        match spawn::clone(proof, 0, None).ctx("clone", "placeholder")? {
            Cloned::Parent { pid, pidfd } => Ok(Self(PidFd::from_fd(pidfd, pid))),
            Cloned::Child => {
                // Should it fail, Drop kills.
                let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            }
        }
    }

    fn pid(&self) -> i32 {
        self.0.pid()
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // One that has ended is what is wanted.
        let _ = self.0.signal(libc::SIGKILL);
        let _ = sys::process::wait::wait_pid_blocking(self.0.pid());
    }
}

/// Where the cgroups are within their hierarchies.
fn roots(layout: &Layout, cgroup: &Cgroup) -> Vec<(String, PathBuf)> {
    let below = |mount: &Path, path: &Path| Some(Path::new("/").join(path.strip_prefix(mount).ok()?));
    match layout {
        Layout::V2 { root, .. } => {
            cgroup.paths.values().filter_map(|path| Some((String::new(), below(root, path)?))).collect()
        }
        Layout::V1 { hierarchies } => hierarchies
            .iter()
            .filter(|one| !one.controller.is_empty())
            .filter_map(|one| {
                Some((one.controller.clone(), below(&one.mount, cgroup.paths.get(&one.controller)?)?))
            })
            .collect(),
    }
}

/// From here on this process has mounts of its own, among them one at `rootfs`.
fn private_root(rootfs: &Path) -> Result<()> {
    use rustix::mount::{MountPropagationFlags, mount_bind_recursive, mount_change};
    spawn::unshare(Kind::Mount.flag()).ctx("unshare", "mount namespace")?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).ctx("set propagation of", "/")?;
    mount_bind_recursive(rootfs, rootfs).ctx("mount", rootfs)?;
    // A root that was a slave of the host's becomes one of this (criu: MOVE_MOUNT_SET_GROUP), which must not be private.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    Ok(mount_change(rootfs, shared).ctx("set propagation of", rootfs)?)
}
