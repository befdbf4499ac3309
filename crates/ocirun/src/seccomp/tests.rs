//! Filters on the running kernel: each is loaded into a thread of its own, which then ends.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use model::oci::{LinuxSeccomp, LinuxSeccompArg, LinuxSyscall};
use rustix::io::Errno;

use super::*;

fn rule(names: &[&str], action: &str, errno_ret: Option<u32>) -> LinuxSyscall {
    LinuxSyscall {
        names: names.iter().map(ToString::to_string).collect(),
        action: action.to_owned(),
        errno_ret,
        args: Vec::new(),
    }
}

fn profile(default: &str, syscalls: Vec<LinuxSyscall>) -> LinuxSeccomp {
    LinuxSeccomp { default_action: default.to_owned(), syscalls, ..LinuxSeccomp::default() }
}

/// Loads the profile's filter into a new thread and gives what `probe` returns there.
fn under<T: Send + 'static>(profile: &LinuxSeccomp, probe: impl FnOnce() -> T + Send + 'static) -> T {
    let filter = Filter::prepare(profile, None).unwrap();
    std::thread::spawn(move || {
        filter.load().unwrap();
        probe()
    })
    .join()
    .unwrap()
}

fn error_of(profile: &LinuxSeccomp) -> String {
    Filter::prepare(profile, None).unwrap_err().to_string()
}

#[test]
fn a_rule_gives_its_errno() {
    let deny = profile("SCMP_ACT_ALLOW", vec![rule(&["getpriority"], "SCMP_ACT_ERRNO", Some(42))]);
    assert_eq!(
        under(&deny, || rustix::process::getpriority_process(None)),
        Err(Errno::from_raw_os_error(42))
    );
    let deny = profile("SCMP_ACT_ALLOW", vec![rule(&["getpriority"], "SCMP_ACT_ERRNO", None)]);
    assert_eq!(under(&deny, || rustix::process::getpriority_process(None)), Err(Errno::PERM));
}

#[test]
fn an_argument_decides() {
    let mut deny = rule(&["getpriority"], "SCMP_ACT_ERRNO", Some(77));
    let op = |op: &str, value, value_two| LinuxSeccompArg { index: 1, value, value_two, op: op.to_owned() };
    // A pid that no process has: above pid_max.
    const PID: i32 = 5_000_000;
    const VALUE: u64 = 5_000_000;
    let cases = [
        (op("SCMP_CMP_EQ", VALUE, 0), PID, true),
        (op("SCMP_CMP_EQ", VALUE, 0), PID + 1, false),
        (op("SCMP_CMP_NE", VALUE, 0), PID, false),
        (op("SCMP_CMP_LT", VALUE, 0), PID - 1, true),
        (op("SCMP_CMP_LE", VALUE, 0), PID + 1, false),
        (op("SCMP_CMP_GE", VALUE, 0), PID, true),
        (op("SCMP_CMP_GT", VALUE, 0), PID, false),
        (op("SCMP_CMP_MASKED_EQ", 0xff, VALUE & 0xff), PID, true),
        (op("SCMP_CMP_MASKED_EQ", 0xff, 1 + (VALUE & 0xff)), PID, false),
    ];
    for (arg, pid, denied) in cases {
        deny.args = vec![arg.clone()];
        let filter = profile("SCMP_ACT_ALLOW", vec![deny.clone()]);
        let result =
            under(&filter, move || rustix::process::getpriority_process(rustix::process::Pid::from_raw(pid)));
        let expected = if denied { Errno::from_raw_os_error(77) } else { Errno::SRCH };
        assert_eq!(result, Err(expected), "{arg:?} {pid}");
    }
    // Two conditions on one argument are two rules, as in runc.
    deny.args = vec![op("SCMP_CMP_EQ", VALUE, 0), op("SCMP_CMP_EQ", VALUE + 1, 0)];
    let filter = profile("SCMP_ACT_ALLOW", vec![deny]);
    let both = under(&filter, || {
        [PID, PID + 1, PID + 2]
            .map(|pid| rustix::process::getpriority_process(rustix::process::Pid::from_raw(pid)))
    });
    let denied = Err(Errno::from_raw_os_error(77));
    assert_eq!(both, [denied, denied, Err(Errno::SRCH)]);
}

