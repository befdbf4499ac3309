//! What must hold after a fault, whatever it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{Exit, Signal, State};
use runtime::{Container, Kind, Runtimes};

use super::{Action, Case, Course, Side, log_of};
use crate::kit::{self, Kit};

const HOUR: Duration = Duration::from_secs(3600);
const LIMIT: u64 = 64 << 20;

/// What the victim wrote down.
pub(super) struct Facts(Vec<String>);

impl Facts {
    pub(super) fn read(path: &Path) -> Self {
        Self(fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect())
    }

    fn has(&self, fact: &str) -> bool {
        self.0.iter().any(|line| line == fact)
    }

    fn begun(&self, op: &str) -> bool {
        self.has(&format!("begin {op}"))
    }

    fn done(&self, op: &str) -> bool {
        self.has(&format!("ok {op}"))
    }

    fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter_map(move |line| line.strip_prefix(kind)?.strip_prefix(' '))
    }

    /// The calls that failed, or in which the caller died.
    pub(super) fn lost_calls(&self) -> Vec<String> {
        let mut lost: Vec<String> =
            self.all("err").filter_map(|text| text.split(' ').next()).map(str::to_owned).collect();
        if let Some(last) = self.0.last().and_then(|line| line.strip_prefix("begin ")) {
            lost.push(last.to_owned());
        }
        lost.sort();
        lost.dedup();
        lost
    }
}

pub(super) struct Judge<'a> {
    pub(super) kit: &'a Kit,
    pub(super) case: &'a Case,
    pub(super) id: &'a str,
    pub(super) facts: &'a Facts,
    pub(super) runtimes: Runtimes,
}

