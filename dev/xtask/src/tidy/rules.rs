//! Rules about source text: length, unsafe, tests that test.

use std::collections::BTreeSet;

use crate::source::{Source, Test};

const MAX_LINES: usize = 500;

/// Words of which a test's body must have one, or a function that it calls by name: each fails the test if
/// something is not so.
const ASSERTIONS: [&str; 8] = [
    "assert",
    "panic!",
    "unreachable!",
    "expect_err(",
    "unwrap_err(",
    "proptest!",
    // With a text that says what should be so.
    ".expect(",
    "wait_until(",
];

/// Applies every rule to every file.
pub(crate) fn check(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    let helpers: BTreeSet<String> = sources
        .iter()
        .flat_map(Source::functions)
        .filter(|(_, body)| asserts(body))
        .map(|(name, _)| name)
        .collect();
    for source in sources {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            findings.push(format!("{}: {lines} lines, at most {MAX_LINES}", source.path));
        }
        for test in source.tests() {
            findings.extend(test_findings(source, &test, &helpers));
        }
        for word in ["todo!", "unimplemented!", "dbg!"] {
            findings.extend(
                source
                    .code
                    .match_indices(word)
                    .map(|(at, _)| format!("{}:{}: {word}", source.path, source.line(at))),
            );
        }
        if source.path.starts_with("crates/sys/") || source.path.starts_with("crates/ocirun/") {
            continue;
        }
        findings.extend(
            source
                .words("unsafe")
                .map(|at| format!("{}:{}: unsafe belongs into crates/sys", source.path, source.line(at))),
        );
    }
    let modules = unsafe_modules(sources);
    if modules.len() > 1 {
        let list = modules.into_iter().collect::<Vec<_>>().join(", ");
        findings.push(format!("crates/ocirun: unsafe in more than one module: {list}"));
    }
    findings
}

fn asserts(body: &str) -> bool {
    ASSERTIONS.iter().any(|word| body.contains(word))
}

fn calls(body: &str, helpers: &BTreeSet<String>) -> bool {
    let words = body.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.into_iter().any(|word| helpers.contains(word))
}

fn test_findings(source: &Source, test: &Test, helpers: &BTreeSet<String>) -> Vec<String> {
    let place = format!("{}:{}: test {}", source.path, test.line, test.name);
    let mut findings = Vec::new();
    // That hostile input makes nothing panic is a claim which needs no further word.
    let silent = ["panic", "fuzz", "too_strange"].iter().any(|word| test.name.contains(word));
    let panics = test.attributes.contains("should_panic");
    if !(silent || panics || asserts(&test.body) || calls(&test.body, helpers)) {
        findings.push(format!("{place} asserts nothing"));
    }
    // What another test runs in a process of its own, to be killed there.
    let helper = test.name == "victim";
    if test.attributes.contains("ignore") && !helper {
        findings.push(format!("{place} is ignored"));
    }
    findings
}

/// The modules of `ocirun` that have unsafe code: the file's name, or its directory's under src.
fn unsafe_modules(sources: &[Source]) -> BTreeSet<String> {
    let with_unsafe = sources.iter().filter(|source| source.words("unsafe").next().is_some());
    with_unsafe
        .filter_map(|source| source.path.strip_prefix("crates/ocirun/src/"))
        .map(|path| path.split('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned())
        .collect()
}

/// A line with the number of unsafe words in each crate that has any.
pub(crate) fn unsafe_count(sources: &[Source]) -> String {
    let count = |dir: &str| -> usize {
        let files = sources.iter().filter(|source| source.path.starts_with(dir));
        files.map(|source| source.words("unsafe").count()).sum()
    };
    format!("unsafe: {} in sys, {} in ocirun, 0 elsewhere", count("crates/sys/"), count("crates/ocirun/"))
}
