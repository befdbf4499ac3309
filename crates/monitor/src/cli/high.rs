//! What the options mean.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::{Command, Low};
use crate::message::Level;
use crate::{Error, logs};

/// Where conmon looks for the socket directory.
const SOCKET_DIR: &str = "/var/run/crio";

/// The version of the sync messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// CRI-O's: keys `pid` and `exit_code`.
    V0,
    /// podman's: key `data`.
    V1,
}

/// Whom to stand beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// A new container.
    Create,
    /// A container from the checkpoint in this directory.
    Restore(OsString),
    /// A process in a container.
    Exec {
        /// The file with the OCI process.
        spec: OsString,
        /// A client attaches before it begins.
        attach: bool,
    },
}

/// The program to run at the very end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitCommand {
    /// Its path.
    pub program: OsString,
    /// Its arguments, without the name.
    pub args: Vec<OsString>,
    /// How long to wait before it.
    pub delay: Duration,
}

/// The valid command line.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Args {
    /// Version of the sync messages.
    pub api: Api,
    /// Whom to stand beside.
    pub mode: Mode,
    /// The bundle; none for an exec without `-b`.
    pub bundle: Option<PathBuf>,
    /// The container's id.
    pub cid: String,
    /// The name in the socket directory.
    pub cuuid: Option<String>,
    /// The runtime.
    pub runtime: PathBuf,
    /// Its arguments before the subcommand.
    pub runtime_args: Vec<OsString>,
    /// Its arguments after the subcommand's own.
    pub runtime_opts: Vec<OsString>,
    /// The runtime writes the pid of the container's process there.
    pub container_pidfile: PathBuf,
    /// The monitor's own pid goes there.
    pub conmon_pidfile: Option<PathBuf>,
    /// Passed to the runtime.
    pub systemd_cgroup: bool,
    /// Passed to the runtime.
    pub no_pivot: bool,
    /// Passed to the runtime.
    pub no_new_keyring: bool,
    /// With a terminal.
    pub terminal: bool,
    /// With a stdin.
    pub stdin: bool,
    /// stdin stays open when an attach client ends.
    pub leave_stdin_open: bool,
    /// The logs.
    pub logs: logs::Options,
    /// What of the monitor's own messages is shown.
    pub level: Level,
    /// And whether syslog gets them too.
    pub syslog: bool,
    /// Exit files go there.
    pub exit_dir: Option<PathBuf>,
    /// `exit` and `oom` go there.
    pub persist_dir: Option<PathBuf>,
    /// Run at the very end.
    pub exit_command: Option<ExitCommand>,
    /// The container is killed after it.
    pub timeout: Option<Duration>,
    /// Where attach sockets are found without `full_attach`.
    pub socket_dir: PathBuf,
    /// The attach socket is in the bundle itself.
    pub full_attach: bool,
    /// The host's sd_notify socket.
    pub sdnotify_socket: Option<PathBuf>,
    /// LISTEN_PID shall be the runtime's pid.
    pub replace_listen_pid: bool,
    /// No fork: stay the caller's child.
    pub sync: bool,
    /// Our own control socket.
    pub control_socket: Option<PathBuf>,
}

impl Args {
    /// Whether this is an exec.
    #[must_use]
    pub fn is_exec(&self) -> bool {
        matches!(self.mode, Mode::Exec { .. })
    }

    /// Whether a client attaches before the exec begins.
    #[must_use]
    pub fn exec_attach(&self) -> bool {
        matches!(self.mode, Mode::Exec { attach: true, .. })
    }
}

/// The surroundings that the checks look at.
#[derive(Debug)]
pub struct Around {
    /// The current directory.
    pub cwd: PathBuf,
    /// Whether `_OCI_ATTACHPIPE` is set.
    pub attach_pipe: bool,
}

