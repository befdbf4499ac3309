//! `create`: from a bundle to an init that waits for its start. Whatever fails, everything made is unmade.
//!
//! ```text
//! runtime                                      init
//! check, mkdir, open mounts, clone ──────────► waits
//! id maps, cgroup, oom_score_adj ───g PID────► namespaces, root filesystem
//! prestart, createRuntime hooks ◄───h──────── mounts are there
//!                               ────h────────► createContainer hooks, pivot_root, identity, limits
//! state.json, pid file          ◄───c──────── waits on start.sock
//! ```

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::oci::{LinuxResources, Spec};
use sys::Ctx as _;
use sys::pidfd::PidFd;
use sys::socket::{Blocking, Kind as SocketKind};
use sys::spawn::SingleThread;

use crate::cgroup::{Cgroup, Driver, Layout, Place, Request, systemd};
use crate::cgroup_owner;
use crate::clone;
use crate::error::{Error, Result, point};
use crate::exec::CgroupFiles;
use crate::hooks;
use crate::init::{self, CgroupView, Given, MAX_MESSAGE};
use crate::mounts::prepare;
use crate::namespaces::Kind;
use crate::netdev::{self, Moved};
use crate::plan::{InitPlan, Switches, What, check_sysctls};
use crate::record::{Dir, Record, read_config};
use crate::rights;
use crate::sdnotify;
use crate::seccomp::{Cache, Filter};
use crate::selinux;

/// What is the same for all commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Where the containers' directories are.
    pub root: PathBuf,
    /// Who makes cgroups.
    pub systemd: bool,
    /// Whether cgroups are made without the rights of root, if the command line says so.
    pub rootless: Option<bool>,
}

/// What `create` and `run` are told.
#[derive(Debug, Default)]
pub struct CreateOptions {
    /// The container's id.
    pub id: String,
    /// Where config.json is.
    pub bundle: PathBuf,
    /// Who gets the terminal: a socket, connected.
    pub console: Option<OwnedFd>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Move the root instead of pivoting.
    pub no_pivot: bool,
    /// Keep the session keyring.
    pub no_new_keyring: bool,
    /// Who gets init's pidfd: a socket, connected.
    pub pidfd_socket: Option<OwnedFd>,
    /// Whether the program tells a service manager that it is ready.
    pub notify: bool,
    /// How many descriptors from 3 on are sockets for the program, which learns their number.
    pub listen_fds: u32,
    /// How many descriptors after those are the program's.
    pub preserve_fds: u32,
}

impl CreateOptions {
    /// How many descriptors from 3 on are the program's.
    fn kept(&self) -> u32 {
        self.listen_fds.saturating_add(self.preserve_fds)
    }
}

/// A container that waits for its start.
#[derive(Debug)]
pub struct Created {
    /// Its init.
    pub init: PidFd,
    /// Its directory.
    pub dir: Dir,
    /// Its record.
    pub record: Record,
    /// What is odd, but allowed.
    pub warnings: Vec<String>,
}

/// What is undone if `create` does not come to its end.
pub(crate) struct Undo<'a> {
    dir: &'a Dir,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) init: Option<PidFd>,
    net_devices: Option<Moved>,
    pub(crate) poststop: Option<(Vec<model::oci::Hook>, model::oci::State)>,
    armed: bool,
}

impl<'a> Undo<'a> {
    /// For a directory that was just made.
    pub(crate) fn new(dir: &'a Dir) -> Self {
        Self { dir, cgroup: None, init: None, net_devices: None, poststop: None, armed: true }
    }

    /// All has been done.
    pub(crate) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        // One error is told, and that is the first: what fails here would only hide it.
        if let Some(moved) = &mut self.net_devices {
            moved.give_back();
        }
        if let Some(init) = &self.init {
            drop(init.signal(libc::SIGKILL));
            drop(sys::process::wait::wait_pid_blocking(init.pid()));
        }
        if let Some(cgroup) = &self.cgroup {
            drop(cgroup.signal(rustix::process::Signal::KILL));
            drop(cgroup.remove());
        }
        drop(self.dir.remove());
        if let Some((hooks, mut state)) = self.poststop.take() {
            state.status = "stopped".to_owned();
            state.pid = 0;
            for hook in &hooks {
                drop(hooks::run(std::slice::from_ref(hook), "poststop", &state));
            }
        }
    }
}

/// The bundle's configuration, read and checked.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) spec: Spec,
    pub(crate) bytes: Vec<u8>,
    pub(crate) plan: InitPlan,
    filter: Option<Filter>,
}

