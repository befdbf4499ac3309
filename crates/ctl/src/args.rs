//! What the user typed. What it means is worked out in `commands`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

mod container;

pub(crate) use container::{ContainerArgs, LimitArgs, NetArg, TrustArg};

/// Take containers in charge: create them, watch them, keep their output, stop them, and never lose one.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, disable_help_subcommand = true, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "Exit status: 0 done; 1 another error; 2 wrong usage; 3 no such container; 4 the container is in the wrong \
state; 5 the name or id is in use; 6 a handler, monitor or runtime failed. `run`, `exec` and `wait` give the \
program's own status: 128+N when a signal N ended it, 125 when we failed, 126 when it can't be \
executed, 127 when it was not found.";

/// Before the command.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// State root: one directory per container
    #[arg(long, global = true, env = "WHARF_ROOT", value_hint = ValueHint::DirPath)]
    pub(crate) root: Option<PathBuf>,
    /// Configuration file in CRI-O's schema
    #[arg(long, global = true, env = "WHARF_CONFIG", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,
    /// Who makes the cgroups of new containers
    #[arg(long, global = true, value_enum)]
    pub(crate) cgroup_manager: Option<ManagerArg>,
    /// The monitor's program, wharf-monitor or conmon
    #[arg(long, global = true, env = "WHARF_MONITOR", value_hint = ValueHint::ExecutablePath)]
    pub(crate) monitor: Option<PathBuf>,
    /// What is told on stderr: error, warn, info, debug or trace
    #[arg(long, global = true, default_value = "warn")]
    pub(crate) log_level: tracing::Level,
}

/// `--cgroup-manager`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManagerArg {
    /// By mkdir
    Cgroupfs,
    /// By D-Bus
    Systemd,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create and start a container; its exit status is ours
    Run(RunArgs),
    /// Create a container: its init waits for `start`
    Create(CreateArgs),
    /// Start created containers
    Start(StartArgs),
    /// Run a program in a running container
    Exec(ExecArgs),
    /// Join a container's input and output
    Attach(AttachArgs),
    /// Show what a container wrote
    Logs(LogsArgs),
    /// Change a container's limits
    Update(UpdateArgs),
    /// Freeze containers
    Pause(Targets),
    /// Thaw containers
    Resume(Targets),
    /// Stop containers: the stop signal, then the kill
    Stop(StopArgs),
    /// Send a signal to containers
    Kill(KillArgs),
    /// Remove containers
    Rm(RmArgs),
    /// Wait until containers are over, and print their exit statuses
    Wait(Targets),
    /// Wait for the end of containers and remove them (what `run --detach --rm` leaves behind)
    #[command(hide = true)]
    RmWhenOver(Targets),
    /// List containers
    Ps(PsArgs),
    /// List the processes of a container
    Top(TopArgs),
    /// Show all that is known of containers, as JSON
    Inspect(Targets),
    /// Show what containers use
    Stats(StatsArgs),
    /// Show what happened to containers, and what happens
    Events(EventsArgs),
    /// Write a container's memory and state to a directory (needs criu)
    Checkpoint(CheckpointArgs),
    /// List the runtime handlers and what is wrong with them
    Handlers(HandlersArgs),
    /// Check what this machine has and lacks for containers
    Check(JsonArg),
    /// Set right what killed processes and reboots left behind
    Recover(JsonArg),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// The directory
        directory: PathBuf,
    },
}

/// Containers by id, name or the beginning of an id.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// Ids, names, or unique beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `--json`.
#[derive(Debug, Args)]
pub(crate) struct JsonArg {
    /// JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Leave it to itself and print its id
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Remove it when it is over
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keys that leave an attached terminal and let the container go on
    #[arg(long, default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
}

/// `create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
}

/// `start`.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Join its output, and give its exit status
    #[arg(short, long)]
    pub(crate) attach: bool,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// `exec`.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Leave it to itself
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Give it our standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Set a variable, NAME=value or NAME for ours
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User and group, by number or by the container's own names
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Kill the program and all it started after this time
    #[arg(long, value_parser = duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    /// The container
    pub(crate) container: String,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

/// `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Do not give it our standard input
    #[arg(long)]
    pub(crate) no_stdin: bool,
    /// Keys that leave it
    #[arg(long, default_value = "ctrl-p,ctrl-q")]
    pub(crate) detach_keys: String,
    /// The container
    pub(crate) container: String,
}

/// `logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Go on until the container is over
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only lines since: a time (RFC 3339) or how long ago (10m)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) tail: Option<usize>,
    /// The time before each line
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// The container
    pub(crate) container: String,
}

/// `update`.
#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// OCI LinuxResources as JSON, from a file or - for standard input
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) resources: Option<PathBuf>,
    /// The container
    pub(crate) container: String,
}

/// `stop`.
#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Time between the signal and the kill
    #[arg(short, long, value_parser = duration, default_value = "10s", value_name = "TIME")]
    pub(crate) time: Duration,
    /// Another signal than the container's stop signal
    #[arg(short, long)]
    pub(crate) signal: Option<model::signal::Signal>,
    /// All containers
    #[arg(short, long, conflicts_with = "containers")]
    pub(crate) all: bool,
    /// Ids, names, or unique beginnings of ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: model::signal::Signal,
    #[command(flatten)]
    pub(crate) targets: Targets,
}

/// `rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Kill it first where it is not over; nothing to do where there is none
    #[arg(short, long)]
    pub(crate) force: bool,
    /// All containers
    #[arg(short, long, conflicts_with = "containers")]
    pub(crate) all: bool,
    /// Ids, names, or unique beginnings of ids
    #[arg(required_unless_present = "all", value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `ps`.
#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Also those that are over
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Ids only
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// JSON for programs
    #[arg(long, conflicts_with = "quiet")]
    pub(crate) json: bool,
}

/// `top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// The container
    pub(crate) container: String,
}

/// `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Again every second until interrupted
    #[arg(long)]
    pub(crate) stream: bool,
    /// JSON for programs, an object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Ids, names, or unique beginnings of ids; none: all that run
    #[arg(value_name = "CONTAINER")]
    pub(crate) containers: Vec<String>,
}

/// `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// From a time (RFC 3339), or how long ago (10m); without it, only what happens from now on
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// What is recorded, since --since or the beginning, and no waiting for more
    #[arg(long)]
    pub(crate) no_follow: bool,
    /// JSON for programs, an object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `checkpoint`.
#[derive(Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Let the container go on
    #[arg(long)]
    pub(crate) leave_running: bool,
    /// The container
    pub(crate) container: String,
    /// Where to
    pub(crate) directory: PathBuf,
}

/// `handlers`.
#[derive(Debug, Args)]
pub(crate) struct HandlersArgs {
    /// JSON for programs
    #[arg(long)]
    pub(crate) json: bool,
    /// Also ask each for its features
    #[arg(long)]
    pub(crate) features: bool,
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    // podman and docker take bare seconds.
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    model::quantity::parse_duration(text).map_err(|e| e.to_string())
}

pub(crate) fn size(text: &str) -> Result<u64, String> {
    model::quantity::parse_size(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests;
