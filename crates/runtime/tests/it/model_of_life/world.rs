//! The rounds of a plan, done to real containers, and what came of each, explained by the reference.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use model::{Exit, Signal};
use runtime::{CreateRequest, ExecRequest, Runtimes};
use serde_json::{Value, json};
use sys::pidfd::PidFd;
use tokio::task::JoinHandle;

use super::look::Container;
use super::plan::{CONTAINERS, Call, Caller, Fault, LIBRARIES, Op, Program, Round};
use super::reference::{Answer, Event, Is, Now, explained};
use super::{Setup, Tale};
use crate::kit;

/// Time for the signal.
const GRACE: Duration = Duration::from_millis(500);
/// How many processes there may be: at first, and after updates.
pub(super) const LIMITS: [i64; 3] = [300, 500, 700];
/// Window changes: nobody minds.
const IGNORED: i64 = 28;
/// Time for an exec whose caller waits.
const EXEC: Duration = Duration::from_millis(500);
/// Whoever waits for his last poll goes after this.
const LAST_POLL: Duration = Duration::from_millis(300);
/// What an exec runs whose caller goes: it must end with that.
pub(super) const FOR_EVER: &str = "7777";

/// What a call gave: how a stop says that it ended, else nothing.
type Done = Result<Option<Exit>, String>;

pub(super) struct World<'a> {
    setup: &'a Setup,
    libraries: Vec<Runtimes>,
    pub(super) containers: Vec<Container>,
    pub(super) calls: usize,
}

/// A call of a round, with what came of it; none: its caller is gone.
struct Answered {
    call: Call,
    done: Option<Done>,
}

impl<'a> World<'a> {
    pub(super) fn new(setup: &'a Setup) -> Self {
        let containers =
            (0..CONTAINERS).map(|_| Container::new(setup.root.join(testkit::unique_id("model"))));
        Self { setup, libraries: open(setup), containers: containers.collect(), calls: 0 }
    }

    pub(super) async fn round(&mut self, number: usize, round: &Round, tale: &mut Tale) {
        tale.tell(format!("round {number}: {:?} {:?}", round.fault, round.calls));
        let begin = Instant::now();
        let acted = self.arm(&round.fault);
        let tasks: Vec<_> = round.calls.iter().map(|call| (call.clone(), self.begin(call))).collect();
        let hit = self.meanwhile(round, &tasks).await;
        let mut answered = Vec::new();
        for (call, task) in tasks {
            let done = match task.await {
                Ok(done) => done,
                Err(error) if error.is_cancelled() => None,
                Err(error) => panic!("{call:?}: {error}"),
            };
            self.calls += 1;
            let told = if let Some(done) = &done { format!("{done:?}") } else { "gone".to_owned() };
            tale.tell(format!(
                "  {} of {}: {:?} {:?}: {told}",
                call.container, call.library, call.op, call.caller
            ));
            answered.push(Answered { call, done });
        }
        tale.tell(format!("  hit: {hit}, {} ms", begin.elapsed().as_millis()));
        quiet().await;
        let faulty = self.disarm(&round.fault, acted);
        let mut recovered = false;
        if let Fault::Restart { .. } = round.fault {
            self.recover(tale).await;
            recovered = true;
        }
        for index in 0..CONTAINERS {
            let mine: Vec<_> = answered.iter().filter(|one| one.call.container == index).collect();
            let mut right = self.right(index, round, &mine, hit, faulty);
            if recovered {
                let then = [vec![Event::Recovered { maybe: false }]];
                right = right.into_iter().flat_map(|now| explained(now, &then)).collect();
            }
            self.note(index, round, &mine, hit, faulty);
            let container = &mut self.containers[index];
            let now = container.look(&self.libraries, &right).await;
            container.doomed |= now.is == Is::Paused && mine.iter().any(|one| one.call.op == Op::Kill);
            tale.tell(format!("  {index}: {now:?}, {} ms", begin.elapsed().as_millis()));
        }
    }

