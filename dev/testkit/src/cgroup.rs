//! Cgroups that tests made: finding them, and sweeping them away after a failure.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Every cgroup directory, in every hierarchy, with `needle` in its name; parents before children.
pub fn marked_cgroups(needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(Path::new(ROOT), needle, false, &mut found);
    found.sort();
    found
}

fn walk(dir: &Path, needle: &str, inside: bool, found: &mut Vec<PathBuf>) {
    // A cgroup may vanish while we look; it is then no finding.
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let hit = inside || entry.file_name().to_string_lossy().contains(needle);
        if hit {
            found.push(entry.path());
        }
        walk(&entry.path(), needle, hit, found);
    }
}

/// Kills everything in the cgroups with `needle` in their name and removes them: for clean-up by `Drop`.
pub fn kill_cgroups(needle: &str) {
    for _ in 0..50 {
        let mut cgroups = marked_cgroups(needle);
        if cgroups.is_empty() {
            return;
        }
        cgroups.reverse();
        for cgroup in &cgroups {
            thaw(cgroup);
            for pid in fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default().lines() {
                if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw) {
                    // It may be gone already.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            // EBUSY while a process is on its way out: the next round has it.
            let _ = fs::remove_dir(cgroup);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    eprintln!("cgroups of {needle} are still there: {:?}", marked_cgroups(needle));
}

fn thaw(cgroup: &Path) {
    for (file, text) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if cgroup.join(file).exists() {
            let _ = fs::write(cgroup.join(file), text);
        }
    }
}
