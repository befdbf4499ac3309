//! The steps of a create that have to do with the monitor.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sys::pidfd::PidFd;
use sys::process::{Child, Stopped};

use super::{Creation, OP};
use crate::cgroups::{self, Group};
use crate::config::CgroupManager;
use crate::monitor::{Answer, Answers, NoAnswer, Start, messages, parse_pid};
use crate::process::args;
use crate::record::Process;
use crate::request::{Io, Stdin};
use crate::{Error, Result, point};

/// The controllers whose hierarchies of version 1 get a cgroup for the monitor.
const MONITOR_CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "freezer"];

/// A child of ours that is killed and reaped unless it was reaped.
struct Fork(Child);

impl Drop for Fork {
    fn drop(&mut self) {
        // One that was reaped can't be signalled, and there is nobody to wait for.
        let _ = self.0.pidfd().signal(9);
        let _ = self.0.wait();
    }
}

impl Creation<'_> {
    /// All between the reservation and the commit.
    pub(crate) fn steps(&mut self) -> Result<()> {
        self.step("reserve", point("create.reserved"))?;
        let cgroups = self.step("make monitor cgroup", self.make_monitor_group())?;
        self.step("spawn monitor", point("create.before-spawn"))?;
        let (stopped, sync) = self.step("spawn monitor", self.spawn(cgroups))?;
        let placed = self.place(&stopped);
        self.step("place monitor", placed)?;
        self.step("spawn monitor", point("create.before-release"))?;
        let child = self.step("spawn monitor", stopped.release().map_err(Into::into))?;
        let child = Fork(child);
        self.step("wait for runtime", point("create.released"))?;
        let pid = self.answer(sync, &child)?;
        self.step("wait for monitor", self.reap(&child))?;
        self.step("verify init", point("create.answered"))?;
        let verified = self.verify(pid);
        self.step("verify init", verified)
    }

    fn end(&self) -> Instant {
        self.begin + self.timeout
    }

    fn left(&self) -> Duration {
        self.end().saturating_duration_since(Instant::now())
    }

    fn timed_out(&self) -> Error {
        if self.given_up.load(Ordering::Relaxed) {
            return Error::Cancelled { op: OP, object: self.id().to_string() };
        }
        Error::Timeout { op: OP, object: self.id().to_string(), after: self.timeout }
    }

    /// The files by which the monitor joins its cgroup.
    fn make_monitor_group(&self) -> Result<Vec<OwnedFd>> {
        point("create.before-monitor-cgroup")?;
        let group = self.record.monitor.cgroup.as_deref().and_then(Group::at);
        let dirs = group.map_or(Ok(Vec::new()), |group| group.make(&MONITOR_CONTROLLERS))?;
        dirs.iter().map(|dir| cgroups::open_to_join(dir)).collect()
    }

    fn spawn(&self, cgroups: Vec<OwnedFd>) -> Result<(Stopped, OwnedFd)> {
        let start = Start {
            monitor: &self.record.monitor,
            args: self.monitor_args(),
            cwd: self.dir.path(),
            messages: &self.dir.file("monitor.log"),
            cgroups,
            more: Vec::new(),
        };
        start.stopped()
    }

    fn monitor_args(&self) -> Vec<OsString> {
        let (record, id) = (&self.record, self.id().as_str());
        let mut all = Vec::new();
        if record.handler.systemd {
            all.push("-s".into());
        }
        let name = record.name.as_ref().map_or(id, |name| name.as_str());
        all.extend(args(["-c", id, "-u", id, "-n", name]));
        for (flag, value) in [
            ("-r", record.handler.path.clone()),
            ("-b", self.dir.path().to_owned()),
            ("-p", self.dir.file("pidfile")),
            ("-P", self.dir.file("monitor.pid")),
            ("--exit-dir", self.dir.file("exits")),
            ("--persist-dir", self.dir.path().to_owned()),
            ("--socket-dir-path", self.dir.path().to_owned()),
        ] {
            all.push(flag.into());
            all.push(value.into());
        }
        all.push("--full-attach".into());
        if record.monitor.path.file_name().is_some_and(|name| name == "wharf-monitor") {
            // Ours: it serves execs and writes the exit record.
            all.push("--control-socket".into());
            all.push(self.dir.file("control").into());
        }
        all.push("-l".into());
        all.push(match &record.log {
            Some(log) => {
                let mut driver = OsString::from("k8s-file:");
                driver.push(log);
                driver
            }
            None => "none".into(),
        });
        if let Some(max) = self.request.log_size_max {
            all.extend(args(["--log-size-max", &max.to_string()]));
        }
        match record.io {
            Io::Terminal { .. } => all.push("-t".into()),
            Io::Pipes { stdin: Stdin::Once } => all.push("-i".into()),
            Io::Pipes { stdin: Stdin::Keep } => all.extend(args(["-i", "--leave-stdin-open"])),
            Io::Pipes { stdin: Stdin::None } | Io::Null => {}
        }
        for global in self.driver().globals() {
            let mut arg = OsString::from("--runtime-arg=");
            arg.push(global);
            all.push(arg);
        }
        all.extend(self.more.iter().cloned());
        all
    }

    /// Puts the monitor, which does not run yet, into its scope, where systemd makes cgroups.
    fn place(&mut self, stopped: &Stopped) -> Result<()> {
        let pid = stopped.pid();
        if self.handler.cgroup_manager() == CgroupManager::Systemd {
            let slice = self.handler.config().monitor.cgroup.as_deref().unwrap_or("system.slice");
            let unit = format!("wharf-monitor-{}.scope", self.id());
            crate::systemd::start_scope(&unit, slice, pid, self.left())?;
            self.record.monitor.cgroup = Some(format!("{}/{unit}", crate::bundle::slice_dir(slice)));
            self.dir.save(&self.record)?;
        }
        Ok(())
    }

    fn answer(&self, sync: OwnedFd, child: &Fork) -> Result<i32> {
        const STEP: &str = "wait for runtime";
        let mut answers = Answers::new(sync);
        let given_up = || self.given_up.load(Ordering::Relaxed);
        let odd = |cause: String| {
            let monitor = self.record.monitor.path.display().to_string();
            Error::runtime("ask monitor", &monitor, format!("answers {cause}"))
        };
        let line = match answers.line(self.end(), &given_up) {
            Ok(line) => line,
            Err(NoAnswer::Timeout) => return self.step(STEP, Err(self.timed_out())),
            Err(NoAnswer::Odd(cause)) => return self.step(STEP, Err(odd(cause))),
            Err(NoAnswer::Failed(error)) => return self.step(STEP, Err(error)),
            Err(NoAnswer::Silent) => return self.step("spawn monitor", Err(self.silent(child))),
        };
        match parse_pid(&line) {
            Ok(Answer::Pid(pid)) => Ok(pid),
            Ok(Answer::Failed { message, .. }) => {
                let driver = self.driver();
                let message = driver
                    .logged()
                    .or_else(|| Some(message).filter(|text| !text.is_empty()))
                    .or_else(|| Some(messages(&self.dir.file("monitor.log"))).filter(|text| !text.is_empty()))
                    .unwrap_or_else(|| "failed without a word".to_owned());
                self.step("run runtime", Err(Error::runtime(driver.name(), self.id(), message)))
            }
            Err(cause) => self.step(STEP, Err(odd(cause))),
        }
    }

    /// The error of a monitor that closed its pipe without an answer.
    fn silent(&self, child: &Fork) -> Error {
        let status = child.0.wait_within(self.left().min(Duration::from_secs(5))).ok().flatten();
        let how = match status.map(|reaped| (reaped.status.code(), reaped.status.signal())) {
            Some((Some(code), _)) => format!("ended with status {code} without an answer"),
            Some((_, Some(signal))) => format!("was ended by signal {signal} without an answer"),
            _ => "closed its pipe without an answer".to_owned(),
        };
        let said = messages(&self.dir.file("monitor.log"));
        let said = self.driver().logged().unwrap_or(said);
        let message = if said.is_empty() { how } else { format!("{how}: {said}") };
        Error::runtime("run monitor", self.record.monitor.path.display(), message)
    }

    /// Reaps the process that forked the monitor.
    fn reap(&self, child: &Fork) -> Result<()> {
        match child.0.wait_within(self.left())? {
            None => Err(self.timed_out()),
            Some(reaped) if reaped.status.success() => Ok(()),
            Some(_) => Err(self.silent(child)),
        }
    }

    /// Holds the init and the monitor that were told, and checks that one is the other's child.
    fn verify(&mut self, pid: i32) -> Result<()> {
        let monitor = self.dir.file("monitor.pid");
        let text = sys::durable::read_bounded(&monitor, 64)?;
        let monitor_pid = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse::<i32>().ok());
        let monitor_pid = monitor_pid
            .filter(|pid| *pid > 1)
            .ok_or_else(|| Error::invalid("read", monitor.display(), "is not the pid of a monitor"))?;
        let init = PidFd::open(pid)?;
        let stat = sys::proc::stat(pid)?;
        let held = PidFd::open(monitor_pid)?;
        let start = sys::proc::start_time(monitor_pid)?;
        if stat.ppid != monitor_pid || init.is_dead()? || held.is_dead()? {
            let cause = format!("process {pid} is no living child of monitor {monitor_pid}");
            return Err(Error::runtime("verify init of", self.id(), cause));
        }
        self.record.init = Some(Process { pid, start: stat.start_time });
        self.record.monitor.process = Some(Process { pid: monitor_pid, start });
        // Elsewhere than it was asked to be, it may be among others. crun has a cgroup below its scope.
        let asked = Group::at(&self.record.group);
        if !asked.zip(Group::of(pid)?).is_some_and(|(asked, found)| asked.has(&found)) {
            self.record.shared_group = true;
        }
        Ok(())
    }
}
