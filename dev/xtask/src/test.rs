//! The test run: groups in order, all of them, and a table at the end.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::command::{cargo, root, run as run_command, tee};
use crate::{programs, tidy};

/// The suite of crate `runtime` runs once for each of these.
const MATRIX: [(&str, &str); 5] = [
    ("runc", "conmon"),
    ("runc", "wharf-monitor"),
    ("crun", "conmon"),
    ("crun", "wharf-monitor"),
    ("wharf-oci", "wharf-monitor"),
];

/// All of the workspace's tests but the suite that the matrix runs.
const WORKSPACE: &str = "not (package(runtime) and binary(it))";
pub(crate) const SUITE: &str = "package(runtime) and binary(it)";
/// The monitor's suite, which the workspace's run has with runc. Options are parsed without a runtime; podman's script runs with
/// both as it is.
const MONITOR: &str = "package(monitor) and binary(it) and not test(/^podman::|^contract::options::|crun_/)";
/// The runtimes that the monitor's suite runs with once more.
const HANDLERS: [&str; 1] = ["wharf-oci"];

/// What came of a group.
pub(crate) struct Outcome {
    group: String,
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    skipped: usize,
    pub(crate) good: bool,
    time: Duration,
    notes: Vec<String>,
}

fn groups() -> Vec<String> {
    let fixed = ["fmt", "clippy", "tidy", "build", "workspace", "doc"];
    let matrix = MATRIX.iter().map(|(runtime, monitor)| format!("{runtime}+{monitor}"));
    let handlers = HANDLERS.iter().map(|runtime| format!("monitor:{runtime}"));
    let all = fixed.iter().map(|&name| name.to_owned()).chain(matrix).chain(handlers);
    all.chain(["bench-smoke".to_owned()]).collect()
}

/// Prints the names of the groups.
pub(crate) fn list() {
    for group in groups() {
        println!("{group}");
    }
}

/// Runs the groups that are named, or all. A failed group does not keep the others from running.
pub(crate) fn run(wanted: &[String]) -> Result<bool> {
    let all = groups();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no test group {unknown}: there are {}", all.join(", "));
    }
    // One group alone needs the programs as well.
    if wanted.iter().any(|group| !["fmt", "clippy", "tidy", "build", "doc"].contains(&group.as_str())) {
        programs::build()?;
    }
    let mut outcomes = Vec::new();
    for group in all.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        println!("\n== {group}");
        let begin = Instant::now();
        let mut outcome = group_outcome(&group).unwrap_or_else(|error| Outcome {
            notes: vec![format!("{error:#}")],
            ..Outcome::simple(&group, false)
        });
        outcome.time = begin.elapsed();
        outcomes.push(outcome);
    }
    Ok(summary(&outcomes))
}

fn group_outcome(group: &str) -> Result<Outcome> {
    let simple = |command: &mut Command| Ok(Outcome::simple(group, tee(command)?.0));
    match group {
        "fmt" => simple(cargo().args(["fmt", "--all", "--check"])),
        "clippy" => {
            let flags = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
            simple(cargo().args(flags))
        }
        "tidy" => Ok(Outcome::simple(group, tidy::run()?)),
        "build" => programs::build().map(|()| Outcome::simple(group, true)),
        "workspace" => suite(group, WORKSPACE, "", ""),
        "doc" => {
            let (good, text) = tee(cargo().args(["test", "--quiet", "--workspace", "--doc"]))?;
            Ok(doc_tests(group, good, &text))
        }
        "bench-smoke" => {
            let flags = ["run", "--quiet", "--package", "bench", "--", "--smoke"];
            simple(cargo().args(flags).env("WHARF_PROGRAMS", programs::directory()))
        }
        other => match (other.split_once('+'), other.split_once(':')) {
            (Some((runtime, monitor)), _) => suite(group, SUITE, runtime, monitor),
            (None, Some((_, runtime))) => suite(group, MONITOR, runtime, ""),
            (None, None) => bail!("no test group {group}"),
        },
    }
}

/// Runs the tests of a filter with this runtime and monitor, or with the suite's own choice where they are empty.
fn suite(group: &str, filter: &str, runtime: &str, monitor: &str) -> Result<Outcome> {
    let named = [("WHARF_TEST_RUNTIME", runtime), ("WHARF_TEST_MONITOR", monitor)];
    let named = named.into_iter().filter(|(_, name)| !name.is_empty());
    let programs = programs::directory();
    // Where tests write what they could not test: nextest shows no output of those that pass.
    let told = root().join("target").join(format!("not-tested-{}", group.replace([':', '+'], "-")));
    let _ = fs::remove_file(&told);
    // Our programs alone have failpoints, and `cargo xtask faults` has those that fail for good.
    let walks = if runtime == "wharf-oci" { "_failing_for_good" } else { "" };
    let filter = format!("({filter}) and not test(/^faults::every_point.*{walks}$/)");
    let mut command = nextest(&filter);
    command.args(["--profile", "ci", "--no-tests", "pass"]).envs(named);
    command.env("WHARF_PROGRAMS", programs).env("WHARF_NOT_TESTED", &told);
    let (good, text) = tee(&command)?;
    let mut outcome = nextest_outcome(group, good, &text);
    let told = fs::read_to_string(&told).unwrap_or_default();
    outcome.notes.extend(told.lines().collect::<BTreeSet<_>>().into_iter().map(str::to_owned));
    Ok(outcome)
}

