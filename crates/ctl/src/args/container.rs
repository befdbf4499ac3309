//! The flags of a new container: those that people know from podman.
#![allow(rustdoc::broken_intra_doc_links, reason = "the text of --help, with brackets as a usage has them")]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint};

use super::{duration, size};

/// What `run` and `create` take.
#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    /// Its id; without it 64 random hex digits
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Its name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The runtime handler
    #[arg(long, env = "WHARF_HANDLER")]
    pub(crate) handler: Option<String>,
    /// Trust in what runs in it: chooses among trusted and untrusted handlers
    #[arg(long, value_enum)]
    pub(crate) trust: Option<TrustArg>,
    /// An OCI bundle: a directory with config.json
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["rootfs", "args"])]
    pub(crate) bundle: Option<PathBuf>,
    /// A root file system; the program and its arguments follow
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, required_unless_present = "bundle")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Keep standard input open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Where its output goes; `none` keeps none
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,
    /// Begin the log anew at this size
    #[arg(long, value_parser = size, value_name = "BYTES")]
    pub(crate) log_size_max: Option<u64>,
    /// A label, NAME=value
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) label: Vec<String>,
    /// The parent of its cgroup (with systemd a slice)
    #[arg(long, value_name = "CGROUP")]
    pub(crate) cgroup_parent: Option<String>,
    /// How long the create may take
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    /// The signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<model::signal::Signal>,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

/// What the program sees: for `--rootfs`.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --rootfs")]
pub(crate) struct ProcessArgs {
    /// Set a variable, NAME=value or NAME for ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User and group by number
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Host name
    #[arg(long)]
    pub(crate) hostname: Option<String>,
    /// Add a capability; ALL for all
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_add: Vec<String>,
    /// Drop a capability; ALL for all
    #[arg(long, value_name = "CAP")]
    pub(crate) cap_drop: Vec<String>,
    /// type=bind|tmpfs|proc,src=PATH,dst=PATH[,ro]
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<String>,
    /// SRC:DST[:ro]
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<String>,
    /// The root file system can't be written
    #[arg(long)]
    pub(crate) read_only: bool,
    /// The host's network, or none but a loopback device
    #[arg(long, value_enum, default_value = "none")]
    pub(crate) net: NetArg,
    /// All capabilities, all devices, nothing masked, no seccomp
    #[arg(long)]
    pub(crate) privileged: bool,
    /// No seccomp filter
    #[arg(long)]
    pub(crate) no_seccomp: bool,
}

/// Limits of a new container, and of `update`.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Memory (64m, 1.5g)
    #[arg(short, long, value_parser = size, value_name = "BYTES")]
    pub(crate) memory: Option<u64>,
    /// Memory and swap together
    #[arg(long, value_parser = size, value_name = "BYTES")]
    pub(crate) memory_swap: Option<u64>,
    /// Processors (0.5, 2)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<f64>,
    /// Share of processor time among neighbours, 2 to 262144
    #[arg(long, value_name = "SHARES")]
    pub(crate) cpu_shares: Option<u64>,
    /// Processors that it may use (0-3,7)
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Processes; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
}

/// `--trust`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrustArg {
    /// Its author is trusted
    Trusted,
    /// Nobody answers for it
    Untrusted,
}

/// `--net`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NetArg {
    /// The host's
    Host,
    /// A loopback device only
    None,
}
