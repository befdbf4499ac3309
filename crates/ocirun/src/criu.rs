//! criu, as a program: what it is told, and what it says when it fails.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use sys::Ctx as _;
use sys::proc::Mount;

use crate::error::{Error, Result};

/// What callers may ask for, in criu's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CriuOptions {
    /// The program; criu of PATH if absent.
    pub program: Option<PathBuf>,
    /// Where the images are.
    pub images: PathBuf,
    /// Where criu's logs go; the images' directory if absent.
    pub work: Option<PathBuf>,
    /// The container goes on after its checkpoint.
    pub leave_running: bool,
    /// Only its memory is saved, for a checkpoint to come; it goes on.
    pub pre_dump: bool,
    /// Where the images of the pre-dump before are, from those of this one.
    pub parent: Option<PathBuf>,
    /// Where the memory goes, in place of the images: address and port.
    pub page_server: Option<(String, u16)>,
    /// The memory stays here until the restored processes ask for it, at the page server's address.
    pub lazy_pages: bool,
    /// Further options: `--tcp-established` and its like.
    pub more: Vec<String>,
}

/// What a restore needs to know beside criu's images: kept among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    /// What the standard streams were.
    pub(crate) streams: Vec<String>,
    /// Mounts that lead outside of the container: mount point and where they come from.
    pub(crate) mounts: Vec<(PathBuf, PathBuf)>,
    /// The inode of a network namespace that the container had joined: not saved, and joined again.
    #[serde(default)]
    pub(crate) network: Option<u64>,
}

impl Outside {
    /// Its file among the images.
    pub(crate) const FILE: &'static str = "wharf-oci.json";

