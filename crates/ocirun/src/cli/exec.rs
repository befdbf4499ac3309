//! `exec`.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use lexopt::prelude::*;
use model::oci::{LinuxCapabilities, Process, Spec};
use sys::pidfd::PidFd;
use sys::spawn::{self, SingleThread};
use sys::{Ctx as _, durable};

use super::descriptors::{self, Sockets};
use super::foreground::{Relay, Terminal};
use super::{container_id, log, switch, text, text_of, usage};
use crate::create::{Context, send_pidfd, write_pid_file};
use crate::error::{Error, Result};
use crate::exec::{Streams, Target, inherit};
use crate::process::ProcessPlan;
use crate::record::{Dir, MAX_DOCUMENT, Record, Status};
use crate::seccomp::Cache;
use crate::start::notify;

/// What the command line asks for.
#[derive(Debug, Default)]
pub(super) struct Options {
    sockets: Sockets,
    pid_file: Option<PathBuf>,
    process: Option<PathBuf>,
    detach: bool,
    terminal: bool,
    cwd: Option<String>,
    env: Vec<String>,
    user: Option<(u32, Option<u32>)>,
    groups: Vec<u32>,
    label: Option<String>,
    apparmor: Option<String>,
    no_new_privileges: bool,
    capabilities: Vec<String>,
    kept: u32,
    cgroups: Vec<String>,
    ignore_paused: bool,
    id: String,
    args: Vec<String>,
}

/// Reads the command line.
pub(super) fn parse(parser: &mut lexopt::Parser) -> Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("console-socket") => options.sockets.console = Some(descriptors::path(parser)?),
            Long("pidfd-socket") => options.sockets.pidfd = Some(descriptors::path(parser)?),
            Long("pid-file") => options.pid_file = Some(parser.value().map_err(usage)?.into()),
            Short('p') | Long("process") => options.process = Some(parser.value().map_err(usage)?.into()),
            Short('d') | Long("detach") => options.detach = switch(parser)?,
            Short('t') | Long("tty") => options.terminal = switch(parser)?,
            Long("cwd") => options.cwd = Some(text_of(parser)?),
            Short('e') | Long("env") => options.env.push(text_of(parser)?),
            Short('u') | Long("user") => options.user = Some(user(&text_of(parser)?)?),
            Short('g') | Long("additional-gids") => {
                options.groups.push(number(&text_of(parser)?, "--additional-gids")?);
            }
            Long("process-label") => options.label = Some(text_of(parser)?),
            Long("apparmor") => options.apparmor = Some(text_of(parser)?),
            Long("no-new-privs") => options.no_new_privileges = switch(parser)?,
            Short('c') | Long("cap") => options.capabilities.push(text_of(parser)?),
            Long("preserve-fds") => options.kept = descriptors::preserved(parser)?,
            Long("cgroup") => options.cgroups.push(text_of(parser)?),
            Long("ignore-paused") => options.ignore_paused = switch(parser)?,
            Long("no-subreaper") => drop(switch(parser)?),
            Value(id) => {
                options.id = container_id(id)?;
                for arg in parser.raw_args().map_err(usage)? {
                    options.args.push(text(arg)?);
                }
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    if options.id.is_empty() {
        return Err(Error::Usage("exec in container: no container id was given".to_owned()));
    }
    // "--" before the program's name is only for whoever reads it.
    if options.args.first().is_some_and(|arg| arg == "--") {
        options.args.remove(0);
    }
    if options.process.is_none() && options.args.is_empty() {
        return Err(Error::Usage(format!("exec in container {}: no program was given", options.id)));
    }
    Ok(options)
}

fn number(text: &str, option: &str) -> Result<u32> {
    text.parse().map_err(|_| Error::Usage(format!("parse command line: {option} {text:?} is no number")))
}

fn user(text: &str) -> Result<(u32, Option<u32>)> {
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid, "--user")?, Some(number(gid, "--user")?))),
        None => Ok((number(text, "--user")?, None)),
    }
}

