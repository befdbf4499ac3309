//! User namespaces: new ones with maps, and joined ones.

use std::fs;

use serde_json::{Value, json};
use testkit::Bundle;

use crate::kit::{Oci, field};

/// A bundle whose ids are shifted by 100000, and whose root filesystem belongs to its root.
fn shifted(what: &str, line: &str) -> Bundle {
    let bundle = Bundle::shell(what, line).edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        let linux = &mut spec["linux"];
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    });
    let status =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status();
    assert!(status.unwrap().success());
    bundle
}

#[test]
fn root_inside_is_nobody_outside() {
    let oci = Oci::new();
    let line = "id -u; cat /proc/self/uid_map; echo x > /dev/null; head -c1 /dev/zero | wc -c; ls -ln /dev/null; ulimit -n; touch /made; sleep 1000";
    let bundle = shifted("userns", line);
    let container = oci.start(&bundle);
    testkit::wait_until("its output", || container.output().contains("100\n"));
    let out = container.output();
    assert!(out.starts_with("0\n         0     100000      65536\n1\n"), "{out}");
    let pid = container.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert_eq!(field(&status, "Uid"), "100000\t100000\t100000\t100000");
    assert_eq!(field(&status, "Groups"), "");
    testkit::wait_until("the file", || bundle.rootfs().join("made").exists());
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(bundle.rootfs().join("made")).unwrap().uid(), 100_000);
}

/// CVE-2025-47291: with a user namespace too, it is in the cgroup that was asked for.
#[test]
fn a_user_namespace_frees_nobody_of_the_cgroup() {
    let oci = Oci::new();
    let bundle = shifted("usercgroup", "sleep 1000").in_cgroup();
    let container = oci.start(&bundle);
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let memory = groups.lines().find(|line| line.contains(":memory:") || line.starts_with("0::/w")).unwrap();
    assert!(memory.ends_with(&bundle.cgroup()), "{groups}");
}

#[test]
fn an_exec_is_in_the_user_namespace_too() {
    let oci = Oci::new();
    let bundle = shifted("execuserns", "sleep 1000").seccomp();
    let container = oci.start(&bundle);
    let line = "id -u; cat /proc/self/uid_map; readlink /proc/self/ns/user; ulimit -n; cat /proc/self/status";
    let out = container.exec(&[], &["sh", "-c", line]).ok().out;
    let own = fs::read_link(format!("/proc/{}/ns/user", container.pid())).unwrap();
    assert!(out.contains(&*own.to_string_lossy()), "{out}");
    assert!(out.starts_with("0\n         0     100000      65536\n"), "{out}");
    assert_eq!(field(&out, "Seccomp"), "2");
    // Nothing of the host's ids is left: what it may do, it may do as 100000.
    container.exec(&[], &["cat", &format!("/proc/{}/environ", std::process::id())]);
    let outcome = container.exec(&["--user", "70000:0"], &["true"]);
    assert!(outcome.fails("set user id 70000: invalid argument").code == 255);
}

#[test]
fn a_user_namespace_of_another_container_is_joined() {
    let oci = Oci::new();
    let first = shifted("usernsfirst", "sleep 1000");
    let container = oci.start(&first);
    let pid = container.pid();
    let second = Bundle::shell(
        "usernssecond",
        "id -u; readlink /proc/self/ns/user; readlink /proc/self/ns/net; cat /proc/self/uid_map",
    )
    .edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "network", "path": format!("/proc/{pid}/ns/net")}));
        namespaces.push(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    });
    let status =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(second.rootfs()).status();
    assert!(status.unwrap().success());
    let out = oci.run_bundle(&second).ok().out;
    let link =
        |name: &str| fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_string_lossy().into_owned();
    assert_eq!(out, format!("0\n{}\n{}\n         0     100000      65536\n", link("user"), link("net")));
}

/// What belongs to the host can be joined only before the user namespace takes the right to.
#[test]
fn a_joined_user_namespace_with_a_namespace_of_the_hosts() {
    let oci = Oci::new();
    let (owner, other) = (shifted("usernsowner", "sleep 1000"), Bundle::sleeper("utsowner"));
    let (owner, other) = (oci.start(&owner), oci.start(&other));
    let (user, uts) = (owner.pid(), other.pid());
    let bundle =
        Bundle::shell("usernshost", "readlink /proc/self/ns/user; readlink /proc/self/ns/uts").edit(|spec| {
            let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| !["uts", "network"].contains(&namespace["type"].as_str().unwrap()));
            namespaces.push(json!({"type": "uts", "path": format!("/proc/{uts}/ns/uts")}));
            namespaces.push(json!({"type": "network", "path": format!("/proc/{user}/ns/net")}));
            namespaces.push(json!({"type": "user", "path": format!("/proc/{user}/ns/user")}));
            spec.as_object_mut().unwrap().remove("hostname");
        });
    let status =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status();
    assert!(status.unwrap().success());
    let out = oci.run_bundle(&bundle).ok().out;
    let link = |pid: i32, name: &str| {
        fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_string_lossy().into_owned()
    };
    assert_eq!(out, format!("{}\n{}\n", link(user, "user"), link(uts, "uts")));
}

/// `idmap` without mappings means the container's, which are the joined namespace's.
#[test]
fn a_mount_is_mapped_by_a_joined_user_namespace() {
    let oci = Oci::new();
    let owner = shifted("idmapowner", "sleep 1000");
    let owner = oci.start(&owner);
    let pid = owner.pid();
    let mut bundle = Bundle::shell("idmapjoin", "stat -c %u /one/f /all/f");
    let data = bundle.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("f"), "x").unwrap();
    bundle.change(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({"type": "network", "path": format!("/proc/{pid}/ns/net")}));
        namespaces.push(json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
        for (destination, option) in [("/one", "idmap"), ("/all", "ridmap")] {
            spec["mounts"].as_array_mut().unwrap().push(
                json!({"destination": destination, "type": "bind", "source": data, "options": ["rbind", option]}),
            );
        }
    });
    let status =
        std::process::Command::new("chown").args(["-R", "100000:100000"]).arg(bundle.rootfs()).status();
    assert!(status.unwrap().success());
    assert_eq!(oci.run_bundle(&bundle).ok().out, "0\n0\n");
}

#[test]
fn maps_that_cannot_be() {
    let oci = Oci::new();
    let bundle = shifted("usernsbad", "true");
    let check = |change: fn(&mut Value), words: &str| {
        let mut edited = bundle.spec().clone();
        change(&mut edited);
        fs::write(bundle.path().join("config.json"), edited.to_string()).unwrap();
        oci.create_with(&bundle, &[]).fails(words);
    };
    check(|spec| spec["linux"]["uidMappings"] = json!([]), "check linux.uidMappings: missing");
    check(|spec| spec["linux"]["gidMappings"] = json!(null), "check linux.gidMappings: missing");
    check(
        |spec| spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 0}]),
        "uid_map: invalid argument",
    );
    check(|spec| spec["process"]["user"]["uid"] = json!(99999), "set user id 99999: invalid argument");
}
