//! Hostile input for all parsers: guided by coverage, and generated.

use std::process::Command;

use anyhow::Result;

use crate::command::{root, tee};
use crate::test::{nextest, nextest_outcome};

/// Fuzzes each target for some seconds, guided by coverage (libFuzzer on the stable toolchain: fuzz/run.sh),
/// and then runs every test that feeds generated hostile input, by its name, with so many cases.
pub(crate) fn run(seconds: u32, cases: u32) -> Result<bool> {
    let mut command = Command::new(root().join("fuzz/run.sh"));
    command.arg(seconds.to_string());
    let (guided, text) = tee(&command)?;
    // The generated input is what is left then; the script has said why.
    let unguided = text.contains("NOT TESTED: fuzzing guided by coverage");
    let guided = guided || unguided;
    let targets = text.lines().filter(|line| line.contains(" inputs, ")).count();
    let broken = text.lines().filter(|line| line.contains(": FAILED, ")).count();
    let runs: u64 = text.lines().filter_map(runs_of).sum();
    let packages = "package(/^(model|sys|monitor|ocirun|runtime)$/)";
    let filter = format!("{packages} and test(/fuzz|panic|too_strange|hostile/) and not binary(alone)");
    let mut command = nextest(&filter);
    command.args(["--profile", "fuzz"]).env("PROPTEST_CASES", cases.to_string());
    let (good, text) = tee(&command)?;
    let outcome = nextest_outcome("fuzz", good, &text);
    println!(
        "{targets} targets fuzzed for {seconds} s each ({runs} runs), {broken} broken; {} tests with {cases} cases, {} broken",
        outcome.passed, outcome.failed
    );
    let broken = broken.max(usize::from(!guided));
    let not_tested = if unguided { ", guided fuzzing not tested and named above" } else { "" };
    println!("{} passed, {} failed{not_tested}", targets + outcome.passed, broken + outcome.failed);
    Ok(guided && outcome.good)
}

/// `name: 5 inputs, Done 337982 runs in 6 second(s)`
fn runs_of(line: &str) -> Option<u64> {
    line.split_once(" inputs, Done ")?.1.split_once(" runs")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_counted() {
        assert_eq!(runs_of("log_line: 35 inputs, Done 1176421 runs in 6 second(s)"), Some(1_176_421));
        assert_eq!(runs_of("log_line: FAILED, the input is in fuzz/artifacts"), None);
    }
}
