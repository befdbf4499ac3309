//! Who is not root runs containers too, in a user namespace with one id.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use testkit::{Bundle, wait_until};

use crate::kit::Outcome;

/// The user. Nobody's files are on this machine.
const USER: &str = "65534";

/// A bundle of the user's own, with a copy of the program that they may run.
struct User {
    bundle: Bundle,
    dir: PathBuf,
}

impl User {
    fn new(what: &str, line: &str) -> Self {
        let bundle = Bundle::shell(what, line);
        let dir = bundle.path().join("user");
        fs::create_dir_all(dir.join("run")).unwrap();
        let user = Self { bundle, dir };
        // By another program: one that this process had open for writing could not be executed by all of its threads.
        let copy = format!("cp {} wharf-oci && chown -R {USER}:{USER} .", env!("CARGO_BIN_EXE_wharf-oci"));
        assert!(user.shell(&copy).code == 0);
        user.oci("spec --rootless").ok();
        user.edit(|spec| {
            spec["process"]["terminal"] = json!(false);
            spec["process"]["args"] = user.bundle.spec()["process"]["args"].clone();
            spec["root"]["path"] = json!(user.bundle.rootfs());
        });
        user
    }

    fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.dir.join("config.json");
        let mut spec: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut spec);
        fs::write(&path, spec.to_string()).unwrap();
    }

    fn shell(&self, line: &str) -> Outcome {
        let output = Command::new("sh").args(["-c", line]).current_dir(&self.dir).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// wharf-oci as the user.
    fn oci(&self, line: &str) -> Outcome {
        let as_user = format!("setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=-all");
        self.shell(&format!("XDG_RUNTIME_DIR=$PWD/run {as_user} ./wharf-oci {line}"))
    }

    fn id(&self) -> &str {
        self.bundle.id()
    }

    fn run(&self) -> Outcome {
        self.oci(&format!("run {}", self.id()))
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.oci(&format!("state {}", self.id())).ok().out).unwrap()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.oci(&format!("delete --force {}", self.id()));
    }
}

#[test]
fn a_user_without_privilege_runs_containers_too() {
    let user = User::new("rootless", "id -u; cat /proc/self/uid_map; touch /x || echo read-only");
    let map = format!("0\n         0      {USER}          1\nread-only\n");
    assert_eq!(user.run().ok().out, map);
}

#[test]
fn all_of_a_containers_life() {
    let user = User::new("rootlife", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    let id = user.id();
    user.oci(&format!("create {id} >out 2>err </dev/null")).ok();
    assert_eq!(user.state()["status"], "created");
    user.oci(&format!("start {id}")).ok();
    let state = user.state();
    assert_eq!((&state["status"], &state["id"]), (&json!("running"), &json!(id)));
    assert_eq!(user.oci("list -q").ok().out, format!("{id}\n"));
    let status = fs::read_to_string(format!("/proc/{}/status", state["pid"])).unwrap();
    assert_eq!(crate::kit::field(&status, "Uid"), [USER; 4].join("\t"));
    // The container's root, who is none outside; the same namespaces.
    let line = "id -u; cat /proc/self/setgroups; readlink /proc/self/ns/user; readlink /proc/1/ns/user";
    let out = user.oci(&format!("exec {id} sh -c '{line}'")).ok().out;
    let own = fs::read_link(format!("/proc/{}/ns/user", state["pid"])).unwrap();
    assert_eq!(out, format!("0\ndeny\n{0}\n{0}\n", own.display()));
    assert_eq!(user.oci(&format!("exec {id} sh -c 'exit 7'")).code, 7);
    user.oci(&format!("exec --user 5 {id} true")).fails("set user id 5: invalid argument");
    user.oci(&format!("kill {id} TERM")).ok();
    wait_until("the end", || user.state()["status"] == "stopped");
    user.oci(&format!("delete {id}")).ok();
    assert_eq!(user.oci("list -q").ok().out, "");
    assert!(
        fs::read_dir(user.dir.join("run/wharf-oci"))
            .unwrap()
            .flatten()
            .all(|entry| entry.file_name().to_string_lossy().starts_with('.'))
    );
}

#[test]
fn mounts_devices_and_limits_as_far_as_the_kernel_lets() {
    let line = "echo x >/dev/null; stat -c %t:%T /dev/zero; touch /scratch/x /data/mine; cat /data/f; ulimit -n; \
                cat /proc/self/oom_score_adj; hostname; grep -c \' /proc/sys ro\' /proc/self/mountinfo";
    let user = User::new("rootmounts", line);
    let data = user.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("f"), "data\n").unwrap();
    user.shell(&format!("chown -R {USER} data"));
    user.edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/tmp/../scratch", "type": "tmpfs", "source": "x", "options": ["size=64k"]}));
        mounts.push(json!({"destination": "/data", "type": "bind", "source": data, "options": ["rbind"]}));
        spec["root"]["readonly"] = json!(false);
        spec["hostname"] = json!("inside");
        spec["process"]["oomScoreAdj"] = json!(300);
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]);
    });
    // The mount points must be there: the image is not the user's.
    for name in ["scratch", "data"] {
        fs::create_dir_all(user.bundle.rootfs().join(name)).unwrap();
    }
    assert_eq!(user.run().ok().out, "1:5\ndata\n64\n300\ninside\n1\n");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(data.join("mine")).unwrap().uid().to_string(), USER);
}

