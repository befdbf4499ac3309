//! Checks that need more than the compiler: cargo-deny, Miri. What is not there is said.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::command::{cargo, run, tee};
use crate::tidy;

/// What Miri runs: a crate, and which of its tests. Pure code, and the unsafe code of `sys` that makes no system call which Miri lacks.
const MIRI: [(&str, &[&str]); 3] = [
    ("model", &[]),
    ("sys", &["scan::", "stat_with_a_hostile_name"]),
    ("monitor", &["logs::lines::", "logs::stamp::", "process::ctl::"]),
];

/// Tests with a hundred thousand of something.
const SKIPPED: [&str; 1] = ["without_end"];

/// Rewrites the list of advisories from `database`, or checks everything.
pub(crate) fn audit(database: Option<&Path>) -> Result<bool> {
    if let Some(database) = database {
        tidy::rewrite(database)?;
    }
    let tidy = tidy::run()?;
    Ok(tidy & deny())
}

/// What cargo-deny says, where it is installed; tidy has judged deny.toml by itself in any case.
pub(crate) fn deny() -> bool {
    if has(cargo().args(["deny", "--version"])) {
        return run(cargo().args(["deny", "--offline", "check", "bans", "licenses", "sources"])).is_ok();
    }
    println!("NOT TESTED: cargo deny: not installed (cargo install --locked cargo-deny)");
    true
}

/// Runs the pure tests under Miri, where a nightly toolchain has it.
pub(crate) fn miri() -> Result<bool> {
    let nightly = |arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(["run", "nightly", "cargo"]).args(arguments).current_dir(crate::command::root());
        command
    };
    if !has(&mut nightly(&["miri", "--version"])) {
        println!(
            "NOT TESTED: miri: no nightly toolchain has it (rustup toolchain install nightly --component miri,rust-src)"
        );
        return Ok(true);
    }
    let (mut passed, mut good) = (0, true);
    for (package, filters) in MIRI {
        let mut command = nightly(&["miri", "test", "--quiet", "--package", package, "--lib", "--"]);
        command.args(filters);
        command.args(SKIPPED.iter().flat_map(|name| ["--skip", name]));
        command.env("MIRIFLAGS", "-Zmiri-disable-isolation").env("PROPTEST_CASES", "4");
        let (ok, text) = tee(&command)?;
        good &= ok;
        passed += passed_in(&text);
    }
    println!("{passed} tests under Miri: {}", if good { "no undefined behaviour" } else { "FAILED" });
    Ok(good)
}

fn passed_in(text: &str) -> usize {
    let lines = text.lines().filter(|line| line.starts_with("test result:"));
    lines.filter_map(|line| line.split("ok. ").nth(1)?.split_whitespace().next()?.parse::<usize>().ok()).sum()
}

fn has(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_summed() {
        let text =
            "x\ntest result: ok. 42 passed; 0 failed; 0 ignored\ntest result: ok. 1 passed; 0 failed\n";
        assert_eq!(passed_in(text), 43);
    }
}