#[test]
fn calls_newer_than_the_profile_are_enosys_and_others_its_default() {
    let names = [
        "mmap",
        "munmap",
        "futex",
        "exit",
        "exit_group",
        "madvise",
        "rt_sigprocmask",
        "sigaltstack",
        "write",
    ];
    let mut filter = profile("SCMP_ACT_ERRNO", vec![rule(&names, "SCMP_ACT_ALLOW", None)]);
    let probe = || (rustix::process::getpriority_process(None), pidfd_open());
    // As in runc, the stub is for the architectures that the profile names.
    assert_eq!(under(&filter, probe), (Err(Errno::PERM), Err(Errno::PERM)));
    for architectures in [&["SCMP_ARCH_X86_64"][..], &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]]
    {
        filter.architectures = architectures.iter().map(ToString::to_string).collect();
        assert_eq!(under(&filter, probe), (Err(Errno::PERM), Err(Errno::NOSYS)), "{architectures:?}");
    }
    filter.default_errno_ret = Some(38);
    assert_eq!(under(&filter, probe), (Err(Errno::NOSYS), Err(Errno::NOSYS)));
}

fn pidfd_open() -> Result<(), Errno> {
    rustix::process::pidfd_open(rustix::process::Pid::INIT, rustix::process::PidfdFlags::empty()).map(drop)
}

#[test]
fn every_architecture_compiles() {
    let (_, _, architectures) = known();
    for name in architectures {
        let mut filter = profile("SCMP_ACT_ERRNO", vec![rule(&["read", "openat"], "SCMP_ACT_ALLOW", None)]);
        filter.architectures = vec![name.to_owned()];
        match Filter::prepare(&filter, None) {
            Ok(filter) => assert!(filter.program.len() > 4),
            // libseccomp refuses architectures of the other byte order in one filter.
            Err(error) => assert!(error.to_string().contains("add architecture"), "{name}: {error}"),
        }
    }
}

#[test]
fn what_is_unknown_is_told() {
    let allow = |names: &[&str]| profile("SCMP_ACT_ERRNO", vec![rule(names, "SCMP_ACT_ALLOW", None)]);
    let cases = [
        (profile("SCMP_ACT_DANCE", vec![]), "unknown action \"SCMP_ACT_DANCE\""),
        (profile("", vec![]), "an action is missing"),
        (profile("SCMP_ACT_NOTIFY", vec![]), "cannot be the default"),
        (profile("SCMP_ACT_ALLOW", vec![rule(&["read"], "ERRNO", None)]), "unknown action \"ERRNO\""),
        (profile("SCMP_ACT_ALLOW", vec![rule(&[""], "SCMP_ACT_ERRNO", None)]), "name is empty"),
        (profile("SCMP_ACT_ALLOW", vec![rule(&["read"], "SCMP_ACT_ERRNO", Some(70_000))]), "above 65535"),
        (profile("SCMP_ACT_ALLOW", vec![rule(&["read"], "SCMP_ACT_NOTIFY", None)]), "needs a listenerPath"),
        (
            LinuxSeccomp { architectures: vec!["SCMP_ARCH_PDP11".into()], ..allow(&["read"]) },
            "SCMP_ARCH_PDP11",
        ),
        (LinuxSeccomp { flags: Some(vec!["FAST".into()]), ..allow(&["read"]) }, "unknown flag \"FAST\""),
        (
            LinuxSeccomp {
                listener_path: Some("/x".into()),
                ..profile("SCMP_ACT_ALLOW", vec![rule(&["write"], "SCMP_ACT_NOTIFY", None)])
            },
            "cannot be used for write",
        ),
    ];
    for (profile, expected) in cases {
        let error = error_of(&profile);
        assert!(error.starts_with("linux.seccomp: ") && error.contains(expected), "{error}");
    }
    let mut bad = rule(&["read"], "SCMP_ACT_ERRNO", None);
    bad.args = vec![LinuxSeccompArg { index: 6, value: 0, value_two: 0, op: "SCMP_CMP_EQ".into() }];
    assert!(error_of(&profile("SCMP_ACT_ALLOW", vec![bad.clone()])).contains("index 6"));
    bad.args = vec![LinuxSeccompArg { index: 0, value: 0, value_two: 0, op: "SCMP_CMP_LIKE".into() }];
    assert!(error_of(&profile("SCMP_ACT_ALLOW", vec![bad])).contains("SCMP_CMP_LIKE"));
}

