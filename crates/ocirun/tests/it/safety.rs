//! What a container must not be able to do. Each of these fails if its protection is taken away.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};
use serde_json::{Value, json};
use testkit::{Bundle, Scratch};

use crate::kit::Oci;

fn add_mount(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

/// CVE-2019-5736: /proc/PID/exe of a process on its way into a container.
#[test]
fn our_program_cannot_be_written_through_proc() {
    let (oci, bundle) = (Oci::with_own_program(), Bundle::sleeper("exe"));
    let container = oci.create(&bundle);
    // Init waits for its start, and is still this program.
    let exe = format!("/proc/{}/exe", container.pid());
    let file = rustix::fs::open(&exe, OFlags::PATH, Mode::empty()).unwrap();
    let attr = sys::mount_attr::MountAttr { clear: sys::mount_attr::RDONLY, ..Default::default() };
    let change = sys::mount_attr::set(&file, &attr, sys::mount_attr::Depth::One).unwrap_err();
    assert_eq!(change.raw_os_error(), Some(libc::EINVAL), "its mount can be made writable");
    drop(container);
    // Now that the program does not run any more, nothing but its mount says no.
    let again = format!("/proc/self/fd/{}", file.as_raw_fd());
    testkit::wait_until("nobody to run the program", || {
        match rustix::fs::open(&again, OFlags::WRONLY, Mode::empty()) {
            Err(rustix::io::Errno::TXTBSY) => false,
            refused => {
                assert_eq!(refused.err(), Some(rustix::io::Errno::ROFS));
                true
            }
        }
    });
}

#[test]
fn a_container_that_executes_our_program_gets_a_read_only_one() {
    let (oci, bundle) = (Oci::new(), Bundle::new("selfexe", &["/proc/self/exe", "--version"]));
    // The program under test may be a dynamic one: its loader and libraries are put where it looks for them.
    let libraries = std::process::Command::new("ldd").arg(env!("CARGO_BIN_EXE_wharf-oci")).output().unwrap();
    for word in
        String::from_utf8_lossy(&libraries.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        let copy = bundle.rootfs().join(word.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(word, &copy).unwrap();
    }
    assert!(oci.run_bundle(&bundle).ok().out.starts_with("wharf-oci version"));
    let bundle = bundle.edit(|spec| spec["process"]["args"] = json!(["/proc/self/exe", "events", "none"]));
    oci.run_bundle(&bundle).fails("open container none: container does not exist");
}

#[test]
fn init_cannot_be_traced_or_read_before_its_program_runs() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("dumpable"));
    let container = oci.create(&bundle);
    for path in ["/proc/1/environ", "/proc/1/root/etc/hostname", "/proc/1/cwd/etc/hostname", "/proc/1/maps"] {
        let outcome = container.exec(&[], &["cat", path]);
        assert_ne!(outcome.code, 0, "{path}: {outcome:?}");
        assert!(outcome.err.contains("ermission denied"), "{path}: {outcome:?}");
    }
    let outcome = container.exec(&[], &["ls", "-l", "/proc/1/fd/", "/proc/1/exe"]);
    assert_eq!(outcome.out.matches("->").count(), 0, "{outcome:?}");
    // Only the standard streams and the socket of its start.
    let open = fs::read_dir(format!("/proc/{}/fd", container.pid())).unwrap().count();
    assert_eq!(open, 4);
}

#[test]
fn nothing_of_the_host_is_open_inside() {
    let oci = Oci::new();
    let line = "for fd in /proc/self/fd/*; do echo ${fd##*/}; done";
    let bundle = Bundle::shell("leak", line).seccomp();
    let shell_only = |out: &str| out.lines().filter(|fd| fd.parse::<u32>().is_ok_and(|fd| fd > 2)).count();
    // The shell opens one directory while it looks.
    let out = oci.run_bundle(&bundle).ok().out;
    assert!(shell_only(&out) <= 1, "{out}");
    let bundle = Bundle::sleeper("leakexec");
    let container = oci.start(&bundle);
    let links = |pid: i32| -> Vec<(String, String)> {
        let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        entries
            .map(|entry| {
                let link = fs::read_link(entry.path()).unwrap_or_default();
                (entry.file_name().to_string_lossy().into_owned(), link.to_string_lossy().into_owned())
            })
            .filter(|(fd, _)| fd.parse::<u32>().unwrap() > 2)
            .collect()
    };
    // busybox keeps its script open at 10.
    let open: Vec<_> = links(container.pid()).into_iter().filter(|(fd, _)| fd != "10").collect();
    assert_eq!(open, []);
    let outcome = container.exec(&[], &["sh", "-c", line]).ok();
    assert!(shell_only(&outcome.out) <= 1, "{outcome:?}");
}

