//! Known faults of the crates that we use, from a list of RUSTSEC's facts in dev/advisories.toml: no network is needed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::command::{output, root};

const LIST: &str = "dev/advisories.toml";
const LOCKS: [&str; 2] = ["Cargo.lock", "fuzz/Cargo.lock"];
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";
const HEAD: &str = "\
# Facts of https://github.com/rustsec/advisory-db on the crates of our lock files: which versions a fault is not in.
# Written by `cargo xtask audit --database DIR`, with DIR a checkout of it.
";

/// What was looked up, and when.
#[derive(Debug, Default, Deserialize, Serialize)]
struct List {
    /// The day of the database's last change.
    date: String,
    /// Its commit.
    commit: String,
    /// The crates that were looked up.
    crates: Vec<String>,
    advisory: Vec<Advisory>,
}

/// A fault of a crate.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Advisory {
    id: String,
    #[serde(rename = "crate")]
    name: String,
    /// Versions that it is mended in, and that it was not in yet: `>= 1.2.3, < 1.3.0`.
    fine: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Package {
    name: String,
    version: String,
    /// None for our own.
    source: Option<String>,
}

/// Findings, and one line that says what was compared.
pub(crate) fn check() -> Result<(Vec<String>, String)> {
    let list: List = toml::from_str(&read(LIST)?).with_context(|| format!("parse {LIST}"))?;
    let packages = locked()?;
    let mut findings: Vec<String> = packages
        .iter()
        .filter(|package| package.source.as_deref() != Some(CRATES_IO))
        .map(|package| format!("{} {}: comes from elsewhere than crates.io", package.name, package.version))
        .collect();
    findings.extend(affected(&list, &packages));
    let mut unknown: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    unknown.retain(|name| !list.crates.iter().any(|known| known == name));
    unknown.dedup();
    let mut line = format!(
        "{} packages compared with {} advisories of {}",
        packages.len(),
        list.advisory.len(),
        list.date
    );
    if !unknown.is_empty() {
        line.push_str(&format!("; NOT TESTED: advisories on {}", unknown.join(", ")));
    }
    Ok((findings, line))
}

/// Writes the list anew from a checkout of the database.
pub(crate) fn rewrite(database: &Path) -> Result<()> {
    let git = |arguments: &[&str]| -> Result<String> {
        let mut command = std::process::Command::new("git");
        Ok(output(command.arg("-C").arg(database).args(arguments))?.trim().to_owned())
    };
    let mut list = List {
        date: git(&["log", "-1", "--format=%cs"])?,
        commit: git(&["rev-parse", "HEAD"])?,
        ..List::default()
    };
    list.crates = locked()?.into_iter().map(|package| package.name).collect();
    list.crates.dedup();
    ensure!(database.join("crates").is_dir(), "{} is no checkout of advisory-db", database.display());
    for name in &list.crates {
        let Ok(entries) = fs::read_dir(database.join("crates").join(name)) else { continue };
        for entry in entries {
            let path = entry.with_context(|| format!("read advisories of {name}"))?.path();
            let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            list.advisory.extend(parse(&text).with_context(|| format!("parse {}", path.display()))?);
        }
    }
    list.advisory.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let text = toml::to_string(&list).context("write the list")?;
    fs::write(root().join(LIST), format!("{HEAD}{text}")).with_context(|| format!("write {LIST}"))
}

/// An advisory's head: TOML between fences. None if it was withdrawn.
fn parse(text: &str) -> Result<Option<Advisory>> {
    #[derive(Deserialize)]
    struct File {
        advisory: Head,
        versions: Versions,
    }
    #[derive(Deserialize)]
    struct Head {
        id: String,
        package: String,
        withdrawn: Option<String>,
    }
    #[derive(Deserialize)]
    struct Versions {
        #[serde(default)]
        patched: Vec<String>,
        #[serde(default)]
        unaffected: Vec<String>,
    }
    let inside = text.split("```toml").nth(1).and_then(|rest| rest.split("```").next());
    let file: File = toml::from_str(inside.context("no TOML in it")?)?;
    let fine = file.versions.patched.into_iter().chain(file.versions.unaffected).collect();
    let advisory = Advisory { id: file.advisory.id, name: file.advisory.package, fine };
    Ok(file.advisory.withdrawn.is_none().then_some(advisory))
}