#[test]
fn unknown_calls_are_skipped() {
    let filter =
        profile("SCMP_ACT_ALLOW", vec![rule(&["read_the_future", "getpriority"], "SCMP_ACT_ERRNO", Some(5))]);
    assert_eq!(under(&filter, || rustix::process::getpriority_process(None)), Err(Errno::IO));
}

#[test]
fn flags_are_the_kernels() {
    let with = |names: Option<&[&str]>| LinuxSeccomp {
        flags: names.map(|names| names.iter().map(ToString::to_string).collect()),
        ..profile("SCMP_ACT_ALLOW", vec![])
    };
    assert_eq!(flags(&with(None)), Ok(SPEC_ALLOW));
    assert_eq!(flags(&with(Some(&[]))), Ok(0));
    assert_eq!(flags(&with(Some(&FLAGS))), Ok(TSYNC | LOG | SPEC_ALLOW));
    let mut notify = with(Some(&FLAGS));
    notify.syscalls = vec![rule(&["getpriority"], "SCMP_ACT_NOTIFY", None)];
    let all = TSYNC | LOG | SPEC_ALLOW | NEW_LISTENER | TSYNC_ESRCH | WAIT_KILLABLE_RECV;
    assert_eq!(flags(&notify), Ok(all));
}

#[test]
fn a_listener_gets_the_descriptor_and_the_state() {
    let directory = Directory::new("notify");
    let socket = directory.0.join("s");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let mut notify = profile("SCMP_ACT_ALLOW", vec![rule(&["getpriority"], "SCMP_ACT_NOTIFY", None)]);
    notify.listener_path = socket.to_str().map(str::to_owned);
    let filter = Filter::prepare(&notify, None).unwrap();
    assert!(filter.has_listener());
    let fd = std::thread::spawn(move || filter.load().unwrap().unwrap()).join().unwrap();
    let state = model::oci::State {
        oci_version: "1.2.0".into(),
        id: "c1".into(),
        status: "creating".into(),
        pid: 7,
        bundle: "/b".into(),
        annotations: BTreeMap::default(),
    };
    let message = ContainerProcessState {
        oci_version: "1.2.0".into(),
        fds: vec!["seccompFd".into()],
        pid: 7,
        metadata: Some("m".into()),
        state,
    };
    send(&socket, fd.as_fd(), &message).unwrap();
    let (connection, _) = listener.accept().unwrap();
    let mut buffer = [0; 4096];
    let received = sys::socket::recv_with_fds(&connection, &mut buffer, 2).unwrap();
    let fds = received.fds;
    assert_eq!(fds.len(), 1);
    let link =
        std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fds[0]))).unwrap();
    assert!(link.to_string_lossy().contains("seccomp"), "{link:?}");
    let told: serde_json::Value = serde_json::from_slice(&buffer[..received.len]).unwrap();
    assert_eq!(told["fds"], serde_json::json!(["seccompFd"]));
    assert_eq!(
        (&told["state"]["id"], &told["pid"], &told["metadata"]),
        (&"c1".into(), &7.into(), &"m".into())
    );
    assert!(send(&directory.0.join("nobody"), fd.as_fd(), &message).is_err());
}

struct Directory(std::path::PathBuf);

