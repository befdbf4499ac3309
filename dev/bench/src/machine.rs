//! What the numbers were measured on.

use std::fs;
use std::process::Command;

/// Processor, memory, kernel, cgroups, load and date, one line each.
pub(crate) fn describe() -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or(0);
    let cgroups =
        if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    vec![
        format!("processor: {cores} × {model}"),
        format!("memory: {} MiB", kib / 1024),
        format!("kernel: {}, cgroup {cgroups}", first_line("uname", &["-r"])),
        format!("load averages at the end (1, 5, 15 min): {}", load()),
        format!("date: {}", first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
    ]
}

/// Other work disturbs what is measured: a reader must see it.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
}

/// Name and version of everything that is measured.
pub(crate) fn versions() -> Vec<String> {
    let ask = |program: &str| format!("{program}: {}", first_line(program, &["--version"]));
    let mut lines = vec![own()];
    lines.extend(["runc", "crun", "conmon", "podman"].iter().map(|program| ask(program)));
    lines
}

/// Our version and commit.
pub(crate) fn own() -> String {
    let commit =
        first_line("git", &["-C", &testkit::workspace().to_string_lossy(), "rev-parse", "--short", "HEAD"]);
    format!("wharfinger: {} ({commit})", env!("CARGO_PKG_VERSION"))
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("not installed").to_owned()
}