/// A newuidmap or newgidmap that only writes down what it is asked, and waits until that is done.
fn tool(user: &User, name: &str) {
    let path = user.dir.join("tools").join(name);
    let script =
        "#!/bin/sh\necho $* >$0.new; mv $0.new $0.asked; while ! [ -e $0.done ]; do sleep 0.05; done\n";
    let write = format!(
        "mkdir -p tools; printf %s '{script}' >{0} && chmod 755 {0}; chown {USER} tools",
        path.display()
    );
    assert_eq!(user.shell(&write).code, 0);
}

/// Does, as root, what the tool was asked, which is what a set-user-id program does.
fn map(user: &User, name: &str, file: &str) -> String {
    let path = user.dir.join("tools").join(name);
    wait_until(name, || path.with_extension("asked").exists());
    let asked = fs::read_to_string(path.with_extension("asked")).unwrap();
    let (pid, ranges) = asked.trim().split_once(' ').unwrap();
    let numbers: Vec<&str> = ranges.split(' ').collect();
    let lines: Vec<String> = numbers.chunks(3).map(|range| range.join(" ")).collect();
    fs::write(format!("/proc/{pid}/{file}"), lines.join("\n")).unwrap();
    fs::write(path.with_extension("done"), "").unwrap();
    ranges.to_owned()
}

#[test]
fn ids_that_the_system_gave_a_user_are_mapped_by_its_tools() {
    let user = User::new("rootmap", "id -u; id -G; cat /proc/self/setgroups");
    let ranges = json!([{"containerID": 0, "hostID": 65534, "size": 1}, {"containerID": 1, "hostID": 100_000, "size": 99}]);
    user.edit(|spec| {
        spec["linux"]["uidMappings"] = ranges.clone();
        spec["linux"]["gidMappings"] = ranges;
        spec["process"]["user"] = json!({"uid": 9, "gid": 8, "additionalGids": [5]});
    });
    user.run().fails("uid_map: operation not permitted (newuidmap: ");
    tool(&user, "newuidmap");
    tool(&user, "newgidmap");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| [map(&user, "newuidmap", "uid_map"), map(&user, "newgidmap", "gid_map")]);
        let as_user = format!("setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=-all");
        let paths = "PATH=$PWD/tools:$PATH XDG_RUNTIME_DIR=$PWD/run";
        let outcome = user.shell(&format!("{paths} {as_user} ./wharf-oci run {}", user.id())).ok();
        assert_eq!(outcome.out, "9\n8 5\nallow\n");
        assert_eq!(asked.join().unwrap(), ["0 65534 1 1 100000 99"; 2]);
    });
}

/// As rootless engines call a runtime: root, but of a user namespace of theirs.
#[test]
fn root_of_a_user_namespace_is_not_taken_for_root() {
    let user = User::new("rootuserns", "id -u; cat /proc/self/uid_map; echo x >/dev/null");
    user.edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user");
        spec["linux"]["uidMappings"] = json!([]);
        spec["linux"]["gidMappings"] = json!([]);
    });
    let inside = |options: &str| {
        let to_user = format!("setpriv --reuid={USER} --regid={USER} --clear-groups --inh-caps=-all");
        let to_root = "unshare --user --map-root-user --mount";
        user.shell(&format!(
            "USER=nobody XDG_RUNTIME_DIR=$PWD/run {to_user} {to_root} ./wharf-oci {options} run {}",
            user.id()
        ))
    };
    let ran = format!("0\n         0      {USER}          1\n");
    assert_eq!(inside("").ok().out, ran);
    assert_eq!(inside("--rootless true").ok().out, ran);
    assert!(user.dir.join("run/wharf-oci").exists(), "its state is not the user's");
    inside("--rootless=false").fails("/sys/fs/cgroup/");
    inside("--rootless perhaps").fails("--rootless \"perhaps\" is neither true, false nor auto");
}

#[test]
fn what_needs_more_rights_is_refused_and_leaves_nothing() {
    let user = User::new("rootrefused", "echo ran");
    let plain = fs::read_to_string(user.dir.join("config.json")).unwrap();
    let refused = |change: fn(&mut Value), words: &str| {
        fs::write(user.dir.join("config.json"), &plain).unwrap();
        user.edit(change);
        let outcome = user.run().fails(words);
        assert_eq!(outcome.out, "", "{words}");
        assert_eq!(user.oci("list -q").ok().out, "", "{words}");
    };
    refused(|spec| spec["linux"]["uidMappings"][0]["hostID"] = json!(0), "uid_map: operation not permitted");
    refused(|spec| spec["linux"]["uidMappings"][0]["size"] = json!(10), "uid_map: operation not permitted");
    refused(|spec| spec["process"]["oomScoreAdj"] = json!(-900), "oom_score_adj: permission denied");
    refused(|spec| spec["process"]["user"]["uid"] = json!(9), "set user id 9: invalid argument");
    refused(
        |spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "user");
            spec["linux"]["uidMappings"] = json!([]);
            spec["linux"]["gidMappings"] = json!([]);
        },
        "operation not permitted",
    );
    refused(
        |spec| {
            let mount = json!({"destination": "/proc/../mnt", "type": "ext4", "source": "/dev/none"});
            spec["mounts"].as_array_mut().unwrap().push(mount);
        },
        "mount ext4",
    );
    refused(
        |spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "network", "path": "/proc/1/ns/net"}));
        },
        "/proc/1/ns/net: permission denied",
    );
}
