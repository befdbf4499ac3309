//! The reference: what a container's life may be, as a relation. After a fault there is more than one state that is
//! right, and the next look narrows them.

use std::collections::BTreeSet;

use super::plan::Op;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Is {
    Absent,
    Created,
    Running,
    Paused,
    /// Asked to end by a stop that failed since; it may end, or wait for the next stop, or for recovery.
    Stopping,
    Exited,
}

/// A container, when nothing goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Now {
    pub(super) is: Is,
    /// A delete began and failed: it can be finished, whatever the state, by recovery too.
    pub(super) marked: bool,
    /// A start began, and nobody wrote down how it went.
    pub(super) half: bool,
    /// Which limit is in force; 0, the one of its bundle, for what is over or about to be.
    pub(super) limit: usize,
    /// An update began and did not come to its end: this limit comes back with the next update, or recovery.
    pub(super) back: Option<usize>,
}

/// What a caller was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    /// It did not wait for an answer.
    Gone,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Call {
        op: Op,
        answer: Answer,
        /// A fault was in its way: after an error it may have been done in part.
        faulty: bool,
        /// It may get an error for what others do meanwhile, and has done nothing then.
        loose: bool,
    },
    /// The container that a caller created who is gone is deleted again, if it is there still.
    Undone {
        /// Another may have its id by now.
        remade: bool,
    },
    /// Its init is killed.
    Killed {
        /// It may have been that of an earlier container with this id.
        maybe: bool,
    },
    Recovered {
        /// Others may have been at work on it, and then it is left to them.
        maybe: bool,
    },
}

impl Now {
    pub(super) const ABSENT: Self = Self::new(Is::Absent);

    pub(super) const fn new(is: Is) -> Self {
        Self { is, marked: false, half: false, limit: 0, back: None }
    }

    fn to(self, is: Is) -> Self {
        match is {
            Is::Stopping | Is::Exited => Self { marked: self.marked, ..Self::new(is) },
            _ => Self { is, half: false, ..self },
        }
    }

    /// With an update that did not come to its end taken back.
    fn undone(self) -> Self {
        Self { limit: self.back.unwrap_or(self.limit), back: None, ..self }
    }

    fn is_alive(self) -> bool {
        !matches!(self.is, Is::Absent | Is::Exited)
    }

    /// After an operation that is done; none where it can't be.
    pub(super) fn after(self, op: Op) -> Option<Self> {
        match (op, self.is) {
            (Op::Create, Is::Absent) => Some(Self::new(Is::Created)),
            (Op::Start, Is::Created) => Some(self.to(Is::Running)),
            (Op::Exec, Is::Running) => Some(self),
            (Op::Pause, Is::Running) => Some(self.to(Is::Paused)),
            (Op::Resume, Is::Paused) => Some(self.to(Is::Running)),
            (Op::Update(limit), Is::Created | Is::Running | Is::Paused) => {
                Some(Self { limit, back: None, ..self })
            }
            // That it dies of it is an event of its own.
            (Op::Signal | Op::Kill | Op::Attach, _) if self.is_alive() => Some(self),
            (Op::Stop, is) if is != Is::Absent => Some(self.to(Is::Exited)),
            (Op::Delete, is) if self.marked || matches!(is, Is::Exited | Is::Absent) => Some(Self::ABSENT),
            (Op::ForcedDelete, _) => Some(Self::ABSENT),
            _ => None,
        }
    }

    /// What there may be after an operation that a fault kept from its end.
    fn in_part(self, op: Op) -> Vec<Self> {
        let mut all = vec![self];
        match (op, self.is) {
            (Op::Start, Is::Created) => {
                all.extend([Self { half: true, ..self }, self.to(Is::Running), self.to(Is::Exited)]);
            }
            (Op::Pause, Is::Running) => all.push(self.to(Is::Paused)),
            (Op::Resume, Is::Paused) => all.push(self.to(Is::Running)),
            (Op::Update(limit), _) if self.after(op).is_some() => {
                let old = self.undone();
                let back = Some(old.limit);
                all.extend([old, Self { limit, ..old }, Self { limit, back, ..old }, Self { back, ..old }]);
            }
            (Op::Stop, _) if self.is_alive() => all.extend([self.to(Is::Stopping), self.to(Is::Exited)]),
            (Op::Delete | Op::ForcedDelete, _) if self.after(op).is_some() => {
                all.extend([self, self.to(Is::Exited)].map(|now| Self { marked: true, ..now }));
                all.push(Self::ABSENT);
            }
            _ => {}
        }
        all
    }