    fn begin(&self, call: &Call) -> JoinHandle<Option<Done>> {
        let id = self.containers[call.container].id.clone();
        let work = do_call(self.libraries[call.library].clone(), id, self.setup.bundle.clone(), call.clone());
        let caller = call.caller;
        tokio::spawn(async move {
            match caller {
                Caller::Waits => Some(work.await),
                Caller::GoesAfter(time) => tokio::time::timeout(time, work).await.ok(),
                // Not every future is polled so often.
                Caller::GoesAfterPolls(left) => {
                    let polled = Polled { work: Box::pin(work), left };
                    tokio::time::timeout(LAST_POLL, polled).await.ok().flatten()
                }
            }
        })
    }

    /// Sets failpoints; gives how often they had acted.
    fn arm(&self, fault: &Fault) -> u64 {
        match fault {
            Fault::Library(rule) => sys::fail::set(rule).expect("a rule"),
            Fault::Program(program, rule) => {
                if let Some(failing) = &self.setup.failing {
                    failing.arm(*program, rule);
                }
            }
            _ => {}
        }
        sys::fail::acted()
    }

    /// Takes them away; whether one has failed a call.
    fn disarm(&self, fault: &Fault, acted: u64) -> bool {
        sys::fail::set("").expect("no rules");
        if let Fault::Program(program, _) = fault {
            let Some(failing) = &self.setup.failing else { return false };
            failing.disarm(*program);
            return true;
        }
        fault.is_failure() && sys::fail::acted() > acted
    }

    /// Does what is to happen while the calls go on; true if it hit something.
    async fn meanwhile(&mut self, round: &Round, tasks: &[(Call, JoinHandle<Option<Done>>)]) -> bool {
        match round.fault {
            Fault::MonitorKilled { container, after } => {
                tokio::time::sleep(after).await;
                kill_monitor(&self.containers[container].dir)
            }
            Fault::InitKilled { container, after } => {
                // Whether a frozen process takes the signal depends on the version of the hierarchy.
                let pauses = |call: &Call| call.container == container && call.op == Op::Pause;
                let may = self.containers[container].now.is != Is::Paused && !round.calls.iter().any(pauses);
                tokio::time::sleep(after).await;
                may && kill_init(&self.containers[container].dir)
            }
            Fault::Restart { after } => {
                tokio::time::sleep(after).await;
                for (_, task) in tasks {
                    task.abort();
                }
                self.libraries = open(self.setup);
                let recovered = self.libraries[0].recover().await.expect("recover");
                assert!(recovered.failed.is_empty(), "{:?}", recovered.failed);
                true
            }
            _ => false,
        }
    }

