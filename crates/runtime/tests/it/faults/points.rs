//! The names of all failpoints, found in the source: no list is kept by hand.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Where the crates are that have failpoints.
const SOURCES: [&str; 4] =
    ["crates/runtime/src", "crates/monitor/src", "crates/ocirun/src", "crates/sys/src"];

/// All names; none where there is no source (a binary that was built elsewhere).
pub(super) fn in_source() -> BTreeSet<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut names = BTreeSet::new();
    for source in SOURCES {
        scan(&workspace.join(source), &mut names);
    }
    names
}

fn scan(dir: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            scan(&path, names);
        } else if path.extension().is_some_and(|ext| ext == "rs") && !path.ends_with("fail.rs") {
            names.extend(of(&fs::read_to_string(&path).unwrap_or_default()));
        }
    }
}

/// The literals that are given to `point`, but in comments and in the unit tests at the end.
fn of(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let literals = lines.flat_map(|line| line.split("point(\"").skip(1));
    literals.filter_map(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn points_are_found_in_code_and_not_in_words_about_it() {
    let text = "//! `point(\"no.doc\")`\nlet a = step(point(\"a.one\")).and(point(\"a.two\"));\n\
                    // point(\"no.comment\")\n#[cfg(test)]\nmod tests { point(\"no.test\") }";
    assert_eq!(of(text).into_iter().collect::<Vec<_>>(), ["a.one", "a.two"]);
    let all = in_source();
    assert!(all.is_empty() || all.len() >= 90, "only {all:?}");
}
