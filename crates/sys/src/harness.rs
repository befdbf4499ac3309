//! What bytes of files that others write may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use std::path::Path;

use model::harness::Target;

use crate::cgroup::{Layout, read_texts};
use crate::proc::{parse_cgroups, parse_mountinfo, parse_stat};

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Target)] = &[("cgroup_files", cgroup_files), ("proc_files", proc_files)];

/// Files of /proc that show what a process called itself, and what it mounted where.
pub fn proc_files(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(stat) = parse_stat(&text) {
        assert!(text.contains(&stat.comm));
    }
    for line in parse_cgroups(&text) {
        assert!(!line.path.contains('\n') && line.controllers.iter().all(|name| !name.contains(',')));
    }
    let mounts = parse_mountinfo(bytes);
    assert!(mounts.len() <= bytes.len());
    let layout = Layout::of_mounts(&mounts);
    assert!(layout.hierarchies().len() <= mounts.len());
    let climbs = |path: &Path| path.components().any(|part| part.as_os_str() == "..");
    if let Ok(cgroup) = layout.cgroup(text.lines().next().unwrap_or("/")) {
        let within = cgroup.places().iter().all(|place| !climbs(&place.dir));
        assert!(within || mounts.iter().any(|mount| climbs(&mount.mount_point)));
    }
}

/// Statistics files of cgroups, of both versions.
pub fn cgroup_files(bytes: &[u8]) {
    read_texts(&String::from_utf8_lossy(bytes));
}
