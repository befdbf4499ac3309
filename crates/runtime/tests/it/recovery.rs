//! The library's process dies, or a step fails, at every failpoint; then recovery, and a look: a
//! consistent container or none, its exit right, nothing left.
//!
//! The victim is this test binary, run again. Which points an operation passes is found out by a trace. A
//! watch of the victim may pass some of the points too, so a point's count may be another the next time:
//! whether it was hit does not matter to what must hold afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::{Exit, Signal, State};
use runtime::{Container, CreateRequest, ExecRequest, Kind, Runtimes};
use testkit::Bundle;

use crate::kit::{self, Kit, id, run};

/// Long enough that it never ends a test.
const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

/// Time for the signal, which is there at once, or for nothing.
const SOON: std::time::Duration = std::time::Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Create,
    Start,
    Exec,
    Update,
    Stop,
    Delete,
    ForcedDelete,
}

impl Op {
    fn named(name: &str) -> Self {
        let all = [
            Self::Create,
            Self::Start,
            Self::Exec,
            Self::Update,
            Self::Stop,
            Self::Delete,
            Self::ForcedDelete,
        ];
        all.into_iter().find(|op| format!("{op:?}") == name).expect("an operation")
    }
}

/// Not a test: what the others run in a process of its own.
#[test]
#[ignore = "the victim of the other tests"]
fn victim() {
    let var = |name: &str| std::env::var(name).expect("set by the test");
    let op = Op::named(&var("VICTIM_OP"));
    let config = kit::config(var("VICTIM_ROOT").into(), Vec::new());
    let runtimes = Runtimes::from_config(&config).expect("runtimes");
    let id = id(&var("VICTIM_ID"));
    let bundle = PathBuf::from(var("VICTIM_BUNDLE"));
    let done = run(async {
        if op == Op::Create {
            let mut request = CreateRequest::new(id.clone(), &bundle);
            request.name = Some(model::Name::new(format!("name-of-{id}")).expect("a name"));
            request.log = Some(Path::new(&var("VICTIM_ROOT")).with_file_name(format!("{id}.log")));
            return runtimes.create(request).await.map(|_| ());
        }
        let container = runtimes.get(&id).await.expect("made by the test");
        match op {
            Op::Create => Ok(()),
            Op::Start => container.start().await,
            Op::Exec => {
                container.exec_sync(ExecRequest::new(["sh", "-c", "sleep 0.2; echo x"])).await.map(|_| ())
            }
            Op::Update => {
                let resources =
                    serde_json::from_value(serde_json::json!({ "memory": { "limit": 64 << 20 } }));
                container.update(resources.expect("resources")).await.map(|_| ())
            }
            // A stop whose signal can't be sent waits for the time of the kill.
            Op::Stop => container.stop(Signal::TERM, SOON).await.map(|_| ()),
            Op::Delete => container.delete(false).await,
            Op::ForcedDelete => container.delete(true).await,
        }
    });
    println!("victim: {done:?}");
}

struct Victim<'a> {
    kit: &'a Kit,
    op: Op,
    bundle: &'a Bundle,
    id: String,
}

impl Victim<'_> {
    /// Runs it; true when it was killed.
    fn run(&self, env: &[(&str, &str)]) -> bool {
        use std::os::unix::process::ExitStatusExt as _;
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "recovery::victim", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env("VICTIM_OP", format!("{:?}", self.op)).env("VICTIM_ID", &self.id);
        command.env("VICTIM_ROOT", self.kit.root()).env("VICTIM_BUNDLE", self.bundle.path());
        command.envs(env.iter().copied()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().expect("run the victim");
        assert!(status.success() || status.signal() == Some(9), "{:?} {env:?}: victim: {status}", self.op);
        status.signal() == Some(9)
    }
}

/// What the operation is done to.
async fn prepare(runtimes: &Runtimes, op: Op, id: &str, bundle: &Bundle) {
    if op == Op::Create {
        return;
    }
    let request = CreateRequest::new(kit::id(id), bundle.path());
    let container = runtimes.create(request).await.expect("create");
    if op != Op::Start {
        container.start().await.expect("start");
        ready(&container, "prepare").await;
    }
    if op == Op::Delete {
        container.stop(Signal::TERM, HOUR).await.expect("stop");
    }
}

/// Recovers in a process that knows nothing, and checks that all is consistent and can be gone on with.
async fn recover_and_check(kit: &Kit, op: Op, id: &str, at: &str) {
    let runtimes = Runtimes::from_config(&kit::config(kit.root(), Vec::new())).expect("runtimes");
    let recovered = runtimes.recover().await.expect("recover");
    assert!(recovered.failed.is_empty(), "{op:?} {at}: {:?}", recovered.failed);
    match runtimes.get(&kit::id(id)).await {
        Err(error) => {
            assert_eq!(error.kind(), Kind::NotFound, "{op:?} {at}: {error}");
            assert!(matches!(op, Op::Create | Op::Delete | Op::ForcedDelete), "{op:?} {at}: lost");
        }
        Ok(container) => check_container(kit, &container, op, at).await,
    }
    assert_eq!(kit.litter(), Vec::<String>::new(), "{op:?} {at}");
    let again = runtimes.recover().await.expect("recover");
    assert!(again.failed.is_empty() && again.undone.is_empty(), "{op:?} {at}: {again:?}");
}

