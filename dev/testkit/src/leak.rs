//! Proof that a test left nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use crate::{mark, marked_cgroups};

/// Where temporary files and state are looked for, two levels deep.
const PLACES: [&str; 5] = ["/tmp", "/var/tmp", "/run", "/dev/shm", "/run/wharfinger"];

/// What carries our mark now, to be compared with what does later: processes (by command line,
/// environment or cgroup), children and zombies of this process, cgroups in all hierarchies, mounts, unix
/// sockets, files and directories in the usual places, and this process's own descriptors.
#[derive(Debug)]
pub struct LeakCheck {
    needle: String,
    before: BTreeSet<String>,
}

impl LeakCheck {
    /// Takes the first picture, of what carries this process's [`mark`].
    pub fn start() -> Self {
        Self::of(mark())
    }

    /// Takes the first picture, of what carries `needle`: an id, a directory's name.
    pub fn of(needle: &str) -> Self {
        Self { needle: needle.to_owned(), before: look(needle) }
    }

    /// What is there now and was not before, one line each; empty when all is clean.
    pub fn leaks(&self) -> Vec<String> {
        look(&self.needle).difference(&self.before).cloned().collect()
    }

    /// Takes the second picture, again and again until it equals the first.
    ///
    /// # Panics
    /// With the list of what is left.
    pub fn finish(self) {
        let begin = Instant::now();
        loop {
            let leaks = self.leaks();
            if leaks.is_empty() {
                return;
            }
            assert!(
                begin.elapsed() < crate::deadline(),
                "left behind by {}:\n  {}",
                self.needle,
                leaks.join("\n  ")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn look(needle: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    processes(needle, &mut found);
    found.extend(marked_cgroups(needle).iter().map(|path| format!("cgroup {}", path.display())));
    for (kind, file) in [("mount", "/proc/self/mountinfo"), ("socket", "/proc/net/unix")] {
        let text = fs::read(file).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        found.extend(text.lines().filter(|line| line.contains(needle)).map(|line| format!("{kind} {line}")));
    }
    for place in PLACES {
        files(place, needle, &mut found);
    }
    descriptors(&mut found);
    found
}

fn processes(needle: &str, found: &mut BTreeSet<String>) {
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if pid == own {
            continue;
        }
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let mut fields = tail.split_whitespace();
        let (state, parent) =
            (fields.next().unwrap_or(""), fields.next().and_then(|text| text.parse::<u32>().ok()));
        let carries = ["cmdline", "environ", "cgroup"].iter().any(|file| {
            let text = fs::read(entry.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(needle)
        });
        if carries || parent == Some(own) {
            found.insert(format!("process {head}) state {state}"));
        }
    }
}

fn files(place: &str, needle: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().contains(needle) {
            found.insert(format!("file {place}/{}", name.display()));
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            for inner in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                if inner.file_name().to_string_lossy().contains(needle) {
                    found.insert(format!("file {}", inner.path().display()));
                }
            }
        }
    }
}

/// Descriptors by number and target. A socket's or pipe's inode is part of the target, so one that was
/// closed and made anew counts as new; the directory that is being read does not count.
fn descriptors(found: &mut BTreeSet<String>) {
    let entries: Vec<_> = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().collect();
    for entry in entries {
        if let Ok(target) = fs::read_link(entry.path())
            && !target.to_string_lossy().starts_with("/proc/")
        {
            found.insert(format!("descriptor {} {}", entry.file_name().display(), target.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_leak_of_each_kind_is_seen_and_its_end_too() {
        let needle = crate::unique_id("leak");
        let check = LeakCheck::of(&needle);
        let mut child =
            Command::new("sleep").arg("1000").env("WHARF_LEAK", &needle).spawn().expect("spawn sleep");
        let file = std::path::PathBuf::from("/tmp").join(&needle);
        fs::write(&file, "").expect("write");
        let socket = std::os::unix::net::UnixListener::bind(format!("/run/{needle}.sock")).expect("bind");
        let leaks = crate::wait_for("all leaks", || Some(check.leaks()).filter(|leaks| leaks.len() >= 4));
        for kind in ["process ", "file /tmp/", "socket ", "descriptor "] {
            assert!(leaks.iter().any(|leak| leak.starts_with(kind)), "no {kind} in {leaks:?}");
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        drop(socket);
        fs::remove_file(format!("/run/{needle}.sock")).expect("unlink");
        fs::remove_file(file).expect("unlink");
        check.finish();
    }
}
