//! `events`: what a container uses, once or again and again, and that it ran out of memory.

use std::time::Duration;

use lexopt::prelude::*;
use serde_json::json;
use sys::Ctx as _;

use crate::cgroup::Cgroup;
use crate::cli::{one_line_usage as usage, print, switch, text, text_of};
use crate::create::Context;
use crate::error::{Error, Result};
use crate::lifecycle::with_cgroup;
use crate::record::Dir;

/// Runs the command.
pub(crate) fn run(context: &Context, parser: &mut lexopt::Parser) -> Result<()> {
    let (mut id, mut once, mut interval) = (None, false, Duration::from_secs(5));
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Long("stats") => once = switch(parser)?,
            Long("interval") => interval = duration(&text_of(parser)?)?,
            Value(value) if id.is_none() => id = Some(text(value)?),
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("events of container: no container id was given".to_owned()))?;
    let dir = Dir::of(&context.root, &id)?;
    let record = dir.read()?;
    let Some(init) = record.init()? else {
        return Err(Error::State { op: "read events of", id, cause: "container is not running".to_owned() });
    };
    let cgroup = with_cgroup(&record, "read events of")?;
    if once {
        return show(&id, cgroup);
    }
    let mut killed = oom_kills(cgroup);
    loop {
        let ended = init.wait(Some(interval))?;
        let now = oom_kills(cgroup);
        if now > killed {
            print(&format!("{}\n", json!({"type": "oom", "id": id})))?;
            killed = now;
        }
        if ended {
            return Ok(());
        }
        show(&id, cgroup)?;
    }
}

fn show(id: &str, cgroup: &Cgroup) -> Result<()> {
    let stats = serde_json::to_value(cgroup.stats()).map_err(std::io::Error::from).ctx("write", "stats")?;
    print(&format!("{}\n", json!({"type": "stats", "id": id, "data": stats})))
}

/// How often the kernel has killed in this cgroup for want of memory.
fn oom_kills(cgroup: &Cgroup) -> u64 {
    let file = if cgroup.unified { "memory.events" } else { "memory.oom_control" };
    let text = cgroup.directory("memory").and_then(|dir| std::fs::read_to_string(dir.join(file)).ok());
    let text = text.unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// A duration as Go writes it: `5s`, `100ms`, `1m`.
fn duration(text: &str) -> Result<Duration> {
    let bad = || Error::Usage(format!("parse command line: --interval {text:?} is no duration above 0"));
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let millis = match &text[split..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    match number.checked_mul(millis) {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => Err(bad()),
    }
}