    /// The states that there may be after this round.
    fn right(
        &self,
        index: usize,
        round: &Round,
        answered: &[&Answered],
        hit: bool,
        faulty: bool,
    ) -> BTreeSet<Now> {
        let container = &self.containers[index];
        let creates = answered.iter().any(|one| one.call.op == Op::Create);
        let is_delete = |op| matches!(op, Op::Delete | Op::ForcedDelete);
        let deletes = answered.iter().any(|one| is_delete(one.call.op))
            || answered.iter().any(|one| one.call.op == Op::Create && one.done.is_none());
        let ends = answered
            .iter()
            .any(|one| is_delete(one.call.op) || matches!(one.call.op, Op::Stop | Op::Pause | Op::Kill));
        let pauses = container.now.is == Is::Paused || answered.iter().any(|one| one.call.op == Op::Pause);
        let (monitor_killed, init_killed) = match round.fault {
            Fault::MonitorKilled { container, .. } => (container == index, false),
            Fault::InitKilled { container, .. } => (false, container == index && hit),
            _ => (false, false),
        };
        let restarted = matches!(round.fault, Fault::Restart { .. });
        let faulty = faulty || container.armed;
        let mut lanes = Vec::new();
        for Answered { call, done } in answered {
            let op = call.op;
            // A handle of what was deleted and made anew gets an error, and so does an exec that something is ended under.
            let loose = op != Op::Create && creates && deletes
                // A monitor that was killed in an earlier round may die only in this one.
                || matches!(op, Op::Exec | Op::Attach)
                    && (ends || init_killed || monitor_killed || restarted || container.blind || container.doomed)
                || op == Op::Create && monitor_killed;
            let answer = match done {
                None => Answer::Gone,
                Some(Ok(_)) => Answer::Yes,
                Some(Err(_)) => Answer::No,
            };
            let event = |answer| Event::Call { op, answer, faulty, loose };
            lanes.push(match (op, answer) {
                (Op::Create, Answer::Gone) => {
                    vec![vec![], vec![event(Answer::Yes), Event::Undone { remade: deletes }]]
                }
                // A frozen one dies when it goes on.
                (Op::Kill, Answer::Yes) => {
                    vec![vec![event(Answer::Yes), Event::Killed { maybe: pauses || creates }]]
                }
                (Op::Kill, answer) if faulty || answer == Answer::Gone => {
                    vec![vec![event(answer)], vec![event(Answer::Yes), Event::Killed { maybe: true }]]
                }
                _ => vec![vec![event(answer)]],
            });
        }
        if init_killed {
            lanes.push(vec![vec![Event::Killed { maybe: creates }]]);
        }
        if container.doomed {
            lanes.push(vec![vec![Event::Killed { maybe: true }]]);
        }
        if restarted {
            lanes.push(vec![vec![Event::Recovered { maybe: true }]]);
        }
        choices(&lanes).iter().flat_map(|lanes| explained(container.now, lanes)).collect()
    }

    /// Notes which ends the container may come to by what was done in this round.
    fn note(&mut self, index: usize, round: &Round, answered: &[&Answered], hit: bool, faulty: bool) {
        let container = &mut self.containers[index];
        let did = |op: Op| answered.iter().any(|one| one.call.op == op);
        container.stopped |=
            did(Op::Stop) || did(Op::Kill) || did(Op::ForcedDelete) && (faulty || container.armed);
        container.went_wrong |= did(Op::Start) && (faulty || hit || container.armed || did(Op::Kill));
        container.execs_for_ever |=
            answered.iter().any(|one| one.call.op == Op::Exec && one.call.caller != Caller::Waits);
        let creates = did(Op::Create);
        match &round.fault {
            Fault::MonitorKilled { container: which, .. } if *which == index => container.blind |= hit,
            Fault::InitKilled { container: which, .. } if *which == index => container.stopped |= hit,
            // The monitor has read its orders when it began, and keeps them.
            Fault::Program(Program::Monitor, _) => container.armed |= creates && faulty,
            _ => {}
        }
        let told = answered.iter().filter_map(|one| one.done.as_ref()?.as_ref().ok()?.as_ref());
        container.told = told.copied().filter(|_| !creates).collect();
    }

    /// The libraries go, and others put in order what they find.
    pub(super) async fn recover(&mut self, tale: &mut Tale) {
        self.libraries = open(self.setup);
        let recovered = self.libraries[0].recover().await.expect("recover");
        tale.tell(format!("  {recovered:?}"));
        assert!(recovered.failed.is_empty(), "{:?}", recovered.failed);
        quiet().await;
    }

    /// Recovers, deletes all, and finds nothing.
    pub(super) async fn end(mut self, tale: &mut Tale) {
        tale.tell("the end".to_owned());
        self.recover(tale).await;
        for container in &mut self.containers {
            let right = explained(container.now, &[vec![Event::Recovered { maybe: false }]]);
            container.look(&self.libraries, &right).await;
        }
        for container in self.libraries[0].list().await.expect("list") {
            container.delete(true).await.unwrap_or_else(|error| panic!("delete {}: {error}", container.id()));
        }
        let again = self.libraries[1].recover().await.expect("recover");
        assert!(again.failed.is_empty() && again.undone.is_empty() && again.deleted.is_empty(), "{again:?}");
    }
}