/// Makes sense of `low`, checking in conmon's order; what logs have to say comes last, when they are opened.
///
/// # Errors
/// [`Error::Usage`] with conmon's text.
pub fn command(low: Low, around: &Around) -> Result<Command, Error> {
    if low.help {
        return Ok(Command::Help);
    }
    if low.version {
        return Ok(Command::Version);
    }
    let usage = |text: &str| Err(Error::Usage(text.to_owned()));
    let max_files = match u32::try_from(low.log_max_files) {
        Err(_) => return usage("log-max-files must be non-negative"),
        Ok(0) if low.log_rotate => {
            return usage("log-max-files must be at least 1 when log-rotate is enabled");
        }
        Ok(max_files) => max_files,
    };
    let cid = match low.cid {
        Some(cid) => text("cid", cid)?,
        None => return usage("Container ID not provided. Use --cid"),
    };
    if cid.is_empty() || cid == "." || cid == ".." || cid.contains('/') {
        return Err(Error::Usage(format!("Container ID {cid:?} is not valid")));
    }
    let level = Level::parse(&low.log_level.unwrap_or_default().to_string_lossy()).map_err(Error::Usage)?;
    if low.exec && low.restore.is_some() {
        return usage("Cannot use 'exec' and 'restore' at the same time");
    }
    if low.exec_attach && !low.exec {
        return usage("Attach can only be specified with exec");
    }
    if low.exec_attach && !low.api_version {
        return usage("Attach can only be specified for a non-legacy exec session");
    }
    if low.exec_attach && !around.attach_pipe {
        return usage("--attach specified but _OCI_ATTACHPIPE was not");
    }
    let cuuid = low.cuuid.map(|cuuid| text("cuuid", cuuid)).transpose()?;
    if cuuid.is_none() && (!low.exec || low.api_version) {
        return usage("Container UUID not provided. Use --cuuid");
    }
    let Some(runtime) = low.runtime.map(PathBuf::from) else {
        return usage("Runtime path not provided. Use --runtime");
    };
    if rustix::fs::access(&runtime, rustix::fs::Access::EXEC_OK).is_err() {
        return Err(Error::Usage(format!("Runtime path {} is not valid", runtime.display())));
    }
    let mode = match (low.exec, low.exec_process_spec, low.restore) {
        (true, None, _) => return usage("Exec process spec path not provided. Use --exec-process-spec"),
        (true, Some(spec), _) => Mode::Exec { spec, attach: low.exec_attach },
        (false, _, Some(checkpoint)) => Mode::Restore(checkpoint),
        (false, _, None) => Mode::Create,
    };
    let Ok(delay) = u64::try_from(low.exit_delay) else {
        return usage("Delay before invoking exit command must be greater than or equal to 0");
    };
    let logs = logs::Options {
        paths: low.log_paths.into_iter().map(|path| text("log-path", path)).collect::<Result<_, _>>()?,
        cid: cid.clone(),
        name: low.name.map(|name| text("name", name)).transpose()?,
        size_max: u64::try_from(low.log_size_max).ok().filter(|&max| max > 0),
        global_size_max: u64::try_from(low.log_global_size_max).ok().filter(|&max| max > 0),
        tag: low.log_tag.map(|tag| text("log-tag", tag)).transpose()?,
        labels: low.log_labels.into_iter().map(|label| text("log-label", label)).collect::<Result<_, _>>()?,
        no_partial_message: low.no_partial_message,
        rotate: low.log_rotate,
        max_files,
        allowlist: low.log_allowlist_dirs.into_iter().map(PathBuf::from).collect(),
        no_sync: low.no_sync_log,
    };
    Ok(Command::Run(Box::new(Args {
        api: if low.api_version { Api::V1 } else { Api::V0 },
        bundle: match (low.bundle, low.exec) {
            (Some(bundle), _) => Some(bundle.into()),
            (None, true) => None,
            (None, false) => Some(around.cwd.clone()),
        },
        mode,
        cuuid,
        runtime,
        runtime_args: low.runtime_args,
        runtime_opts: low.runtime_opts,
        container_pidfile: low
            .container_pidfile
            .map_or_else(|| around.cwd.join(format!("pidfile-{cid}")), PathBuf::from),
        cid,
        conmon_pidfile: low.conmon_pidfile.map(PathBuf::from),
        systemd_cgroup: low.systemd_cgroup,
        no_pivot: low.no_pivot,
        no_new_keyring: low.no_new_keyring,
        terminal: low.terminal,
        stdin: low.stdin,
        leave_stdin_open: low.leave_stdin_open,
        logs,
        level,
        syslog: low.syslog,
        exit_dir: low.exit_dir.map(PathBuf::from),
        persist_dir: low.persist_dir.map(PathBuf::from),
        exit_command: low.exit_command.map(|program| ExitCommand {
            program,
            args: low.exit_command_args,
            delay: Duration::from_secs(delay),
        }),
        timeout: u64::try_from(low.timeout).ok().filter(|&s| s > 0).map(Duration::from_secs),
        socket_dir: low.socket_dir_path.map_or_else(|| SOCKET_DIR.into(), PathBuf::from),
        full_attach: low.full_attach,
        sdnotify_socket: low.sdnotify_socket.map(PathBuf::from),
        replace_listen_pid: low.replace_listen_pid,
        sync: low.sync,
        control_socket: low.control_socket.map(PathBuf::from),
    })))
}

fn text(option: &str, value: OsString) -> Result<String, Error> {
    value
        .into_string()
        .map_err(|value| Error::Usage(format!("--{option} {} is not UTF-8", value.to_string_lossy())))
}
