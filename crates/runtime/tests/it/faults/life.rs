//! The victim: a process that takes a container through its life and writes down what it was told, step by step. What
//! is written down was acknowledged, and must hold whatever happened afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use model::{Exit, Signal, State};
use runtime::{CheckpointRequest, Container, CreateRequest, ExecRequest, Kind, Runtimes};

use super::judge::{Limits, foreign};
use super::{Course, FOREIGN, OURS, WITH_CONMON};
use crate::kit::{self, run};

/// Time for the signal, which is there at once, or for nothing.
const GRACE: Duration = Duration::from_secs(2);
/// How long a line may take to the log before this goes on without it.
const LINE: Duration = Duration::from_secs(3);

/// What the victim is told, by its environment.
struct Orders {
    root: PathBuf,
    id: String,
    bundle: PathBuf,
    course: Course,
    facts: PathBuf,
    /// The programs that the handlers are.
    dir: PathBuf,
}

/// Not a test: what the walk runs in a process of its own.
#[test]
#[ignore = "the victim of the walk"]
fn victim() {
    let var = |name: &str| std::env::var(name).expect("set by the walk");
    let orders = Orders {
        root: var("WALK_ROOT").into(),
        id: var("WALK_ID"),
        bundle: var("WALK_BUNDLE").into(),
        course: Course::named(&var("WALK_COURSE")),
        facts: var("WALK_FACTS").into(),
        dir: var("WALK_DIR").into(),
    };
    run(async {});
    // The trace of the points is opened at the first of them and stays.
    assert!(sys::fail::point("victim").is_ok());
    let before = descriptors();
    run(orders.life());
    let begin = Instant::now();
    while descriptors().difference(&before).next().is_some() && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let now = descriptors();
    let left: Vec<_> = now.difference(&before).collect();
    assert!(left.is_empty(), "descriptors left: {left:?}");
}

fn descriptors() -> BTreeSet<String> {
    let entries: Vec<_> = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten().collect();
    let target = |entry: &fs::DirEntry| fs::read_link(entry.path()).ok();
    entries
        .iter()
        .filter_map(|entry| Some(format!("{:?} {}", entry.file_name(), target(entry)?.display())))
        .filter(|text| !text.contains("/proc/"))
        .collect()
}

impl Orders {
    fn fact(&self, text: &str) {
        let file = fs::OpenOptions::new().append(true).create(true).open(&self.facts);
        writeln!(file.expect("open"), "{}", text.replace('\n', " ")).expect("write");
    }

    /// Does it, and writes down that it began and how it went.
    async fn step<T>(&self, op: &str, work: impl Future<Output = runtime::Result<T>>) -> Option<T> {
        self.fact(&format!("begin {op}"));
        match work.await {
            Ok(done) => {
                self.fact(&format!("ok {op}"));
                Some(done)
            }
            Err(error) => {
                self.fact(&format!("err {op} {error}"));
                None
            }
        }
    }

    async fn life(&self) {
        let config = super::config(&self.root, &self.dir);
        let runtimes = Runtimes::from_config(&config).expect("runtimes");
        if self.course == Course::Recovery {
            self.recovery(&runtimes).await;
            return;
        }
        let mut request = CreateRequest::new(kit::id(&self.id), &self.bundle);
        request.name = Some(model::Name::new(format!("name-of-{}", self.id)).expect("a name"));
        request.log = Some(self.log());
        let handler = match self.course {
            Course::Conmon => WITH_CONMON,
            Course::Stubborn => FOREIGN,
            Course::Plain | Course::Recovery => OURS,
        };
        request.handler = Some(handler.to_owned());
        let mut created = self.step("create", runtimes.create(request.clone())).await;
        if created.is_none() {
            // What failed has left nothing that stands in the way of the next.
            created = self.step("create", runtimes.create(request)).await;
        }
        let Some(container) = created else { return };
        if self.step("start", container.start()).await.is_some() {
            self.line("first").await;
        }
        let monitor = self.monitor_descriptors();
        self.write(&container, 1).await;
        let resources = serde_json::json!({ "memory": { "limit": 64 << 20 } });
        let resources = serde_json::from_value(resources).expect("resources");
        self.step("update", container.update(resources)).await;
        let limits = container.status().pid.and_then(|pid| Limits::of(&self.root.join(&self.id), pid));
        if let Some(limits) = limits.filter(|limits| !limits.agree()) {
            self.fact(&format!("left {limits:?}"));
        }
        self.step("pause", container.pause()).await;
        self.step("resume", container.resume()).await;
        self.step("kill", container.kill(Signal::from_number(10).expect("USR1"))).await;
        if fs::rename(self.log(), self.log().with_extension("log.1")).is_ok() {
            self.step("reopen", container.reopen_log()).await;
        }
        self.write(&container, 2).await;
        let images = CheckpointRequest { images: self.dir.join("images"), ..Default::default() };
        if self.course == Course::Stubborn {
            // Where criu can't, it says so; where it can, the container goes on.
            let save = CheckpointRequest { leave_running: true, ..images.clone() };
            let saved = container.checkpoint(save).await;
            self.fact(&format!("saved: {}", saved.is_ok()));
            // The library signals by itself; others ask the runtime.
            let kill =
                std::process::Command::new(self.dir.join(OURS)).args(["kill", &self.id, "USR1"]).status();
            self.fact(&format!("killed by the runtime: {kill:?}"));
        }
        self.beside(&container, monitor).await;
        if let Some(ended) = self.step("stop", container.stop(Signal::TERM, self.grace())).await {
            self.fact(&format!("ended {:?}", ended.exit));
        }
        if self.course == Course::Stubborn {
            fs::create_dir_all(self.dir.join("images")).expect("mkdir");
            assert!(container.restore(images).await.is_err());
        }
        self.step("delete", container.delete(false)).await;
    }

