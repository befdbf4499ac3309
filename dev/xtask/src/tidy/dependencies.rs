//! Who may depend on whom, and on what from outside: the crates' layers and deny.toml.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::command::{cargo, output, root};

/// Each crate and the crates of ours that it may use; what is not listed may use nothing of ours.
const LAYERS: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("sys", &["model"]),
    ("ocirun", &["model", "sys"]),
    ("monitor", &["model", "sys", "ocirun"]),
    ("runtime", &["model", "sys", "monitor"]),
    ("ctl", &["model", "sys", "runtime"]),
    ("testkit", &["model", "sys"]),
    ("xtask", &[]),
    ("floor", &["sys"]),
    ("bench", &["model", "sys", "monitor", "ocirun", "runtime", "testkit"]),
];
/// Crates that must stay synchronous: no tokio beneath them, at any depth.
const SYNC: [&str; 4] = ["model", "sys", "monitor", "ocirun"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Deny {
    bans: Bans,
    licenses: Licenses,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

/// Reads `cargo metadata` and deny.toml, and compares.
pub(crate) fn check() -> Result<Vec<String>> {
    let text = output(cargo().args([
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        "x86_64-unknown-linux-gnu",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("parse cargo metadata")?;
    let path = root().join("deny.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let deny: Deny = toml::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let graph = Graph::new(&metadata);
    let mut findings = graph.layers();
    findings.extend(graph.denied(&deny));
    Ok(findings)
}

struct Graph<'a> {
    packages: BTreeMap<&'a str, &'a Package>,
    normal: BTreeMap<&'a str, Vec<&'a str>>,
    members: BTreeSet<&'a str>,
}

impl<'a> Graph<'a> {
    fn new(metadata: &'a Metadata) -> Self {
        let normal = |node: &'a Node| {
            let edges = node.deps.iter().filter(|edge| edge.dep_kinds.iter().any(|kind| kind.kind.is_none()));
            edges.map(|edge| edge.pkg.as_str()).collect()
        };
        Self {
            packages: metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect(),
            normal: metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), normal(node))).collect(),
            members: metadata.workspace_members.iter().map(String::as_str).collect(),
        }
    }

    fn name(&self, id: &str) -> &'a str {
        self.packages.get(id).map_or("?", |package| package.name.as_str())
    }

    fn layers(&self) -> Vec<String> {
        let mut findings = Vec::new();
        for &member in &self.members {
            let name = self.name(member);
            let Some((_, allowed)) = LAYERS.iter().find(|(known, _)| *known == name) else {
                findings.push(format!("crate {name}: give it a place in dev/xtask/src/tidy/dependencies.rs"));
                continue;
            };
            let ours = self.normal[member].iter().filter(|id| self.members.contains(**id));
            let wrong = ours.map(|id| self.name(id)).filter(|used| !allowed.contains(used));
            findings.extend(wrong.map(|used| format!("crate {name}: must not depend on {used}")));
            if SYNC.contains(&name) && self.beneath(member).iter().any(|id| self.name(id) == "tokio") {
                findings.push(format!("crate {name}: tokio beneath it"));
            }
        }
        findings
    }

    /// Everything that a package needs to run, itself too.
    fn beneath(&self, id: &'a str) -> BTreeSet<&'a str> {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![id]);
        while let Some(id) = todo.pop() {
            if seen.insert(id) {
                todo.extend(self.normal.get(id).into_iter().flatten());
            }
        }
        seen
    }

    /// The part of deny.toml that can be judged without cargo-deny: bans and licences.
    fn denied(&self, deny: &Deny) -> Vec<String> {
        let mut findings = Vec::new();
        for package in self.packages.values().filter(|package| !self.members.contains(package.id.as_str())) {
            let what = format!("{} {}", package.name, package.version);
            let license = package.license.as_deref().unwrap_or("");
            if !allowed(license, &deny.licenses.allow) {
                findings.push(format!("{what}: licence {license:?} is not allowed by deny.toml"));
            }
            if deny.bans.deny.iter().any(|ban| banned(&ban.name, package)) {
                findings.push(format!("{what}: banned by deny.toml"));
            }
        }
        findings
    }
}

/// A choice of licences is fine if one of them is; each of those that apply together must be.
fn allowed(expression: &str, allow: &[String]) -> bool {
    let expression = expression.replace(['(', ')'], " ").replace('/', " OR ");
    expression
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|name| allow.iter().any(|known| known == name.trim())))
}

/// A ban is a name, or `name@<1.2.3`.
fn banned(ban: &str, package: &Package) -> bool {
    match ban.split_once("@<") {
        None => ban == package.name,
        Some((name, limit)) => name == package.name && numbers(&package.version) < numbers(limit),
    }
}

fn numbers(version: &str) -> Vec<u32> {
    let core = version.split(['-', '+']).next().unwrap_or(version);
    core.split('.').map(|part| part.trim().parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_judged_by_and_and_or() {
        let allow = ["MIT".to_owned(), "Unicode-3.0".to_owned()];
        let cases = [
            ("MIT OR Apache-2.0", true),
            ("Apache-2.0/MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(allowed(expression, &allow), expected, "{expression}");
        }
    }

    #[test]
    fn a_ban_may_have_a_limit() {
        let package = |version: &str| Package {
            id: String::new(),
            name: "h2".into(),
            version: version.into(),
            license: None,
        };
        assert!(banned("h2@<0.4.16", &package("0.4.9")) && banned("h2", &package("9.0.0")));
        assert!(!banned("h2@<0.4.16", &package("0.4.16")) && !banned("h3", &package("0.1.0")));
    }
}
