//! Documents that claim a test for each line: the tests must be there.
//!
//! In the tables of these documents, the column whose head begins with `test` names the tests that prove
//! the row, in backticks: a function's name, with a path before it or not; `module::{one, two}`; or a module
//! of tests, `module::*` or `module`. Text without backticks is free.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use crate::command::root;
use crate::source::Source;

const DOCUMENTS: [&str; 5] = [
    "docs/lifecycle.md",
    "docs/monitor.md",
    "docs/oci-runtime.md",
    "docs/reliability.md",
    "docs/security.md",
];

/// Looks up every test that a document names. A document that is not there claims nothing.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for source in sources {
        let tests = source.tests();
        if !tests.is_empty() {
            let parts = source.path.trim_end_matches(".rs").split('/').skip(2);
            known.extend(parts.map(str::to_owned));
        }
        known.extend(tests.into_iter().map(|test| test.name));
    }
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        let path = root().join(document);
        if path.exists() {
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            for (line, name) in named(&text) {
                let unknown = expand(&name).into_iter().filter(|last| !known.contains(last));
                findings.extend(unknown.map(|last| format!("{document}:{line}: no test {last}")));
            }
        }
    }
    Ok(findings)
}

/// The last parts of the paths that a name stands for.
fn expand(name: &str) -> Vec<String> {
    if let Some((_, list)) = name.split_once('{') {
        return list.trim_end_matches('}').split(',').flat_map(|one| expand(one.trim())).collect();
    }
    let name = name.trim_end_matches("::*");
    vec![name.rsplit("::").next().unwrap_or(name).to_owned()]
}

/// The names in the test columns of all tables, with their lines.
fn named(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut column = None;
    let mut in_table = false;
    for (number, line) in text.lines().enumerate() {
        if !line.trim_start().starts_with('|') {
            in_table = false;
            continue;
        }
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').collect();
        if !in_table {
            in_table = true;
            column = cells.iter().position(|cell| cell.trim().to_lowercase().starts_with("test"));
            continue;
        }
        let cell = column.and_then(|at| cells.get(at)).copied().unwrap_or("");
        let names = cell.split('`').skip(1).step_by(2).map(str::to_owned);
        found.extend(names.map(|name| (number + 1, name)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_modules_are_expanded() {
        assert_eq!(expand("a::{b, c::d}"), ["b", "d"]);
        assert_eq!([expand("a::b"), expand("a::*"), expand("a")].concat(), ["b", "a", "a"]);
    }

    #[test]
    fn names_come_from_the_column_of_tests_only() {
        let text = "`x`\n| what | Tests |\n|---|---|\n| `y` | `a::b_c`, `d` |\n\n| other |\n|---|\n| `z` |\n";
        assert_eq!(named(text), [(4, "a::b_c".to_owned()), (4, "d".to_owned())]);
    }
}
