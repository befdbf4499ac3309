//! A process of config.json or process.json, made ready: names are numbers, texts are C strings.
//!
//! Pure: the same for a container's init and for an exec, computed before anything is cloned.

use std::ffi::CString;

use model::capability::CapabilitySet;
use model::oci::{ConsoleSize, Process};
use sys::spawn::SchedAttr;

use crate::error::{Error, Result};

/// The five capability sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// The most that an execve(2) can give.
    pub bounding: CapabilitySet,
    /// In force.
    pub effective: CapabilitySet,
    /// Handed on to files that inherit.
    pub inheritable: CapabilitySet,
    /// May be put in force.
    pub permitted: CapabilitySet,
    /// Survives an execve(2).
    pub ambient: CapabilitySet,
}

/// A limit with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// `RLIMIT_…`, for messages.
    pub name: String,
    /// Its number.
    pub resource: rustix::process::Resource,
    /// What is in force.
    pub soft: u64,
    /// The ceiling.
    pub hard: u64,
}

/// Everything that a process is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessPlan {
    /// The program's name and arguments; at least one.
    pub args: Vec<CString>,
    /// The environment.
    pub env: Vec<CString>,
    /// An absolute path.
    pub cwd: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File mode creation mask.
    pub umask: u32,
    /// Absent is none at all.
    pub capabilities: Capabilities,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// Whether no execve(2) may give more power.
    pub no_new_privileges: bool,
    /// AppArmor profile, not empty.
    pub apparmor: Option<String>,
    /// SELinux label, not empty.
    pub selinux: Option<String>,
    /// `oom_score_adj`.
    pub oom_score_adj: Option<i32>,
    /// Class and priority.
    pub io_priority: Option<(u16, u16)>,
    /// Scheduling.
    pub scheduler: Option<SchedAttr>,
    /// Whether it gets a terminal, and how large.
    pub terminal: Option<ConsoleSize>,
    /// The processors before and after an exec joins the container's cgroup.
    pub affinity: [Option<Vec<usize>>; 2],
}

impl ProcessPlan {
    /// Reads `process`; what is odd but allowed goes into `warnings`.
    ///
    /// # Errors
    /// A field that can't be.
    pub fn new(process: &Process, warnings: &mut Vec<String>) -> Result<Self> {
        if process.args.is_empty() {
            return Err(Error::invalid("process.args", "empty: there is no program"));
        }
        if !process.cwd.starts_with('/') {
            return Err(Error::invalid("process.cwd", format!("{:?} is not an absolute path", process.cwd)));
        }
        for entry in &process.env {
            if entry.starts_with('=') || entry.is_empty() {
                return Err(Error::invalid("process.env", format!("{entry:?} has no name")));
            }
        }
        // -1 means "as it is" to setresuid(2): the program would run as root.
        for (field, number) in
            [("process.user.uid", process.user.uid), ("process.user.gid", process.user.gid)]
        {
            if number == u32::MAX {
                return Err(Error::invalid(field, format!("{number} is nobody's number")));
            }
        }
        let affinity = process.exec_cpu_affinity.as_ref();
        let list = |text: Option<&String>, field: &str| {
            text.filter(|text| !text.is_empty())
                .map(|text| {
                    cpu_list(text)
                        .ok_or_else(|| Error::invalid(field, format!("{text:?} is no list of processors")))
                })
                .transpose()
        };
        Ok(Self {
            args: strings(&process.args, "process.args")?,
            env: strings(&process.env, "process.env")?,
            cwd: process.cwd.clone(),
            uid: process.user.uid,
            gid: process.user.gid,
            groups: process.user.additional_gids.clone(),
            umask: process.user.umask.unwrap_or(0o022) & 0o777,
            capabilities: capabilities(process, warnings),
            rlimits: rlimits(process)?,
            no_new_privileges: process.no_new_privileges,
            apparmor: process.apparmor_profile.clone().filter(|name| !name.is_empty()),
            selinux: process.selinux_label.clone().filter(|label| !label.is_empty()),
            oom_score_adj: oom_score_adj(process)?,
            io_priority: io_priority(process)?,
            scheduler: scheduler(process)?,
            terminal: process.terminal.then(|| process.console_size.unwrap_or_default()),
            affinity: [
                list(affinity.and_then(|a| a.initial.as_ref()), "process.execCPUAffinity.initial")?,
                list(affinity.and_then(|a| a.last.as_ref()), "process.execCPUAffinity.final")?,
            ],
        })
    }

