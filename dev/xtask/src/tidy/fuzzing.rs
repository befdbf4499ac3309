//! The fuzz targets: each has seeds and a dictionary, is built, and runs in the tests too.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result};

use crate::command::root;
use crate::source::Source;

/// Looks at `fuzz/`, and at the lists `ALL` of the crates' harnesses.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let targets = names("fuzz/targets", ".rs")?;
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).context("read fuzz/Cargo.toml")?;
    let mut findings = Vec::new();
    let groups = [
        ("seeds in fuzz/seeds", names("fuzz/seeds", "")?),
        ("dictionary in fuzz/dictionaries", names("fuzz/dictionaries", ".dict")?),
        ("place in fuzz/Cargo.toml", built(&manifest)),
        ("line in a crate's harness", listed(sources)),
    ];
    for (what, there) in &groups {
        findings.extend(targets.difference(there).map(|name| format!("fuzz/targets/{name}.rs: no {what}")));
        findings.extend(
            there.difference(&targets).map(|name| format!("{name} has a {what}, but no fuzz target")),
        );
    }
    Ok(findings)
}

fn names(dir: &str, end: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(root().join(dir)).with_context(|| format!("read {dir}"))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(end)?.to_owned()))
        .collect())
}

fn built(manifest: &str) -> BTreeSet<String> {
    let bins = manifest.split("[[bin]]").skip(1);
    bins.filter_map(|bin| Some(bin.split("name = \"").nth(1)?.split('"').next()?.to_owned())).collect()
}

/// The names in `("name", function)` lines after `pub const ALL`.
fn listed(sources: &[Source]) -> BTreeSet<String> {
    let harnesses = sources.iter().filter(|source| source.path.ends_with("/src/harness.rs"));
    let lists = harnesses.filter_map(|source| source.text.split("pub const ALL").nth(1)?.split("];").next());
    lists
        .flat_map(|list| list.split("(\"").skip(1).filter_map(|rest| rest.split('"').next()))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_in_manifests_and_harnesses() {
        let text =
            "pub const ALL: &[(&str, fn(&[u8]))] = &[(\"a\", a), (\"b\", c)];\nconst X = [(\"no\", 1)];";
        let source = Source { path: "crates/x/src/harness.rs".into(), text: text.into(), code: text.into() };
        let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
        assert_eq!(names(listed(&[source])), ["a", "b"]);
        assert_eq!(names(built("[package]\nname = \"no\"\n[[bin]]\nname = \"a\"\npath = \"x\"\n")), ["a"]);
    }
}
