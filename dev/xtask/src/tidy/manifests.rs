//! The crates' manifests: each dependency is used, and the house's lints are on.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use toml::{Table, Value};

use crate::command::root;
use crate::source::Source;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Manifest {
    dependencies: Table,
    dev_dependencies: Table,
    build_dependencies: Table,
    lints: Table,
    workspace: Option<Workspace>,
}

#[derive(Debug, Deserialize)]
struct Workspace {
    members: Vec<String>,
    dependencies: Table,
    lints: Table,
}

/// Reads all manifests.
pub(crate) fn check(sources: &[Source]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    let Some(workspace) = read("Cargo.toml")?.workspace else {
        return Ok(vec!["Cargo.toml: no workspace".to_owned()]);
    };
    let docs = workspace.lints.get("rust").and_then(|rust| rust.get("missing_docs"));
    if docs.and_then(Value::as_str).is_none_or(|level| level == "allow") {
        findings.push("Cargo.toml: the lint missing_docs is off".to_owned());
    }
    let mut named = Vec::new();
    for member in &workspace.members {
        let manifest = read(&format!("{member}/Cargo.toml"))?;
        if manifest.lints.get("workspace").and_then(Value::as_bool) != Some(true) {
            findings.push(format!("{member}/Cargo.toml: without the workspace's lints"));
        }
        findings.extend(unused(member, &manifest, sources));
        for table in [manifest.dependencies, manifest.dev_dependencies, manifest.build_dependencies] {
            named.extend(table.into_iter().map(|(name, _)| name));
        }
    }
    let foreign = workspace.dependencies.iter().filter(|(_, value)| value.get("path").is_none());
    let idle = foreign.filter(|(name, _)| !named.contains(name));
    findings.extend(idle.map(|(name, _)| format!("Cargo.toml: no crate depends on {name}")));
    Ok(findings)
}

/// Dependencies that no file of the crate names: of those for tests, any file counts, else those in src.
fn unused(member: &str, manifest: &Manifest, sources: &[Source]) -> Vec<String> {
    let is_used = |name: &str, places: &[&str]| {
        let word = name.replace('-', "_");
        let within = |path: &str| places.iter().any(|place| path.starts_with(&format!("{member}/{place}")));
        sources
            .iter()
            .filter(|source| within(&source.path))
            .any(|source| source.words(&word).next().is_some())
    };
    let tables: [(&Table, &[&str]); 3] = [
        (&manifest.dependencies, &["src/"]),
        (&manifest.dev_dependencies, &["src/", "tests/", "benches/"]),
        (&manifest.build_dependencies, &["build.rs"]),
    ];
    let mut findings = Vec::new();
    for (table, places) in tables {
        // A crate that names itself among its dependencies does so for a feature.
        let others = table.keys().filter(|name| !member.ends_with(&format!("/{name}")));
        let idle = others.filter(|name| !(is_used(name, places) || has_features_only(table, name)));
        findings.extend(idle.map(|name| format!("{member}/Cargo.toml: {name} is not used")));
    }
    findings
}

/// Named again, for tests, with a feature.
fn has_features_only(table: &Table, name: &str) -> bool {
    table.get(name).is_some_and(|value| value.get("features").is_some())
}

fn read(path: &str) -> Result<Manifest> {
    let text = fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))?;
    toml::from_str(&text).with_context(|| format!("parse {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_no_file_names_is_found() {
        let manifest: Manifest = toml::from_str(
            "[dependencies]\na-b = \"1\"\nc = \"1\"\n[dev-dependencies]\nd = \"1\"\nme = \"1\"\n[lints]\nworkspace = true\n",
        )
        .unwrap();
        let source = |path: &str, text: &str| Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code: text.to_owned(),
        };
        let sources = [
            source("crates/me/src/lib.rs", "use a_b::x;"),
            source("crates/me/tests/t.rs", "use c::x;"),
            source("crates/other/src/lib.rs", "use d::x;"),
        ];
        let found = unused("crates/me", &manifest, &sources);
        assert_eq!(found, ["crates/me/Cargo.toml: c is not used", "crates/me/Cargo.toml: d is not used"]);
    }
}