/// nextest over those of the workspace's tests that the filter takes.
pub(crate) fn nextest(filter: &str) -> Command {
    let mut command = cargo();
    command.args(["nextest", "run", "--workspace", "--color", "never", "-E", filter]);
    command
}

/// Reads nextest's closing lines: `Summary [ 0.1s] 9 tests run: 8 passed (1 flaky), 1 failed, 2 skipped`.
pub(crate) fn nextest_outcome(group: &str, good: bool, text: &str) -> Outcome {
    let mut outcome = Outcome::simple(group, good);
    (outcome.passed, outcome.failed) = (0, 0);
    let (head, tail) = text.rsplit_once("Summary [").unwrap_or((text, ""));
    let line = tail.lines().next().unwrap_or("");
    for part in line.split([':', ',', '(']) {
        let mut words = part.split_whitespace();
        let count = words.next().and_then(|word| word.parse::<usize>().ok());
        let Some(count) = count else { continue };
        match words.next() {
            Some("passed") => outcome.passed = count,
            Some("failed" | "timed" | "exec") => outcome.failed += count,
            Some("skipped") => outcome.skipped = count,
            _ => {}
        }
    }
    if !good && outcome.failed == 0 {
        outcome.failed = 1;
        outcome.notes.push("did not come to an end: see above".to_owned());
    }
    for line in tail.lines().map(str::trim) {
        if ["FAIL", "TIMEOUT", "FLAKY", "SIGABRT", "SIGSEGV", "SIGKILL", "LEAK-FAIL"]
            .iter()
            .any(|word| line.starts_with(word))
        {
            outcome.notes.push(line.to_owned());
        }
    }
    let walks = head.lines().map(str::trim).filter(|line| line.contains(" points walked with "));
    outcome.notes.extend(walks.map(str::to_owned));
    outcome.notes.sort();
    outcome.notes.dedup();
    outcome
}

/// Reads the standard harness's lines: `test result: ok. 3 passed; 0 failed; …`.
fn doc_tests(group: &str, good: bool, text: &str) -> Outcome {
    let mut outcome = Outcome::simple(group, good);
    (outcome.passed, outcome.failed) = (0, usize::from(!good));
    for line in text.lines().filter(|line| line.starts_with("test result:")) {
        for part in line.split([';', '.']) {
            let mut words = part.split_whitespace();
            if let (Some(Ok(count)), Some("passed")) = (words.next().map(str::parse::<usize>), words.next()) {
                outcome.passed += count;
            }
        }
    }
    outcome
}

impl Outcome {
    /// A group that is one check.
    fn simple(group: &str, good: bool) -> Self {
        Self {
            group: group.to_owned(),
            passed: usize::from(good),
            failed: usize::from(!good),
            skipped: 0,
            good,
            time: Duration::ZERO,
            notes: Vec::new(),
        }
    }
}

fn summary(outcomes: &[Outcome]) -> bool {
    println!("\n{:<26} {:>7} {:>7} {:>8}", "group", "passed", "failed", "seconds");
    for outcome in outcomes {
        let seconds = outcome.time.as_secs_f64();
        println!("{:<26} {:>7} {:>7} {seconds:>8.1}", outcome.group, outcome.passed, outcome.failed);
    }
    for outcome in outcomes {
        for note in &outcome.notes {
            println!("{}: {note}", outcome.group);
        }
    }
    let sum = |pick: fn(&Outcome) -> usize| -> usize { outcomes.iter().map(pick).sum() };
    println!("{} passed, {} failed", sum(|outcome| outcome.passed), sum(|outcome| outcome.failed));
    outcomes.iter().all(|outcome| outcome.good)
}

/// Builds the documentation; a warning is an error.
pub(crate) fn documentation() -> Result<bool> {
    run_command(
        cargo()
            .args(["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"])
            // Private items are documented too, so that links to them lead somewhere.
            .env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links"),
    )?;
    println!("{}", root().join("target/doc").display());
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_nextest_is_counted() {
        let text = "x\n     Summary [   0.132s] 9/10 tests run: 7 passed (1 flaky, 1 slow), 1 failed, 1 timed out, 4 skipped\n   FLAKY 2/3 [ 1s] a b\n        FAIL [ 1s] a c\n";
        let outcome = nextest_outcome("g", false, text);
        assert_eq!((outcome.passed, outcome.failed, outcome.skipped), (7, 2, 4));
        assert_eq!(outcome.notes, ["FAIL [ 1s] a c", "FLAKY 2/3 [ 1s] a b"]);
        assert_eq!(nextest_outcome("g", false, "error: could not compile").failed, 1);
    }

    #[test]
    fn doc_tests_are_summed() {
        let line =
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(doc_tests("doc", true, &format!("{line}\n{line}\n")).passed, 6);
    }
}
