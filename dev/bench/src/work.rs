//! The pure hot paths, each done as often as asked: what `counts` counts the instructions of.
//!
//! No clock, no thread, no random order: the same work every time.

use std::hint::black_box;

use anyhow::{Context as _, Result, bail};
use model::log::{Record, Stream, Tag};
use model::oci::{LinuxSeccomp, Spec};
use monitor::control::protocol::{Request, decode};
use monitor::logs::{Logs, Options};
use monitor::process::ctl::Lines;
use ocirun::seccomp::Filter;
use serde_json::json;

/// Does a path so often.
type Path = fn(usize) -> Result<()>;

/// A hot path.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    /// In words, for the table.
    pub(crate) text: &'static str,
    /// Rounds that are counted: enough for the noise of the beginning and the end to be small.
    pub(crate) rounds: usize,
    /// Units in a round.
    pub(crate) units: usize,
    path: Path,
}

const LINES: usize = 640;
const LINE_BYTES: usize = 100;

/// All of them.
pub(crate) const ALL: [Work; 10] = [
    Work {
        name: "log",
        text: "log: a line of 100 bytes from the pipe's buffer to the file, with stamp",
        rounds: 50,
        units: LINES,
        path: log,
    },
    Work {
        name: "log-read",
        text: "log: a line of 100 bytes read back",
        rounds: 200,
        units: LINES,
        path: log_read,
    },
    Work {
        name: "config",
        text: "config.json of a CRI engine with a seccomp profile, parsed",
        rounds: 100,
        units: 1,
        path: config,
    },
    Work {
        name: "plan",
        text: "the same, up to the plan of what init does",
        rounds: 100,
        units: 1,
        path: plan,
    },
    Work {
        name: "seccomp",
        text: "seccomp: the filter of that profile compiled",
        rounds: 10,
        units: 1,
        path: seccomp,
    },
    Work {
        name: "control",
        text: "control: a request for an exec decoded",
        rounds: 1000,
        units: 1,
        path: control,
    },
    Work { name: "ctl", text: "ctl: a line split and read", rounds: 1000, units: 2, path: ctl },
    Work {
        name: "status",
        text: "status: a container's record parsed",
        rounds: 1000,
        units: 1,
        path: status,
    },
    Work { name: "mounts", text: "mountinfo: a line parsed", rounds: 100, units: 100, path: mounts },
    Work {
        name: "passwd",
        text: "passwd: a home looked up, the 50th of 50",
        rounds: 1000,
        units: 1,
        path: passwd,
    },
];

/// `bench work NAME ROUNDS`: 0 rounds for what there is besides.
pub(crate) fn run(name: &str, rounds: usize) -> Result<bool> {
    let Some(work) = ALL.iter().find(|work| work.name == name) else { bail!("no work {name}") };
    (work.path)(rounds)?;
    Ok(true)
}

fn log(rounds: usize) -> Result<()> {
    let options = Options {
        paths: vec!["k8s-file:/dev/null".to_owned()],
        cid: "c".to_owned(),
        no_sync: true,
        ..Options::default()
    };
    let mut logs = Logs::open(&options).map_err(anyhow::Error::msg)?;
    let buffer = lines();
    for _ in 0..rounds {
        logs.write(monitor::Stream::Stdout, black_box(&buffer));
    }
    Ok(())
}

fn lines() -> Vec<u8> {
    let mut line = vec![b'x'; LINE_BYTES - 1];
    line.push(b'\n');
    line.repeat(LINES)
}

fn log_read(rounds: usize) -> Result<()> {
    let content = vec![b'x'; LINE_BYTES - 1];
    let line =
        Record { time_ns: 1 << 60, stream: Stream::Stdout, tag: Tag::Full, content: &content }.to_line();
    for _ in 0..rounds * LINES {
        black_box(Record::parse(black_box(&line))?);
    }
    Ok(())
}

fn document() -> Vec<u8> {
    let mut spec = testkit::default_spec(&["sh"]);
    spec["linux"]["seccomp"] = testkit::seccomp_profile();
    spec.to_string().into_bytes()
}

fn config(rounds: usize) -> Result<()> {
    let bytes = document();
    for _ in 0..rounds {
        black_box(serde_json::from_slice::<Spec>(black_box(&bytes))?);
    }
    Ok(())
}

fn plan(rounds: usize) -> Result<()> {
    let bytes = document();
    for _ in 0..rounds {
        ocirun::harness::config(black_box(&bytes));
    }
    Ok(())
}

fn seccomp(rounds: usize) -> Result<()> {
    let profile: LinuxSeccomp = serde_json::from_value(testkit::seccomp_profile())?;
    for _ in 0..rounds {
        black_box(Filter::prepare(black_box(&profile), None).context("compile the profile")?);
    }
    Ok(())
}

fn control(rounds: usize) -> Result<()> {
    let request = json!({
        "version": 1, "seq": 7, "op": "exec", "fds": ["stdin", "stdout", "stderr"], "exec": 3, "timeout_ms": 1000,
        "process": {"args": ["sh", "-c", "exit 0"], "cwd": "/", "env": ["PATH=/bin", "A=b"], "user": {"uid": 0, "gid": 0}},
    });
    let bytes = request.to_string().into_bytes();
    for _ in 0..rounds {
        // What matters is that all of it is read, whatever this version says to it.
        let _ = black_box(decode::<Request>(black_box(&bytes)));
    }
    Ok(())
}

fn ctl(rounds: usize) -> Result<()> {
    let mut lines = Lines::default();
    for _ in 0..rounds {
        lines.push(black_box(b"1 24 80\n2 0 0\n"), |order| drop(black_box(order)));
    }
    Ok(())
}

fn status(rounds: usize) -> Result<()> {
    let bytes =
        std::fs::read(testkit::workspace().join("fuzz/seeds/library_records/1")).context("read a record")?;
    for _ in 0..rounds {
        if !runtime::harness::is_record(black_box(&bytes)) {
            bail!("the record is none");
        }
    }
    Ok(())
}

fn mounts(rounds: usize) -> Result<()> {
    let line = b"2381 2380 0:301 / /proc/sys rw,nosuid,nodev,noexec,relatime shared:5 master:1 - overlay overlay rw,lowerdir=/a:/b,upperdir=/c,workdir=/d\n";
    let text = line.repeat(100);
    for _ in 0..rounds {
        black_box(sys::proc::parse_mountinfo(black_box(&text)));
    }
    Ok(())
}

fn passwd(rounds: usize) -> Result<()> {
    let text: String =
        (0..50).map(|n| format!("user{n}:x:{n}:{n}:somebody:/home/user{n}:/bin/sh\n")).collect();
    for _ in 0..rounds {
        black_box(ocirun::passwd::home(black_box(text.as_bytes()), 49).context("look up")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_works() {
        for work in &ALL {
            assert!((work.path)(1).is_ok(), "{}", work.name);
        }
    }
}