fn affected(list: &List, packages: &[Package]) -> Vec<String> {
    let hit = |package: &Package, advisory: &&Advisory| {
        advisory.name == package.name && !advisory.fine.iter().any(|range| within(&package.version, range))
    };
    let of = |package| list.advisory.iter().filter(move |advisory| hit(package, advisory));
    let tell = |package: &Package, advisory: &Advisory| {
        format!(
            "{} {}: {}, mended in {}",
            package.name,
            package.version,
            advisory.id,
            advisory.fine.join(" or ")
        )
    };
    packages.iter().flat_map(|package| of(package).map(move |advisory| tell(package, advisory))).collect()
}

/// What the lock files name and is not ours.
fn locked() -> Result<Vec<Package>> {
    let mut packages = Vec::new();
    for path in LOCKS {
        let lock: Lock = toml::from_str(&read(path)?).with_context(|| format!("parse {path}"))?;
        packages.extend(lock.package.into_iter().filter(|package| package.source.is_some()));
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

/// Whether a version is in a range of comparisons that must all be so.
fn within(version: &str, range: &str) -> bool {
    let version = numbers(version);
    range.split(',').all(|part| {
        let part = part.trim();
        let limit = numbers(part.trim_start_matches(['<', '>', '=', '^', ' ']));
        match &part[..part.len() - part.trim_start_matches(['<', '>', '=', '^']).len()] {
            ">=" => version >= limit,
            ">" => version > limit,
            "<=" => version <= limit,
            "<" => version < limit,
            "^" => version >= limit && version < next(limit),
            _ => version == limit,
        }
    })
}

/// The first version that is not compatible any more.
fn next([major, minor, patch]: [u64; 3]) -> [u64; 3] {
    match (major, minor) {
        (0, 0) => [0, 0, patch + 1],
        (0, _) => [0, minor + 1, 0],
        _ => [major + 1, 0, 0],
    }
}

fn numbers(version: &str) -> [u64; 3] {
    let core = version.trim().split(['-', '+']).next().unwrap_or("");
    let mut parts = core.split('.').map(|part| part.trim().parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_ranges() {
        let cases = [
            ("1.38.5", ">= 1.38.2, < 1.39.0", true),
            ("1.39.0", ">= 1.38.2, < 1.39.0", false),
            ("0.3.9", "^ 0.3.1", true),
            ("0.4.0", "^ 0.3.1", false),
            ("1.0.0-rc.1", "< 1.0.1", true),
            ("0.4.10", ">=0.4.11", false),
            ("2.0.0", "= 2.0.0", true),
        ];
        for (version, range, expected) in cases {
            assert_eq!(within(version, range), expected, "{version} {range}");
        }
    }

    #[test]
    fn an_affected_package_is_found() {
        let text = "```toml\n[advisory]\nid = \"RUSTSEC-1\"\npackage = \"x\"\n[versions]\npatched = [\">= 1.2.0\"]\nunaffected = [\"< 1.0.0\"]\n```\ntext";
        let advisory = parse(text).unwrap().unwrap();
        let list = List { advisory: vec![advisory], ..List::default() };
        let package = |version: &str| Package { name: "x".into(), version: version.into(), source: None };
        let found = affected(&list, &[package("0.9.0"), package("1.1.9"), package("1.2.0")]);
        assert_eq!(found, ["x 1.1.9: RUSTSEC-1, mended in >= 1.2.0 or < 1.0.0"]);
        let withdrawn = text.replace("[versions]", "withdrawn = \"2020-01-01\"\n[versions]");
        assert_eq!(parse(&withdrawn).unwrap(), None);
    }
}
