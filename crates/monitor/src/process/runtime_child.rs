//! The runtime as our child (contract §5): its command line and its start.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use sys::solo::Launch;

use crate::cli::{Args, Mode};

/// The runtime's whole command line for what `args` ask for.
#[must_use]
pub fn command_line(args: &Args, console_socket: Option<&Path>) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec![args.runtime.clone().into()];
    if args.systemd_cgroup && !args.is_exec() {
        line.push("--systemd-cgroup".into());
    }
    line.extend(args.runtime_args.iter().cloned());
    match &args.mode {
        Mode::Exec { spec, .. } => {
            line.extend(["exec".into(), "--pid-file".into(), args.container_pidfile.clone().into()]);
            line.extend(["--process".into(), spec.clone(), "--detach".into()]);
        }
        Mode::Create => {
            line.push("create".into());
            bundle_options(args, &mut line);
        }
        Mode::Restore(image) => {
            line.push("restore".into());
            bundle_options(args, &mut line);
            let work: OsString = args.bundle.clone().unwrap_or_default().into();
            line.extend([
                "--detach".into(),
                "--image-path".into(),
                image.clone(),
                "--work-path".into(),
                work,
            ]);
        }
    }
    line.extend(args.runtime_opts.iter().cloned());
    if let Some(socket) = console_socket {
        line.extend(["--console-socket".into(), socket.into()]);
    }
    line.push(args.cid.clone().into());
    line
}

fn bundle_options(args: &Args, line: &mut Vec<OsString>) {
    line.extend(["--bundle".into(), args.bundle.clone().unwrap_or_default().into()]);
    line.extend(["--pid-file".into(), args.container_pidfile.clone().into()]);
    for (given, option) in [(args.no_pivot, "--no-pivot"), (args.no_new_keyring, "--no-new-keyring")] {
        if given {
            line.push(option.into());
        }
    }
}

/// What the runtime starts with, besides its command line.
#[derive(Debug)]
pub struct With<'a> {
    /// Its stdio, above 2; all `None` for passthrough.
    pub stdio: [Option<BorrowedFd<'a>>; 3],
    /// Where it waits for a second read before it begins.
    pub gate: Option<BorrowedFd<'a>>,
    /// What its oom_score_adj is set back to.
    pub oom_score_adj: Option<i32>,
    /// Whether LISTEN_PID becomes its pid.
    pub own_listen_pid: bool,
}

/// Starts the runtime.
///
/// # Errors
/// fork(2)'s, or a NUL in an argument.
pub fn start(args: &Args, line: &[OsString], with: With<'_>) -> io::Result<i32> {
    Launch::new(&args.runtime, line)?
        .stdio(with.stdio)
        .gate(with.gate)
        .oom_score_adj(with.oom_score_adj)
        .own_listen_pid(with.own_listen_pid)
        .die_with_parent()
        .start()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::high::{Around, command};
    use crate::cli::{Command, Low};

    fn line(options: &str, console: Option<&str>) -> String {
        let low = Low::parse(options.split(' ').map(OsString::from)).unwrap();
        let around = Around { cwd: "/cwd".into(), attach_pipe: true };
        let Ok(Command::Run(args)) = command(low, &around) else { panic!("{options}") };
        let line = command_line(&args, console.map(Path::new));
        line.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn command_lines() {
        let head = "-c ID -u U -r /bin/sh -b /b -p /p -l none";
        let cases = [
            (String::new(), None, "/bin/sh create --bundle /b --pid-file /p ID"),
            (
                "-s --runtime-arg --root=/r --no-pivot --no-new-keyring --runtime-opt --preserve-fds --runtime-opt 2"
                    .into(),
                Some("/c"),
                "/bin/sh --systemd-cgroup --root=/r create --bundle /b --pid-file /p --no-pivot --no-new-keyring \
                 --preserve-fds 2 --console-socket /c ID",
            ),
            (
                "--restore /img --restore-arg --tcp".into(),
                None,
                "/bin/sh restore --bundle /b --pid-file /p --detach --image-path /img --work-path /b --tcp ID",
            ),
            (
                "-s -e --exec-process-spec /spec --runtime-arg -x".into(),
                None,
                "/bin/sh -x exec --pid-file /p --process /spec --detach ID",
            ),
        ];
        for (options, console, expected) in cases {
            assert_eq!(line(format!("{head} {options}").trim(), console), expected);
        }
    }
}