    /// Writes down what is beside the container's own life: processes in it, descriptors in its monitor.
    async fn beside(&self, container: &Container, before: Option<usize>) {
        if container.status().state == State::Running {
            for command in foreign(container).await {
                self.fact(&format!("left {command}"));
            }
        }
        let grown = || Some(self.monitor_descriptors()?.saturating_sub(before?));
        // The life without a fault comes first, and says how many an exec leaves that are kept for the next.
        let file = super::grown(&self.dir, self.course);
        let Ok(text) = fs::read_to_string(&file) else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            fs::write(&file, grown().unwrap_or(0).to_string()).expect("write");
            return;
        };
        let (kept, begin): (usize, _) = (text.parse().expect("a number"), Instant::now());
        while let Some(more) = grown().filter(|grown| *grown > kept) {
            if begin.elapsed() > testkit::deadline() {
                self.fact(&format!("left in the monitor: {more} descriptors, not {kept}"));
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How many the monitor has, if it is alive.
    fn monitor_descriptors(&self) -> Option<usize> {
        let record = fs::read(self.root.join(&self.id).join("state.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        let pid = record["monitor"]["process"]["pid"].as_i64()?;
        Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count())
    }

    fn grace(&self) -> Duration {
        if self.course == Course::Stubborn { Duration::from_millis(100) } else { GRACE }
    }

    fn log(&self) -> PathBuf {
        super::log_of(&self.dir, &self.id)
    }

    /// Lets the container write a line through an exec; acknowledged once it is in the log.
    async fn write(&self, container: &Container, number: u32) {
        let line = format!("echo line-{number} > /proc/1/fd/1");
        let done = self.step("exec", container.exec_sync(ExecRequest::new(["sh", "-c", &line]))).await;
        if done.is_some_and(|output| output.exit == Exit::Code(0)) {
            self.fact(&format!("wrote line-{number}"));
            self.line(&format!("line-{number}")).await;
        }
    }

    async fn line(&self, text: &str) {
        let begin = Instant::now();
        while begin.elapsed() < LINE {
            if has(&self.log(), text) {
                self.fact(&format!("logged {text}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Puts in order what others left, and removes it.
    async fn recovery(&self, runtimes: &Runtimes) {
        if let Some(recovered) = self.step("recover", runtimes.recover()).await {
            for (id, error) in recovered.failed {
                self.fact(&format!("err recover {id}: {error}"));
            }
        }
        for container in runtimes.list().await.unwrap_or_default() {
            if container.id().as_str().starts_with(&self.id) {
                self.step("delete", container.delete(true)).await;
            }
        }
        let rest = runtimes.get(&kit::id(&self.id)).await;
        assert!(rest.is_err_and(|error| error.kind() == Kind::NotFound));
    }
}

/// Whether a whole line of the log says so.
fn has(log: &Path, text: &str) -> bool {
    fs::read_to_string(log).is_ok_and(|log| log.contains(&format!(" F {text}\n")))
}
