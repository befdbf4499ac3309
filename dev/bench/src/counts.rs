//! Instructions of the pure hot paths, counted by valgrind: they hardly move, so that commits can be compared.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::Scale;
use crate::machine;
use crate::plot::number;
use crate::report::{Row, Table, put};
use crate::work::{self, Work};

const TEXT: &str = "Instructions in user mode for each unit of work, counted by valgrind (cachegrind): N rounds, less no round, \
                    twice; the difference between the two counts shows how far to trust a comparison of commits. \
                    `make counts` measures these alone, says what has changed since the page was written, and writes it anew.";
const KEY: &str = "counts";

/// Counts all.
pub(crate) fn measure(scale: Scale) -> Result<Vec<Table>> {
    let mut table = Table {
        key: KEY,
        title: "instructions of the hot paths".to_owned(),
        text: TEXT.to_owned(),
        columns: vec!["instructions".to_owned(), "two counts differ by %".to_owned()],
        rows: Vec::new(),
        missing: Vec::new(),
    };
    if !has_valgrind() {
        table.missing.push("all: valgrind is not installed".to_owned());
        return Ok(vec![table]);
    }
    for work in &work::ALL {
        // One round shows that it can be counted.
        let rounds = if scale.rounds > 1 { work.rounds } else { 1 };
        match count(work, rounds, scale.rounds > 1) {
            Ok(values) => table.rows.push(Row { name: work.text.to_owned(), values }),
            Err(error) => table.missing.push(format!("{}: {error:#}", work.name)),
        }
    }
    Ok(vec![table])
}

/// Says what has changed since the page was written, and writes it.
pub(crate) fn write(table: &Table, dir: &Path) -> Result<()> {
    let path = dir.join("counts.md");
    let old = fs::read_to_string(&path).unwrap_or_default();
    for line in changes(&old, table) {
        println!("{line}");
    }
    let mut page = String::from("# Instruction counts\n\nMade by `make counts`.\n\n");
    for line in machine::describe().into_iter().chain([machine::own()]) {
        page.push_str(&format!("- {line}\n"));
    }
    page.push_str(&format!("\n{}", table.markdown()));
    put(&path, &page)
}

/// Rows that moved by more than a hundredth.
fn changes(old: &str, table: &Table) -> Vec<String> {
    let before = |name: &str| -> Option<f64> {
        let cells =
            old.lines().find_map(|line| line.strip_prefix("| ")?.strip_prefix(name)?.strip_prefix(" | "))?;
        cells.split(" |").next()?.trim().parse().ok()
    };
    let mut lines = Vec::new();
    for row in &table.rows {
        let (Some(was), Some(is)) = (before(&row.name), row.values.first().copied()) else { continue };
        let change = (is - was) / was * 100.0;
        if change.abs() > 1.0 {
            lines.push(format!("{}: was {}, is {} ({change:+.1} %)", row.name, number(was), number(is)));
        }
    }
    lines
}

/// Instructions a unit, and how far two counts are apart in percent.
#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn count(work: &Work, rounds: usize, again: bool) -> Result<Vec<f64>> {
    let once = || -> Result<f64> {
        let (with, without) = (instructions(work.name, rounds)?, instructions(work.name, 0)?);
        Ok(with.saturating_sub(without) as f64 / (rounds * work.units) as f64)
    };
    let first = once()?;
    if !again {
        return Ok(vec![first, f64::NAN]);
    }
    let second = once()?;
    Ok(vec![first.min(second), (first - second).abs() / first.min(second) * 100.0])
}

/// What one run of `bench work` takes.
fn instructions(name: &str, rounds: usize) -> Result<u64> {
    let own = std::env::current_exe().context("find this program")?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]).arg(own);
    let output = command
        .args(["work", name, &rounds.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("run valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    match refs(&text).filter(|_| output.status.success()) {
        Some(count) => Ok(count),
        None => bail!("valgrind: {}: {}", output.status, text.lines().last().unwrap_or("")),
    }
}

/// `==7== I   refs:      1,234,567`
fn refs(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains(" refs:") && line.contains("== I"))?;
    line.rsplit_once(':')?.1.trim().replace(',', "").parse().ok()
}

fn has_valgrind() -> bool {
    let asked =
        Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valgrinds_words_are_read() {
        assert_eq!(refs("==7== \n==7== I   refs:      1,234,567\n"), Some(1_234_567));
        assert_eq!(refs("valgrind: no"), None);
    }

    #[test]
    fn what_has_moved_is_told() {
        let row = |name: &str, value| Row { name: name.to_owned(), values: vec![value, 0.0] };
        let table = Table {
            key: KEY,
            title: String::new(),
            text: String::new(),
            columns: vec!["instructions".to_owned(), "x".to_owned()],
            rows: vec![row("a", 110.0), row("b", 100.5), row("new", 1.0)],
            missing: Vec::new(),
        };
        let old = "| | instructions | x |\n|---|---:|---:|\n| a | 100 | 0 |\n| b | 100 | 0 |\n";
        assert_eq!(changes(old, &table), ["a: was 100, is 110 (+10.0 %)"]);
    }
}