/// CVE-2024-21626: a working directory by a descriptor that was left open.
#[test]
fn the_working_directory_is_inside() {
    let oci = Oci::new();
    let mut bundle = Bundle::shell("cwd", "pwd; ls");
    for fd in [3, 5, 6, 7, 8, 9, 10, 12] {
        bundle.change(|spec| spec["process"]["cwd"] = json!(format!("/proc/self/fd/{fd}")));
        oci.run_bundle(&bundle).fails("change directory to /proc/self/fd/");
    }
    let bundle = Bundle::sleeper("cwdexec");
    let container = oci.start(&bundle);
    for fd in 3..16 {
        let cwd = format!("/proc/self/fd/{fd}");
        container.exec(&["--cwd", &cwd], &["pwd"]).fails("change directory to");
    }
}

#[test]
fn a_link_in_the_image_does_not_lead_a_mount_outside() {
    let outside = Scratch::new("outside");
    let oci = Oci::new();
    let bundle = Bundle::shell("links", "cat /inside/a/file; ls /inside").edit(|spec| {
        add_mount(spec, json!({"destination": "/link/a", "type": "tmpfs", "source": "tmpfs"}));
    });
    // Absolute, and one that climbs: both end in the root filesystem.
    symlink(outside.path(), bundle.rootfs().join("link")).unwrap();
    let climbing = format!("../../../../../../..{}", outside.path().display());
    symlink(climbing, bundle.rootfs().join("climb")).unwrap();
    let bundle = bundle.edit(|spec| {
        add_mount(spec, json!({"destination": "/climb/b", "type": "bind", "source": "/etc/hostname", "options": ["bind"]}));
        spec["process"]["args"] = json!(["sh", "-c", "cut -d' ' -f5 /proc/self/mountinfo"]);
    });
    let out = oci.run_bundle(&bundle).ok().out;
    for name in ["a", "b"] {
        let inside = format!("{}/{name}", outside.path().display());
        assert!(out.lines().any(|line| line == inside), "{inside} is not in {out}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something was made outside");
}

/// A mount point that another container, with the same volume, keeps exchanging for a link while we mount.
#[test]
fn a_racing_rename_does_not_lead_a_mount_outside() {
    let outside = Scratch::new("raceout");
    fs::create_dir(outside.path().join("x")).unwrap();
    let oci = Oci::new();
    let bundle = Bundle::new("race", &["true"]).edit(|spec| {
        add_mount(spec, json!({"destination": "/vol/x", "type": "tmpfs", "source": "tmpfs"}));
        add_mount(spec, json!({"destination": "/vol/x/made", "type": "bind", "source": "/etc/hostname", "options": ["bind"]}));
    });
    let bundle = bundle.edit(|spec| {
        spec["linux"]["maskedPaths"] = json!(["/vol/x", "/vol"]);
        spec["linux"]["readonlyPaths"] = json!(["/vol/x"]);
    });
    let root = bundle.rootfs();
    fs::create_dir_all(root.join("vol/x")).unwrap();
    symlink(format!("../../../../../../../../{}", outside.path().display()), root.join("evil")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let flags = rustix::fs::RenameFlags::EXCHANGE;
                let here = rustix::fs::CWD;
                rustix::fs::renameat_with(here, root.join("vol"), here, root.join("evil"), flags).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(50));
            }
        });
        for _ in 0..15 {
            // Whether it works out depends on who is first; where it works, it is inside.
            oci.run_bundle(&bundle);
            assert_eq!(
                fs::read_dir(outside.path().join("x")).unwrap().count(),
                0,
                "something was made outside"
            );
            assert!(!crate::kit::is_mounted(&outside.path().join("x")));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn proc_and_sysfs_are_not_mounted_through_links() {
    let oci = Oci::new();
    let bundle = Bundle::shell("proclink", "true");
    fs::remove_dir(bundle.rootfs().join("proc")).ok();
    fs::create_dir(bundle.rootfs().join("elsewhere")).unwrap();
    symlink("elsewhere", bundle.rootfs().join("proc")).unwrap();
    oci.create_with(&bundle, &[]).fails("open /proc: too many levels of symbolic links");
}

#[test]
fn nothing_is_mounted_inside_proc() {
    let oci = Oci::new();
    for (destination, kind, source) in
        [("/proc/self", "bind", "/etc"), ("/proc/../proc/sys", "tmpfs", "x"), ("/proc", "bind", "/etc")]
    {
        let bundle = Bundle::shell("inproc", "true").edit(|spec| {
            add_mount(
                spec,
                json!({"destination": destination, "type": kind, "source": source, "options": ["rw"]}),
            );
        });
        oci.create_with(&bundle, &[]).fails("/proc");
    }
}

/// The name is harmless, the image's link is not.
#[test]
fn no_link_leads_a_mount_into_proc() {
    let oci = Oci::new();
    let source = Scratch::new("intoproc");
    fs::write(source.path().join("file"), "x").unwrap();
    let file = source.path().join("file").to_string_lossy().into_owned();
    let bind = |destination: &str, source: &str| json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
    for mount in [
        bind("/data", &source.path().to_string_lossy()),
        bind("/data/kernel/ostype", &file),
        json!({"destination": "/data/kernel", "type": "tmpfs", "source": "tmpfs"}),
        json!({"destination": "/data", "type": "cgroup", "source": "cgroup"}),
    ] {
        let bundle = Bundle::shell("intoproc", "true").edit(|spec| add_mount(spec, mount.clone()));
        symlink("proc/sys", bundle.rootfs().join("data")).unwrap();
        oci.create_with(&bundle, &[]).fails("a link leads it into /proc");
    }
    // What says how much of the machine there is may be covered, by its own name.
    let bundle =
        Bundle::shell("lxcfs", "cat /proc/uptime").edit(|spec| add_mount(spec, bind("/proc/uptime", &file)));
    assert_eq!(oci.run_bundle(&bundle).ok().out, "x");
}

/// CVE-2025-31133: what masks a file is the null device, whatever the image has by its name.
#[test]
fn masks_do_not_depend_on_the_images_null_device() {
    let oci = Oci::new();
    let line = "cat /secret /proc/kcore /dir/file /proc/keys 2>/dev/null; ls /dir; echo x > /secret; stat -c %t:%T /secret; touch /dir/x || echo kept";
    let bundle = Bundle::shell("masks", line).edit(|spec| {
        spec["linux"]["maskedPaths"] =
            json!(["/secret", "/dir", "/nothing", "/link", "/dangling", "/proc/keys"]);
        // The image's own /dev, with a null device that leads to what is to be hidden.
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let root = bundle.rootfs();
    fs::write(root.join("secret"), "secret\n").unwrap();
    fs::create_dir(root.join("dir")).unwrap();
    fs::write(root.join("dir/file"), "secret\n").unwrap();
    symlink("/secret", root.join("link")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    fs::create_dir_all(root.join("dev")).unwrap();
    fs::remove_file(root.join("dev/null")).ok();
    symlink("/secret", root.join("dev/null")).unwrap();
    let outcome = oci.run_bundle(&bundle);
    assert!(!outcome.out.contains("secret"), "{outcome:?}");
    assert!(outcome.out.contains("1:3") && outcome.out.contains("kept"), "{outcome:?}");
    assert_eq!(fs::read_to_string(root.join("secret")).unwrap(), "secret\n");
}

/// CVE-2025-52565: /dev/console is the terminal and nothing that an image put there.
#[test]
fn the_console_is_not_fooled_by_links() {
    let oci = Oci::new();
    let bundle = Bundle::shell("console", "ls -l /dev/console; cat /proc/victim 2>&1; sleep 1000")
        .terminal()
        .edit(|spec| {
            spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        });
    let root = bundle.rootfs();
    fs::create_dir_all(root.join("dev/pts")).unwrap();
    fs::write(root.join("victim"), "untouched").unwrap();
    fs::remove_file(root.join("dev/console")).ok();
    symlink("/victim", root.join("dev/console")).unwrap();
    let path = bundle.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let created = oci.create_with(&bundle, &["--console-socket", &path.to_string_lossy()]);
    created.ok();
    drop(listener);
    let mounted = fs::read_to_string(format!("/proc/{}/mountinfo", container_pid(&oci, &bundle))).unwrap();
    assert!(mounted.lines().any(|line| line.split(' ').nth(4) == Some("/dev/console")), "{mounted}");
    assert!(!mounted.contains("/victim"), "{mounted}");
    assert_eq!(fs::read_to_string(root.join("victim")).unwrap(), "untouched");
}

fn container_pid(oci: &Oci, bundle: &Bundle) -> i64 {
    let state: Value = serde_json::from_str(&oci.run(&["state", bundle.id()]).ok().out).unwrap();
    state["pid"].as_i64().unwrap()
}

#[test]
fn read_only_means_read_only() {
    let oci = Oci::new();
    let line = "for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/bus/x /sys/kernel/x /sys/fs/cgroup/x \
        /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/*/*.max; do [ -e $p ] || continue; (echo 0 > $p) 2>/dev/null && echo WRITTEN $p; done; \
        mkdir /sys/fs/cgroup/memory/x 2>/dev/null && echo MADE; mkdir /sys/fs/cgroup/x 2>/dev/null && echo MADE; touch /x 2>/dev/null && echo ROOT; \
        umount /proc/sys 2>/dev/null && echo UNMOUNTED; echo done";
    let bundle =
        Bundle::shell("readonly", line).in_cgroup().edit(|spec| spec["root"]["readonly"] = json!(true));
    assert_eq!(oci.run_bundle(&bundle).ok().out, "done\n");
    // With a cgroup namespace the mounts are other ones.
    let bundle = bundle
        .edit(|spec| spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "cgroup"})));
    assert_eq!(oci.run_bundle(&bundle).ok().out, "done\n");
}

#[test]
fn no_code_of_the_image_runs_before_the_program() {
    let oci = Oci::new();
    let bundle = Bundle::shell("names", "echo $HOME").edit(|spec| {
        spec["process"]["env"] = json!(["PATH=/bin"]);
        spec["process"]["user"] = json!({"uid": 33, "gid": 33});
    });
    let root = bundle.rootfs();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("lib/x86_64-linux-gnu")).unwrap();
    fs::write(root.join("etc/nsswitch.conf"), "passwd: evil files\ngroup: evil\n").unwrap();
    fs::write(root.join("etc/passwd"), "www:x:33:33::/srv/www:/bin/sh\n").unwrap();
    for name in ["lib/x86_64-linux-gnu/libnss_evil.so.2", "lib/libnss_evil.so.2"] {
        fs::write(root.join(name), "not a library").unwrap();
    }
    let trace = bundle.path().join("trace");
    let opens = ["-e", "trace=open,openat,openat2", "-o", trace.to_str().unwrap()];
    let output = oci.under_strace(&opens, "run", &bundle).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "/srv/www\n", "{output:?}");
    let trace = fs::read_to_string(&trace).unwrap();
    assert!(trace.contains("passwd") && !trace.contains("nss"), "nsswitch.conf or a module was opened");
}

