//! What the kernel says of a running container's process and of one exec'd, ours beside runc's and crun's.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;
use testkit::wait_until;

use super::case::{Crun, Run, Runc, Runtime, Wharf, call};

/// What differs and why: with whom (nothing: with both), a file, a piece of the lines that differ, the reason.
const DIFFERENCES: [(Option<Runtime>, &str, &str, &str); 12] = [
    (None, "mountinfo", "/ /sys/fs/cgroup ", "they leave the directory of the hierarchies writable"),
    (
        None,
        "mountinfo",
        "/sys/fs/cgroup/unified ",
        "they leave the unified hierarchy of the hybrid layout out",
    ),
    (None, "mountinfo", "/ /sys/firmware ", "they allow programs and devices on what masks a directory"),
    (None, "mountinfo", "/ /proc/acpi ", "they allow programs and devices on what masks a directory"),
    (
        None,
        "mountinfo",
        "/null /proc/",
        "ours masks a file with the host's null, which the container can't replace",
    ),
    (
        Some(Crun),
        "mountinfo",
        "/bus /proc/bus ",
        "crun loses the mount's flags where it makes a path read-only",
    ),
    (Some(Crun), "mountinfo", "/fs /proc/fs ", "as above"),
    (Some(Crun), "mountinfo", "/irq /proc/irq ", "as above"),
    (Some(Crun), "mountinfo", "/sys /proc/sys ", "as above"),
    (
        Some(Runc),
        "limits",
        "Max open files",
        "Go raises its own soft limit, and sometimes the exec's with it",
    ),
    (Some(Crun), "oom_score_adj", "", "crun does not set it for an exec"),
    (Some(Crun), "stat", "leads ", "crun gives an exec without a terminal no session of its own"),
];

#[test]
fn the_process_of_a_container_is_like_runcs() {
    compare(Runc);
}

#[test]
fn the_process_of_a_container_is_like_cruns() {
    compare(Crun);
}

fn compare(peer: Runtime) {
    let (ours, theirs) = (Live::new(Wharf), Live::new(peer));
    let mut wrong = Vec::new();
    for (what, our_pid, their_pid) in [("init", ours.init, theirs.init), ("exec", ours.exec(), theirs.exec())]
    {
        let (ours, theirs) = (ours.look(our_pid), theirs.look(their_pid));
        for (file, lines) in &ours {
            let other = &theirs[file];
            let only = |from: &[String], other: &[String]| {
                let missing = from.iter().filter(|line| !other.contains(line));
                missing.filter(|line| !is_known(peer, file, line)).cloned().collect::<Vec<_>>()
            };
            for (sign, line) in only(lines, other)
                .into_iter()
                .map(|line| ("+", line))
                .chain(only(other, lines).into_iter().map(|line| ("-", line)))
            {
                wrong.push(format!("{what} {file}: {sign}{line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "beside {}:\n{}", peer.name(), wrong.join("\n"));
}

fn is_known(peer: Runtime, file: &str, line: &str) -> bool {
    let with = |who: &Option<Runtime>| who.is_none_or(|who| who == peer);
    DIFFERENCES.iter().any(|(who, name, part, _)| with(who) && *name == file && line.contains(part))
}

/// A container that sleeps.
struct Live {
    runtime: Runtime,
    run: Run,
    init: i32,
}

impl Live {
    fn new(runtime: Runtime) -> Self {
        let run = Run::new();
        let mut spec = testkit::default_spec(&["sleep", "3600"]);
        spec["linux"]["cgroupsPath"] = json!(run.cgroup());
        spec["linux"]["seccomp"] = testkit::seccomp_profile();
        spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "cgroup"}));
        spec["process"]["oomScoreAdj"] = json!(321);
        spec["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [2000]});
        spec["process"]["rlimits"] = json!([
            {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]);
        std::fs::write(run.bundle.join("config.json"), spec.to_string()).expect("write");
        let bundle = run.bundle.display().to_string();
        let mut live = Self { runtime, run, init: 0 };
        live.call(&["create", "--bundle", &bundle, "--pid-file", &format!("{bundle}/pid"), &live.run.id]);
        live.call(&["start", &live.run.id]);
        live.init = live.pid("pid");
        live
    }

    fn call(&self, args: &[&str]) {
        let (status, errors) = quiet(self.runtime, &self.run.root, args);
        assert_eq!(status, 0, "{} {args:?}: {errors}", self.runtime.name());
    }

    /// A second process in it, which sleeps too, with a process.json of its own: the command line's defaults differ.
    fn exec(&self) -> i32 {
        let spec = std::fs::read(self.run.bundle.join("config.json")).expect("read");
        let spec: serde_json::Value = serde_json::from_slice(&spec).expect("JSON");
        let process = self.run.bundle.join("process.json");
        std::fs::write(&process, spec["process"].to_string()).expect("write");
        let file = self.run.bundle.join("exec-pid");
        let (process, file) = (process.display().to_string(), file.display().to_string());
        self.call(&["exec", "--detach", "--pid-file", &file, "--process", &process, &self.run.id]);
        self.pid("exec-pid")
    }

    /// The process of a pid file, once it is the program.
    fn pid(&self, file: &str) -> i32 {
        let pid = std::fs::read_to_string(self.run.bundle.join(file)).expect("a pid file");
        let pid: i32 = pid.trim().parse().expect("a pid");
        wait_until("the program", || {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == b"sleep\x003600\0")
        });
        pid
    }

    /// Files of its procfs by name, as lines without what differs by chance.
    fn look(&self, pid: i32) -> BTreeMap<&'static str, Vec<String>> {
        let read = |file: &str| {
            let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let bundle = &self.run.bundle;
            // Where /tmp is a mount, the root's path begins below it.
            let name = bundle.file_name().expect("a name").to_string_lossy().into_owned();
            text.replace(&self.run.id, "@id")
                .replace(&bundle.display().to_string(), "@bundle")
                .replace(&format!("/{name}/"), "@bundle/")
        };
        let lines = |file: &str| read(file).lines().map(str::to_owned).collect::<Vec<_>>();
        let mut out = BTreeMap::new();
        for file in ["limits", "cgroup", "uid_map", "gid_map", "setgroups", "oom_score_adj", "timens_offsets"]
        {
            out.insert(file, lines(file));
        }
        for file in ["personality", "coredump_filter", "attr/current", "loginuid"] {
            out.insert(file, lines(file));
        }
        // What is mapped and with which rights; where, is chance.
        let maps = lines("maps").iter().map(|line| mapping(line)).collect::<std::collections::BTreeSet<_>>();
        out.insert("maps", maps.into_iter().collect());
        out.insert("environ", read("environ").split('\0').map(str::to_owned).collect());
        out.insert("status", lines("status").iter().filter_map(|line| status(line)).collect());
        out.insert("mountinfo", lines("mountinfo").iter().map(|line| mount(line)).collect());
        out.insert("fd", descriptors(pid, &self.run));
        out.insert("root", vec![link(pid, "root"), link(pid, "cwd"), link(pid, "exe")]);
        // Priority and nice value, session of its own, terminal, policy.
        let stat = read("stat");
        let fields: Vec<&str> =
            stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        out.insert(
            "stat",
            [4, 15, 16, 37, 38].map(|at| fields.get(at).copied().unwrap_or("?").to_owned()).to_vec(),
        );
        out.get_mut("stat")
            .expect("there")
            .push(format!("leads {}", fields.get(3) == Some(&pid.to_string().as_str())));
        out
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        quiet(self.runtime, &self.run.root, &["delete", "--force", &self.run.id]);
        testkit::kill_cgroups(&self.run.id);
    }
}

/// With standard output to a file: the container's processes keep it open.
fn quiet(runtime: Runtime, root: &Path, args: &[&str]) -> (i32, String) {
    let log = root.join("errors");
    let file = std::fs::File::create(&log).expect("create");
    let status = std::process::Command::new(runtime.program())
        .arg("--root")
        .arg(root)
        .args(args)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(file)
        .status()
        .expect("run the runtime");
    (status.code().unwrap_or(-1), std::fs::read_to_string(log).unwrap_or_default())
}

fn link(pid: i32, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/{name}"))
        .map_or_else(|e| e.to_string(), |path| path.display().to_string())
}

fn descriptors(pid: i32, run: &Run) -> Vec<String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors");
    let mut all: Vec<String> = entries
        .flatten()
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let target = link(pid, &format!("fd/{name}"));
            format!("{name} {target}").replace(&run.root.display().to_string(), "@root")
        })
        .collect();
    all.sort();
    all
}

