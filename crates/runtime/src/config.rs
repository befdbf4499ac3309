//! What the lifecycle layer is told: handlers, monitor, cgroup manager, trust, limits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use model::trust::{OnDowngrade, Trust};

/// How long a create may take when nobody says otherwise.
pub const CREATE_TIMEOUT: Duration = Duration::from_secs(240);
/// The shortest create timeout that a configuration may set.
pub const CREATE_TIMEOUT_FLOOR: Duration = Duration::from_secs(30);
/// Where state lives when nobody says otherwise.
pub const DEFAULT_ROOT: &str = "/run/wharfinger";

/// Who makes the containers' cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    /// Directories below /sys/fs/cgroup.
    Cgroupfs,
    /// Transient scopes, asked from systemd over D-Bus.
    Systemd,
    /// systemd where it runs (/run/systemd/system exists), else cgroupfs.
    #[default]
    Auto,
}

impl CgroupManager {
    /// The manager with `Auto` decided.
    #[must_use]
    pub fn decided(self) -> Self {
        match self {
            Self::Auto if Path::new("/run/systemd/system").is_dir() => Self::Systemd,
            Self::Auto => Self::Cgroupfs,
            other => other,
        }
    }

    /// The name, as in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
            Self::Auto => "auto",
        }
    }
}

impl FromStr for CgroupManager {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cgroupfs" => Ok(Self::Cgroupfs),
            "systemd" => Ok(Self::Systemd),
            "auto" => Ok(Self::Auto),
            other => Err(format!("{other:?} is no cgroup manager: cgroupfs, systemd or auto")),
        }
    }
}

/// What kind of program a handler is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandlerKind {
    /// A program with runc's command line.
    #[default]
    Oci,
    /// A VM runtime that is driven through a containerd shim: not supported, refused by name.
    Vm,
}

impl FromStr for HandlerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" | "" => Ok(Self::Oci),
            "vm" => Ok(Self::Vm),
            other => Err(format!("{other:?} is no handler type: oci or vm")),
        }
    }
}

/// The monitor of a handler's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorConfig {
    /// The program: wharf-monitor or any conmon.
    pub path: PathBuf,
    /// What is added to its environment.
    pub env: Vec<(String, String)>,
    /// The cgroup (cgroupfs: an absolute path) or slice (systemd) below which each monitor gets its own.
    /// None: `/wharfinger-monitor` and `system.slice`.
    pub cgroup: Option<String>,
}

impl MonitorConfig {
    /// The monitor at `path` and nothing special.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), env: Vec::new(), cgroup: None }
    }
}

/// One handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerConfig {
    /// Its name.
    pub name: String,
    /// The program: absolute, or a name that is looked for in PATH.
    pub path: PathBuf,
    /// `--root` for it; None leaves its default.
    pub root: Option<PathBuf>,
    /// Its kind.
    pub kind: HandlerKind,
    /// Global arguments, before the command.
    pub args: Vec<String>,
    /// Its monitor.
    pub monitor: MonitorConfig,
    /// How long a create may take.
    pub create_timeout: Duration,
}

impl HandlerConfig {
    /// An OCI runtime called `name` at `path`, watched by `monitor`.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>, monitor: MonitorConfig) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            root: None,
            kind: HandlerKind::Oci,
            args: Vec::new(),
            monitor,
            create_timeout: CREATE_TIMEOUT,
        }
    }
}

/// Which handler runs what is not trusted; the table is [`model::trust`]'s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustConfig {
    /// The trust in workloads that say nothing else.
    pub level: Trust,
    /// The handler of untrusted workloads; trusted ones get the default handler.
    pub untrusted_handler: Option<String>,
    /// What becomes of an untrusted workload that it cannot serve.
    pub on_downgrade: OnDowngrade,
}

/// All that [`crate::Runtimes`] is told.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// The directory with one directory per container.
    pub root: PathBuf,
    /// The handlers; names are unique.
    pub handlers: Vec<HandlerConfig>,
    /// The handler for who asks for none.
    pub default_handler: String,
    /// Who makes cgroups.
    pub cgroup_manager: CgroupManager,
    /// Which handler runs what is not trusted.
    pub trust: TrustConfig,
    /// The shortest create timeout taken. Tests set less than [`CREATE_TIMEOUT_FLOOR`]; nobody else should.
    pub create_timeout_floor: Duration,
    /// How long a question to a handler (`--version`, `features`) may take.
    pub probe_timeout: Duration,
    /// How long start, pause, resume, kill, update and delete may take in the runtime.
    pub command_timeout: Duration,
}

impl RuntimeConfig {
    /// `handlers`, the first being the default, on the state root `root`, with defaults for the rest.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, handlers: Vec<HandlerConfig>) -> Self {
        Self {
            root: root.into(),
            default_handler: handlers.first().map(|h| h.name.clone()).unwrap_or_default(),
            handlers,
            cgroup_manager: CgroupManager::Auto,
            trust: TrustConfig::default(),
            create_timeout_floor: CREATE_TIMEOUT_FLOOR,
            probe_timeout: Duration::from_secs(10),
            command_timeout: Duration::from_secs(120),
        }
    }

    /// What a machine has: the handlers wharf-oci, runc and crun as far as they are there (beside this
    /// program or in PATH), with wharf-monitor, else conmon, as the monitor. May have no handler at all.
    #[must_use]
    pub fn detect(root: impl Into<PathBuf>) -> Self {
        let monitor = ["wharf-monitor", "conmon"].iter().find_map(|name| find_program(Path::new(name)));
        let monitor = MonitorConfig::new(monitor.unwrap_or_else(|| "wharf-monitor".into()));
        let handlers = ["wharf-oci", "runc", "crun"]
            .iter()
            .filter_map(|name| {
                Some(HandlerConfig::new(*name, find_program(Path::new(name))?, monitor.clone()))
            })
            .collect();
        Self::new(root, handlers)
    }
}

/// Where the program `name` is: itself when it has a slash, else beside this program, else in PATH.
#[must_use]
pub fn find_program(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return Some(name.to_path_buf());
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_path_buf()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .map(|dir| dir.join(name))
        .find(|file| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file())
}

/// Labels or annotations.
pub type Labels = BTreeMap<String, String>;
