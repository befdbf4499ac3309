//! The processes of a container.

use std::time::Duration;

use model::State;
use serde::Serialize;

use crate::blocking;
use crate::container::Container;
use crate::{Error, Result};

/// Clock ticks a second in /proc: USER_HZ, the same on every Linux that Rust runs on.
const TICKS: u64 = 100;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its pid on the host.
    pub pid: i32,
    /// Its pid in the container.
    pub inner_pid: i32,
    /// Its parent's pid on the host.
    pub ppid: i32,
    /// Its effective user on the host.
    pub uid: u32,
    /// The kernel's letter for its state, as in ps(1).
    pub state: char,
    /// Processor time so far.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub rss: u64,
    /// Its arguments; its name in brackets when it has none.
    pub command: String,
}

impl Container {
    /// Its processes, by pid: all that are in its cgroup.
    ///
    /// # Errors
    /// [`Error::State`] when it has none (any more).
    pub async fn processes(&self) -> Result<Vec<Process>> {
        let container = self.clone();
        blocking::quick(move || {
            let record = container.present("list processes of")?;
            if !record.state.is_alive() {
                let state = record.state;
                return Err(Error::State { op: "list processes of", id: record.id.to_string(), state });
            }
            let mut pids = record.own_group().map(|group| group.pids()).unwrap_or_default();
            pids.extend(record.init.map(|init| init.pid));
            let processes: Vec<Process> = pids.into_iter().filter_map(read).collect();
            if processes.is_empty() {
                return Err(Error::State {
                    op: "list processes of",
                    id: record.id.to_string(),
                    state: State::Exited,
                });
            }
            Ok(processes)
        })
        .await
    }
}

/// None when it ends meanwhile.
fn read(pid: i32) -> Option<Process> {
    let stat = sys::proc::stat(pid).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let uid = field("Uid")?.split_whitespace().nth(1)?.parse().ok()?;
    let inner_pid = field("NSpid").and_then(|pids| pids.split_whitespace().next_back()?.parse().ok());
    let rss = field("VmRSS").and_then(|size| size.split_whitespace().next()?.parse::<u64>().ok());
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(Process {
        pid,
        inner_pid: inner_pid.unwrap_or(pid),
        ppid: stat.ppid,
        uid,
        state: stat.state,
        cpu: Duration::from_millis((stat.utime + stat.stime) * 1000 / TICKS),
        rss: rss.unwrap_or(0) << 10,
        command: command(&arguments, &stat.comm),
    })
}

fn command(arguments: &[u8], comm: &str) -> String {
    let text = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    if text.is_empty() {
        return format!("[{comm}]");
    }
    let text: String = text.iter().map(|b| if *b == 0 { ' ' } else { char::from(*b) }).collect();
    let bytes: Vec<u8> = arguments.iter().map(|b| if *b == 0 { b' ' } else { *b }).collect();
    let decoded = String::from_utf8(bytes).map_or(text, |decoded| decoded.trim_end().to_owned());
    decoded.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        assert_eq!(command(b"sh\0-c\0a b\0", "sh"), "sh -c a b");
        assert_eq!(command(b"", "kworker"), "[kworker]");
        assert_eq!(command(b"a\x1bb\nc\0", "x"), "a?b?c");
        assert_eq!(command("é\0".as_bytes(), "x"), "é");
    }

    #[test]
    fn this_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let process = read(pid).unwrap();
        assert_eq!(process.pid, pid);
        assert!(process.rss > 0 && !process.command.is_empty());
        assert_eq!(read(-1), None);
    }
}