    /// The value of `name` in the environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.env.iter().rev().find_map(|entry| {
            let rest = entry.to_bytes().strip_prefix(name.as_bytes())?;
            rest.strip_prefix(b"=")
        })
    }
}

fn strings(list: &[String], field: &str) -> Result<Vec<CString>> {
    list.iter()
        .map(|text| {
            CString::new(text.as_str()).map_err(|_| Error::invalid(field, format!("{text:?} has a NUL")))
        })
        .collect()
}

fn capabilities(process: &Process, warnings: &mut Vec<String>) -> Capabilities {
    let Some(sets) = &process.capabilities else { return Capabilities::default() };
    let mut unknown: Vec<String> = Vec::new();
    let mut set = |names: &[String]| {
        let (set, bad) = CapabilitySet::parse(names);
        for name in bad {
            if !unknown.contains(&name) {
                unknown.push(name);
            }
        }
        set
    };
    let capabilities = Capabilities {
        bounding: set(&sets.bounding),
        effective: set(&sets.effective),
        inheritable: set(&sets.inheritable),
        permitted: set(&sets.permitted),
        ambient: set(&sets.ambient),
    };
    if !unknown.is_empty() {
        warnings.push(format!("ignoring unknown or unavailable capabilities: {}", unknown.join(" ")));
    }
    capabilities
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>> {
    use rustix::process::Resource as R;
    let mut limits: Vec<Rlimit> = Vec::new();
    for limit in &process.rlimits {
        let resource = match limit.kind.as_str() {
            "RLIMIT_CPU" => R::Cpu,
            "RLIMIT_FSIZE" => R::Fsize,
            "RLIMIT_DATA" => R::Data,
            "RLIMIT_STACK" => R::Stack,
            "RLIMIT_CORE" => R::Core,
            "RLIMIT_RSS" => R::Rss,
            "RLIMIT_NPROC" => R::Nproc,
            "RLIMIT_NOFILE" => R::Nofile,
            "RLIMIT_MEMLOCK" => R::Memlock,
            "RLIMIT_AS" => R::As,
            "RLIMIT_LOCKS" => R::Locks,
            "RLIMIT_SIGPENDING" => R::Sigpending,
            "RLIMIT_MSGQUEUE" => R::Msgqueue,
            "RLIMIT_NICE" => R::Nice,
            "RLIMIT_RTPRIO" => R::Rtprio,
            "RLIMIT_RTTIME" => R::Rttime,
            other => return Err(Error::invalid("process.rlimits", format!("{other:?} is no limit"))),
        };
        if limits.iter().any(|known| known.resource == resource) {
            return Err(Error::invalid("process.rlimits", format!("{} is there twice", limit.kind)));
        }
        limits.push(Rlimit { name: limit.kind.clone(), resource, soft: limit.soft, hard: limit.hard });
    }
    Ok(limits)
}

fn oom_score_adj(process: &Process) -> Result<Option<i32>> {
    match process.oom_score_adj {
        Some(value) if !(-1000..=1000).contains(&value) => {
            Err(Error::invalid("process.oomScoreAdj", format!("{value} is not within -1000 to 1000")))
        }
        value => Ok(value),
    }
}

fn io_priority(process: &Process) -> Result<Option<(u16, u16)>> {
    let Some(wanted) = &process.io_priority else { return Ok(None) };
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(Error::invalid("process.ioPriority.class", format!("{other:?} is no class"))),
    };
    match u16::try_from(wanted.priority) {
        Ok(priority @ 0..=7) => Ok(Some((class, priority))),
        _ => Err(Error::invalid(
            "process.ioPriority.priority",
            format!("{} is not within 0 to 7", wanted.priority),
        )),
    }
}

