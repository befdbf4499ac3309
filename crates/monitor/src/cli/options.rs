//! The table of options.

use super::low::Low;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Flag,
    Text,
    Int32,
    Int64,
}

/// Where a parsed value goes.
pub(super) enum Store {
    Flag(fn(&mut Low)),
    Text(fn(&mut Low, std::ffi::OsString)),
    Int(fn(&mut Low, i64)),
}

pub(super) struct Opt {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    pub(super) kind: Kind,
    pub(super) store: Store,
    /// Empty: not shown by `--help`.
    pub(super) help: &'static str,
}

const fn flag(long: &'static str, store: fn(&mut Low), help: &'static str) -> Opt {
    Opt { long, short: None, kind: Kind::Flag, store: Store::Flag(store), help }
}

const fn text(long: &'static str, store: fn(&mut Low, std::ffi::OsString), help: &'static str) -> Opt {
    Opt { long, short: None, kind: Kind::Text, store: Store::Text(store), help }
}

const fn int(long: &'static str, kind: Kind, store: fn(&mut Low, i64), help: &'static str) -> Opt {
    Opt { long, short: None, kind, store: Store::Int(store), help }
}

impl Opt {
    const fn short(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
}

/// The parser has checked the range of [`Kind::Int32`].
fn i32_of(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

pub(super) static OPTIONS: &[Opt] = &[
    flag("api-version", |l| l.api_version = true, "Speak version 1 of the sync messages"),
    text("bundle", |l, v| l.bundle = Some(v), "The OCI bundle").short('b'),
    text("cid", |l, v| l.cid = Some(v), "The container's id").short('c'),
    text("conmon-pidfile", |l, v| l.conmon_pidfile = Some(v), "Where to write the monitor's pid").short('P'),
    text(
        "container-pidfile",
        |l, v| l.container_pidfile = Some(v),
        "Where the runtime writes the process's pid",
    )
    .short('p'),
    text("pidfile", |l, v| l.container_pidfile = Some(v), ""),
    text("control-socket", |l, v| l.control_socket = Some(v), "Open wharf-monitor's own control socket"),
    text("cuuid", |l, v| l.cuuid = Some(v), "The container's name in the socket directory").short('u'),
    flag("exec", |l| l.exec = true, "Exec a process in a running container").short('e'),
    flag("exec-attach", |l| l.exec_attach = true, "Let a client attach before the exec begins"),
    text("exec-process-spec", |l, v| l.exec_process_spec = Some(v), "The OCI process of the exec"),
    text("exit-command", |l, v| l.exit_command = Some(v), "The program to run at the end"),
    text("exit-command-arg", |l, v| l.exit_command_args.push(v), "An argument of it; may be repeated"),
    int("exit-delay", Kind::Int32, |l, v| l.exit_delay = i32_of(v), "Seconds to wait before it"),
    text("exit-dir", |l, v| l.exit_dir = Some(v), "Where to write exit files"),
    flag("full-attach", |l| l.full_attach = true, "Make the attach socket in the bundle"),
    flag("leave-stdin-open", |l| l.leave_stdin_open = true, "Keep stdin open when an attach client ends"),
    text(
        "log-allowlist-dir",
        |l, v| l.log_allowlist_dirs.push(v),
        "Directories in which logs may be rotated",
    ),
    int("log-global-size-max", Kind::Int64, |l, v| l.log_global_size_max = v, "Bytes of all logs, ever"),
    text("log-label", |l, v| l.log_labels.push(v), "KEY=VALUE for journald logs; may be repeated"),
    text(
        "log-level",
        |l, v| l.log_level = Some(v),
        "How much the monitor says: error, warning, info, debug, trace",
    ),
    int("log-max-files", Kind::Int32, |l, v| l.log_max_files = i32_of(v), "Rotated logs to keep"),
    text(
        "log-path",
        |l, v| l.log_paths.push(v),
        "DRIVER:PATH; k8s-file, journald, none, passthrough; may be repeated",
    )
    .short('l'),
    flag("log-rotate", |l| l.log_rotate = true, "Rotate full logs instead of beginning anew"),
    int("log-size-max", Kind::Int64, |l, v| l.log_size_max = v, "Bytes of one log"),
    text("log-tag", |l, v| l.log_tag = Some(v), "CONTAINER_TAG of journald logs"),
    text("name", |l, v| l.name = Some(v), "The container's name, for journald").short('n'),
    flag(
        "no-container-partial-message",
        |l| l.no_partial_message = true,
        "Leave that field out of journald logs",
    ),
    flag("no-new-keyring", |l| l.no_new_keyring = true, "Passed to the runtime"),
    flag("no-pivot", |l| l.no_pivot = true, "Passed to the runtime"),
    flag("no-sync-log", |l| l.no_sync_log = true, "Do not bring logs to disk at the end"),
    text("persist-dir", |l, v| l.persist_dir = Some(v), "Where to write exit and oom files").short('0'),
    flag("replace-listen-pid", |l| l.replace_listen_pid = true, "Set LISTEN_PID to the runtime's pid"),
    text("restore", |l, v| l.restore = Some(v), "Restore from this checkpoint"),
    text("restore-arg", |l, v| l.runtime_opts.push(v), ""),
    text("runtime", |l, v| l.runtime = Some(v), "The OCI runtime").short('r'),
    text(
        "runtime-arg",
        |l, v| l.runtime_args.push(v),
        "An argument before the runtime's subcommand; may be repeated",
    ),
    text(
        "runtime-opt",
        |l, v| l.runtime_opts.push(v),
        "An argument after the runtime's subcommand; may be repeated",
    ),
    text("sdnotify-socket", |l, v| l.sdnotify_socket = Some(v), "The host's sd_notify socket"),
    text("seccomp-notify-plugins", |_, _| (), ""),
    text("seccomp-notify-socket", |_, _| (), ""),
    text("socket-dir-path", |l, v| l.socket_dir_path = Some(v), "Where attach sockets are found"),
    flag("stdin", |l| l.stdin = true, "Give the container a stdin").short('i'),
    flag("sync", |l| l.sync = true, "Stay the caller's child"),
    flag("syslog", |l| l.syslog = true, "Talk to syslog as well"),
    flag("systemd-cgroup", |l| l.systemd_cgroup = true, "Passed to the runtime").short('s'),
    flag("terminal", |l| l.terminal = true, "Give the container a terminal").short('t'),
    int("timeout", Kind::Int32, |l, v| l.timeout = i32_of(v), "Seconds after which the container is killed")
        .short('T'),
    flag("version", |l| l.version = true, "Say which version this is"),
    flag("help", |l| l.help = true, "").short('h'),
];
