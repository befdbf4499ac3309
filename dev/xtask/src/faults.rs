//! The whole walk of the failpoints, and its report in docs/reliability.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};

use crate::command::{root, tee};
use crate::programs;
use crate::test::{SUITE, nextest, nextest_outcome};

const BEGIN: &str = "<!-- walk: written by cargo xtask faults -->\n";
const END: &str = "<!-- end of walk -->\n";
/// The kinds of fault, as the walk names them and as the report does.
const ACTIONS: [(&str, &str); 4] =
    [("Error", "fails once"), ("Errors", "fails for good"), ("Kill", "is killed"), ("Sleep", "is slow")];

/// For each area, how many points it has and what each kind of fault costs.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    areas: BTreeMap<String, BTreeSet<String>>,
    costs: BTreeMap<(String, String), BTreeSet<String>>,
    cases: usize,
    never: BTreeSet<String>,
}

/// Walks all failpoints with each action, also those that fail for good, and says how many there were.
pub(crate) fn run() -> Result<bool> {
    programs::build()?;
    let filter = format!("{SUITE} and test(/_every_point|^faults::|_failing$/)");
    let mut command = nextest(&filter);
    command
        .args(["--success-output", "immediate"])
        .envs([
            ("WHARF_TEST_RUNTIME", "wharf-oci"),
            ("WHARF_TEST_MONITOR", "wharf-monitor"),
            ("WHARF_FAULTS", "all"),
        ])
        .env("WHARF_PROGRAMS", programs::directory());
    let (good, text) = tee(&command)?;
    let outcome = nextest_outcome("faults", good, &text);
    let report = Report::read(&text);
    let table = report.table();
    println!("{table}");
    if good {
        let path = root().join("docs/reliability.md");
        let page = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if let Some(page) = placed(&page, &table) {
            fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
        }
    }
    let points = report.points();
    println!("{points} points walked in {} cases, {} never passed", report.cases, report.never.len());
    println!("{} passed, {} failed", outcome.passed, outcome.failed);
    Ok(outcome.good)
}

impl Report {
    /// Reads `walked NAME ACTION in SIDE of COURSE: COST (N ms)` and `…; never passed: [a, b]`.
    fn read(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines().map(str::trim) {
            if let Some((_, names)) = line.split_once("never passed: [") {
                let names = names.trim_end_matches(']').split(", ").filter(|name| !name.is_empty());
                report.never.extend(names.map(str::to_owned));
            }
            let Some((what, cost)) = line.strip_prefix("walked ").and_then(|line| line.split_once(": "))
            else {
                continue;
            };
            let mut words = what.split(' ');
            let (Some(name), Some(action), Some("in"), Some(side)) =
                (words.next(), words.next(), words.next(), words.next())
            else {
                continue;
            };
            let part = name.rsplit_once('.').map_or(name, |(part, _)| part);
            let area =
                if part == "durable" { format!("{part} ({})", side.to_lowercase()) } else { part.to_owned() };
            report.cases += 1;
            report.areas.entry(area.clone()).or_default().insert(name.to_owned());
            let cost = cost.rsplit_once(" (").map_or(cost, |(cost, _)| cost);
            let costs = report.costs.entry((area, action.to_owned())).or_default();
            costs.extend(cost.split(", ").filter(|cost| *cost != "nothing").map(str::to_owned));
        }
        report
    }

    /// How many points there are; those of `durable.*` are walked in three processes, and are in three areas.
    fn points(&self) -> usize {
        self.areas.values().flatten().collect::<BTreeSet<_>>().len()
    }

    fn table(&self) -> String {
        let heads: Vec<&str> = ACTIONS.iter().map(|(_, head)| *head).collect();
        let mut lines = vec![
            format!("| points | number | {} |", heads.join(" | ")),
            format!("|---|---|{}", "---|".repeat(heads.len())),
        ];
        for (area, names) in &self.areas {
            let cells = ACTIONS.map(|(action, _)| {
                let costs = self.costs.get(&(area.clone(), action.to_owned()));
                costs.map_or("not walked".to_owned(), |costs| {
                    let costs: Vec<&str> = costs.iter().map(String::as_str).collect();
                    if costs.is_empty() { "nothing".to_owned() } else { costs.join(", ") }
                })
            });
            lines.push(format!("| `{area}.*` | {} | {} |", names.len(), cells.join(" | ")));
        }
        let points = self.points();
        let never: Vec<&str> = self.never.iter().map(String::as_str).collect();
        lines.push(format!(
            "\n{points} points, {} cases. In the source and never passed: {}.",
            self.cases,
            if never.is_empty() { "none".to_owned() } else { never.join(", ") }
        ));
        lines.join("\n")
    }
}

/// The page with the table in its place, if it has one.
fn placed(page: &str, table: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}{table}\n{END}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_becomes_a_table() {
        let text = "   walked create.begin Error in Library of Plain: create (12 ms)\n\
                    walked create.end Error in Library of Plain: nothing (9 ms)\n\
                    walked durable.write Error in Library of Plain: create (9 ms)\n\
                    walked durable.write Error in Monitor of Plain: nothing (9 ms)\n\
                    x; not passed this time: []; never passed: [a.b]\n";
        let report = Report::read(text);
        assert_eq!((report.cases, report.areas["create"].len(), report.points()), (4, 2, 3));
        let table = report.table();
        assert!(
            table.contains("| `create.*` | 2 | create | not walked | not walked | not walked |"),
            "{table}"
        );
        assert!(table.ends_with("never passed: a.b."), "{table}");
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(placed(&page, "new").unwrap_or_default(), format!("a\n{BEGIN}new\n{END}b\n"));
    }
}
