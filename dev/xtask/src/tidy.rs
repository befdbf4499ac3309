//! Checks of the house rules that no compiler makes. Each rule gives findings; none is fatal alone.

mod dependencies;
mod documents;
mod rules;

use anyhow::Result;

use crate::source;

/// Runs all rules, prints the findings, and says whether there was none.
pub(crate) fn run() -> Result<bool> {
    let sources = source::rust()?;
    let mut findings = rules::check(&sources);
    findings.extend(dependencies::check()?);
    findings.extend(documents::check(&sources)?);
    for finding in &findings {
        println!("tidy: {finding}");
    }
    println!("{}", rules::unsafe_count(&sources));
    let tests: usize = sources.iter().map(|source| source.tests().len()).sum();
    let lines: usize = sources.iter().map(|source| source.text.lines().count()).sum();
    println!("{} files, {lines} lines, {tests} tests", sources.len());
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}
