//! What happens between create and the program's first instruction, and how its failures are told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;
use testkit::Bundle;

use crate::kit::{Oci, cgroups_of, is_mounted};

/// A create that fails with `words` and leaves nothing.
#[track_caller]
fn refused(bundle: &Bundle, words: &str) {
    let oci = Oci::new();
    oci.create_with(bundle, &[]).fails(words);
    assert!(!oci.root().join(bundle.id()).exists(), "its directory is left");
    assert!(cgroups_of(bundle.id()).is_empty(), "a cgroup is left");
    assert!(!is_mounted(&bundle.rootfs()), "a mount is left");
    assert_eq!(oci.run(&["list", "-q"]).ok().out, "");
}

#[test]
fn a_program_that_cannot_be_found_fails_the_create() {
    let with = |args: &[&str]| Bundle::new("prog", args);
    refused(&with(&["nonexistent"]), "exec nonexistent: executable file not found in $PATH");
    // No path is none, though it lies in the working directory.
    for env in [json!(["A=b"]), json!(["PATH="])] {
        let bundle = with(&["echo", "x"]).edit(|spec| {
            spec["process"]["env"] = env;
            spec["process"]["cwd"] = json!("/bin");
        });
        refused(&bundle, "exec echo: executable file not found in $PATH");
    }
    refused(&with(&["/nonexistent"]), "exec /nonexistent: no such file or directory");
    refused(&with(&["/etc"]), "exec /etc: permission denied");
    let bundle = with(&["/plain"]);
    fs::write(bundle.rootfs().join("plain"), "x").unwrap();
    fs::set_permissions(bundle.rootfs().join("plain"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&bundle, "exec /plain: permission denied");
}

#[test]
fn a_program_that_cannot_be_executed_fails_the_start() {
    let (oci, bundle) = (Oci::new(), Bundle::new("format", &["/odd"]));
    fs::write(bundle.rootfs().join("odd"), "\x7fELFnot").unwrap();
    fs::set_permissions(bundle.rootfs().join("odd"), fs::Permissions::from_mode(0o755)).unwrap();
    let container = oci.create(&bundle);
    oci.run(&["start", bundle.id()]).fails("exec /odd: exec format error");
    container.wait_for_status("stopped");
    oci.run(&["start", bundle.id()]).fails("cannot start a container that has stopped");
}

#[test]
fn a_container_is_started_once() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("once"));
    let _container = oci.start(&bundle);
    oci.run(&["start", bundle.id()]).fails("cannot start an already running container");
}

/// Two connect before init accepts: the one that it did not take must not say that it started anything.
#[test]
fn of_two_starts_at_once_one_is_refused() {
    use std::os::fd::AsFd as _;
    use sys::socket::{Blocking, Kind, connect};
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("twice"));
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo >> {}", bundle.path().join("ran").display())]}]);
    let bundle = bundle.edit(|spec| spec["hooks"] = json!({"poststart": hook}));
    let container = oci.create(&bundle);
    let init = sys::pidfd::PidFd::open(container.pid()).unwrap();
    init.signal(libc::SIGSTOP).unwrap();
    let socket = oci.root().join(bundle.id()).join("start.sock");
    let first = connect(&socket, Kind::SeqPacket, Blocking::Yes).unwrap();
    let second =
        oci.command().args(["start", bundle.id()]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    testkit::wait_until("the second start to have connected", || !socket.exists());
    rustix::net::send(first.as_fd(), b"s", rustix::net::SendFlags::empty()).unwrap();
    init.signal(libc::SIGCONT).unwrap();
    let output = second.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("already running"), "{output:?}");
    container.wait_for_status("running");
    assert!(!bundle.path().join("ran").exists(), "poststart hooks ran for a start that was none");
}

#[test]
fn the_program_runs_only_after_start() {
    let (oci, bundle) = (Oci::new(), Bundle::shell("wait", "echo began; sleep 1000"));
    let container = oci.create(&bundle);
    // Whatever init does before its start is done: it listens.
    assert_eq!(container.status(), "created");
    assert_eq!(container.output(), "");
    oci.run(&["start", bundle.id()]).ok();
    testkit::wait_until("the program", || container.output() == "began\n");
}