fn scheduler(process: &Process) -> Result<Option<SchedAttr>> {
    let Some(wanted) = &process.scheduler else { return Ok(None) };
    let bad = |what: &str, value: &dyn std::fmt::Debug| {
        Error::invalid(format!("process.scheduler.{what}"), format!("{value:?} can't be"))
    };
    let policy = match wanted.policy.as_str() {
        "SCHED_OTHER" | "" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(bad("policy", &other)),
    };
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return Err(bad("flags", &other)),
        };
    }
    let nice = wanted.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(bad("nice", &nice));
    }
    let priority = wanted.priority.unwrap_or(0);
    let priority = u32::try_from(priority).map_err(|_| bad("priority", &priority))?;
    let deadline = wanted.runtime.is_some() || wanted.deadline.is_some() || wanted.period.is_some();
    if priority != 0 && !matches!(policy, 1 | 2) {
        return Err(Error::invalid("process.scheduler.priority", "only SCHED_FIFO and SCHED_RR have one"));
    }
    if deadline && policy != 6 {
        return Err(Error::invalid("process.scheduler.runtime", "only SCHED_DEADLINE has one"));
    }
    let mut attr = SchedAttr::default();
    (attr.policy, attr.flags, attr.nice, attr.priority) = (policy, flags, nice, priority);
    attr.runtime = wanted.runtime.unwrap_or(0);
    attr.deadline = wanted.deadline.unwrap_or(0);
    attr.period = wanted.period.unwrap_or(0);
    Ok(Some(attr))
}

/// The numbers of a list such as `0-2,7`.
#[must_use]
pub fn cpu_list(text: &str) -> Option<Vec<usize>> {
    const MAX: usize = 8192;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        if first > last || last >= MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: &str) -> Result<(ProcessPlan, Vec<String>)> {
        let process: Process = serde_json::from_str(json).unwrap();
        let mut warnings = Vec::new();
        ProcessPlan::new(&process, &mut warnings).map(|plan| (plan, warnings))
    }

    #[test]
    fn what_cannot_be() {
        let cases = [
            (r#"{"cwd":"/"}"#, "check process.args: empty: there is no program"),
            (r#"{"args":["x"]}"#, "check process.cwd: \"\" is not an absolute path"),
            (r#"{"args":["x"],"cwd":"a"}"#, "check process.cwd: \"a\" is not an absolute path"),
            (r#"{"args":["a\u0000b"],"cwd":"/"}"#, "check process.args: \"a\\0b\" has a NUL"),
            (r#"{"args":["x"],"cwd":"/","env":["=x"]}"#, "check process.env: \"=x\" has no name"),
            (
                r#"{"args":["x"],"cwd":"/","oomScoreAdj":1001}"#,
                "check process.oomScoreAdj: 1001 is not within -1000 to 1000",
            ),
            (
                r#"{"args":["x"],"cwd":"/","rlimits":[{"type":"RLIMIT_X"}]}"#,
                "check process.rlimits: \"RLIMIT_X\" is no limit",
            ),
            (
                r#"{"args":["x"],"cwd":"/","rlimits":[{"type":"RLIMIT_CPU"},{"type":"RLIMIT_CPU"}]}"#,
                "check process.rlimits: RLIMIT_CPU is there twice",
            ),
            (
                r#"{"args":["x"],"cwd":"/","ioPriority":{"class":"X"}}"#,
                "check process.ioPriority.class: \"X\" is no class",
            ),
            (
                r#"{"args":["x"],"cwd":"/","scheduler":{"policy":"X"}}"#,
                "check process.scheduler.policy: \"X\" can't be",
            ),
            (
                r#"{"args":["x"],"cwd":"/","execCPUAffinity":{"initial":"3-1"}}"#,
                "check process.execCPUAffinity.initial: \"3-1\" is no list of processors",
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(plan(json).unwrap_err().to_string(), expected, "{json}");
        }
    }

    #[test]
    fn an_unknown_capability_is_a_warning() {
        let (plan, warnings) =
            plan(r#"{"args":["x"],"cwd":"/","env":["A=1","A=2"],"capabilities":{"bounding":["CAP_CHOWN","CAP_X"],"effective":["CAP_X"]}}"#)
                .unwrap();
        assert_eq!(warnings, ["ignoring unknown or unavailable capabilities: CAP_X"]);
        assert_eq!(plan.capabilities.bounding.0, 1);
        assert_eq!(plan.variable("A"), Some(&b"2"[..]));
        assert_eq!(plan.umask, 0o022);
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(cpu_list("0-2,7"), Some(vec![0, 1, 2, 7]));
        for bad in ["", "a", "1-", "-1", "2-1", "0-99999999", "1,,2"] {
            assert_eq!(cpu_list(bad), None, "{bad}");
        }
    }
}
