//! `linux.netDevices`: devices of the host go into the container, and come back if it does not come to be.

use std::process::Command;

use serde_json::{Value, json};
use testkit::Bundle;

use crate::kit::Oci;

/// A pair of veth devices of the test's own, one of which is to be moved; gone when dropped.
struct Pair {
    name: String,
    peer: String,
}

fn ip(line: &str) -> (bool, String) {
    let output = Command::new(testkit::require("ip")).args(line.split(' ')).output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Pair {
    fn new(letter: char) -> Self {
        let id = std::process::id();
        let pair = Self { name: format!("whd{letter}{id}"), peer: format!("whp{letter}{id}") };
        let Self { name, peer } = &pair;
        for line in [
            format!("link add {name} mtu 1400 address 02:00:00:00:07:0{letter} type veth peer name {peer}"),
            format!("addr add 192.0.2.7/24 dev {name}"),
            format!("addr add 2001:db8::7/64 dev {name} nodad"),
        ] {
            assert!(ip(&line).0, "ip {line}");
        }
        pair
    }

    /// A bundle that gets it as `name`.
    fn bundle(&self, line: &str, name: &str) -> Bundle {
        let devices = json!({self.name.clone(): {"name": name}});
        Bundle::shell("netdev", line).edit(|spec| spec["linux"]["netDevices"] = devices)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        ip(&format!("link del {}", self.peer));
    }
}

/// What `ip -json addr` tells of the one device, asked in the network namespace of `pid`, or here.
fn shown(pid: Option<i32>, name: &str) -> Value {
    let mut command = match pid {
        Some(pid) => {
            let mut command = Command::new(testkit::require("nsenter"));
            command.arg(format!("--net=/proc/{pid}/ns/net")).arg(testkit::require("ip"));
            command
        }
        None => Command::new(testkit::require("ip")),
    };
    let output = command.args(["-json", "addr", "show", "dev", name]).output().unwrap();
    serde_json::from_slice(&output.stdout).map_or(Value::Null, |list: Value| list[0].clone())
}

fn addresses(device: &Value) -> Vec<String> {
    let list = device["addr_info"].as_array().into_iter().flatten();
    list.filter(|entry| entry["scope"] == "global")
        .map(|entry| format!("{}/{}", entry["local"].as_str().unwrap(), entry["prefixlen"]))
        .collect()
}

const ADDRESSES: [&str; 2] = ["192.0.2.7/24", "2001:db8::7/64"];

#[test]
fn a_device_keeps_its_addresses_and_is_up() {
    let pair = Pair::new('a');
    let (oci, bundle) = (Oci::new(), pair.bundle("ls /sys/class/net; sleep 1000", "quay0"));
    let container = oci.start(&bundle);
    testkit::wait_until("the list of devices", || container.output() == "lo\nquay0\n");
    let device = shown(Some(container.pid()), "quay0");
    assert_eq!(addresses(&device), ADDRESSES, "{device}");
    assert_eq!((&device["mtu"], &device["address"]), (&json!(1400), &json!("02:00:00:00:07:0a")));
    assert!(device["flags"].as_array().unwrap().contains(&json!("UP")), "{device}");
    assert_eq!(shown(None, &pair.name), Value::Null, "it is still here");
}

#[test]
fn the_kernel_numbers_what_ends_in_a_pattern() {
    let (first, second) = (Pair::new('b'), Pair::new('c'));
    let bundle = first.bundle("ls /sys/class/net", "berth%d");
    let bundle =
        bundle.edit(|spec| spec["linux"]["netDevices"][second.name.clone()] = json!({"name": "berth%d"}));
    assert_eq!(Oci::new().run_bundle(&bundle).ok().out, "berth0\nberth1\nlo\n");
    let third = Pair::new('d');
    let bundle = Bundle::shell("netdevsame", "ls /sys/class/net")
        .edit(|spec| spec["linux"]["netDevices"] = json!({third.name.clone(): {}}));
    assert_eq!(Oci::new().run_bundle(&bundle).ok().out, format!("lo\n{}\n", third.name));
}

#[test]
fn a_create_that_fails_gives_them_back() {
    let pair = Pair::new('e');
    assert!(ip(&format!("link set {} up", pair.name)).0);
    let bundle = pair.bundle("true", "quay0").edit(|spec| spec["process"]["args"] = json!(["/nonexistent"]));
    Oci::new().create_with(&bundle, &[]).fails("exec /nonexistent: no such file or directory");
    let device = shown(None, &pair.name);
    assert_eq!(addresses(&device), ADDRESSES, "{device}");
    assert!(device["flags"].as_array().unwrap().contains(&json!("UP")), "{device}");
}

#[test]
fn what_cannot_be_moved() {
    let pair = Pair::new('f');
    let refused = |bundle: &Bundle, words: &str| {
        Oci::new().create_with(bundle, &[]).fails(words);
        assert_eq!(addresses(&shown(None, &pair.name)), ADDRESSES, "{words}");
    };
    refused(&pair.bundle("true", "lo"), &format!("move network device {}: lo is there already", pair.name));
    refused(&pair.bundle("true", "a/b"), r#"check linux.netDevices: "a/b" is no name of a device"#);
    let missing = pair.bundle("true", "quay0").edit(|spec| {
        spec["linux"]["netDevices"]["zz-missing"] = json!({});
    });
    refused(&missing, "move network device zz-missing: no such device");
    let twice = pair.bundle("true", "quay0").edit(|spec| {
        spec["linux"]["netDevices"]["zz-missing"] = json!({"name": "quay0"});
    });
    refused(&twice, "check linux.netDevices: two are to be quay0");
    let host = pair.bundle("true", "quay0").edit(|spec| {
        let namespaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "network");
    });
    refused(&host, "check linux.netDevices: there is no network namespace for them");
}
