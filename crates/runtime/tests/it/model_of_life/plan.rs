//! What is done in a run: made of the seed alone, whatever comes of it, so that a seed does the same again.

use std::time::Duration;

use super::reference::{Is, Now};

pub(super) const CONTAINERS: usize = 3;
/// At once on one container: all of their orders are tried.
const CALLERS: usize = 3;
/// State roots of so many processes, each with what it knows by itself.
pub(super) const LIBRARIES: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Create,
    Start,
    Exec,
    Pause,
    Resume,
    /// To the limit of this number.
    Update(usize),
    /// With a signal that the program ignores.
    Signal,
    /// With SIGKILL.
    Kill,
    Attach,
    Stop,
    Delete,
    ForcedDelete,
}

/// The more often it is there, the more often it is done.
const OPS: [Op; 19] = [
    Op::Create,
    Op::Create,
    Op::Start,
    Op::Start,
    Op::Start,
    Op::Exec,
    Op::Exec,
    Op::Pause,
    Op::Pause,
    Op::Resume,
    Op::Update(0),
    Op::Update(1),
    Op::Update(2),
    Op::Signal,
    Op::Kill,
    Op::Attach,
    Op::Stop,
    Op::Delete,
    Op::ForcedDelete,
];

/// Whether a caller waits for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    Waits,
    /// Drops the future when it was polled so often and is not done.
    GoesAfterPolls(usize),
    GoesAfter(Duration),
}

#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) container: usize,
    pub(super) library: usize,
    pub(super) op: Op,
    pub(super) caller: Caller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Monitor,
    Runtime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    MonitorKilled {
        container: usize,
        after: Duration,
    },
    InitKilled {
        container: usize,
        after: Duration,
    },
    /// A failpoint of the library fails once, or takes long: `WHARF_FAILPOINTS`' words.
    Library(String),
    /// One of a program that is run meanwhile fails, or the program dies there.
    Program(Program, String),
    /// The libraries go, with all their callers, and others come that recover.
    Restart {
        after: Duration,
    },
}

impl Fault {
    /// Whether calls may fail because of it.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Library(rule) => !rule.contains("=sleep"),
            Self::Program(..) => true,
            _ => false,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) calls: Vec<Call>,
    pub(super) fault: Fault,
}

/// The failpoints that there are.
pub(super) struct Points {
    pub(super) library: Vec<String>,
    pub(super) monitor: Vec<String>,
    pub(super) runtime: Vec<String>,
}

impl Points {
    pub(super) fn new(all: impl IntoIterator<Item = String>) -> Self {
        let mut points = Self { library: Vec::new(), monitor: Vec::new(), runtime: Vec::new() };
        for name in all {
            // A runtime that can never delete keeps its record, which nobody can do anything about: the walk has these.
            if name.starts_with("oci.delete.") {
                continue;
            }
            let list = match name.split('.').next() {
                Some("oci") => &mut points.runtime,
                Some("monitor") => &mut points.monitor,
                _ => &mut points.library,
            };
            list.push(name);
        }
        points
    }
}

/// xorshift64*.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        // Seeds that differ in few bits are far apart after this.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).max(1))
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % limit
    }

    fn millis(&mut self, limit: usize) -> Duration {
        Duration::from_micros(u64::try_from(self.below(limit * 1000)).expect("small"))
    }

    fn pick<'a>(&mut self, list: &'a [String]) -> Option<&'a String> {
        if list.is_empty() { None } else { list.get(self.below(list.len())) }
    }
}

/// Draws rounds; guesses the states, so that most operations are ones that can be done.
pub(super) struct Planner<'a> {
    random: Random,
    points: &'a Points,
    guess: [Now; CONTAINERS],
}

impl<'a> Planner<'a> {
    pub(super) fn new(seed: u64, points: &'a Points) -> Self {
        Self { random: Random::new(seed), points, guess: [Now::ABSENT; CONTAINERS] }
    }