/// Creates a container.
///
/// # Errors
/// The step that failed. Nothing is left.
pub fn create(context: &Context, mut options: CreateOptions) -> Result<Created> {
    let proof = SingleThread::check()?;
    let dir = Dir::of(&context.root, &options.id)?;
    let mut warnings = Vec::new();
    if dir.exists() {
        return Err(Error::Exists(options.id));
    }
    // Of all calls that have no other way, the one that came last.
    if !sys::mount_attr::is_supported() {
        return Err(Error::Step("check kernel: older than Linux 5.12 (no mount_setattr(2))".to_owned()));
    }
    let bundle = read_bundle(context, &options, &mut warnings)?;
    let console = options.console.take();
    let plan = &bundle.plan;
    point("oci.create.begin")?;
    dir.make()?;
    let mut undo = Undo::new(&dir);
    point("oci.create.dir-made")?;
    if options.notify {
        sdnotify::make(&dir)?;
    }

    let layout = Layout::detect()?;
    let no_resources = LinuxResources::default();
    let request = request(context, &options.id, &bundle, &no_resources);
    // systemd makes no empty scope: it gets init itself. The others are made first, so that mounts can be opened.
    if !context.systemd {
        undo.cgroup = Some(Cgroup::create(&layout, &request, 0)?);
    }
    point("oci.create.cgroup-made")?;
    let (parent_side, child_side) = sys::socket::pair(SocketKind::SeqPacket, Blocking::Yes)?;
    let shown = if plan.mounts.iter().any(|mount| mount.what == What::Cgroup) {
        let Request { cgroups_path, id, driver, rights, .. } = request;
        let place = Place::of(cgroups_path, id, driver, rights, &layout)?;
        Some(view(&layout, &place))
    } else {
        None
    };
    let given =
        prepare_init(proof, &options, console, &bundle, &dir, shown, undo.cgroup.as_ref(), child_side)?;
    point("oci.create.before-clone")?;
    let (init, parent_side) = clone::into_namespaces(proof, plan, parent_side, given)?;
    let pid = init.pid();
    undo.init = Some(PidFd::from_fd(init.as_fd().try_clone_to_owned().ctx("duplicate", "pidfd")?, pid));
    point("oci.create.cloned")?;

    if plan.namespaces.is_new(Kind::User) {
        crate::mounts::source::write_maps(pid, &plan.uid_maps, &plan.gid_maps)?;
    }
    if undo.cgroup.is_none() {
        undo.cgroup = Some(Cgroup::create(&layout, &request, pid)?);
    }
    let network = PathBuf::from(format!("/proc/{pid}/ns/net"));
    undo.net_devices = netdev::into_container(proof, &network, &plan.net_devices)?;
    point("oci.create.devices-moved")?;
    if let Some(value) = plan.process.oom_score_adj {
        let path = format!("/proc/{pid}/oom_score_adj");
        std::fs::write(&path, value.to_string()).ctx("write", path)?;
    }
    let record = record(&options.id, pid, &bundle, undo.cgroup.clone())?;
    init::send(&parent_side, format!("g{pid}").as_bytes())?;
    let mut state = record.state("creating");
    state.pid = pid;
    undo.poststop = Some((plan.hooks.poststop.clone(), state.clone()));
    serve(&parent_side, plan, &undo, &state, pid)?;

    point("oci.create.served")?;
    dir.write_config(&bundle.bytes)?;
    point("oci.create.config-written")?;
    dir.write(&record)?;
    point("oci.create.recorded")?;
    send_pidfd(options.pidfd_socket.take(), &init, "standard")?;
    if let Some(path) = &options.pid_file {
        write_pid_file(path, pid)?;
    }
    point("oci.create.pid-written")?;
    undo.disarm();
    Ok(Created { init, dir, record, warnings })
}

/// The cgroup that a bundle asks for.
pub(crate) fn request<'a>(
    context: &Context,
    id: &'a str,
    bundle: &'a Bundle,
    no_resources: &'a LinuxResources,
) -> Request<'a> {
    let linux = bundle.spec.linux.as_ref();
    Request {
        id,
        cgroups_path: linux.and_then(|linux| linux.cgroups_path.as_deref()),
        resources: linux.and_then(|linux| linux.resources.as_ref()).unwrap_or(no_resources),
        annotations: &bundle.spec.annotations,
        driver: if context.systemd { Driver::Systemd } else { Driver::Cgroupfs },
        rights: rights::for_cgroups(context.rootless, context.systemd),
        owner: cgroup_owner::of(&bundle.plan),
    }
}

