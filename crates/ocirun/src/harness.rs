//! What hostile bytes may reach, each as one function for the fuzz targets (`fuzz/`) and the property tests.
//!
//! None may panic; each checks what must hold whatever the bytes are.

use std::path::Path;

use model::oci::{Process, Spec};

use crate::mounts::options::MountOptions;
use crate::plan::{InitPlan, Switches};
use crate::process::ProcessPlan;

/// A config.json, up to the plan of what init does.
pub fn config(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let mut warnings = Vec::new();
    match InitPlan::new(&spec, Path::new("/bundle"), "id", Switches::default(), &mut warnings) {
        Ok(plan) => {
            assert!(plan.rootfs.is_absolute());
            assert!(plan.mounts.iter().all(|mount| mount.destination.starts_with('/')));
            assert!(
                plan.sysctl.iter().all(|(name, _)| !name.contains("..")),
                "a parameter outside of /proc/sys"
            );
            assert!(plan.masked.iter().chain(&plan.readonly).all(|path| path.starts_with('/')));
        }
        Err(error) => assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    }
}

/// A process.json.
pub fn process(bytes: &[u8]) {
    let Ok(process) = serde_json::from_slice::<Process>(bytes) else { return };
    if let Ok(plan) = ProcessPlan::new(&process, &mut Vec::new()) {
        assert!(!plan.args.is_empty() && plan.cwd.starts_with('/'));
        assert!(plan.umask <= 0o777);
    }
}

/// A container's passwd; the first four bytes are the user.
pub fn passwd(bytes: &[u8]) {
    let Some((uid, text)) = bytes.split_first_chunk::<4>() else { return };
    if let Some(home) = crate::passwd::home(text, u32::from_ne_bytes(*uid) % 2000) {
        assert!(!home.is_empty() && !home.contains(&0) && !home.contains(&b'\n') && !home.contains(&b':'));
    }
}

/// The options of a mount, with commas between them.
pub fn mount_options(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let list: Vec<String> = text.split(',').map(str::to_owned).collect();
    if let Ok(options) = MountOptions::parse("/x", &list) {
        assert_eq!(options.set & options.clear & !sys::mount_attr::ATIME_MASK, 0, "set and cleared at once");
        assert!(options.data.len() <= list.len());
    }
}
