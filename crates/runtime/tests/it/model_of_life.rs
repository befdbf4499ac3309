//! Random operations of several callers, with state roots of two processes, against a model of the life cycle.
//!
//! In each round some callers do something to the same few containers at once. Whatever order they got: there must be
//! one in which the model gives each caller the answer that it had, and the state that is there afterwards. The seed
//! is printed; `WHARF_MODEL_SEED=N` does the same operations again.
#![expect(clippy::print_stdout, reason = "how much was done")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use model::{Exit, Signal, State};
use runtime::{CreateRequest, ExecRequest, Kind, Runtimes};
use testkit::Bundle;

use crate::kit::{self, Kit, run};

/// New rounds are begun for so long; each is brought to its end.
const TIME: Duration = Duration::from_secs(10);
const MOST_ROUNDS: usize = 150;
const CONTAINERS: usize = 3;
/// At once on one container: all of their orders are tried.
const CALLERS: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Create,
    Start,
    Exec,
    Pause,
    Resume,
    Stop,
    Delete,
    ForcedDelete,
}

const OPS: [Op; 10] = [
    Op::Create,
    Op::Create,
    Op::Start,
    Op::Start,
    Op::Exec,
    Op::Pause,
    Op::Resume,
    Op::Stop,
    Op::Delete,
    Op::ForcedDelete,
];

/// The model: none is a container that is not there. Gives the answers that are right, and what is then.
fn model(state: Option<State>, op: Op) -> (&'static [bool], Option<State>) {
    use State::{Created, Exited, Paused, Running};
    const YES: &[bool] = &[true];
    const NO: &[bool] = &[false];
    match (op, state) {
        (Op::Create, None) => (YES, Some(Created)),
        (Op::Start, Some(Created)) => (YES, Some(Running)),
        (Op::Exec, Some(Running)) => (YES, state),
        (Op::Pause, Some(Running)) => (YES, Some(Paused)),
        (Op::Resume, Some(Paused)) => (YES, Some(Running)),
        (Op::Stop, Some(Created | Running | Paused | Exited)) => (YES, Some(Exited)),
        (Op::Delete, Some(Exited)) | (Op::ForcedDelete, Some(_)) => (YES, None),
        // Found no more, or found and gone before it was done: then it is deleted.
        (Op::Delete | Op::ForcedDelete, None) => (&[true, false], None),
        _ => (NO, state),
    }
}

/// The states that the orders of `done` end in that agree with all answers.
fn explained(begin: Option<State>, done: &[(Op, bool)]) -> BTreeSet<Option<&'static str>> {
    // An exec that something is ended under, and a handle of what was deleted and made anew, may get an error.
    let ends = |op: Op| matches!(op, Op::Stop | Op::Delete | Op::ForcedDelete | Op::Pause);
    let loose = |op: Op| {
        let remade = done.iter().any(|(op, _)| *op == Op::Create)
            && done.iter().any(|(op, _)| matches!(op, Op::Delete | Op::ForcedDelete));
        op == Op::Exec && done.iter().any(|(op, _)| ends(*op)) || remade && op != Op::Create
    };
    orders(done.len())
        .into_iter()
        .filter_map(|order| {
            order.into_iter().try_fold(begin, |state, index| {
                let (op, good) = done[index];
                let (right, then) = model(state, op);
                match (right.contains(&good), loose(op)) {
                    (true, _) => Some(then),
                    (false, true) if !good => Some(state),
                    _ => None,
                }
            })
        })
        .map(|state| state.map(name))
        .collect()
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let insert = |order: &Vec<usize>| {
        let order = order.clone();
        (0..count).map(move |at| {
            let mut longer = order.clone();
            longer.insert(at, count - 1);
            longer
        })
    };
    shorter.iter().flat_map(insert).collect()
}

fn name(state: State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running => "running",
        State::Paused => "paused",
        State::Exited => "exited",
        _ => "on the way",
    }
}

/// xorshift64*: the same operations for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % limit
    }
}