/// For the harness: arguments without end or sense.
pub(crate) fn look_at(args: Vec<OsString>) {
    let Ok(mut options) = parse(&mut lexopt::Parser::from_args(args)) else { return };
    assert!(!options.id.is_empty() && (options.process.is_some() || !options.args.is_empty()));
    options.process = None;
    let (user, rights) = (options.user, !options.capabilities.is_empty());
    let mut config = Spec::default();
    config.process.get_or_insert_default().user.uid = 1000;
    let Ok(process) = process(&mut options, &config) else { return };
    // Whoever is not named runs as the container's user, and with no more rights than it.
    assert_eq!(process.user.uid, user.map_or(1000, |(uid, _)| uid), "the user");
    assert_eq!(process.capabilities.is_some(), rights, "the capabilities");
    if let Ok(plan) = ProcessPlan::new(&process, &mut Vec::new()) {
        assert_eq!(plan.uid, process.user.uid, "the user of the plan");
    }
}

/// Runs a process in a container; gives its exit status, or 0 if it is left running.
pub(super) fn run(context: &Context, mut options: Options, log: &log::Log) -> Result<u8> {
    descriptors::check(options.kept)?;
    let (console, pidfd_socket) = std::mem::take(&mut options.sockets).connect()?;
    let proof = SingleThread::check()?;
    let dir = Dir::of(&context.root, &options.id)?;
    let record = dir.read()?;
    let (status, init) = record.status(&dir)?;
    let wrong = |cause: &str| Error::State { op: "exec in", id: record.id.clone(), cause: cause.to_owned() };
    let init = match (status, init) {
        (Status::Paused, _) if !options.ignore_paused => {
            return Err(wrong("cannot exec in a paused container (use --ignore-paused to override)"));
        }
        (_, Some(init)) => init,
        (_, None) => return Err(wrong("cannot exec in a stopped container")),
    };
    let config = dir.config()?;
    let mut process = process(&mut options, &config)?;
    inherit(&mut process, &config);
    let mut warnings = Vec::new();
    let plan = ProcessPlan::new(&process, &mut warnings)?;
    warnings.iter().for_each(|warning| log.warning(warning));
    let mut terminal = None;
    let console = match (plan.terminal.is_some(), console, options.detach) {
        (true, Some(console), _) => Some(console),
        (true, None, true) => {
            return Err(Error::Usage(
                "exec terminal: cannot allocate tty without setting a console socket".to_owned(),
            ));
        }
        (true, None, false) => {
            let (console, own) = Terminal::new()?;
            terminal = Some(own);
            Some(console)
        }
        (false, Some(_), _) => {
            return Err(Error::Usage(
                "exec terminal: a console socket is of no use without a terminal".to_owned(),
            ));
        }
        (false, None, _) => None,
    };
    let cache = Cache::new(&context.root.join(".seccomp"));
    let directories = directories(&record, &options.cgroups)?;
    let one_way = join_unprivileged(&init)?;
    let mut target = Target::prepare(&record.id, init, &config, &directories, Some(&cache))?;
    if one_way {
        target = target.joined();
    }
    if config.linux.as_ref().is_none_or(|linux| linux.namespaces.is_empty()) {
        target = target.without_keyring();
    }
    let profile = config.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
    let relay = if options.detach { None } else { Some(Relay::new()?) };
    let streams = Streams { console, kept: options.kept, ..Streams::default() };
    let process =
        target.spawn(proof, &plan, streams, |fd, pid| notify(&fd, &record, profile, pid, "running"))?;
    send_pidfd(pidfd_socket, &process, "setns")?;
    if let Some(path) = &options.pid_file {
        write_pid_file(path, process.pid())?;
    }
    match relay {
        None => Ok(0),
        Some(relay) => relay.wait(&process, terminal, None),
    }
}

