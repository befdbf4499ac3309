//! What there is after a round: by both libraries, by the record, by the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use model::{Exit, Reason, State};
use runtime::{Kind, Runtimes, Status};

use super::reference::{Is, Now};
use super::world::{FOR_EVER, LIMITS, held, read, record};
use crate::kit;

/// A container's id, and what is known of who has it.
pub(super) struct Container {
    pub(super) id: String,
    pub(super) dir: PathBuf,
    pub(super) now: Now,
    /// Somebody asked it to end, or killed it.
    pub(super) stopped: bool,
    /// Its start may have failed.
    pub(super) went_wrong: bool,
    /// Its monitor, who would see its exit, was killed.
    pub(super) blind: bool,
    /// Its monitor has failpoints, which act some time.
    pub(super) armed: bool,
    /// There were execs that end only with their caller.
    pub(super) execs_for_ever: bool,
    /// It was killed, and was frozen then: the signal waits for it.
    pub(super) doomed: bool,
    /// The exits that stops have told in this round.
    pub(super) told: Vec<Exit>,
    /// When it was created, and the exit that was seen.
    seen: Option<(u64, Exit)>,
}

impl Container {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            id: dir.file_name().expect("a name").to_string_lossy().into_owned(),
            dir,
            now: Now::ABSENT,
            stopped: false,
            went_wrong: false,
            blind: false,
            armed: false,
            execs_for_ever: false,
            doomed: false,
            told: Vec::new(),
            seen: None,
        }
    }

    /// Looks until what there is is right.
    pub(super) async fn look(&mut self, libraries: &[Runtimes], right: &BTreeSet<Now>) -> Now {
        let (begin, limit) = (Instant::now(), testkit::deadline());
        loop {
            match self.try_look(libraries, right).await {
                Ok(now) => {
                    self.now = now;
                    if now.is == Is::Absent {
                        *self = Self::new(self.dir.clone());
                    }
                    return now;
                }
                Err(why) => assert!(begin.elapsed() < limit, "{} {:?}: {why}", self.id, self.now),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What there is, or what is wrong (still).
    async fn try_look(&mut self, libraries: &[Runtimes], right: &BTreeSet<Now>) -> Result<Now, String> {
        let mut all = Vec::new();
        for library in libraries {
            all.push(match library.get(&kit::id(&self.id)).await {
                Ok(container) => Some((container.status(), container)),
                Err(error) if error.kind() == Kind::NotFound => None,
                Err(error) => return Err(error.to_string()),
            });
        }
        let states: Vec<Is> =
            all.iter().map(|one| is(one.as_ref().map(|(status, _)| status.state))).collect();
        if states.iter().any(|state| *state != states[0]) {
            return Err(format!("two libraries see {states:?}"));
        }
        let record = record(&self.dir);
        let has = |name: &str| {
            record.as_ref().is_some_and(|record| !matches!(&record[name], v if v.is_null() || *v == false))
        };
        let is = states[0];
        let (marked, half) = (has("deleting"), is == Is::Created && has("starting_ns"));
        let mut now = Now::ABSENT;
        if let Some((_, container)) = &all[0] {
            now = Now { marked, half, ..Now::new(is) };
            if matches!(is, Is::Created | Is::Running | Is::Paused) {
                let limits = container.limits().await.map_err(|error| {
                    let init = record.as_ref().and_then(|record| held(&record["init"]));
                    format!("{error}; init {init:?}, record {record:?}")
                })?;
                now.limit = limit_of(limits.pids.and_then(|pids| pids.limit))?;
                let saved = read(&self.dir.join("update.json"));
                now.back = saved.map(|saved| limit_of(saved["pids"]["limit"].as_i64())).transpose()?;
                let kept = read(&self.dir.join("config.json")).unwrap_or_default();
                let kept = limit_of(kept["linux"]["resources"]["pids"]["limit"].as_i64())?;
                if now.back.is_none() && kept != now.limit {
                    return Err(format!("limit {} in force, {kept} in config.json", now.limit));
                }
            }
        }
        if !right.contains(&now) {
            return Err(format!("is {now:?}, which is not in {right:?}"));
        }
        let Some((status, container)) = all.swap_remove(0) else {
            return if self.dir.exists() {
                Err("deleted, and its directory is there".to_owned())
            } else {
                Ok(now)
            };
        };
        let record = record.ok_or("there, without a record")?;
        let init = held(&record["init"]);
        if is == Is::Exited {
            self.exit(&status)?;
            return if init.is_some() { Err("exited, and its init lives".to_owned()) } else { Ok(now) };
        }
        let Some(init) = init else { return Err(format!("{is:?}, and its init is dead")) };
        let line = fs::read(format!("/proc/{}/cmdline", init.pid())).unwrap_or_default();
        let runs = String::from_utf8_lossy(&line).contains("exit 7");
        if is != Is::Stopping && !half && runs != (is != Is::Created) {
            return Err(format!("{is:?}, and its init is {:?}", String::from_utf8_lossy(&line)));
        }
        let frozen = frozen(init.pid());
        if frozen != (is == Is::Paused) && is != Is::Stopping {
            return Err(format!("{is:?}, frozen: {frozen}"));
        }
        if self.execs_for_ever && !frozen {
            let processes = container.processes().await.map_err(|error| error.to_string())?;
            if let Some(left) = processes.iter().find(|process| process.command.contains(FOR_EVER)) {
                return Err(format!("an exec whose caller is gone is left: {left:?}"));
            }
            self.execs_for_ever = false;
        }
        Ok(now)
    }

    /// The exit is one that it can have come to, and stays what it was.
    fn exit(&mut self, status: &Status) -> Result<(), String> {
        let ended = status.ended.as_ref().ok_or("exited, without an exit")?;
        let right = match ended.exit {
            Exit::Code(7) | Exit::Signal(9) => self.stopped || self.went_wrong,
            Exit::StartError => self.went_wrong,
            Exit::Lost => (self.blind || self.armed) && ended.reason == Reason::Unknown && ended.code == 255,
            _ => false,
        };
        assert!(right, "{}: ended by {ended:?}", self.id);
        assert!(
            self.told.iter().all(|told| *told == ended.exit),
            "{}: {:?} told, {ended:?}",
            self.id,
            self.told
        );
        if let Some((created, exit)) = self.seen {
            assert!(
                created != status.created_ns || exit == ended.exit,
                "{}: was {exit:?}, is {ended:?}",
                self.id
            );
        }
        self.seen = Some((status.created_ns, ended.exit));
        Ok(())
    }
}

/// The number of a limit.
fn limit_of(limit: Option<i64>) -> Result<usize, String> {
    let found = LIMITS.iter().position(|known| Some(*known) == limit);
    found.ok_or_else(|| format!("a limit of {limit:?} processes"))
}

fn is(state: Option<State>) -> Is {
    match state {
        None => Is::Absent,
        Some(State::Creating | State::Created) => Is::Created,
        Some(State::Running | State::Unknown) => Is::Running,
        Some(State::Paused) => Is::Paused,
        Some(State::Stopping) => Is::Stopping,
        Some(State::Exited) => Is::Exited,
    }
}

/// Whether the kernel keeps its cgroup from running.
fn frozen(pid: i32) -> bool {
    let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    lines.lines().any(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { return false };
        let read = |file: String| fs::read_to_string(file).unwrap_or_default();
        match controllers {
            "freezer" => !read(format!("/sys/fs/cgroup/freezer{path}/freezer.state")).starts_with("THAWED"),
            "" if path != "/" => read(format!("/sys/fs/cgroup{path}/cgroup.freeze")).starts_with('1'),
            _ => false,
        }
    })
}
