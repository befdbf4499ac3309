//! The static programs: their profile, their flags, their place.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

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
pub(crate) fn directory() -> PathBuf {
    root().join("target/static")
}

/// Builds the static programs and puts them into [`directory`], each replaced at once.
pub(crate) fn build() -> Result<()> {
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
    run(&mut command)?;
    let target = directory();
    fs::create_dir_all(&target).with_context(|| format!("mkdir {}", target.display()))?;
    for program in STATIC.into_iter().chain([FLOOR]) {
        let from = scratch.join(TARGET).join("static").join(program);
        without_failpoints(&from)?;
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

/// What a program with failpoints has in it: the name of the variable that says what happens at them, and of one of
/// them.
const FAILPOINTS: [&str; 2] = ["WHARF_FAILPOINTS", "durable.rename"];

/// A program that is handed to people has no failpoints in it.
pub(crate) fn without_failpoints(program: &Path) -> Result<()> {
    let bytes = fs::read(program).with_context(|| format!("read {}", program.display()))?;
    let found = FAILPOINTS.into_iter().find(|name| has(&bytes, name));
    ensure!(found.is_none(), "{} has failpoints: {found:?} is in it", program.display());
    Ok(())
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_failpoints_is_told_from_one_without() {
        let dir = root().join("target").join(format!("failpoints-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("mkdir");
        let made = |name: &str, text: &str| {
            let path = dir.join(name);
            fs::write(&path, text).expect("write");
            without_failpoints(&path)
        };
        assert!(made("without", "\0ELF rename WHARF_ROOT").is_ok());
        assert!(made("variable", "\0ELF WHARF_FAILPOINTS\0").is_err());
        assert!(made("point", "\0ELF durable.renamed\0").is_err());
        fs::remove_dir_all(&dir).expect("rm");
    }
}