async fn call(runtimes: Runtimes, id: String, bundle: std::path::PathBuf, op: Op) -> bool {
    let id = kit::id(&id);
    if op == Op::Create {
        return match runtimes.create(CreateRequest::new(id, bundle)).await {
            Ok(_) => true,
            Err(error) if error.kind() == Kind::Exists => false,
            Err(error) => panic!("create: {error}"),
        };
    }
    let container = match runtimes.get(&id).await {
        Ok(container) => container,
        Err(error) if error.kind() == Kind::NotFound => return false,
        Err(error) => panic!("{op:?}: {error}"),
    };
    match op {
        Op::Create => Ok(()),
        Op::Start => container.start().await,
        Op::Exec => container.exec_sync(ExecRequest::new(["true"])).await.map(|_| ()),
        Op::Pause => container.pause().await,
        Op::Resume => container.resume().await,
        Op::Stop => container.stop(Signal::TERM, Duration::from_millis(500)).await.map(|_| ()),
        Op::Delete => container.delete(false).await,
        Op::ForcedDelete => container.delete(true).await,
    }
    .is_ok()
}

/// What a caller that comes anew sees, once it is none of the states in between.
async fn seen(runtimes: &Runtimes, id: &str) -> Option<State> {
    let begin = Instant::now();
    loop {
        let state = match runtimes.get(&kit::id(id)).await {
            Ok(container) => Some(container.status().state),
            Err(_) => None,
        };
        if state.is_none_or(|state| name(state) != "on the way") || begin.elapsed() > testkit::deadline() {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn random_callers_get_what_the_model_says() {
    let given = std::env::var("WHARF_MODEL_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let seed: u64 =
        given.unwrap_or(u64::from(now.subsec_nanos()) << 20 | u64::from(std::process::id())).max(1);
    println!("WHARF_MODEL_SEED={seed}");
    let kit = Kit::new("model");
    let bundle = Bundle::shell("model", "trap 'exit 7' TERM; while :; do sleep 3600 & wait $!; done");
    run(rounds(&kit, &bundle, seed));
    drop(bundle);
    kit.finish();
}

async fn rounds(kit: &Kit, bundle: &Bundle, seed: u64) {
    let another = Runtimes::from_config(&kit::config(kit.root(), Vec::new())).expect("runtimes");
    let ids: Vec<String> = (0..CONTAINERS).map(|_| testkit::unique_id("model")).collect();
    let mut states: Vec<Option<State>> = vec![None; CONTAINERS];
    let mut random = Random(seed);
    let (begin, mut round, mut calls) = (Instant::now(), 0, 0);
    while begin.elapsed() < TIME && round < MOST_ROUNDS {
        let mut tasks = Vec::new();
        for (index, id) in ids.iter().enumerate() {
            for _ in 0..=random.below(CALLERS) {
                let op = OPS[random.below(OPS.len())];
                let process = if random.below(2) == 0 { &kit.runtimes } else { &another };
                let call = call(process.clone(), id.clone(), bundle.path().to_owned(), op);
                tasks.push((index, op, tokio::spawn(call)));
            }
        }
        let mut done: Vec<Vec<(Op, bool)>> = vec![Vec::new(); CONTAINERS];
        for (index, op, task) in tasks {
            done[index].push((op, task.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"))));
            calls += 1;
        }
        for (index, id) in ids.iter().enumerate() {
            let explained = explained(states[index], &done[index]);
            let now = seen(&kit.runtimes, id).await;
            let told = format!("seed {seed}, round {round}: {:?} {:?}", states[index], done[index]);
            assert!(explained.contains(&now.map(name)), "{told}: {now:?} is not in {explained:?}");
            assert_eq!(seen(&another, id).await, now, "{told}: another process sees something else");
            states[index] = now;
        }
        round += 1;
    }
    println!("{calls} calls in {round} rounds");
    for id in &ids {
        let Ok(container) = kit.runtimes.get(&kit::id(id)).await else { continue };
        if let Some(ended) = &container.status().ended {
            // Told to end, or killed; never what nobody saw.
            assert_ne!(ended.exit, Exit::Lost, "seed {seed}");
        }
        container.delete(true).await.expect("delete");
    }
}

#[test]
fn the_model_knows_right_from_wrong() {
    use State::{Created, Exited, Running};
    let ends = |begin, done: &[(Op, bool)]| explained(begin, done).into_iter().collect::<Vec<_>>();
    assert_eq!(ends(None, &[(Op::Create, true), (Op::Create, false)]), [Some("created")]);
    assert_eq!(ends(None, &[(Op::Create, true), (Op::Create, true)]), []);
    assert_eq!(ends(Some(Created), &[(Op::Start, true), (Op::Stop, true)]), [Some("exited")]);
    assert_eq!(ends(Some(Running), &[(Op::Delete, true)]), []);
    assert_eq!(ends(Some(Exited), &[(Op::Delete, true), (Op::Start, false)]), [None]);
    assert_eq!(orders(3).len(), 6);
}