impl Directory {
    fn new(what: &str) -> Self {
        let path = std::path::PathBuf::from(format!("/tmp/wh-seccomp-{what}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_filter_is_compiled_once() {
    let directory = Directory::new("cache");
    let cache = Cache::new(&directory.0.join("deep/cache"));
    let deny = profile("SCMP_ACT_ALLOW", vec![rule(&["getpriority"], "SCMP_ACT_ERRNO", Some(42))]);
    let key = cache::key(&deny).unwrap();
    assert_eq!(cache.get(&key), None);
    let first = Filter::prepare(&deny, Some(&cache)).unwrap();
    assert_eq!(cache.get(&key).as_ref(), Some(&first.program));
    // What is taken from the cache is what was compiled: mark the entry to see it used.
    let mut marked = first.program.clone();
    marked.push(marked[0]);
    cache.put(&key, &marked);
    assert_eq!(Filter::prepare(&deny, Some(&cache)).unwrap().program, marked);
}

#[test]
fn a_cached_filter_that_others_could_have_written_is_not_used() {
    let directory = Directory::new("distrust");
    let root = directory.0.join("cache");
    let cache = Cache::new(&root);
    let deny = profile("SCMP_ACT_ALLOW", vec![rule(&["getpriority"], "SCMP_ACT_ERRNO", Some(42))]);
    let key = cache::key(&deny).unwrap();
    let program = Filter::prepare(&deny, Some(&cache)).unwrap().program;
    let file = root.join(&key);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    assert!(cache.get(&key).is_some());
    mode(&file, 0o620);
    assert_eq!(cache.get(&key), None);
    mode(&file, 0o600);
    mode(&root, 0o707);
    assert_eq!(cache.get(&key), None);
    mode(&root, 0o700);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&file, Some(1000), None).unwrap();
        assert_eq!(cache.get(&key), None);
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
    let whole = std::fs::read(&file).unwrap();
    for broken in [&whole[..whole.len() - 8], &[], &whole[8..], &[&whole[..], &[0; 8]].concat()] {
        std::fs::write(&file, broken).unwrap();
        assert_eq!(cache.get(&key), None);
    }
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    std::fs::write(&file, flipped).unwrap();
    assert_eq!(cache.get(&key), None);
    // Another profile's filter under this name.
    let other = profile("SCMP_ACT_ALLOW", vec![]);
    Filter::prepare(&other, Some(&cache)).unwrap();
    std::fs::copy(root.join(cache::key(&other).unwrap()), &file).unwrap();
    assert_eq!(cache.get(&key), None);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(directory.0.join("elsewhere"), &whole).unwrap();
    std::os::unix::fs::symlink("../elsewhere", &file).unwrap();
    assert_eq!(cache.get(&key), None);
    // It is made anew, in place of what is there.
    assert_eq!(Filter::prepare(&deny, Some(&cache)).unwrap().program, program);
    assert_eq!(cache.get(&key), Some(program));
}

#[test]
fn the_cache_is_bounded() {
    let directory = Directory::new("bound");
    let cache = Cache::new(&directory.0.join("cache"));
    let program = [sys::seccomp::Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }];
    for index in 0..cache::ENTRIES + 9 {
        cache.put(&format!("{index:064}"), &program);
    }
    assert_eq!(std::fs::read_dir(directory.0.join("cache")).unwrap().count(), cache::ENTRIES);
    assert!(cache.get(&format!("{:064}", cache::ENTRIES + 8)).is_some());
}

/// All that the specification names, whether or not this libseccomp knows them.
#[test]
fn all_architectures_of_the_specification_are_taken() {
    let mut profile = profile("SCMP_ACT_ERRNO", vec![rule(&["getpid"], "SCMP_ACT_ALLOW", None)]);
    for name in ["LOONGARCH64", "M68K", "SH", "SHEB", "X86_64"] {
        profile.architectures.push(format!("SCMP_ARCH_{name}"));
    }
    Filter::prepare(&profile, None).unwrap();
    profile.architectures.push("SCMP_ARCH_PDP11".to_owned());
    assert!(error_of(&profile).contains("unknown architecture \"SCMP_ARCH_PDP11\""));
    assert!(!sys::seccomp::knows(1 << 31) && known().2.contains(&"SCMP_ARCH_X86_64"));
}
