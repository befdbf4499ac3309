//! What bytes of files that others write may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use model::harness::Target;

use crate::proc::{parse_cgroups, parse_mountinfo, parse_stat};

/// All of them, by the names of the fuzz targets.
pub const ALL: &[(&str, Target)] = &[("proc_files", proc_files)];

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
}
