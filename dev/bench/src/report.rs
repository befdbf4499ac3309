//! Tables, and the page that they make.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::machine;
use crate::measure::Series;
use crate::plot::{bars, number};

/// A row: a name and a number for each column.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) values: Vec<f64>,
}

/// What was measured of one kind of thing.
#[derive(Debug)]
pub(crate) struct Table {
    /// Names the plot's file.
    pub(crate) key: &'static str,
    pub(crate) title: String,
    /// What was done, and how.
    pub(crate) text: String,
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// What is not there, and why.
    pub(crate) missing: Vec<String>,
}

/// All tables of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) tables: Vec<Table>,
}

impl Table {
    /// A table of times: median and 90th percentile of the sum, the median of each phase, and the ratio to
    /// the first contestant.
    pub(crate) fn of_times(key: &'static str, title: &str, text: &str, series: &[Series]) -> Self {
        let good: Vec<&Series> = series.iter().filter(|series| series.failure.is_none()).collect();
        let longest =
            good.iter().filter_map(|series| series.rounds.first()).max_by_key(|phases| phases.len());
        let phases: Vec<&'static str> = longest.into_iter().flatten().map(|(name, _)| *name).collect();
        let mut columns = vec!["median ms".to_owned(), "p90 ms".to_owned()];
        if phases.len() > 1 {
            columns.extend(phases.iter().map(|&phase| phase.to_owned()));
        }
        columns.push(format!("× {}", good.first().map_or("", |series| series.name.as_str())));
        let base = good.first().map_or(f64::NAN, |series| series.median(None));
        let row = |series: &&Series| {
            let mut values = vec![series.median(None), series.p90()];
            if phases.len() > 1 {
                let has = |phase: &str| {
                    series.rounds.first().is_some_and(|one| one.iter().any(|(name, _)| *name == phase))
                };
                values.extend(
                    phases.iter().map(|phase| if has(phase) { series.median(Some(phase)) } else { f64::NAN }),
                );
            }
            values.push(series.median(None) / base);
            Row { name: series.name.clone(), values }
        };
        let missing = series.iter().filter_map(|series| {
            series.failure.as_ref().map(|why| format!("{}: {}", series.name, why.trim().replace('\n', " ")))
        });
        Self {
            key,
            title: title.to_owned(),
            text: text.to_owned(),
            columns,
            rows: good.iter().map(row).collect(),
            missing: missing.collect(),
        }
    }

    /// The table alone.
    pub(crate) fn markdown(&self) -> String {
        let mut text =
            format!("## {}\n\n{}\n\n| | {} |\n|---|", self.title, self.text, self.columns.join(" | "));
        text.push_str(&"---:|".repeat(self.columns.len()));
        text.push('\n');
        for row in &self.rows {
            let values: Vec<String> = row.values.iter().map(|value| number(*value)).collect();
            // Writing to a string can't fail.
            let _ = writeln!(text, "| {} | {} |", row.name, values.join(" | "));
        }
        for missing in &self.missing {
            let _ = writeln!(text, "\nNot measured: {missing}");
        }
        text
    }
}

impl Report {
    /// Everything that could not be measured.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.tables
            .iter()
            .flat_map(|table| table.missing.iter().map(|what| format!("{}: {what}", table.key)))
            .collect()
    }

    /// Writes `README.md` and a plot for each table.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).with_context(|| format!("mkdir {}", dir.display()))?;
        let mut page = String::from(
            "# Benchmarks\n\nMade by `make bench`, in one run. All contestants of a table took turns, round after \
             round; the numbers are medians. They move with the machine, the ratios less. One table alone, printed and not \
             written: `cargo xtask bench --only life` (create, exec, status, idle, logs, exit, probes). What hardly moves, \
             and tells commits apart: [instruction counts](counts.md).\n\n",
        );
        for line in machine::describe().into_iter().chain(machine::versions()) {
            let _ = writeln!(page, "- {line}");
        }
        page.push('\n');
        for table in &self.tables {
            let plot = format!("{}.svg", table.key);
            let rows: Vec<(String, f64)> =
                table.rows.iter().filter_map(|row| Some((row.name.clone(), *row.values.first()?))).collect();
            let title = format!("{} ({})", table.title, table.columns.first().map_or("", String::as_str));
            put(&dir.join(&plot), &bars(&title, &rows))?;
            let _ = writeln!(page, "{}\n![{}]({plot})\n", table.markdown(), table.title);
        }
        put(&dir.join("README.md"), &page)
    }
}

pub(crate) fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