impl Judge<'_> {
    /// Recovers, looks, goes on to the end. Gives what was lost beside calls.
    pub(super) async fn judge(&self) -> Vec<String> {
        let (case, facts) = (self.case, self.facts);
        self.told();
        let mut lost = Vec::new();
        let recovered = self.runtimes.recover().await.expect("recover");
        assert!(recovered.failed.is_empty(), "{case}: {:?}", recovered.failed);
        match self.runtimes.get(&kit::id(self.id)).await {
            Ok(container) => {
                assert!(!facts.done("delete"), "{case}: deleted, and there");
                let refused = !facts.done("create") && !self.died_in("create");
                assert!(!refused, "{case}: its create failed, and it is there");
                self.thawed(&container).await;
                self.truth(&container);
                if self.go_on(&container).await == Exit::Lost {
                    lost.push("exit".to_owned());
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::NotFound, "{case}: {error}");
                let may = !facts.done("create") || facts.begun("delete") || case.course == Course::Recovery;
                assert!(may, "{case}: lost");
                if facts.all("ended").any(|exit| exit == "Lost") {
                    lost.push("exit".to_owned());
                }
            }
        }
        lost.extend(self.logs());
        if case.course == Course::Recovery {
            // Those of the mess that its own recovery has not removed.
            for container in self.runtimes.list().await.expect("list") {
                let good = |what: &str, error: runtime::Error| panic!("{case}: {what}: {error}");
                let grace = Duration::from_secs(2);
                container.stop(Signal::TERM, grace).await.map_or_else(|error| good("stop", error), drop);
                container.delete(false).await.unwrap_or_else(|error| good("delete", error));
            }
        }
        let again = self.runtimes.recover().await.expect("recover");
        assert!(again.failed.is_empty() && again.undone.is_empty(), "{case}: {again:?}");
        let once = case.action == Action::Error && case.side == Side::Library;
        if once && facts.begun("create") {
            assert!(facts.done("create"), "{case}: can't be created after a failure: {:?}", facts.0);
        }
        if case.action == Action::Sleep {
            assert_eq!(
                facts.lost_calls(),
                Vec::<String>::new(),
                "{case}: fails by being slow: {:?}",
                facts.0
            );
            assert_eq!(lost, Vec::<String>::new(), "{case}: lost by being slow");
            assert!(facts.done("delete"), "{case}: not at its end");
        }
        lost
    }

    /// What the caller was told on its way is right, also where it has got through to the delete.
    fn told(&self) {
        let (case, facts) = (self.case, self.facts);
        for exit in facts.all("ended") {
            assert!(self.right_exit(exit), "{case}: told that it ended by {exit}: {:?}", facts.0);
        }
        let left: Vec<&str> = facts.all("left").collect();
        assert!(left.is_empty(), "{case}: left beside the container's own life: {left:?}");
    }

    /// Whether the container can have ended so: by its program, by a kill after the grace, by a start that failed;
    /// or nobody can know.
    fn right_exit(&self, exit: &str) -> bool {
        match exit {
            "Code(7)" => self.case.course != Course::Stubborn,
            "Signal(9)" => true,
            "StartError" => !self.facts.done("start"),
            "Lost" => self.case.blind(),
            _ => false,
        }
    }

    /// The caller died in the middle of this call.
    fn died_in(&self, op: &str) -> bool {
        self.facts.0.last().is_some_and(|line| *line == format!("begin {op}"))
    }

    /// The stop that recovery goes on with lets a frozen container take its signal.
    async fn thawed(&self, container: &Container) {
        let begin = Instant::now();
        while container.status().state == State::Stopping && frozen(container.status().pid) == Some(true) {
            assert!(begin.elapsed() < testkit::deadline(), "{}: stopped, and frozen for ever", self.case);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The state is what the kernel has.
    fn truth(&self, container: &Container) {
        let case = self.case;
        let status = container.status();
        let told: Vec<&str> = self.facts.all("ended").collect();
        match (status.state, status.pid) {
            (State::Exited, _) => {
                let ended = status.ended.as_ref().unwrap_or_else(|| panic!("{case}: no end"));
                assert!(self.right_exit(&format!("{:?}", ended.exit)), "{case}: {ended:?}");
                assert!(
                    told.iter().all(|exit| *exit == format!("{:?}", ended.exit)),
                    "{case}: {ended:?}, {told:?}"
                );
                assert_eq!(members(self.id), 0, "{case}: exited and alive");
            }
            (state, Some(pid)) => {
                assert!(told.is_empty(), "{case}: {state}, and said to have ended: {told:?}");
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let runs = String::from_utf8_lossy(&line).contains("exit 7");
                // One that is stopped ends in its own time.
                let right = state == State::Stopping || runs == (state != State::Created);
                assert!(right, "{case}: {state}, and {line:?}");
                let frozen = frozen(Some(pid));
                let limits = Limits::of(&self.kit.root().join(self.id), pid);
                // One that is stopped may be gone by now.
                if state != State::Stopping {
                    assert_eq!(frozen, Some(state == State::Paused), "{case}: {state}, frozen: {frozen:?}");
                    let limits = limits.unwrap_or_else(|| panic!("{case}: no limits"));
                    assert!(limits.agree() && !limits.half, "{case}: {limits:?}");
                    let set = self.facts.done("update");
                    assert!(
                        !set || limits.kernel == Some(LIMIT),
                        "{case}: the limit that was set: {limits:?}"
                    );
                }
            }
            (state, None) => panic!("{case}: {state} without a pid"),
        }
    }

    /// It is started, stopped, deleted, and ends as it should where somebody sees it.
    async fn go_on(&self, container: &Container) -> Exit {
        let case = self.case;
        let good = |what: &str, done: runtime::Result<()>| {
            done.unwrap_or_else(|error| panic!("{case}: {what}: {error}"));
        };
        match container.status().state {
            State::Created => good("start", container.start().await),
            State::Paused => good("resume", container.resume().await),
            _ => {}
        }
        if container.status().state != State::Exited && !case.blind() {
            testkit::wait_until(&format!("{case}: the first line"), || {
                self.lines().iter().any(|line| line == "first")
            });
        }
        if container.status().state == State::Running {
            let left = foreign(container).await;
            assert!(left.is_empty(), "{case}: left beside the container's own life: {left:?}");
        }
        let stubborn = case.course == Course::Stubborn;
        let grace = match (stubborn, case.blind()) {
            (true, _) => Duration::from_millis(100),
            // Nothing says whether it listens by now.
            (false, true) => Duration::from_secs(2),
            (false, false) => HOUR,
        };
        let ended = container.stop(Signal::TERM, grace).await;
        let ended = ended.unwrap_or_else(|error| panic!("{case}: stop: {error}"));
        // A stop that was begun goes on: its signal may be the last one. After a start that failed it had ended.
        let may_be_killed = stubborn || case.blind() || self.facts.begun("stop") || !self.facts.done("start");
        let right = match ended.exit {
            Exit::Signal(9) => may_be_killed,
            exit => self.right_exit(&format!("{exit:?}")),
        };
        assert!(right, "{case}: {ended:?}");
        good("delete", container.delete(false).await);
        ended.exit
    }

    /// The texts of the log's whole lines, before and after its renaming.
    fn lines(&self) -> Vec<String> {
        let log = log_of(self.kit.scratch.path(), self.id);
        let mut all = Vec::new();
        for path in [log.with_extension("log.1"), log] {
            let text = fs::read_to_string(path).unwrap_or_default();
            for line in text.split_inclusive('\n') {
                let mut fields = line.trim_end_matches('\n').splitn(4, ' ');
                let whole = line.ends_with('\n') && fields.next().is_some_and(|time| time.contains('T'));
                assert!(whole || self.case.blind(), "{}: a torn line: {line:?}", self.case);
                let [stream, tag, text] = [(); 3].map(|()| fields.next().unwrap_or_default());
                assert!(
                    !whole || ["stdout", "stderr"].contains(&stream) && tag == "F",
                    "{}: {line:?}",
                    self.case
                );
                all.push(text.to_owned());
            }
        }
        all
    }

    /// Every acknowledged line is there, once and in order. Gives what was written and never logged.
    fn logs(&self) -> Vec<String> {
        let (case, lines) = (self.case, self.lines());
        let places = |text: &str| lines.iter().filter(|line| *line == text).count();
        for text in self.facts.all("logged") {
            assert_eq!(places(text), 1, "{case}: {text} was in the log, now there is {lines:?}");
        }
        let mut lost = Vec::new();
        let ends = self.facts.all("ended").any(|exit| exit == "Code(7)");
        let written = self.facts.all("wrote").chain(ends.then_some("last"));
        for text in written.filter(|text| places(text) != 1) {
            assert!(case.blind(), "{case}: {text} was written, the log has {lines:?}");
            lost.push("output".to_owned());
        }
        let numbered: Vec<_> = lines.iter().filter(|line| line.starts_with("line-")).collect();
        assert!(numbered.is_sorted(), "{case}: {numbered:?}");
        lost.dedup();
        lost
    }
}

/// How many processes are in cgroups that are named after the container.
pub(super) fn members(id: &str) -> usize {
    let processes = |group: PathBuf| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    testkit::marked_cgroups(id).into_iter().map(|group| processes(group).lines().count()).sum()
}

/// What a file of the process's own cgroup says, in whatever hierarchy it is and whoever placed it.
fn group_file(pid: i32, file: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut fields = groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    fields.find_map(|(controllers, path)| {
        fs::read_to_string(format!("/sys/fs/cgroup/{controllers}{path}/{file}")).ok()
    })
}

fn frozen(pid: Option<i32>) -> Option<bool> {
    let old = group_file(pid?, "freezer.state").map(|text| text.trim() != "THAWED");
    old.or_else(|| group_file(pid?, "cgroup.freeze").map(|text| text.trim() == "1"))
}

/// A container's memory limit: by the kernel and by its config.json; None: there is no limit.
#[derive(Debug)]
pub(super) struct Limits {
    kernel: Option<u64>,
    record: Option<u64>,
    /// There is a journal of an update that is to be undone.
    half: bool,
}

impl Limits {
    /// None: the process is gone, with its place.
    pub(super) fn of(dir: &Path, pid: i32) -> Option<Self> {
        let text = group_file(pid, "memory.limit_in_bytes").or_else(|| group_file(pid, "memory.max"))?;
        let config = fs::read(dir.join("config.json")).expect("a config.json");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("JSON");
        // Version 1 says none by the largest number of pages, version 2 by `max`.
        let some = |limit: &u64| *limit < 1 << 60;
        Some(Self {
            kernel: text.trim().parse().ok().filter(some),
            record: config["linux"]["resources"]["memory"]["limit"].as_u64().filter(some),
            half: dir.join("update.json").exists(),
        })
    }

    /// All of an update is done, or none, or it is written down what to go back to.
    pub(super) fn agree(&self) -> bool {
        self.half || self.kernel == self.record
    }
}

/// What runs in a container that is no part of its program, after a while.
pub(super) async fn foreign(container: &Container) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let processes = container.processes().await.unwrap_or_default();
        let own = |command: &str| command.contains("exit 7") || command.starts_with("sleep 3600");
        let left = processes.into_iter().filter(|process| !own(&process.command) && process.state != 'Z');
        let left: Vec<String> = left.map(|process| process.command).collect();
        if left.is_empty() || begin.elapsed() > testkit::deadline() {
            return left;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Files that only an unfinished write, create or delete has.
pub(super) fn unfinished(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".tmp-", ".new-", ".gone-"].iter().any(|kind| name.starts_with(kind)) {
            found.push(entry.path());
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unfinished(&entry.path(), found);
        }
    }
}
