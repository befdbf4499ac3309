//! The static programs: their profile, their flags, their place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::command::{cargo, root, run};

/// The programs that stand beside or inside every container.
pub(crate) const STATIC: [&str; 2] = ["wharf-monitor", "wharf-oci"];
/// Built like them, for the bench.
const FLOOR: &str = "floor";
/// glibc linked in, no relocation at start: fewer private pages in each monitor.
const FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";
/// Named, so that procedural macros (shared objects) are not built with [`FLAGS`].
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the programs are put.
pub(crate) fn directory(failpoints: bool) -> PathBuf {
    root().join(if failpoints { "target/static-failpoints" } else { "target/static" })
}

/// Builds the static programs and puts them into [`directory`], each replaced at once.
pub(crate) fn build(failpoints: bool) -> Result<()> {
    let scratch = root().join("target/static-build");
    let mut command = cargo();
    command
        .args(["build", "--quiet", "--profile", "static", "--target", TARGET, "--target-dir"])
        .arg(&scratch)
        .args(["--package", "monitor", "--package", "ocirun", "--package", FLOOR])
        .env("RUSTFLAGS", FLAGS);
    for program in STATIC.into_iter().chain([FLOOR]) {
        command.args(["--bin", program]);
    }
    if failpoints {
        command.args(["--features", "sys/failpoints"]);
    }
    run(&mut command)?;
    let target = directory(failpoints);
    fs::create_dir_all(&target).with_context(|| format!("mkdir {}", target.display()))?;
    for program in STATIC.into_iter().chain([FLOOR]) {
        let from = scratch.join(TARGET).join("static").join(program);
        // Renamed into place: a test may be running the old one.
        let draft = target.join(format!(".{program}.{}", std::process::id()));
        fs::copy(&from, &draft).with_context(|| format!("copy {}", from.display()))?;
        let to = target.join(program);
        fs::rename(&draft, &to).with_context(|| format!("rename to {}", to.display()))?;
        let size = fs::metadata(&to).with_context(|| format!("stat {}", to.display()))?.size();
        println!("{} ({} KiB)", to.display(), size.div_ceil(1024));
    }
    Ok(())
}