/// CVE-2025-52881: writes to procfs that are led elsewhere.
#[test]
fn sysctls_are_written_to_procfs_whatever_is_mounted_there() {
    let oci = Oci::new();
    let fake = Scratch::new("fakeproc");
    fs::create_dir_all(fake.path().join("sys/net/ipv4")).unwrap();
    fs::write(fake.path().join("sys/net/ipv4/ip_forward"), "untouched").unwrap();
    let bundle = Bundle::shell("sysctl", "cat /proc/sys/net/ipv4/ip_forward").edit(|spec| {
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
    });
    // The image's own files by the names of procfs.
    let inside = bundle.rootfs().join("proc/sys/net/ipv4");
    fs::create_dir_all(&inside).unwrap();
    fs::write(inside.join("ip_forward"), "untouched").unwrap();
    let container = oci.start(&bundle);
    testkit::wait_until("its output", || container.output() == "untouched");
    let bundle = Bundle::shell("sysctlreal", "cat /proc/sys/net/ipv4/ip_forward")
        .edit(|spec| spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"}));
    assert_eq!(oci.run_bundle(&bundle).ok().out, "1\n");
}

#[test]
fn sysctls_of_the_host_are_refused() {
    let oci = Oci::new();
    let mut bundle = Bundle::shell("badsysctl", "true");
    for name in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "vm.swappiness",
        "net.ipv4/../../kernel/core_pattern",
        "kernel.hostname",
        "",
    ] {
        bundle.change(|spec| spec["linux"]["sysctl"] = json!({name: "1"}));
        oci.create_with(&bundle, &[]).fails("check linux.sysctl");
    }
    let bundle = Bundle::shell("hostnet", "true").edit(|spec| {
        spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "network");
        spec["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    });
    oci.create_with(&bundle, &[]).fails("the namespace that it belongs to is the host's");
    // By a path it is the host's too.
    for (kind, file, name) in [
        ("network", "net", "net.ipv4.ip_forward"),
        ("ipc", "ipc", "kernel.msgmax"),
        ("uts", "uts", "kernel.domainname"),
    ] {
        let bundle = Bundle::shell("hostpath", "true").edit(|spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != kind);
            namespaces.push(json!({"type": kind, "path": format!("/proc/{}/ns/{file}", std::process::id())}));
            spec["linux"]["sysctl"] = json!({name: "1"});
        });
        oci.create_with(&bundle, &[]).fails("the namespace that it belongs to is the host's");
    }
}

#[test]
fn a_device_that_an_image_brings_is_the_right_one() {
    let oci = Oci::new();
    let bundle = Bundle::shell("devices", "stat -c %t:%T /dev/null /dev/zero").edit(|spec| {
        spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    });
    let dev = bundle.rootfs().join("dev");
    fs::create_dir_all(&dev).unwrap();
    // The disk, by the name of the null device.
    let number = rustix::fs::makedev(254, 0);
    fs::remove_file(dev.join("null")).ok();
    let mode = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, dev.join("null"), rustix::fs::FileType::BlockDevice, mode, number)
        .unwrap();
    assert!(fs::metadata(dev.join("null")).unwrap().file_type().is_block_device());
    assert_eq!(oci.run_bundle(&bundle).ok().out, "1:3\n1:5\n");
    assert!(Path::new("/dev/null").exists());
}
