//! Calls the bench program, built as it must be for numbers.

use anyhow::Result;

use crate::command;
use crate::programs;

/// Builds the static programs and the bench program in release, and runs it.
pub(crate) fn run(arguments: &[String]) -> Result<bool> {
    // Counts run no program but the bench itself.
    if !matches!(arguments, [only, counts] if only == "--only" && counts == "counts") {
        programs::build()?;
    }
    let mut bench = command::cargo();
    bench.args(["run", "--quiet", "--release", "--package", "bench", "--"]).args(arguments);
    command::run(bench.env("WHARF_PROGRAMS", programs::directory()))?;
    Ok(true)
}