fn open(setup: &Setup) -> Vec<Runtimes> {
    (0..LIBRARIES).map(|_| Runtimes::from_config(&setup.config).expect("runtimes")).collect()
}

/// All ways to take one of each.
fn choices(lanes: &[Vec<Vec<Event>>]) -> Vec<Vec<Vec<Event>>> {
    let mut all = vec![Vec::new()];
    for choice in lanes {
        let longer = |taken: &Vec<Vec<Event>>| {
            let with = |lane: &Vec<Event>| taken.iter().cloned().chain([lane.clone()]).collect::<Vec<_>>();
            choice.iter().map(with).collect::<Vec<_>>()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

async fn do_call(runtimes: Runtimes, id: String, bundle: PathBuf, call: Call) -> Done {
    let id = kit::id(&id);
    let done = async {
        if call.op == Op::Create {
            runtimes.create(CreateRequest::new(id, bundle)).await?;
            return Ok(None);
        }
        let container = runtimes.get(&id).await?;
        match call.op {
            Op::Create => {}
            Op::Start => container.start().await?,
            Op::Exec => {
                // What is frozen meanwhile does not end by itself; whose caller goes must end with that alone.
                let request = if call.caller == Caller::Waits {
                    ExecRequest { timeout: Some(EXEC), ..ExecRequest::new(["true"]) }
                } else {
                    ExecRequest::new(["sleep", FOR_EVER])
                };
                container.exec_sync(request).await?;
            }
            Op::Pause => container.pause().await?,
            Op::Resume => container.resume().await?,
            Op::Update(limit) => {
                let limits = json!({"pids": {"limit": LIMITS[limit]}});
                container.update(serde_json::from_value(limits).expect("limits")).await.map(drop)?;
            }
            Op::Signal => container.kill(Signal::from_number(IGNORED).expect("a signal")).await?,
            Op::Kill => container.kill(Signal::KILL).await?,
            Op::Attach => drop(container.attach().await?),
            Op::Stop => return container.stop(Signal::TERM, GRACE).await.map(|ended| Some(ended.exit)),
            Op::Delete => container.delete(false).await?,
            Op::ForcedDelete => container.delete(true).await?,
        }
        Ok(None)
    };
    done.await.map_err(|error: runtime::Error| error.to_string())
}

/// Waits until nothing goes on that somebody began who may be gone.
async fn quiet() {
    let (begin, limit) = (Instant::now(), testkit::deadline() * 5);
    while runtime::blocking::going() > 0 {
        assert!(begin.elapsed() < limit, "something goes on and on");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A future that is dropped, with what it has begun, when it was polled so often.
struct Polled<F> {
    work: Pin<Box<F>>,
    left: usize,
}

impl<F: Future> Future for Polled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.work.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

pub(super) fn record(dir: &Path) -> Option<Value> {
    read(&dir.join("state.json"))
}

pub(super) fn read(file: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(file).ok()?).ok()
}

/// The very process that the record has there, if it is alive.
pub(super) fn held(process: &Value) -> Option<PidFd> {
    let pid = i32::try_from(process.get("pid")?.as_i64()?).ok()?;
    let held = PidFd::open_verified(pid, process.get("start")?.as_u64()?).ok()??;
    (!held.is_dead().ok()?).then_some(held)
}

fn kill_init(dir: &Path) -> bool {
    let init = record(dir).and_then(|record| held(&record["init"]));
    init.is_some_and(|init| init.signal(9).is_ok())
}

/// Kills the monitor that the record has, or that is being started.
fn kill_monitor(dir: &Path) -> bool {
    let known = record(dir).and_then(|record| held(&record["monitor"]["process"]));
    let starting = || {
        let pid = fs::read_to_string(dir.join("monitor.pid")).ok()?.trim().parse::<i32>().ok()?;
        let held = PidFd::open(pid).ok()?;
        // Read while it is held: its own arguments, unless it is dead.
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(dir.to_str()?).then_some(held)
    };
    known.or_else(starting).is_some_and(|monitor| monitor.signal(9).is_ok())
}
