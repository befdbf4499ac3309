//! `checkpoint` and `restore`: what the command line refuses, and, where criu works, a container that goes on.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use testkit::{Bundle, wait_until};

use crate::kit::{Oci, Outcome, cgroups_of};

/// Whether criu knows this machine's kernel; if not, what it says.
fn criu_works() -> bool {
    let output = Command::new(testkit::require("criu")).arg("check").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        testkit::not_tested(&format!("a whole checkpoint: {}", text.lines().last().unwrap_or_default()));
    }
    output.status.success()
}

/// Counts in a file of its own.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i >/count.new; mv /count.new /count; sleep 0.05; done";

fn count(bundle: &Bundle) -> u64 {
    fs::read_to_string(bundle.rootfs().join("count"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn counts_on(bundle: &Bundle) {
    let before = count(bundle);
    wait_until("the counter to go on", || count(bundle) > before + 3);
}

/// A started container with nothing open outside.
fn start(oci: &Oci, bundle: &Bundle) {
    let mut command = oci.command();
    command.args(["run", "--detach", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    wait_until("the counter", || count(bundle) > 0);
}

fn images(bundle: &Bundle) -> PathBuf {
    bundle.path().join("images")
}

fn save(oci: &Oci, bundle: &Bundle, more: &[&str]) -> Outcome {
    let images = images(bundle).to_string_lossy().into_owned();
    oci.run(&[&["checkpoint", "--image-path", &images], more, &[bundle.id()]].concat())
}

/// The command line of a detached restore.
fn restoring(oci: &Oci, bundle: &Bundle, images: &Path) -> Command {
    let mut command = oci.command();
    command.args(["restore", "--detach", "--image-path"]).arg(images).arg("--bundle").arg(bundle.path());
    command.arg("--pid-file").arg(bundle.path().join("pid")).arg(bundle.id());
    command
}

#[track_caller]
fn restore(oci: &Oci, bundle: &Bundle) {
    let errors = fs::File::create(bundle.path().join("errors")).unwrap();
    let mut command = restoring(oci, bundle, &images(bundle));
    let status = command.stdout(Stdio::null()).stderr(errors).status().unwrap();
    let log = fs::read_to_string(images(bundle).join("restore.log")).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(30).collect();
    assert!(status.success(), "{}\n{tail:#?}", fs::read_to_string(bundle.path().join("errors")).unwrap());
}

#[test]
fn what_cannot_be_saved_or_restored_is_refused_and_leaves_nothing() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("nocheck"));
    save(&oci, &bundle, &[]).fails("does not exist");
    let container = oci.create(&bundle);
    save(&oci, &bundle, &[]).fails("checkpoint container").fails("container not running: created");
    oci.run(&["start", bundle.id()]).ok();
    save(&oci, &bundle, &["--manage-cgroups-mode", "wild"]).fails("unknown --manage-cgroups-mode \"wild\"");
    // A criu that is not there, and one that fails: its log has the reason, and the container did not notice.
    let path = images(&bundle);
    let images = path.to_string_lossy().into_owned();
    let with = |criu: &str| oci.run(&["--criu", criu, "checkpoint", "--image-path", &images, bundle.id()]);
    with("/nonexistent").fails("run /nonexistent: no such file or directory");
    let fake = bundle.path().join("criu");
    let script = "#!/bin/sh\necho '(00.1) Error (criu/x.c:1): vdso: strange' >images/$1.log\necho \"$@\" >said\nexit 1\n";
    let script =
        script.replace("images/", &format!("{images}/")).replace(">said", &format!(">{images}/said"));
    let write = format!("printf %s \"$0\" >{0} && chmod 755 {0}", fake.display());
    assert!(Command::new("sh").args(["-c", &write, &script]).status().unwrap().success());
    with(&fake.to_string_lossy()).fails("run criu dump: vdso: strange (see ");
    let said = fs::read_to_string(path.join("said")).unwrap();
    assert!(
        said.contains(&format!("--tree {}", container.pid())) && said.contains("--manage-cgroups=soft"),
        "{said}"
    );
    assert_eq!(container.status(), "running");
    let mut command = restoring(&oci, &bundle, &path);
    let text = |output: std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text(command.output().unwrap()).contains("already exists"));
    drop(container);
    let refused = |words: &str| {
        let said = text(restoring(&oci, &bundle, &path).output().unwrap());
        assert!(said.lines().count() == 1 && said.contains(words), "{words}: {said}");
        assert!(!oci.root().join(bundle.id()).exists(), "{words}: its directory is left");
        assert!(cgroups_of(bundle.id()).is_empty(), "{words}: a cgroup is left");
    };
    refused("there is no checkpoint in ");
    fs::write(path.join("inventory.img"), "x").unwrap();
    refused("wharf-oci.json: no such file or directory");
    fs::write(path.join("wharf-oci.json"), "{").unwrap();
    refused("wharf-oci.json");
    // CVE-2024-8676, CVE-2026-15801: what is mounted from outside is not for the images to say.
    fs::write(path.join("wharf-oci.json"), r#"{"streams": [], "mounts": [["/mnt", "/etc"]]}"#).unwrap();
    refused("/etc on /mnt is not in its configuration");
    // Images that are none: criu says so, or that it knows no such kernel.
    fs::write(path.join("wharf-oci.json"), r#"{"streams": [], "mounts": []}"#).unwrap();
    refused("run criu restore: ");
}

/// A criu that writes down what it is told, and fails.
fn recorder(bundle: &Bundle) -> PathBuf {
    let (fake, said) = (bundle.path().join("criu"), bundle.path().join("said"));
    let script = format!("#!/bin/sh\necho \"$@\" >{}\nexit 1\n", said.display());
    let write = format!("printf %s \"$0\" >{0} && chmod 755 {0}", fake.display());
    assert!(Command::new("sh").args(["-c", &write, &script]).status().unwrap().success());
    fake
}

#[test]
fn options_of_callers_reach_criu() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("checkopt"));
    let container = oci.start(&bundle);
    let criu = recorder(&bundle).to_string_lossy().into_owned();
    let path = images(&bundle);
    fs::create_dir_all(path.join("../before")).unwrap();
    let images = path.to_string_lossy().into_owned();
    let save = |options: &[&str]| {
        let args = ["--criu", &criu, "checkpoint", "--image-path", &images];
        oci.run(&[&args, options, &[bundle.id()]].concat())
    };
    let said = || fs::read_to_string(bundle.path().join("said")).unwrap();
    let cases: [(&[&str], &str); 8] = [
        (&["--link-remap"], " --link-remap "),
        (&["--tcp-skip-in-flight"], " --skip-in-flight "),
        (&["--tcp-close"], " --tcp-close "),
        (&["--empty-ns", "network"], " --empty-ns net "),
        (&["--status-fd", "0"], " --status-fd 0 "),
        (&["--pre-dump", "--parent-path", "../before"], " --prev-images-dir ../before --track-mem"),
        (&["--page-server", "[::1]:27"], " --page-server --address ::1 --port 27 "),
        (&["--lazy-pages", "--page-server", "h:27"], " --address h --port 27 --lazy-pages "),
    ];
    for (options, words) in cases {
        save(options).fails("run criu ");
        assert!(said().contains(words), "{options:?}: {}", said());
        assert_eq!(said().starts_with("pre-dump "), options.contains(&"--pre-dump"), "{}", said());
        assert_eq!(container.status(), "running");
    }
    let cases: [(&[&str], &str); 6] = [
        (&["--parent-path", "/a"], "--parent-path /a: it is not relative to --image-path"),
        (&["--parent-path", "../none"], "no such file or directory"),
        (&["--page-server", "h"], "--page-server \"h\" is not ADDRESS:PORT"),
        (&["--status-fd", "99"], "--status-fd \"99\" is no open descriptor"),
        (&["--empty-ns", "pid"], "--empty-ns \"pid\": only of network can it be"),
        (&["--lsm-profile", "a:b"], "invalid option '--lsm-profile'"),
    ];
    for (options, words) in cases {
        save(options).fails(words);
    }
    drop(container);
    fs::write(path.join("inventory.img"), "x").unwrap();
    fs::write(path.join("wharf-oci.json"), r#"{"streams": [], "mounts": []}"#).unwrap();
    let restore = |bundle: &Bundle, options: &[&str]| {
        let bundle_path = bundle.path().to_string_lossy().into_owned();
        let args =
            ["--criu", &criu, "restore", "--detach", "--image-path", &images, "--bundle", &bundle_path];
        oci.run(&[&args, options, &[bundle.id()]].concat())
    };
    restore(&bundle, &["--lsm-profile", "selinux:a:b", "--lsm-mount-context=c", "--lazy-pages"])
        .fails("run criu restore");
    assert!(said().contains(" --lsm-profile selinux:a:b --lsm-mount-context c --lazy-pages "), "{}", said());
    let socket = bundle.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    restore(&bundle, &["--console-socket", &socket.to_string_lossy()]).fails("without a terminal");
    let bundle = bundle.terminal();
    restore(&bundle, &["--console-socket", &socket.to_string_lossy()]).fails("it has a terminal");
    assert!(!oci.root().join(bundle.id()).exists());
}

#[test]
fn a_container_with_a_terminal_is_not_saved() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("checktty").terminal());
    let path = bundle.path().join("s");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    oci.create_with(&bundle, &["--console-socket", &path.to_string_lossy()]).ok();
    oci.run(&["start", bundle.id()]).ok();
    save(&oci, &bundle, &[]).fails("it has a terminal");
    oci.run(&["delete", "--force", bundle.id()]).ok();
}

#[test]
fn a_container_goes_on_where_it_was() {
    if !criu_works() {
        return;
    }
    let oci = Oci::new();
    let bundle = Bundle::shell("check", COUNTER).in_cgroup().seccomp();
    let data = bundle.path().join("data");
    fs::create_dir(&data).unwrap();
    let bundle = bundle.edit(|spec| {
        let mount = json!({"destination": "/data", "type": "bind", "source": data, "options": ["rbind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    start(&oci, &bundle);
    // Left running, and saved a second time, for good.
    save(&oci, &bundle, &["--leave-running"]).ok();
    counts_on(&bundle);
    fs::remove_dir_all(images(&bundle)).unwrap();
    save(&oci, &bundle, &[]).ok();
    let at = count(&bundle);
    oci.run(&["state", bundle.id()]).fails("does not exist");
    assert!(cgroups_of(bundle.id()).is_empty(), "a cgroup is left");
    restore(&oci, &bundle);
    counts_on(&bundle);
    assert!(count(&bundle) > at, "it began anew");
    let state: serde_json::Value = serde_json::from_str(&oci.run(&["state", bundle.id()]).ok().out).unwrap();
    assert_eq!(state["status"], "running");
    assert_eq!(fs::read_to_string(bundle.path().join("pid")).unwrap().trim(), state["pid"].to_string());
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    assert!(groups.contains(&bundle.cgroup()), "{groups}");
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    assert_eq!(crate::kit::field(&status, "Seccomp"), "2");
    let line = "touch /data/mine && cat /proc/kcore | wc -c; id -u";
    assert_eq!(oci.run(&["exec", bundle.id(), "sh", "-c", line]).ok().out, "0\n0\n");
    assert!(data.join("mine").exists());
    oci.run(&["kill", bundle.id(), "KILL"]).ok();
    wait_until("the end", || oci.run(&["state", bundle.id()]).out.contains("stopped"));
    oci.run(&["delete", bundle.id()]).ok();
    assert!(cgroups_of(bundle.id()).is_empty(), "a cgroup is left");
}

/// Its output, line by line.
fn output(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

#[test]
fn a_restored_program_writes_to_the_new_streams() {
    if !criu_works() {
        return;
    }
    let oci = Oci::new();
    let bundle = Bundle::shell("checkpipe", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done");
    let mut command = oci.command();
    command.args(["run", "--detach", "--bundle", &bundle.path().to_string_lossy(), bundle.id()]);
    let mut first = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = output(&mut first);
    assert!(first.wait().unwrap().success());
    assert_eq!(lines.by_ref().take(3).collect::<Vec<_>>(), ["1", "2", "3"]);
    save(&oci, &bundle, &[]).ok();
    let last: u64 = lines.last().unwrap().parse().unwrap();
    let mut command = restoring(&oci, &bundle, &images(&bundle));
    let mut second = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = output(&mut second);
    assert!(second.wait().unwrap().success());
    assert_eq!(lines.next(), Some((last + 1).to_string()));
    oci.run(&["delete", "--force", bundle.id()]).ok();
}

/// A mount that is gone when dropped.
struct Unmount(PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_joined_network_and_hooks_are_there_again() {
    if !criu_works() {
        return;
    }
    let oci = Oci::new();
    let mut bundle = Bundle::shell("checknet", COUNTER);
    let namespace = bundle.path().join("net");
    fs::write(&namespace, "").unwrap();
    let unshare = format!("unshare --net={} true", namespace.display());
    assert!(Command::new("sh").args(["-c", &unshare]).status().unwrap().success());
    let _mounted = Unmount(namespace.clone());
    let hook = |name: &str| {
        let line = format!("echo {name} >>{}/hooks", bundle.path().display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", line]}])
    };
    let hooks = json!({"prestart": hook("a"), "createRuntime": hook("b"), "poststart": hook("c"), "poststop": hook("d")});
    bundle.change(|spec| {
        spec["hooks"] = hooks;
        for entry in spec["linux"]["namespaces"].as_array_mut().unwrap() {
            if entry["type"] == "network" {
                entry["path"] = json!(namespace);
            }
        }
    });
    start(&oci, &bundle);
    save(&oci, &bundle, &[]).ok();
    restore(&oci, &bundle);
    counts_on(&bundle);
    let pid: i32 = fs::read_to_string(bundle.path().join("pid")).unwrap().trim().parse().unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(Path::new(&format!("/proc/{pid}/ns/net"))), inode(&namespace));
    oci.run(&["delete", "--force", bundle.id()]).ok();
    assert_eq!(fs::read_to_string(bundle.path().join("hooks")).unwrap(), "a\nb\nc\nd\na\nb\nc\nd\n");
}
