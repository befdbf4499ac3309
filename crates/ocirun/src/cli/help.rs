//! What `--help` shows.

use std::fmt::Write as _;

/// For the program.
pub(super) const PROGRAM: &str = "\
wharf-oci: an OCI runtime

usage: wharf-oci [GLOBAL OPTIONS] COMMAND [OPTIONS] [ARGUMENTS]

commands: create start run exec state kill delete list ps pause resume update events checkpoint restore spec features

global options:
  --root DIR            where state is kept (default /run/wharf-oci)
  --log FILE            write errors to FILE too
  --log-format FORMAT   text or json
  --systemd-cgroup      let systemd make the cgroups
  --debug               tell more
  --rootless VALUE      true, false or auto: whether cgroups are made without root
  --criu PATH           the program for checkpoint and restore (default criu)
  --version
  --help                also after a command
";

/// A command: its name, its arguments, what it does, and its options, those that belong together on a line.
type Command = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CREATE: &str = "-b --bundle DIR, --console-socket PATH, --pidfd-socket PATH, --pid-file FILE";
const CREATE_MORE: &str = "--no-pivot, --no-new-keyring, --preserve-fds N";
const CRIU: &str = "--image-path DIR, --work-path DIR, --manage-cgroups-mode soft|full|strict|ignore";
const CRIU_MORE: &str =
    "--tcp-established, --tcp-close, --ext-unix-sk, --shell-job, --file-locks, --auto-dedup";
const CRIU_REST: &str = "--empty-ns network, --network-lock METHOD, --lazy-pages";

const COMMANDS: [Command; 17] = [
    ("create", "ID", "makes a container, whose init waits for its start", &[CREATE, CREATE_MORE]),
    ("start", "ID", "lets the program of a created container run", &[]),
    (
        "run",
        "ID",
        "creates and starts a container, waits for its end, and deletes it",
        &[CREATE, CREATE_MORE, "-d --detach, --keep, --no-subreaper"],
    ),
    (
        "exec",
        "ID PROGRAM [ARGUMENT…]",
        "runs a further process in a container",
        &[
            "-p --process FILE, -d --detach, -t --tty, --pid-file FILE, --console-socket PATH, --pidfd-socket PATH",
            "--cwd DIR, -e --env NAME=VALUE, -u --user UID[:GID], -g --additional-gids GID, -c --cap NAME",
            "--no-new-privs, --apparmor PROFILE, --process-label LABEL, --preserve-fds N",
            "--cgroup [CONTROLLER,…:]PATH, --ignore-paused",
        ],
    ),
    ("state", "ID", "shows the state of a container as JSON", &[]),
    (
        "kill",
        "ID [SIGNAL]",
        "sends TERM or SIGNAL to a container's init; 0 only asks whether it runs",
        &["-a --all"],
    ),
    ("delete", "ID", "removes a container", &["-f --force"]),
    ("list", "", "shows all containers", &["-f --format table|json, -q --quiet"]),
    ("ps", "ID [OPTION OF PS…]", "shows the processes of a container", &["-f --format table|json"]),
    ("pause", "ID", "freezes the processes of a container", &[]),
    ("resume", "ID", "thaws them", &[]),
    (
        "update",
        "ID",
        "changes the limits of a container",
        &[
            "-r --resources FILE|-, --memory SIZE, --memory-reservation SIZE, --memory-swap SIZE, --pids-limit N",
            "--cpu-shares N, --cpu-quota N, --cpu-period N, --cpuset-cpus LIST, --cpuset-mems LIST, --blkio-weight N",
        ],
    ),
    ("events", "ID", "shows usage, and want of memory, as lines of JSON", &["--stats, --interval DURATION"]),
    (
        "checkpoint",
        "ID",
        "saves the processes of a container by criu",
        &[
            CRIU,
            CRIU_MORE,
            CRIU_REST,
            "--leave-running, --tcp-skip-in-flight, --link-remap, --status-fd FD",
            "--pre-dump, --parent-path DIR, --page-server ADDRESS:PORT",
        ],
    ),
    (
        "restore",
        "ID",
        "makes a container that goes on where it was saved",
        &[
            CRIU,
            CRIU_MORE,
            CRIU_REST,
            "--lsm-profile TYPE:NAME, --lsm-mount-context CONTEXT",
            "-b --bundle DIR, -d --detach, --pid-file FILE, --no-subreaper, --no-pivot, --console-socket PATH",
        ],
    ),
    ("spec", "", "writes a config.json to begin with", &["-b --bundle DIR, --rootless"]),
    ("features", "", "shows what this runtime and this kernel can do as JSON", &[]),
];

/// For one command; none where there is no such command.
pub(super) fn of(command: &str) -> Option<String> {
    let (name, arguments, does, options) = COMMANDS.iter().find(|(name, ..)| *name == command)?;
    let head = format!("wharf-oci {name} [OPTIONS] {arguments}");
    let mut text = format!("{}\n\n{name}: {does}\n", head.trim_end());
    if !options.is_empty() {
        text.push_str("\noptions:\n");
    }
    for line in *options {
        // Into a string nothing is refused.
        let _ = writeln!(text, "  {line}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_command_has_its_help() {
        let line = super::PROGRAM.lines().find_map(|line| line.strip_prefix("commands: ")).unwrap();
        for name in line.split(' ') {
            let text = super::of(name).unwrap();
            assert!(text.starts_with(&format!("wharf-oci {name} [OPTIONS]")), "{text}");
        }
        assert_eq!(line.split(' ').count(), super::COMMANDS.len());
        assert_eq!(super::of("frob"), None);
    }
}