    pub(super) fn round(&mut self) -> Round {
        let kind = self.random.below(20);
        let container = self.random.below(CONTAINERS);
        let after = self.random.millis(60);
        // With a failure in it, one container's: who else has it passes the point too.
        let failing = (11..=17).contains(&kind);
        let mut calls = Vec::new();
        for index in (0..CONTAINERS).filter(|index| !failing || *index == container) {
            for _ in 0..=self.random.below(CALLERS) {
                calls.push(self.call(index, !failing));
            }
        }
        let op = calls.iter().find(|call| call.container == container).map_or(Op::Create, |call| call.op);
        let fault = match kind {
            5..=7 => Fault::MonitorKilled { container, after },
            8..=10 => Fault::InitKilled { container, after },
            11..=15 => self.library(op),
            16 | 17 => self.program(op),
            18 | 19 => Fault::Restart { after },
            _ => Fault::None,
        };
        // In what order they come nobody knows; this is as good as any.
        for call in calls.iter().filter(|call| call.caller == Caller::Waits) {
            let now = &mut self.guess[call.container];
            *now = now.after(call.op).unwrap_or(*now);
        }
        Round { calls, fault }
    }

    fn call(&mut self, container: usize, may_go: bool) -> Call {
        let library = self.random.below(LIBRARIES);
        let now = self.guess[container];
        let fitting: Vec<Op> = OPS.into_iter().filter(|op| now.after(*op).is_some()).collect();
        let ops = if self.random.below(10) < 7 { &*fitting } else { &OPS };
        let op = ops[self.random.below(ops.len())];
        let caller = match self.random.below(10) {
            8 if may_go => Caller::GoesAfterPolls(self.random.below(6)),
            9 if may_go => Caller::GoesAfter(self.random.millis(40)),
            _ => Caller::Waits,
        };
        Call { container, library, op, caller }
    }

    /// A point that this operation may pass.
    fn library(&mut self, op: Op) -> Fault {
        let areas: &[&str] = match op {
            Op::Create => &["create", "undo", "change", "event", "durable"],
            Op::Start => &["start", "change", "event", "durable"],
            Op::Exec => &["exec"],
            Op::Pause => &["pause", "change", "durable"],
            Op::Resume => &["resume", "change", "durable"],
            Op::Update(_) => &["update", "update", "change", "event", "durable"],
            Op::Signal | Op::Kill => &["kill"],
            Op::Attach => &["event"],
            Op::Stop => &["stop", "exit", "change", "durable"],
            Op::Delete | Op::ForcedDelete => &["delete", "exit", "change", "event", "durable"],
        };
        let area = areas[self.random.below(areas.len())];
        let fitting = |name: &&String| name.split('.').next() == Some(area);
        let names: Vec<String> = self.points.library.iter().filter(fitting).cloned().collect();
        let action = ["error", "error", "sleep:40"][self.random.below(3)];
        let pass = 1 + self.random.below(3) * usize::from(matches!(area, "change" | "event" | "durable"));
        match self.random.pick(&names) {
            Some(name) => Fault::Library(format!("{name}={action}@{pass}")),
            None => Fault::None,
        }
    }

    fn program(&mut self, op: Op) -> Fault {
        let area = match op {
            Op::Create => "create",
            Op::Start => "start",
            Op::Exec => "exec",
            Op::Pause => "pause",
            Op::Update(_) => "update",
            _ => "resume",
        };
        let monitor = matches!(op, Op::Create | Op::Exec) && self.random.below(2) == 0;
        let (program, list) = if monitor {
            (Program::Monitor, &self.points.monitor)
        } else {
            (Program::Runtime, &self.points.runtime)
        };
        let fitting = |name: &&String| monitor || name.split('.').nth(1) == Some(area);
        let names: Vec<String> = list.iter().filter(fitting).cloned().collect();
        let action = ["error", "kill"][self.random.below(2)];
        match self.random.pick(&names) {
            Some(name) => Fault::Program(program, format!("{name}={action}@1")),
            None => Fault::None,
        }
    }
}

#[test]
fn a_seed_gives_the_same_plan() {
    let points = Points::new(["create.begin", "oci.start.begin", "monitor.exec.begin"].map(str::to_owned));
    let plan = |seed| {
        let mut planner = Planner::new(seed, &points);
        (0..200).map(|_| format!("{:?}", planner.round())).collect::<Vec<_>>()
    };
    assert_eq!(plan(5), plan(5));
    assert_ne!(plan(5), plan(6));
    let all = plan(5).concat();
    for fault in ["MonitorKilled", "InitKilled", "Library", "Program", "Restart", "GoesAfterPolls"] {
        assert!(all.contains(fault), "no {fault}");
    }
    assert_eq!(Now::ABSENT.is, Is::Absent);
}