/// What is known of a container whose init is `pid`.
pub(crate) fn record(id: &str, pid: i32, bundle: &Bundle, cgroup: Option<Cgroup>) -> Result<Record> {
    Ok(Record {
        version: Record::VERSION,
        oci_version: bundle.spec.oci_version.clone(),
        id: id.to_owned(),
        pid,
        start_time: sys::proc::start_time(pid)?,
        boot_id: sys::proc::boot_id()?,
        bundle: bundle.path.clone(),
        rootfs: bundle.plan.rootfs.clone(),
        created: model::log::Rfc3339(u64::try_from(sys::proc::now_ns()).unwrap_or(0)).to_string(),
        owner: rustix::process::getuid().as_raw(),
        annotations: bundle.spec.annotations.clone(),
        cgroup,
    })
}

pub(crate) fn read_bundle(
    context: &Context,
    options: &CreateOptions,
    warnings: &mut Vec<String>,
) -> Result<Bundle> {
    let path = std::fs::canonicalize(&options.bundle).ctx("open bundle", &options.bundle)?;
    let (mut spec, bytes) = read_config(&path.join("config.json"))?;
    if options.notify {
        spec.mounts.push(sdnotify::mount(&Dir::of(&context.root, &options.id)?));
    }
    let switches = Switches { no_pivot: options.no_pivot, no_new_keyring: options.no_new_keyring };
    let mut plan = InitPlan::new(&spec, &path, &options.id, switches, warnings)?;
    if context.systemd {
        let ignored = systemd::ignored_annotations(&spec.annotations);
        warnings
            .extend(ignored.map(|key| format!("ignoring annotation {key}: it may not set this property")));
    }
    let rootfs = std::fs::canonicalize(&plan.rootfs).ctx("open root filesystem", &plan.rootfs)?;
    if !rootfs.is_dir() {
        return Err(sys::Error::new("open root filesystem", &rootfs, rustix::io::Errno::NOTDIR).into());
    }
    plan.rootfs = rootfs;
    match (plan.process.terminal.is_some(), options.console.is_some()) {
        (true, false) => {
            return Err(Error::Usage(
                "create terminal: cannot allocate tty without setting a console socket".to_owned(),
            ));
        }
        (false, true) => {
            return Err(Error::Usage(
                "create terminal: a console socket is of no use without a terminal".to_owned(),
            ));
        }
        _ => {}
    }
    check_sysctls(&plan)?;
    let label = spec.linux.as_ref().and_then(|linux| linux.mount_label.as_deref());
    if let Some(label) = label.filter(|label| !label.is_empty() && selinux::is_enabled()) {
        selinux::label_mounts(&mut plan, label);
    }
    if options.listen_fds > 0 {
        set_variable(&mut plan, "LISTEN_FDS", &options.listen_fds.to_string())?;
        set_variable(&mut plan, "LISTEN_PID", "1")?;
    }
    if options.notify {
        set_variable(&mut plan, sdnotify::VARIABLE.0, sdnotify::VARIABLE.1)?;
    }
    let profile = spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let cache = Cache::new(&context.root.join(".seccomp"));
    let filter = profile.map(|profile| Filter::prepare(profile, Some(&cache))).transpose()?;
    Ok(Bundle { path, spec, bytes, plan, filter })
}

/// Gives the program a variable, in place of what its configuration calls so.
fn set_variable(plan: &mut InitPlan, name: &str, value: &str) -> Result<()> {
    let entry = std::ffi::CString::new(format!("{name}={value}")).map_err(std::io::Error::from);
    let entry = entry.ctx("set variable", name)?;
    let start = entry.as_bytes()[..=name.len()].to_vec();
    plan.process.env.retain(|known| !known.as_bytes().starts_with(&start));
    plan.process.env.push(entry);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "called once, with what create has made")]