/// Waits until its program listens to signals, by an exec.
async fn ready(container: &Container, at: &str) {
    let line = "until [ -e /dev/shm/ready ]; do sleep 0.02; done; exit 4";
    let execed = container.exec_sync(ExecRequest::new(["sh", "-c", line])).await;
    let execed = execed.unwrap_or_else(|error| panic!("{at}: {error}"));
    assert_eq!(execed.exit, Exit::Code(4), "{at}");
}

async fn check_container(kit: &Kit, container: &Container, op: Op, at: &str) {
    let state = container.status().state;
    let allowed: &[State] = match op {
        Op::Create => &[State::Created],
        Op::Start => &[State::Created, State::Running, State::Exited],
        Op::Exec | Op::Update => &[State::Running],
        Op::Stop => &[State::Running, State::Stopping, State::Exited],
        Op::Delete => &[State::Exited],
        Op::ForcedDelete => &[State::Running, State::Exited],
    };
    assert!(allowed.contains(&state), "{op:?} {at}: {state}");
    if state == State::Created {
        container.start().await.unwrap_or_else(|error| panic!("{op:?} {at}: {error}"));
    }
    if container.status().state == State::Running {
        ready(container, &format!("{op:?} {at}")).await;
        let execs = kit.root().join(container.id().as_str()).join("execs");
        let execs = std::fs::read_dir(execs).map_or(0, Iterator::count);
        assert_eq!(execs, 0, "{op:?} {at}: an exec is left");
    }
    if container.status().state != State::Exited {
        let ended = container.stop(Signal::TERM, HOUR).await;
        let ended = ended.unwrap_or_else(|error| panic!("{op:?} {at}: {error}"));
        assert_eq!(ended.exit, Exit::Code(7), "{op:?} {at}");
    } else if op == Op::Delete || op == Op::Stop {
        let ended = container.wait().await.expect("it has ended");
        let killed = op == Op::Stop && ended.exit == Exit::Signal(9) && at.contains("=error");
        assert!(killed || ended.exit == Exit::Code(7), "{op:?} {at}: {ended:?}");
        assert!(ended.finished_ns.is_some(), "{op:?} {at}");
    }
    container.delete(false).await.unwrap_or_else(|error| panic!("{op:?} {at}: {error}"));
}

/// Walks through the points of an operation; at each the victim is killed, or gets an error.
fn walk(op: Op, action: &str, at_least: usize) {
    let kit = Kit::new(&format!("walk-{op:?}-{action}").to_lowercase());
    // It ends with 7 when it is asked to, and is there to be asked as soon as it runs.
    let bundle = Bundle::shell(
        "walk",
        "trap 'exit 7' TERM; touch /dev/shm/ready; while :; do sleep 3600 & wait $!; done",
    );
    let trace = kit.scratch.path().join("trace");
    let victim = |id: &str| Victim { kit: &kit, op, bundle: &bundle, id: id.to_owned() };
    let prepare = |id: &str| run(prepare(&kit.runtimes, op, id, &bundle));
    let id = testkit::unique_id("walk");
    prepare(&id);
    let killed = victim(&id).run(&[("WHARF_FAILPOINTS_TRACE", trace.to_str().expect("a path"))]);
    assert!(!killed);
    run(recover_and_check(&kit, op, &id, "nowhere"));
    let points = points(&std::fs::read_to_string(&trace).expect("a trace"));
    assert!(points.len() >= at_least, "{op:?} passes only {points:?}");
    let mut hits = 0;
    for point in &points {
        let id = testkit::unique_id("walk");
        prepare(&id);
        let (name, count) = point;
        let rule = format!("{name}={action}@{count}");
        hits += usize::from(victim(&id).run(&[("WHARF_FAILPOINTS", &rule)]));
        run(recover_and_check(&kit, op, &id, &rule));
    }
    if action == "kill" {
        assert!(hits * 2 > points.len(), "{op:?}: only {hits} of {} points were hit", points.len());
    }
    std::fs::remove_file(&trace).expect("remove");
    drop(bundle);
    kit.finish();
}

/// Each point with how often it had been passed, in order. Of the points in the writing of files, which all
/// records share, only each first rename.
fn points(trace: &str) -> Vec<(String, usize)> {
    let mut points: Vec<(String, usize)> = Vec::new();
    for name in trace.lines() {
        let count = points.iter().filter(|(other, _)| other == name).count() + 1;
        if !name.starts_with("durable.") || (name == "durable.rename" && count <= 3) {
            points.push((name.to_owned(), count));
        }
    }
    points
}

macro_rules! walks {
    ($($name:ident: $op:ident, $action:literal, $at_least:literal;)*) => {
        $(#[test] fn $name() { walk(Op::$op, $action, $at_least); })*
    };
}

walks! {
    create_killed_at_every_point: Create, "kill", 12;
    create_failing_at_every_point: Create, "error", 12;
    start_killed_at_every_point: Start, "kill", 8;
    start_failing_at_every_point: Start, "error", 8;
    exec_killed_at_every_point: Exec, "kill", 4;
    exec_failing_at_every_point: Exec, "error", 4;
    update_killed_at_every_point: Update, "kill", 3;
    update_failing_at_every_point: Update, "error", 3;
    stop_killed_at_every_point: Stop, "kill", 4;
    stop_failing_at_every_point: Stop, "error", 4;
    delete_killed_at_every_point: Delete, "kill", 8;
    delete_failing_at_every_point: Delete, "error", 8;
    forced_delete_killed_at_every_point: ForcedDelete, "kill", 8;
}
