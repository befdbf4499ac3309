//! The systemd driver on the control groups of v1, which no machine of ours has together with systemd: with a systemd of
//! our own making at its socket, that does to the hierarchies what it is known for.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::tests::serve;
use super::*;
use crate::cgroup::apply::write;
use crate::cgroup::{Cgroup, Driver, Layout, Rights};

const JOB: &str = "/job/1";

/// What the calls had as properties.
type Seen = Receiver<(String, BTreeMap<String, Value>)>;

/// Answers at systemd's socket, in a mount namespace of this thread's own, for `connections` of them.
fn systemd(scope: &'static str, connections: usize) -> Seen {
    sys::spawn::unshare(libc::CLONE_NEWNS).unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), None).unwrap();
    std::fs::create_dir("/run/systemd").unwrap();
    let listener = UnixListener::bind("/run/systemd/private").unwrap();
    let (seen, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().take(connections) {
            serve(stream.unwrap(), |method, arguments| answer(scope, &seen, method, arguments));
        }
    });
    receiver
}

fn answer(
    scope: &str,
    seen: &Sender<(String, BTreeMap<String, Value>)>,
    method: &str,
    arguments: &[Value],
) -> (Vec<Vec<Value>>, Result<Vec<Value>, String>) {
    let given = properties(arguments);
    let file =
        |hierarchy: &str, name: &str| Path::new("/sys/fs/cgroup").join(hierarchy).join(scope).join(name);
    let job = || {
        let signal = vec![
            Value::U32(1),
            Value::Path(JOB.into()),
            Value::Str(String::new()),
            Value::Str("done".into()),
        ];
        (vec![signal], Ok(vec![Value::Path(JOB.into())]))
    };
    let out = match method {
        "StartTransientUnit" => {
            let Some(Value::List(pids)) = given.get("PIDs") else { panic!("{given:?}") };
            let [Value::U32(pid)] = pids[..] else { panic!("{pids:?}") };
            std::fs::create_dir_all(file("systemd", "")).unwrap();
            write(&file("systemd", "cgroup.procs"), &pid.to_string()).unwrap();
            job()
        }
        "SetUnitProperties" => {
            if let Some(Value::U64(limit)) = given.get("TasksMax") {
                write(&file("pids", "pids.max"), &limit.to_string()).unwrap();
            }
            // The list that it has been told, and nothing that others have allowed.
            write(&file("devices", "devices.deny"), "a").unwrap();
            write(&file("devices", "devices.allow"), "c 1:3 rwm").unwrap();
            (vec![], Ok(vec![]))
        }
        "StopUnit" => job(),
        _ => (vec![], Ok(vec![])),
    };
    seen.send((method.to_owned(), given)).unwrap();
    out
}

/// The `a(sv)` of a call.
fn properties(arguments: &[Value]) -> BTreeMap<String, Value> {
    let list = arguments.iter().find_map(|argument| match argument {
        Value::List(list) => Some(list.clone()),
        _ => None,
    });
    let pair = |value| match value {
        Value::Struct(pair) => match <[Value; 2]>::try_from(pair) {
            Ok([Value::Str(name), Value::Variant(value)]) => Some((name, *value)),
            _ => None,
        },
        _ => None,
    };
    list.unwrap_or_default().into_iter().filter_map(pair).collect()
}

/// What is left when the test is over: nothing.
struct Container(Cgroup, Child, PathBuf);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.thaw();
        let _ = self.1.kill();
        let _ = self.1.wait();
        for path in self.0.paths.values() {
            let _ = std::fs::remove_dir(path);
            let _ = std::fs::remove_dir(path.parent().unwrap());
        }
        let _ = std::fs::remove_dir(&self.2);
    }
}