fn prepare_init(
    proof: SingleThread,
    options: &CreateOptions,
    console: Option<OwnedFd>,
    bundle: &Bundle,
    dir: &Dir,
    shown: Option<CgroupView>,
    cgroup: Option<&Cgroup>,
    sync: OwnedFd,
) -> Result<Given> {
    let plan = &bundle.plan;
    let start = sys::socket::listen(dir.start_socket(), SocketKind::SeqPacket, Blocking::Yes, 0o600)?;
    // Without privilege only init may open mounts, as root of its user namespace.
    let outside = plan.namespaces.has(Kind::Mount) && rustix::process::geteuid().is_root();
    Ok(Given {
        sync,
        start,
        rootfs: if outside { Some(prepare::rootfs(plan)?) } else { None },
        trees: if outside { prepare::trees(proof, plan)? } else { Vec::new() },
        device_trees: if outside { prepare::devices(plan)? } else { Vec::new() },
        console,
        cgroups: shown,
        cgroup: CgroupFiles::open(
            cgroup.iter().flat_map(|cgroup| cgroup.paths.values().map(PathBuf::as_path)),
        )?,
        filter: bundle.filter.clone(),
        state: model::oci::State {
            oci_version: bundle.spec.oci_version.clone(),
            id: options.id.clone(),
            status: "creating".to_owned(),
            pid: 0,
            bundle: bundle.path.to_string_lossy().into_owned(),
            annotations: bundle.spec.annotations.clone(),
        },
        kept: options.kept(),
    })
}

/// What a mount of type cgroup shows. systemd has not made the cgroup yet: where it will be is known.
fn view(layout: &Layout, place: &Place) -> CgroupView {
    let directory = |controller: &str, mount: &Path| {
        let found = place.paths.iter().find(|(name, _)| name == controller).map(|(_, path)| path.clone());
        // Never the whole tree: what is not there is not shown.
        found.unwrap_or_else(|| mount.join(".none"))
    };
    match layout {
        Layout::V2 { root, .. } => CgroupView::V2(directory("", root)),
        Layout::V1 { hierarchies } => {
            let mut trees: Vec<init::Tree> = Vec::new();
            for hierarchy in hierarchies {
                let name = hierarchy
                    .mount
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                if let Some(tree) = trees.iter_mut().find(|tree| tree.name == name) {
                    tree.controllers.push(hierarchy.controller.clone());
                    continue;
                }
                let directory = directory(&hierarchy.controller, &hierarchy.mount);
                let controllers =
                    Some(hierarchy.controller.clone()).filter(|name| !name.is_empty()).into_iter().collect();
                trees.push(init::Tree { name, controllers, directory });
            }
            CgroupView::V1(trees)
        }
    }
}

/// Answers init until it is created.
fn serve(
    sync: &OwnedFd,
    plan: &InitPlan,
    undo: &Undo<'_>,
    state: &model::oci::State,
    pid: i32,
) -> Result<()> {
    let mut buffer = [0u8; MAX_MESSAGE];
    loop {
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recv(sync, &mut buffer, rustix::net::RecvFlags::empty())
        });
        let len = match received {
            Err(rustix::io::Errno::CONNRESET) => 0,
            result => result.ctx("receive", "from init")?.0,
        };
        match buffer[..len].split_first() {
            Some((b'c', _)) => return Ok(()),
            Some((b'h', _)) => {
                hooks::run(&plan.hooks.prestart, "prestart", state)?;
                hooks::run(&plan.hooks.create_runtime, "createRuntime", state)?;
                init::send(sync, b"h")?;
            }
            Some((b'r', _)) => {
                // Whoever is in a user namespace can't raise limits any more.
                for limit in &plan.process.rlimits {
                    crate::become_program::set_rlimit(Some(pid), limit)?;
                }
                init::send(sync, b"r")?;
            }
            Some((b'e', text)) => return Err(Error::Step(String::from_utf8_lossy(text).into_owned())),
            _ => return Err(died(undo)),
        }
    }
}

/// Init has gone without a word.
fn died(undo: &Undo<'_>) -> Error {
    let mut how = "it ended".to_owned();
    if let Some(init) = &undo.init
        && let Ok(true) = init.wait(Some(std::time::Duration::from_secs(10)))
        && let Ok(Some(status)) = init.exit_status()
        && let Some(signal) = status.signal()
    {
        how = format!("killed by signal {signal}, perhaps for want of memory");
    }
    Error::Step(format!("start init: {how}"))
}

/// Sends the pidfd of a process over `socket`, with runc's word for what kind of process it is.
pub(crate) fn send_pidfd(socket: Option<OwnedFd>, process: &PidFd, kind: &str) -> Result<()> {
    if let Some(socket) = socket {
        sys::socket::send_with_fds(socket, kind.as_bytes(), &[process.as_fd()])?;
    }
    Ok(())
}

/// Writes `pid` for conmon and its like, who wait for the file: it is whole when it is there.
pub(crate) fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    crate::record::replace(path, pid.to_string().as_bytes(), 0o644)
}