#[test]
fn steps_in_the_container_that_fail_are_named() {
    let edit = |change: fn(&mut serde_json::Value)| Bundle::shell("steps", "true").edit(change);
    refused(
        &edit(|spec| {
            spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 1u64 << 40}]);
        }),
        "set RLIMIT_NOFILE 5:1099511627776:",
    );
    refused(
        &edit(|spec| {
            spec["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({"destination": "/x", "type": "nofs", "source": "x"}));
        }),
        "mount nofs: no such device",
    );
    refused(
        &edit(|spec| {
            let mount = json!({"destination": "/x", "type": "tmpfs", "source": "x", "options": ["frob=1"]});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        }),
        "mount tmpfs: tmpfs: unknown parameter 'frob': invalid argument",
    );
    refused(
        &edit(|spec| {
            let mount =
                json!({"destination": "/x", "type": "bind", "source": "/nonexistent", "options": ["bind"]});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        }),
        "open mount /nonexistent: no such file or directory",
    );
    refused(
        &edit(|spec| {
            spec["linux"]["namespaces"][0] =
                json!({"type": "pid", "path": format!("/proc/{}/ns/net", std::process::id())});
        }),
        "not a pid namespace",
    );
    refused(
        &edit(|spec| spec["process"]["cwd"] = json!("/etc/passwd")),
        "change directory to /etc/passwd: not a directory",
    );
    refused(
        &edit(|spec| spec["process"]["apparmorProfile"] = json!("none-such")),
        "apply AppArmor profile none-such:",
    );
    refused(
        &edit(|spec| spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_FROB"})),
        "SCMP_ACT_FROB",
    );
}

#[test]
fn a_bundle_that_is_none() {
    let bundle = Bundle::shell("nobundle", "true");
    fs::write(bundle.path().join("config.json"), "{\"ociVersion\": ").unwrap();
    refused(&bundle, "parse ");
    fs::remove_file(bundle.path().join("config.json")).unwrap();
    refused(&bundle, "config.json: no such file or directory");
    let bundle = Bundle::shell("filerootfs", "true").edit(|spec| spec["root"]["path"] = json!("config.json"));
    refused(&bundle, "open root filesystem");
    let bundle = Bundle::shell("norootfs", "true").edit(|spec| spec["root"]["path"] = json!("nothing"));
    refused(&bundle, "open root filesystem");
}

/// The option `lowerdir` of `count` directories, the last of which has the file `f`.
fn overlay(bundle: &Bundle, count: usize) -> serde_json::Value {
    let dir = |n: usize| bundle.path().join(format!("a-layer-with-quite-a-long-name-{n}"));
    let list: Vec<String> = (0..count).map(|n| dir(n).display().to_string()).collect();
    for n in 0..count {
        fs::create_dir_all(dir(n)).unwrap();
    }
    fs::write(dir(count - 1).join("f"), "from below\n").unwrap();
    json!({"destination": "/deep/mnt", "type": "overlay", "source": "overlay",
        "options": ["ro", "nodev", format!("lowerdir={}", list.join(":"))]})
}

#[test]
fn options_of_more_than_255_bytes_are_taken() {
    let line = "cat /deep/mnt/f; touch /deep/mnt/x; grep -E ' /deep|tmpfs.*mode=700' /proc/self/mountinfo | cut -d' ' -f5,6; pwd";
    let mut bundle = Bundle::shell("overlay", line);
    let mount = overlay(&bundle, 12);
    bundle.change(|spec| spec["mounts"].as_array_mut().unwrap().push(mount));
    let outcome = Oci::new().run_bundle(&bundle);
    assert_eq!(outcome.out, "from below\n/deep/mnt ro,nodev,relatime\n/\n", "{outcome:?}");
    assert!(outcome.err.contains("Read-only file system"), "{outcome:?}");
    // A page is what the kernel takes.
    let mut bundle = Bundle::shell("overlaypage", "true");
    let mount = overlay(&bundle, 80);
    bundle.change(|spec| spec["mounts"].as_array_mut().unwrap().push(mount));
    refused(&bundle, "mount overlay: its options are of ");
    // What the kernel says of them is told.
    let mut bundle = Bundle::shell("overlaynone", "true");
    let mut mount = overlay(&bundle, 12);
    fs::remove_dir(bundle.path().join("a-layer-with-quite-a-long-name-3")).unwrap();
    mount["options"][0] = json!("rw");
    bundle.change(|spec| spec["mounts"].as_array_mut().unwrap().push(mount));
    refused(&bundle, "mount overlay: no such file or directory");
}

#[test]
fn the_root_is_moved_where_it_cannot_be_pivoted() {
    let line = "echo in; ls /rootfs /config.json 2>&1 | grep -c 'No such'; cut -d' ' -f5 /proc/self/mountinfo | sort; touch /x && echo written";
    let bundle = Bundle::shell("nopivot", line);
    let oci = Oci::new();
    let shown = |options: &[&str]| {
        let path = bundle.path().to_string_lossy().into_owned();
        oci.run(&[&["run", "--bundle", &path][..], options, &[bundle.id()]].concat()).ok().out
    };
    let (pivoted, moved) = (shown(&[]), shown(&["--no-pivot"]));
    assert!(pivoted.starts_with("in\n2\n/\n") && pivoted.ends_with("written\n"), "{pivoted}");
    assert_eq!(moved, pivoted);
    assert!(!is_mounted(&bundle.rootfs()), "a mount is left");
    // A program with the right to call chroot does not find the host's files above its root either.
    let escape = "mkdir /d && chroot /d true; cd /; ls ../../..; cat /proc/1/root/etc/hostname";
    let bundle = Bundle::shell("nopivotup", escape);
    let out = oci.run(&["run", "--no-pivot", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]).out;
    assert!(out.contains("bin\n") && !out.contains("boot\n"), "{out}");
}

#[test]
fn a_moved_root_leaves_no_procfs_of_the_host_wherever_it_is() {
    let oci = Oci::new();
    let bundle = Bundle::sleeper("nopivotproc");
    let extra = bundle.path().join("extra");
    fs::create_dir(&extra).unwrap();
    // In mounts of its own, with one more procfs; what is mounted over the host's root is taken off for a look below.
    let script = r#"mount -t proc proc "$1/extra" && "$2" --root "$3" run --no-pivot -d --pid-file "$1/pid" --bundle "$1" "$4" >/dev/null 2>&1 || exit 1
        in="nsenter --mount=/proc/$(cat "$1/pid")/ns/mnt"
        $in umount -l / && $in ls "$1/extra" /proc /sys"#;
    let output = std::process::Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(bundle.path())
        .arg(env!("CARGO_BIN_EXE_wharf-oci"))
        .arg(oci.root())
        .arg(bundle.id())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(out, format!("/proc:\n\n/sys:\n\n{}:\n", extra.display()), "{err}");
}

#[test]
fn a_kernel_that_is_too_old_is_named() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("old"));
    let old = ["-o", "/dev/null", "-e", "inject=mount_setattr:error=ENOSYS"];
    let output = oci.under_strace(&old, "create", &bundle).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said, "check kernel: older than Linux 5.12 (no mount_setattr(2))\n");
    assert!(!oci.root().join(bundle.id()).exists());
}
