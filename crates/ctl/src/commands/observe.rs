//! logs, ps, inspect, events; top and stats are in `usage`.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use model::State;
use model::log::{Stream, head, parse_time};
use runtime::{Container, Event, Happened, LogLine, LogOptions};

use super::{print, print_json};
use crate::args::{EventsArgs, Global, LogsArgs, PsArgs, Targets};
use crate::setup;
use crate::table::{ago, table};

/// Bytes of RFC 3339 in a log's head: `2026-11-23T23:32:41.482636418+00:00`.
const TIME_LEN: usize = 35;

pub(super) async fn logs(global: &Global, args: &LogsArgs) -> anyhow::Result<ExitCode> {
    let container = setup::runtimes(global)?.find(&args.container).await?;
    let since_ns = args.since.as_deref().map(|text| since(text, now_ns())).transpose()?;
    let options = LogOptions { follow: args.follow, since_ns, tail: args.tail, ..LogOptions::default() };
    let mut reader = container.logs(options).await?;
    while let Some(line) = reader.next().await? {
        write(&line, args.timestamps)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn write(line: &LogLine, timestamps: bool) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(line.content.len() + TIME_LEN + 2);
    if timestamps {
        bytes.extend_from_slice(time(line.time_ns).as_bytes());
        bytes.push(b' ');
    }
    bytes.extend_from_slice(&line.content);
    if line.ended {
        bytes.push(b'\n');
    }
    match line.stream {
        Stream::Stdout => {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes)?;
            out.flush()
        }
        Stream::Stderr => std::io::stderr().lock().write_all(&bytes),
    }
}

/// RFC 3339 in UTC with nanoseconds.
pub(super) fn time(ns: u64) -> String {
    let head = head(ns, Stream::Stdout, model::log::Tag::Full);
    String::from_utf8_lossy(&head[..TIME_LEN]).into_owned()
}

/// A time as RFC 3339, or how long ago.
pub(super) fn since(text: &str, now_ns: u64) -> anyhow::Result<u64> {
    if let Some(ns) = parse_time(text) {
        return Ok(ns);
    }
    let ago = crate::args::duration(text).ok().with_context(|| {
        format!("--since {text:?}: neither a time such as 2026-11-24T12:00:00Z nor how long ago, such as 10m")
    })?;
    Ok(now_ns.saturating_sub(u64::try_from(ago.as_nanos()).unwrap_or(u64::MAX)))
}

pub(super) fn now_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) async fn ps(global: &Global, args: &PsArgs) -> anyhow::Result<ExitCode> {
    let containers = setup::runtimes(global)?.list().await?;
    let mut shown: Vec<_> = containers
        .iter()
        .map(Container::status)
        .filter(|status| args.all || status.state != State::Exited)
        .collect();
    shown.sort_by_key(|status| std::cmp::Reverse(status.created_ns));
    if args.json {
        print_json(&shown.iter().map(AsRef::as_ref).collect::<Vec<&runtime::Status>>())?;
    } else if args.quiet {
        for status in &shown {
            print(&status.id)?;
        }
    } else {
        let now = now_ns();
        let rows: Vec<_> = shown.iter().map(|status| row(status, now)).collect();
        print(table(&["CONTAINER", "NAME", "STATE", "CREATED", "PID", "HANDLER"], &rows).trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(status: &runtime::Status, now_ns: u64) -> Vec<String> {
    let age = now_ns.saturating_sub(status.created_ns) / 1_000_000_000;
    let state = match &status.ended {
        Some(ended) => format!("{} ({}) {}", status.state, ended.code, ended.reason),
        None => status.state.to_string(),
    };
    vec![
        status.id.short().to_owned(),
        status.name.as_ref().map(ToString::to_string).unwrap_or_default(),
        state,
        ago(age),
        status.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        status.handler.clone(),
    ]
}

pub(super) async fn inspect(global: &Global, args: &Targets) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    let mut values = Vec::new();
    for name in &args.containers {
        let container = runtimes.find(name).await?;
        values.push(serde_json::to_value(container.status().as_ref())?);
    }
    print(serde_json::to_string_pretty(&values)?)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn events(global: &Global, args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let runtimes = setup::runtimes(global)?;
    let from = match &args.since {
        Some(text) => since(text, now_ns())?,
        None if args.no_follow => 0,
        None => now_ns(),
    };
    let mut events = runtimes.events(from).await?;
    loop {
        let event = if args.no_follow { events.try_next().await? } else { Some(events.next().await?) };
        let Some(event) = event else { return Ok(ExitCode::SUCCESS) };
        if args.json {
            print_json(&event)?;
        } else {
            print(line(&event))?;
        }
    }
}

fn line(event: &Event) -> String {
    let what = match &event.happened {
        Happened::Exited { exit, .. } => format!("exited {}", exit.code()),
        other => format!("{other:?}").to_lowercase(),
    };
    format!("{} {} {what}", time(event.time_ns), event.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000000+00:00");
        assert_eq!(since("1970-01-01T00:00:01Z", 0).unwrap(), 1_000_000_000);
        assert_eq!(since("2s", 5_000_000_000).unwrap(), 3_000_000_000);
        assert_eq!(since("1h", 5).unwrap(), 0);
        assert!(since("yesterday", 0).unwrap_err().to_string().contains("yesterday"));
    }
}
