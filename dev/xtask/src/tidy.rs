//! Checks of the house rules that no compiler makes. Each rule gives findings; none is fatal alone.

mod advisories;
mod commands;
mod dependencies;
mod documents;
mod fuzzing;
mod manifests;
mod rules;

pub(crate) use advisories::rewrite;

use anyhow::Result;

use crate::source;

/// Runs all rules, prints the findings, and says whether there was none.
pub(crate) fn run() -> Result<bool> {
    let sources = source::rust()?;
    let mut findings = rules::check(&sources);
    findings.extend(dependencies::check()?);
    findings.extend(documents::check(&sources)?);
    findings.extend(manifests::check(&sources)?);
    findings.extend(fuzzing::check(&sources)?);
    findings.extend(commands::check()?);
    let (known, advisories) = advisories::check()?;
    findings.extend(known);
    for finding in &findings {
        println!("tidy: {finding}");
    }
    println!("{}", rules::unsafe_count(&sources));
    println!("{advisories}");
    let tests: usize = sources.iter().map(|source| source.tests().len()).sum();
    let lines: usize = sources.iter().map(|source| source.text.lines().count()).sum();
    println!("{} files, {lines} lines, {tests} tests", sources.len());
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}
