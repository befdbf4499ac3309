//! Commands that only tell: state, list, ps.

use std::io::Write as _;

use lexopt::prelude::*;
use serde::Serialize;
use sys::Ctx as _;

use super::{container_id, log, switch, text, text_of, usage};
use crate::create::Context;
use crate::error::{Error, Result};
use crate::lifecycle::{self, Listed};
use crate::record::Record;

/// Writes `text` to standard output.
///
/// # Errors
/// It is closed.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()).ctx("write", "stdout")?)
}

/// What `state` shows, and `list` as JSON.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    oci_version: &'a str,
    id: &'a str,
    pid: i32,
    status: &'a str,
    bundle: &'a std::path::Path,
    rootfs: &'a std::path::Path,
    created: &'a str,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    annotations: &'a std::collections::BTreeMap<String, String>,
    owner: String,
}

fn shown<'a>(record: &'a Record, status: &'a str) -> Shown<'a> {
    Shown {
        oci_version: &record.oci_version,
        id: &record.id,
        pid: if status == "stopped" { 0 } else { record.pid },
        status,
        bundle: &record.bundle,
        rootfs: &record.rootfs,
        created: &record.created,
        annotations: &record.annotations,
        owner: owner(record.owner),
    }
}

/// The user's name, by our own parser, as nothing may load what nsswitch.conf names.
fn owner(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| format!("#{uid}"))
}

fn json(value: &impl Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value).map_err(std::io::Error::from).ctx("write", "json")?)
}

/// `state`.
pub(super) fn state(context: &Context, id: &str) -> Result<()> {
    let (record, state) = lifecycle::state(context, id)?;
    print(&json(&shown(&record, &state.status))?)
}

/// How a list is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Table,
    Json,
}

impl Format {
    fn parse(text: &str) -> Result<Self> {
        match text {
            "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            other => Err(Error::Usage(format!("parse command line: invalid format option {other:?}"))),
        }
    }
}

/// What `list` shows.
#[derive(Debug)]
pub(super) struct ListOptions {
    format: Format,
    quiet: bool,
}

/// The command line of `list`.
pub(super) fn parse_list(parser: &mut lexopt::Parser) -> Result<ListOptions> {
    let (mut format, mut quiet) = (Format::Table, false);
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('f') | Long("format") => format = Format::parse(&text_of(parser)?)?,
            Short('q') | Long("quiet") => quiet = switch(parser)?,
            other => return Err(usage(other.unexpected())),
        }
    }
    Ok(ListOptions { format, quiet })
}

/// `list`.
pub(super) fn list(context: &Context, options: &ListOptions, log: &log::Log) -> Result<()> {
    let (listed, failures) = lifecycle::list(&context.root)?;
    failures.iter().for_each(|failure| log.warning(failure));
    if options.quiet {
        return print(&listed.iter().map(|one| format!("{}\n", one.record.id)).collect::<String>());
    }
    match options.format {
        Format::Table => print(&table(&listed)),
        Format::Json => {
            let all: Vec<_> = listed.iter().map(|one| shown(&one.record, one.status.as_str())).collect();
            let text = serde_json::to_string(&all).map_err(std::io::Error::from).ctx("write", "json")?;
            print(&text)
        }
    }
}

fn table(listed: &[Listed]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |one: &Listed| {
        let shown = shown(&one.record, one.status.as_str());
        let bundle = shown.bundle.to_string_lossy().into_owned();
        [
            shown.id.to_owned(),
            shown.pid.to_string(),
            shown.status.to_owned(),
            bundle,
            shown.created.to_owned(),
            shown.owner,
        ]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(listed.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(8) + 4;
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect::<String>();
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}

/// What `ps` shows, and the words for ps(1).
#[derive(Debug)]
pub(super) struct PsOptions {
    format: Format,
    id: String,
    args: Vec<String>,
}

/// The command line of `ps`.
pub(super) fn parse_ps(parser: &mut lexopt::Parser) -> Result<PsOptions> {
    let (mut format, mut id, mut args) = (Format::Table, None, Vec::new());
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('f') | Long("format") if id.is_none() => format = Format::parse(&text_of(parser)?)?,
            Value(value) if id.is_none() => {
                id = Some(container_id(value)?);
                for rest in parser.raw_args().map_err(usage)? {
                    args.push(text(rest)?);
                }
            }
            other => return Err(usage(other.unexpected())),
        }
    }
    let id = id.ok_or_else(|| Error::Usage("ps container: no container id was given".to_owned()))?;
    Ok(PsOptions { format, id, args })
}

/// `ps`.
pub(super) fn processes(context: &Context, options: &PsOptions) -> Result<()> {
    let pids = lifecycle::processes(context, &options.id)?;
    match options.format {
        Format::Json => {
            let text = serde_json::to_string(&pids).map_err(std::io::Error::from).ctx("write", "json")?;
            print(&format!("{text}\n"))
        }
        Format::Table => print(&filtered(&pids, &options.args)?),
    }
}

/// The lines of ps(1) that are of these processes.
fn filtered(pids: &[i32], args: &[String]) -> Result<String> {
    let args = if args.is_empty() { vec!["-ef".to_owned()] } else { args.to_vec() };
    let output = std::process::Command::new("ps").args(&args).output().ctx("run", "ps")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::Step(format!("run ps: {words}")));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| Error::Step("run ps: it shows no PID column".to_owned()))?;
    let ours = |line: &&str| {
        line.split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok())
            .is_some_and(|pid: i32| pids.contains(&pid))
    };
    Ok(std::iter::once(head).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}
