//! Commands that documents name must be there: `make TARGET` and `cargo xtask TASK`.

use std::fs;

use anyhow::{Context as _, Result};
use clap::CommandFactory as _;

use crate::command::root;

const DOCUMENTS: [&str; 8] = [
    "README.md",
    "CONTRIBUTING.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "docs/benchmarks/README.md",
    "docs/reliability.md",
    "docs/security.md",
    "docs/vm.md",
];

/// Looks up each command that stands between backticks or begins a line.
pub(crate) fn check() -> Result<Vec<String>> {
    let makefile = fs::read_to_string(root().join("Makefile")).context("read Makefile")?;
    let tasks: Vec<String> =
        crate::Arguments::command().get_subcommands().map(|task| task.get_name().to_owned()).collect();
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        if !path.exists() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("read {document}"))?;
        for (line, target) in named(&text, "make ") {
            if !makefile
                .lines()
                .any(|rule| rule.strip_prefix(target).is_some_and(|rest| rest.starts_with(':')))
            {
                findings.push(format!("{document}:{line}: no make {target}"));
            }
        }
        for (line, task) in named(&text, "cargo xtask ") {
            if !tasks.iter().any(|known| known == task) {
                findings.push(format!("{document}:{line}: no cargo xtask {task}"));
            }
        }
    }
    Ok(findings)
}

/// The words that follow `command` where it stands after a backtick or begins a line.
fn named<'a>(text: &'a str, command: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices(command) {
            let word = &line[at + command.len()..];
            let end = word.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(word.len());
            if (at == 0 || line[..at].ends_with('`')) && end > 0 {
                found.push((number + 1, &word[..end]));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_documents() {
        let text = "make run   # x\nto make sure, `make test-vm` and `make bench ROUNDS=5`; make it\n";
        assert_eq!(named(text, "make "), [(1, "run"), (2, "test-vm"), (2, "bench")]);
    }
}
