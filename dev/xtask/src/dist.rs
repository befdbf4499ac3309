//! What is handed to people: programs, man pages, completions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{cargo, output, root, run};
use crate::programs;

/// Shell, and where its completions are looked for under a prefix.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/wharf"),
    ("zsh", "share/zsh/site-functions/_wharf"),
    ("fish", "share/fish/vendor_completions.d/wharf.fish"),
];

/// Makes `target/dist`, laid out as a prefix, and an archive of it.
pub(crate) fn dist() -> Result<()> {
    let stage = root().join("target/dist/wharfinger");
    // It is there only if this was run before.
    let _ = fs::remove_dir_all(&stage);
    install(&stage)?;
    run(Command::new("tar")
        .args(["-C"])
        .arg(root().join("target/dist"))
        .args([
            "--owner=0",
            "--group=0",
            "--sort=name",
            "-czf",
            "target/dist/wharfinger.tar.gz",
            "wharfinger",
        ])
        .current_dir(root()))?;
    println!("{}", root().join("target/dist/wharfinger.tar.gz").display());
    Ok(())
}

/// Builds everything and installs it under a prefix.
pub(crate) fn install(prefix: &Path) -> Result<()> {
    programs::build()?;
    run(cargo().args(["build", "--quiet", "--release", "--package", "ctl", "--bin", "wharf"]))?;
    let wharf = root().join("target/release/wharf");
    programs::without_failpoints(&wharf)?;
    put(&wharf, &prefix.join("bin/wharf"), 0o755)?;
    for program in programs::STATIC {
        // Beside `wharf`, where it looks for them first.
        put(&programs::directory().join(program), &prefix.join("bin").join(program), 0o755)?;
    }
    let man = prefix.join("share/man/man1");
    fs::create_dir_all(&man).with_context(|| format!("mkdir {}", man.display()))?;
    run(Command::new(&wharf).arg("man").arg(&man))?;
    for (shell, place) in COMPLETIONS {
        let text = output(Command::new(&wharf).args(["completions", shell]))?;
        let path = prefix.join(place);
        let dir = path.parent().unwrap_or(prefix);
        fs::create_dir_all(dir).with_context(|| format!("mkdir {}", dir.display()))?;
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    println!("installed under {}", prefix.display());
    Ok(())
}

fn put(from: &Path, to: &Path, mode: u32) -> Result<()> {
    let dir = to.parent().unwrap_or(to);
    fs::create_dir_all(dir).with_context(|| format!("mkdir {}", dir.display()))?;
    let draft = to.with_extension("new");
    fs::copy(from, &draft).with_context(|| format!("copy {}", from.display()))?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode))
        .with_context(|| format!("chmod {}", draft.display()))?;
    fs::rename(&draft, to).with_context(|| format!("rename to {}", to.display()))
}