    /// Takes the configuration's word for what is mounted from outside, not that of the images: `binds` are its bind
    /// mounts, `ours` where its cgroups are, and its devices. What masks is the null device.
    ///
    /// # Errors
    /// The first of its mounts that the configuration does not have.
    pub(crate) fn confine(
        &mut self,
        binds: &[(PathBuf, PathBuf)],
        ours: &[&Path],
    ) -> std::result::Result<(), String> {
        for (point, source) in &mut self.mounts {
            // "a/../b" below one of ours is elsewhere.
            let plain = |path: &Path| !path.components().any(|part| part == Component::ParentDir);
            match binds.iter().find(|(known, _)| known == point) {
                Some((_, given)) => source.clone_from(given),
                None if plain(source) && ours.iter().any(|own| source.starts_with(own)) => {}
                None => {
                    return Err(format!(
                        "{} on {} is not in its configuration",
                        source.display(),
                        point.display()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The mounts of a container that come from outside, by its own table and the host's.
pub(crate) fn outside_mounts(inside: &[Mount], host: &[Mount], binds: &[PathBuf]) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for mount in inside {
        let point = &mount.mount_point;
        let kind = mount.fs_type.as_str();
        let device = kind == "devtmpfs";
        let cgroup = matches!(kind, "cgroup" | "cgroup2");
        if point == Path::new("/") || !(device || cgroup || binds.contains(point)) {
            continue;
        }
        // What of the file system is there, and the longest of the host's mounts that has it.
        let same = host.iter().filter(|other| other.device == mount.device);
        let source = same
            .filter_map(|other| Some((other, mount.root.strip_prefix(&other.root).ok()?)))
            .max_by_key(|(other, _)| other.root.as_os_str().len())
            .map(|(other, rest)| other.mount_point.join(rest));
        if let Some(source) = source.or_else(|| binds.contains(point).then(|| point.clone())) {
            found.push((point.clone(), source));
        }
    }
    found.dedup_by(|a, b| a.0 == b.0);
    found
}

fn external(point: &Path, value: &Path) -> [OsString; 2] {
    let mut text = OsString::from("mnt[");
    text.push(point);
    text.push("]:");
    text.push(value);
    ["--external".into(), text]
}

/// What both commands are told.
fn common(verb: &str, options: &CriuOptions, root: &Path) -> Vec<OsString> {
    let work = options.work.as_ref().unwrap_or(&options.images);
    let mut args: Vec<OsString> = vec![verb.into()];
    for (name, value) in [("--images-dir", &*options.images), ("--work-dir", work), ("--root", root)] {
        args.extend([name.into(), value.as_os_str().to_owned()]);
    }
    args.extend([format!("--log-file={verb}.log").into(), "-v4".into()]);
    args.extend(options.more.iter().map(OsString::from));
    args
}

/// The command line of a checkpoint. `value`s of the mounts only name them in the images.
pub(crate) fn dump_args(
    options: &CriuOptions,
    pid: i32,
    root: &Path,
    outside: &Outside,
    freezer: Option<&Path>,
) -> Vec<OsString> {
    let mut args = common(if options.pre_dump { "pre-dump" } else { "dump" }, options, root);
    args.extend(["--tree".into(), pid.to_string().into()]);
    if let Some(parent) = &options.parent {
        args.extend(["--prev-images-dir".into(), parent.into()]);
    }
    // What was written since is known next time.
    if options.pre_dump || options.parent.is_some() {
        args.push("--track-mem".into());
    }
    if let Some((address, port)) = &options.page_server {
        if !options.lazy_pages {
            args.push("--page-server".into());
        }
        args.extend(["--address".into(), address.into(), "--port".into(), port.to_string().into()]);
    }
    if options.lazy_pages {
        args.push("--lazy-pages".into());
    }
    if options.leave_running {
        args.push("--leave-running".into());
    }
    if let Some(freezer) = freezer {
        args.extend(["--freeze-cgroup".into(), freezer.into()]);
    }
    if options.pre_dump {
        return args;
    }
    args.extend(outside.mounts.iter().flat_map(|(point, _)| external(point, point)));
    if let Some(inode) = outside.network {
        args.extend(["--external".into(), format!("net[{inode}]:{NETWORK}").into()]);
    }
    args
}

/// The name of the joined network namespace, between criu and us.
const NETWORK: &str = "extRootNetNS";

/// What a restore gets besides the images.
#[derive(Debug, Default)]
pub(crate) struct Given<'a> {
    /// Where the pid goes.
    pub(crate) pid_file: PathBuf,
    /// Controllers and cgroups, as seen from their hierarchies' roots.
    pub(crate) cgroups: Vec<(String, PathBuf)>,
    /// The network namespace to join; kept open over an execve.
    pub(crate) network: Option<BorrowedFd<'a>>,
    /// The processes wait for a SIGCONT.
    pub(crate) stopped: bool,
}

/// The command line of a restore.
pub(crate) fn restore_args(
    options: &CriuOptions,
    root: &Path,
    outside: &Outside,
    given: &Given<'_>,
) -> Vec<OsString> {
    let mut args = common("restore", options, root);
    args.extend(["--restore-detached".into(), "--pidfile".into(), given.pid_file.clone().into()]);
    args.extend(outside.mounts.iter().flat_map(|(point, source)| external(point, source)));
    for (number, name) in outside.streams.iter().enumerate() {
        // The others are files of the container, which criu opens itself.
        if name.starts_with("pipe:") || name.starts_with("socket:") {
            args.extend(["--inherit-fd".into(), format!("fd[{number}]:{name}").into()]);
        }
    }
    if let Some(network) = given.network {
        args.extend(["--inherit-fd".into(), format!("fd[{}]:{NETWORK}", network.as_raw_fd()).into()]);
    }
    if given.stopped {
        args.push("--leave-stopped".into());
    }
    for (controller, path) in &given.cgroups {
        let mut text =
            OsString::from(if controller.is_empty() { String::new() } else { format!("{controller}:") });
        text.push(path);
        args.extend(["--cgroup-root".into(), text]);
    }
    args
}

/// Runs criu; `streams`: with our own standard streams, for a restore hands them on.
///
/// # Errors
/// It is not there, or fails: its own words, from its log.
pub(crate) fn run(options: &CriuOptions, args: &[OsString], streams: bool) -> Result<()> {
    let verb = args.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
    let program = options.program.clone().unwrap_or_else(|| "criu".into());
    let mut command = Command::new(&program);
    command.args(args);
    if !streams {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let log = options.work.as_ref().unwrap_or(&options.images).join(format!("{verb}.log"));
    let status = command.status().ctx("run", &program)?;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, signal) => format!("killed by signal {}", signal.unwrap_or(0)),
    };
    let words = first_error(&log).unwrap_or(how);
    Err(Error::Step(format!("run criu {verb}: {words} (see {})", log.display())))
}

/// How much of criu's log is looked at, in bytes: with `-v4` a restore of a big container writes some of these.
const LOG_MAX: u64 = 16 << 20;
/// What criu says without CAP_SYS_RESOURCE, and goes on.
const HARMLESS: &str = "RLIMIT_NOFILE for self";

/// The first line of a log of criu's that is an error, without its time and place.
fn first_error(log: &Path) -> Option<String> {
    let mut text = Vec::new();
    std::fs::File::open(log).ok()?.take(LOG_MAX).read_to_end(&mut text).ok()?;
    error_in(&text)
}

/// The words of the first error in criu's log that tells why, 300 characters of them.
pub(crate) fn error_in(log: &[u8]) -> Option<String> {
    let mut lines = log.split(|byte| *byte == b'\n').map(String::from_utf8_lossy);
    let text = lines.find(|line| line.contains("Error (") && !line.contains(HARMLESS))?;
    let words = text.split_once("Error (").map_or(&*text, |(_, rest)| rest);
    let words = words.split_once("): ").map_or(words, |(_, words)| words);
    Some(words.trim().chars().take(300).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, SeekFrom, Write as _};

    use super::*;

    fn text(args: &[OsString]) -> String {
        args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn options() -> CriuOptions {
        CriuOptions { images: "/i".into(), more: vec!["--tcp-established".into()], ..CriuOptions::default() }
    }

    #[test]
    fn command_lines() {
        let outside = Outside {
            streams: vec!["/dev/null".into(), "pipe:[7]".into(), "pipe:[8]".into()],
            mounts: vec![("/data".into(), "/srv/data".into()), ("/proc/kcore".into(), "/dev/null".into())],
            network: None,
        };
        let dump = dump_args(&options(), 42, Path::new("/r"), &outside, Some(Path::new("/cg")));
        assert_eq!(
            text(&dump),
            "dump --images-dir /i --work-dir /i --root /r --log-file=dump.log -v4 --tcp-established --tree 42 \
             --freeze-cgroup /cg --external mnt[/data]:/data --external mnt[/proc/kcore]:/proc/kcore"
        );
        let mut options = options();
        options.work = Some("/w".into());
        options.leave_running = true;
        let mut given = Given {
            pid_file: "/p".into(),
            cgroups: vec![("memory".to_owned(), "/a".into()), (String::new(), "/b".into())],
            ..Given::default()
        };
        let restore = restore_args(&options, Path::new("/r"), &outside, &given);
        assert_eq!(
            text(&restore),
            "restore --images-dir /i --work-dir /w --root /r --log-file=restore.log -v4 --tcp-established \
             --restore-detached --pidfile /p --external mnt[/data]:/srv/data --external mnt[/proc/kcore]:/dev/null \
             --inherit-fd fd[1]:pipe:[7] --inherit-fd fd[2]:pipe:[8] --cgroup-root memory:/a --cgroup-root /b"
        );
        let outside = Outside { network: Some(77), ..Outside::default() };
        let dump = text(&dump_args(&options, 1, Path::new("/"), &outside, None));
        assert!(
            dump.contains("--leave-running") && dump.ends_with("--external net[77]:extRootNetNS"),
            "{dump}"
        );
        let more = CriuOptions {
            pre_dump: true,
            parent: Some("../0".into()),
            page_server: Some(("::1".to_owned(), 7)),
            ..CriuOptions::default()
        };
        let pre_dump = text(&dump_args(&more, 1, Path::new("/"), &outside, None));
        let words = "--tree 1 --prev-images-dir ../0 --track-mem --page-server --address ::1 --port 7";
        assert!(pre_dump.starts_with("pre-dump ") && pre_dump.ends_with(words), "{pre_dump}");
        let lazy = CriuOptions { lazy_pages: true, pre_dump: false, parent: None, ..more };
        let dump = text(&dump_args(&lazy, 1, Path::new("/"), &Outside::default(), None));
        assert!(dump.ends_with("--tree 1 --address ::1 --port 7 --lazy-pages"), "{dump}");
        (given.network, given.stopped) = (Some(rustix::stdio::stdin()), true);
        let restore = text(&restore_args(&options, Path::new("/r"), &outside, &given));
        assert!(restore.contains("--inherit-fd fd[0]:extRootNetNS --leave-stopped"), "{restore}");
    }

    #[test]
    fn mounts_that_come_from_outside() {
        let host = sys::proc::parse_mountinfo(
            b"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /dev rw - devtmpfs d rw\n3 1 0:30 / /sys/fs/cgroup/pids rw - cgroup c rw\n",
        );
        let inside = sys::proc::parse_mountinfo(
            b"10 9 8:1 /img / rw - ext4 /dev/sda rw\n11 10 0:50 / /proc rw - proc proc rw\n12 11 0:5 /null /proc/kcore rw - devtmpfs d rw\n\
              13 10 8:1 /srv /data rw - ext4 /dev/sda rw\n14 10 0:30 /w/c /sys/fs/cgroup/pids ro - cgroup c rw\n15 10 0:51 / /tmp rw - tmpfs t rw\n",
        );
        let found = outside_mounts(&inside, &host, &["/data".into()]);
        let expected = [
            ("/proc/kcore", "/dev/null"),
            ("/data", "/srv"),
            ("/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids/w/c"),
        ];
        assert_eq!(found, expected.map(|(point, source)| (PathBuf::from(point), PathBuf::from(source))));
    }

    #[test]
    fn images_choose_no_mount() {
        let own = ["/dev/null", "/sys/fs/cgroup/pids/w/c"].map(Path::new);
        let binds = [(PathBuf::from("/data"), PathBuf::from("/srv"))];
        let confined = |point: &str, source: &str| {
            let mounts = vec![(point.into(), source.into())];
            let mut outside = Outside { mounts, ..Outside::default() };
            outside.confine(&binds, &own).map(|()| outside.mounts[0].1.display().to_string())
        };
        assert_eq!(confined("/data", "/etc"), Ok("/srv".to_owned()));
        for source in ["/dev/null", "/sys/fs/cgroup/pids/w/c", "/sys/fs/cgroup/pids/w/c/below"] {
            assert_eq!(confined("/x", source), Ok(source.to_owned()));
        }
        for source in
            ["/", "/etc", "/dev/sda", "/dev/null2", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/pids/w/c/../d"]
        {
            let error = confined("/x", source).unwrap_err();
            assert_eq!(error, format!("{source} on /x is not in its configuration"));
        }
    }

    #[test]
    fn the_first_error_of_a_log() {
        let dir = testkit::Scratch::new("criulog");
        let log = dir.join("dump.log");
        assert_eq!(first_error(&log), None);
        std::fs::write(
            &log,
            "(00.0) fine\n(00.1) Error (criu/x.c:12): vdso: no luck\n(00.2) Error (b): later\n",
        )
        .unwrap();
        assert_eq!(first_error(&log).as_deref(), Some("vdso: no luck"));
        // What lies behind the limit is not read.
        let mut file = std::fs::File::create(&log).unwrap();
        file.set_len(LOG_MAX).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(b"\n(00.1) Error (criu/x.c:12): too late\n").unwrap();
        assert_eq!(first_error(&log), None);
    }
}