/// Rights and name of a line of `maps`.
fn mapping(line: &str) -> String {
    let mut fields = line.split_ascii_whitespace().skip(1);
    format!("{} {}", fields.next().unwrap_or_default(), fields.nth(3).unwrap_or("anonymous"))
}

/// A line of `status`, unless it differs by chance.
fn status(line: &str) -> Option<String> {
    const CHANCE: [&str; 16] = [
        "Pid:",
        "Tgid:",
        "PPid:",
        "NStgid:",
        "NSpid:",
        "NSpgid:",
        "NSsid:",
        "Vm",
        "Rss",
        "SigQ:",
        "voluntary",
        "nonvoluntary",
        "State:",
        "HugetlbPages:",
        "Hugetlb",
        "FDSize:",
    ];
    if CHANCE.iter().any(|start| line.starts_with(start)) {
        return None;
    }
    // The C library's own two signals may be ignored already in whoever runs the tests.
    let ignored = line.strip_prefix("SigIgn:\t").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    Some(ignored.map_or_else(|| line.to_owned(), |mask| format!("SigIgn: {:x}", mask & 0x7fff_ffff)))
}

/// Root, mount point, options, propagation, file system, source and its options; no numbers.
fn mount(line: &str) -> String {
    let fields: Vec<&str> = line.split(' ').skip(3).collect();
    let plain = fields.iter().map(|field| match field.split_once(':') {
        Some((kind @ ("shared" | "master" | "propagate_from"), _)) => kind.to_owned(),
        _ => (*field).to_owned(),
    });
    let line = plain.collect::<Vec<_>>().join(" ");
    // Names of sources mean nothing here, and whether a tmpfs itself is read-only shows in the mount's own options.
    let (mount, system) = line.split_once(" - ").unwrap_or((&line, ""));
    match system.split(' ').next() {
        Some(kind @ ("cgroup" | "cgroup2" | "tmpfs" | "sysfs")) => format!("{mount} - {kind}"),
        _ => line,
    }
}

#[test]
fn the_state_names_the_process() {
    for runtime in [Runc, Crun, Wharf] {
        let live = Live::new(runtime);
        let (status, state, errors) = call(runtime, &live.run.root, &["state", &live.run.id]);
        assert_eq!(status, 0, "{errors}");
        let state: serde_json::Value = serde_json::from_str(&state).expect("JSON");
        assert_eq!(
            (&state["id"], &state["status"], &state["pid"]),
            (&json!(live.run.id), &json!("running"), &json!(live.init)),
            "{}",
            runtime.name()
        );
    }
}