    /// What there may be after `event`; nothing if it can't have happened now.
    fn follow(self, event: Event) -> Vec<Self> {
        match event {
            Event::Call { op, answer, faulty, loose } => {
                let done = self.after(op);
                match answer {
                    Answer::Yes => done.into_iter().collect(),
                    Answer::Gone => {
                        let part = if faulty { self.in_part(op) } else { vec![self] };
                        part.into_iter().chain(done).collect()
                    }
                    Answer::No if faulty => self.in_part(op),
                    // Found no more, or found and gone before it was done: then it is deleted.
                    Answer::No if loose || done.is_none() || self.is == Is::Absent && op != Op::Create => {
                        vec![self]
                    }
                    Answer::No => Vec::new(),
                }
            }
            Event::Undone { remade } => {
                let mut all = vec![Self::ABSENT];
                all.extend(remade.then_some(self));
                all
            }
            Event::Killed { maybe } if self.is_alive() => {
                let mut all = vec![self.to(Is::Exited)];
                // Frozen processes of version 1 take no signal.
                all.extend((maybe || self.is == Is::Paused).then_some(self));
                all
            }
            Event::Killed { .. } => vec![self],
            Event::Recovered { maybe } => {
                let now = self.undone();
                let mut all = match self.is {
                    _ if self.marked => vec![Self::ABSENT],
                    Is::Stopping => vec![self.to(Is::Exited)],
                    Is::Created if self.half => {
                        vec![now.to(Is::Created), now.to(Is::Running), now.to(Is::Exited)]
                    }
                    _ => vec![now],
                };
                all.extend(maybe.then_some(self));
                all
            }
        }
    }
}

/// What there may be at the end, in any order of what the lanes have; the events of one lane in their order.
pub(super) fn explained(begin: Now, lanes: &[Vec<Event>]) -> BTreeSet<Now> {
    let mut ends = BTreeSet::new();
    let mut seen = BTreeSet::new();
    search(begin, lanes, vec![0; lanes.len()], &mut seen, &mut ends);
    ends
}

fn search(
    now: Now,
    lanes: &[Vec<Event>],
    at: Vec<usize>,
    seen: &mut BTreeSet<(Now, Vec<usize>)>,
    ends: &mut BTreeSet<Now>,
) {
    if !seen.insert((now, at.clone())) {
        return;
    }
    if now.is == Is::Stopping {
        search(now.to(Is::Exited), lanes, at.clone(), seen, ends);
    }
    let mut over = true;
    for (lane, events) in lanes.iter().enumerate() {
        let Some(event) = events.get(at[lane]) else { continue };
        over = false;
        let mut next = at.clone();
        next[lane] += 1;
        for then in now.follow(*event) {
            search(then, lanes, next.clone(), seen, ends);
        }
    }
    if over {
        ends.insert(now);
    }
}

#[test]
fn the_model_knows_right_from_wrong() {
    use Answer::{Gone, No, Yes};
    let call = |op, answer| Event::Call { op, answer, faulty: false, loose: false };
    let ends = |begin, events: &[Event]| {
        let lanes: Vec<_> = events.iter().map(|event| vec![*event]).collect();
        explained(Now::new(begin), &lanes).into_iter().map(|now| now.is).collect::<Vec<_>>()
    };
    assert_eq!(ends(Is::Absent, &[call(Op::Create, Yes), call(Op::Create, No)]), [Is::Created]);
    assert_eq!(ends(Is::Absent, &[call(Op::Create, Yes), call(Op::Create, Yes)]), []);
    assert_eq!(ends(Is::Absent, &[call(Op::Create, No)]), []);
    assert_eq!(ends(Is::Created, &[call(Op::Start, Yes), call(Op::Stop, Yes)]), [Is::Exited]);
    assert_eq!(ends(Is::Running, &[call(Op::Delete, Yes)]), []);
    assert_eq!(ends(Is::Exited, &[call(Op::Delete, Yes), call(Op::Start, No)]), [Is::Absent]);
    assert_eq!(ends(Is::Running, &[call(Op::Pause, Gone)]), [Is::Running, Is::Paused]);
    assert_eq!(ends(Is::Running, &[call(Op::Exec, Yes), Event::Killed { maybe: false }]), [Is::Exited]);
    let updated = |answer, faulty| Event::Call { op: Op::Update(2), answer, faulty, loose: false };
    let limits = |lane: Vec<Event>| {
        let all = explained(Now::new(Is::Paused), &[lane]);
        all.into_iter().map(|now| (now.limit, now.back)).collect::<Vec<_>>()
    };
    assert_eq!(limits(vec![updated(Yes, false)]), [(2, None)]);
    assert_eq!(limits(vec![updated(No, false)]), []);
    let part = [(0, None), (0, Some(0)), (2, None), (2, Some(0))];
    assert_eq!(limits(vec![updated(No, true)]), part);
    assert_eq!(limits(vec![updated(No, true), Event::Recovered { maybe: false }]), [(0, None), (2, None)]);
    assert_eq!(ends(Is::Exited, &[updated(Yes, false)]), []);
    let faulty = |op| Event::Call { op, answer: No, faulty: true, loose: false };
    assert_eq!(ends(Is::Absent, &[faulty(Op::Create)]), [Is::Absent]);
    assert_eq!(ends(Is::Running, &[faulty(Op::Stop)]), [Is::Running, Is::Stopping, Is::Exited]);
    let recovered = Event::Recovered { maybe: false };
    let lane = vec![vec![faulty(Op::Delete), recovered]];
    let all = explained(Now::new(Is::Exited), &lane).into_iter().map(|now| now.is).collect::<Vec<_>>();
    assert_eq!(all, [Is::Absent, Is::Exited]);
}