/// Who is not root may join a container's namespaces only as root of its user namespace, which there is no way back from.
/// This process needs none: it starts one process, and waits for it.
fn join_unprivileged(init: &PidFd) -> Result<bool> {
    let of = |pid: &str, kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        rustix::fs::stat(&path).map(|stat| stat.st_ino).ctx("stat", path)
    };
    let pid = init.pid().to_string();
    if rustix::process::geteuid().is_root() || of("self", "user")? == of(&pid, "user")? {
        return Ok(false);
    }
    let own_pids = of("self", "pid")? != of(&pid, "pid")?;
    spawn::setns(init.as_fd(), libc::CLONE_NEWUSER).ctx("join", "user namespace")?;
    if own_pids {
        spawn::setns(init.as_fd(), libc::CLONE_NEWPID).ctx("join", "pid namespace")?;
    }
    Ok(own_pids)
}

/// The process that the command line and the configuration ask for.
fn process(options: &mut Options, config: &Spec) -> Result<Process> {
    if let Some(path) = &options.process {
        let bytes = durable::read_bounded(path, MAX_DOCUMENT)?;
        let parsed = serde_json::from_slice(&bytes);
        return Ok(parsed.map_err(|error| sys::Error::other("parse", path, error.to_string()))?);
    }
    let mut process = config.process.clone().unwrap_or_default();
    process.args = std::mem::take(&mut options.args);
    process.terminal = options.terminal;
    if let Some(cwd) = options.cwd.take() {
        process.cwd = cwd;
    }
    if let Some(label) = options.label.take() {
        process.selinux_label = Some(label);
    }
    if let Some(profile) = options.apparmor.take() {
        process.apparmor_profile = Some(profile);
    }
    process.no_new_privileges |= options.no_new_privileges;
    if !options.capabilities.is_empty() {
        let sets = process.capabilities.get_or_insert_with(LinuxCapabilities::default);
        for name in &options.capabilities {
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted, &mut sets.ambient] {
                set.push(name.clone());
            }
        }
    }
    process.env.append(&mut options.env);
    if let Some((uid, gid)) = options.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.append(&mut options.groups);
    Ok(process)
}

/// The cgroup's directories with what `--cgroup` asks for: `PATH`, or `CONTROLLER[,CONTROLLER…]:PATH`.
fn directories(record: &Record, wanted: &[String]) -> Result<Vec<PathBuf>> {
    let Some(cgroup) = &record.cgroup else { return Ok(Vec::new()) };
    let mut paths = cgroup.paths.clone();
    for entry in wanted {
        let (controllers, below) = match entry.split_once(':') {
            Some((controllers, path)) => (Some(controllers.split(',').collect::<Vec<_>>()), path),
            None => (None, entry.as_str()),
        };
        let bad = |cause: &str| Error::Usage(format!("exec --cgroup {entry}: {cause}"));
        let below = below.trim_matches('/');
        if below.split('/').any(|part| matches!(part, ".." | ".")) {
            return Err(bad("it leads out of the container's cgroup"));
        }
        let names: Vec<String> = paths.keys().cloned().collect();
        let chosen = match &controllers {
            None => names,
            Some(chosen) => {
                let known =
                    |name: &&str| names.iter().any(|known| known == name || known == &format!("name={name}"));
                if let Some(unknown) = chosen.iter().find(|name| !known(name)) {
                    return Err(bad(&format!("the container has no cgroup of controller {unknown:?}")));
                }
                names
                    .into_iter()
                    .filter(|name| chosen.iter().any(|c| name == c || *name == format!("name={c}")))
                    .collect()
            }
        };
        for name in chosen {
            if let Some(path) = paths.get_mut(&name)
                && !below.is_empty()
            {
                // Hierarchies that share a mount share the path: made once.
                path.push(below);
                make(path)?;
            }
        }
    }
    Ok(paths.into_values().collect())
}

/// Makes a cgroup below the container's; a new cpuset has nothing in it and takes no process, so it gets its parent's.
fn make(path: &std::path::Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        result => result.ctx("make cgroup", path)?,
    }
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = path.join(file);
        let Ok(text) = std::fs::read_to_string(&own) else { continue };
        if path.join("tasks").exists()
            && text.trim().is_empty()
            && let Some(parent) = path.parent()
        {
            let value = std::fs::read_to_string(parent.join(file)).ctx("read", parent.join(file))?;
            std::fs::write(&own, value.trim()).ctx("write", own)?;
        }
    }
    Ok(())
}