fn resources(json: serde_json::Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

#[test]
fn what_systemd_does_not_manage_is_ours() {
    use serde_json::json;
    let layout = Layout::detect().unwrap();
    if !matches!(layout, Layout::V1 { .. }) {
        testkit::not_tested("systemd on cgroup v1: this machine has v2 alone");
        return;
    }
    let slice = format!("whv{}.slice", std::process::id());
    let scope: &'static str = Box::leak(format!("{slice}/wh-c1.scope").into_boxed_str());
    // A create, an update, and one that fails and is undone.
    let seen = systemd(scope, 4);
    let calls = |method: &str| {
        let all: Vec<_> = seen.try_iter().filter(|(name, _)| name == method).collect();
        all.into_iter().map(|(_, properties)| properties).collect::<Vec<_>>()
    };
    let child = Command::new("sleep").arg("600").spawn().unwrap();
    let pid = child.id().cast_signed();
    let now = resources(json!({"pids": {"limit": 50}, "cpu": {"cpus": "0"}, "devices": [
        {"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}));
    let annotations = BTreeMap::new();
    let path = format!("{slice}:wh:c1");
    let request = Request {
        id: "c1",
        cgroups_path: Some(&path),
        resources: &now,
        annotations: &annotations,
        driver: Driver::Systemd,
        rights: Rights::Root,
        owner: None,
    };
    let cgroup = Cgroup::create(&layout, &request, pid);
    let Ok(cgroup) = cgroup else {
        let mut child = child;
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{cgroup:?}");
    };
    let container = Container(cgroup, child, Path::new("/sys/fs/cgroup/systemd").join(&slice));
    let cgroup = &container.0;
    let read = |controller: &str, file: &str| {
        let path = cgroup.directory(controller).unwrap().join(file);
        std::fs::read_to_string(path).unwrap().trim().to_owned()
    };

    // systemd knows neither of these hierarchies, and it is in all the same.
    for controller in ["cpuset", "freezer", "blkio", "devices", "memory", "pids", "name=systemd"] {
        assert_eq!(read(controller, "cgroup.procs"), pid.to_string(), "{controller}");
    }
    assert_eq!(read("cpuset", "cpuset.cpus"), "0");
    cgroup.freeze().unwrap();
    assert_eq!(read("freezer", "freezer.state"), "FROZEN");
    cgroup.thaw().unwrap();
    // Its list of devices is ours: it would allow everything otherwise, at any reload.
    let start = calls("StartTransientUnit").remove(0);
    assert_eq!(start["DevicePolicy"], Value::Str("strict".into()));
    let Value::List(allowed) = &start["DeviceAllow"] else { panic!("{start:?}") };
    let line =
        |path: &str, access: &str| Value::Struct(vec![Value::Str(path.into()), Value::Str(access.into())]);
    for entry in [
        line("/dev/char/10:229", "rw"),
        line("char-*", "m"),
        line("char-136", "rwm"),
        line("/dev/char/1:3", "rwm"),
    ] {
        assert!(allowed.contains(&entry), "{entry:?} is not in {allowed:?}");
    }
    assert!(!allowed.contains(&line("block-*", "rwm")));

    // An update changes no device, whatever systemd writes for it, and whoever has allowed them.
    write(&cgroup.directory("devices").unwrap().join("devices.allow"), "c 7:7 r").unwrap();
    let devices = read("devices", "devices.list");
    assert!(devices.contains("c 7:7 r") && devices.contains("c 10:229 rw"), "{devices}");
    let wanted = resources(json!({"pids": {"limit": 60}, "cpu": {"cpus": "0"}, "devices": now.devices}));
    cgroup.update(&now, &wanted).unwrap();
    let same = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(same(&read("devices", "devices.list")), same(&devices));
    assert_eq!((read("pids", "pids.max"), read("freezer", "freezer.state")), ("60".into(), "THAWED".into()));
    assert_eq!(calls("SetUnitProperties")[0]["TasksMax"], Value::U64(60));

    // One that fails is undone, in the files and in systemd, with what it had not limited before.
    let refused = json!({"pids": {"limit": 7}, "memory": {"limit": 104_857_600}, "hugepageLimits": [{"pageSize": "3MB", "limit": 1}]});
    let error = cgroup.update(&wanted, &resources(refused)).unwrap_err().to_string();
    assert!(error.contains("hugetlb.3MB"), "{error}");
    assert_eq!(read("pids", "pids.max"), "60");
    assert_eq!(same(&read("devices", "devices.list")), same(&devices));
    let set = calls("SetUnitProperties");
    assert_eq!((&set[0]["TasksMax"], &set[0]["MemoryLimit"]), (&Value::U64(7), &Value::U64(104_857_600)));
    assert_eq!((&set[1]["TasksMax"], &set[1]["MemoryLimit"]), (&Value::U64(60), &Value::U64(u64::MAX)));
    assert_eq!(set.len(), 2);
}
