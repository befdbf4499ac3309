//! The same filter by ranges of numbers, in a third of the instructions.
//!
//! The kernel translates a filter anew each time that it is loaded, for every container and every exec. libseccomp's has
//! a test and an answer for each call; but neighbours mostly have the same answer.
//!
//! ```text
//! architecture ─▶ tree over ranges of numbers ─┬▶ answer
//!                                              └▶ libseccomp's own instructions, where arguments decide
//! ```
//! What a filter answers to a number changes only at the constants that it compares with, so one number for each interval
//! between them tells of all. The new filter is asked the same before it is used.

use std::collections::{BTreeMap, BTreeSet};

use super::Instruction;

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
/// Offsets in `seccomp_data` (seccomp(2)).
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// What a filter makes of an architecture and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Answer(u32),
    /// From this instruction on, arguments decide.
    Arguments(usize),
}

/// `program` in fewer instructions; itself where that can't be done.
pub(super) fn shorten(program: Vec<Instruction>) -> Vec<Instruction> {
    match shorter(&program) {
        Some(short) if short.len() < program.len() => short,
        _ => program,
    }
}

fn shorter(program: &[Instruction]) -> Option<Vec<Instruction>> {
    let cuts = cuts(program);
    let architectures = architectures(program, &cuts)?;
    let other = other(&architectures);
    let ranges = |arch| ranges(program, arch, &cuts);
    let fallback = ranges(other)?;
    let known = architectures.iter().map(|arch| ranges(*arch)).collect::<Option<Vec<_>>>()?;

    let mut trees = vec![tree_of(&fallback)];
    trees.extend(known.iter().map(|ranges| tree_of(ranges)));
    let mut pieces = vec![Piece::Plain(instruction(LOAD, 0, 0, ARCHITECTURE))];
    let mut before = trees[0].len();
    for (index, arch) in architectures.iter().enumerate() {
        let chain = 2 * (architectures.len() - index - 1);
        pieces.push(Piece::Plain(instruction(JEQ, 0, 1, *arch)));
        pieces.push(Piece::Plain(instruction(JA, 0, 0, u32::try_from(chain + before).ok()?)));
        before += trees[index + 1].len();
    }
    pieces.extend(trees.into_iter().flatten());

    let tails = tails(program, &pieces)?;
    let places: BTreeMap<usize, usize> =
        tails.iter().enumerate().map(|(index, at)| (*at, pieces.len() + index)).collect();
    let mut short = Vec::with_capacity(pieces.len() + tails.len());
    for piece in &pieces {
        short.push(match piece {
            Piece::Plain(plain) => *plain,
            Piece::Tail(at) => {
                let over = places.get(at)?.checked_sub(short.len() + 1)?;
                instruction(JA, 0, 0, u32::try_from(over).ok()?)
            }
        });
    }
    for at in &tails {
        short.push(moved(program, *at, &places)?);
    }
    let same = |arch: u32| {
        let both = cuts.union(&self::cuts(&short)).copied().collect::<BTreeSet<_>>();
        both.into_iter().all(|number| {
            let now = walk(&short, arch, number, &mut BTreeSet::new());
            match walk(program, arch, number, &mut BTreeSet::new()) {
                Some(Outcome::Arguments(at)) => {
                    now == places.get(&at).map(|place| Outcome::Arguments(*place)) && now.is_some()
                }
                then => now == then && now.is_some(),
            }
        })
    };
    (architectures.iter().copied().chain([other]).all(same)).then_some(short)
}

fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code, jt, jf, k }
}

/// The numbers at which an answer may change; of arguments' constants there are some among them, which does no harm.
fn cuts(program: &[Instruction]) -> BTreeSet<u32> {
    let compared = program.iter().filter(|one| matches!(one.code, JEQ | JGT | JGE));
    let around = compared.flat_map(|one| [Some(one.k), one.k.checked_add(1)]);
    around.flatten().chain([0]).collect()
}

/// The architectures that the filter asks for.
fn architectures(program: &[Instruction], cuts: &BTreeSet<u32>) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    loop {
        let before = found.clone();
        for arch in before.iter().copied().chain([other(&before)]) {
            for number in cuts {
                walk(program, arch, *number, &mut found)?;
            }
        }
        if found == before {
            return Some(found);
        }
    }
}

/// One that it does not ask for.
fn other(architectures: &BTreeSet<u32>) -> u32 {
    (0..=u32::MAX).find(|arch| !architectures.contains(arch)).unwrap_or(0)
}

/// Runs the filter until it answers or looks at arguments; `asked` gets the architectures that it compares with. None for
/// what this can't follow.
fn walk(program: &[Instruction], arch: u32, number: u32, asked: &mut BTreeSet<u32>) -> Option<Outcome> {
    let mut at = 0;
    let mut held = None;
    loop {
        let one = program.get(at)?;
        at += 1;
        match (one.code, held) {
            (LOAD, _) if matches!(one.k, NUMBER | ARCHITECTURE) => held = Some(one.k),
            (LOAD, _) => return Some(Outcome::Arguments(at - 1)),
            (RETURN, _) => return Some(Outcome::Answer(one.k)),
            (JA, _) => at += usize::try_from(one.k).ok()?,
            (JEQ, Some(ARCHITECTURE)) => {
                asked.insert(one.k);
                at += usize::from(if arch == one.k { one.jt } else { one.jf });
            }
            (JEQ | JGT | JGE, Some(NUMBER)) => {
                let holds = match one.code {
                    JEQ => number == one.k,
                    JGT => number > one.k,
                    _ => number >= one.k,
                };
                at += usize::from(if holds { one.jt } else { one.jf });
            }
            _ => return None,
        }
    }
}

/// Where each range begins, and what is made of it.
fn ranges(program: &[Instruction], arch: u32, cuts: &BTreeSet<u32>) -> Option<Vec<(u32, Outcome)>> {
    let mut ranges: Vec<(u32, Outcome)> = Vec::new();
    for number in cuts {
        let outcome = walk(program, arch, *number, &mut BTreeSet::new())?;
        if ranges.last().is_none_or(|(_, last)| *last != outcome) {
            ranges.push((*number, outcome));
        }
    }
    Some(ranges)
}

/// An instruction, or a jump to one of the old filter.
enum Piece {
    Plain(Instruction),
    Tail(usize),
}

fn tree_of(ranges: &[(u32, Outcome)]) -> Vec<Piece> {
    let mut tree = Vec::new();
    if ranges.len() > 1 {
        tree.push(Piece::Plain(instruction(LOAD, 0, 0, NUMBER)));
    }
    grow(ranges, &mut tree);
    tree
}

/// As many ranges as one tree has: all its jumps are of 255 instructions at most.
const TREE: usize = 120;

fn grow(ranges: &[(u32, Outcome)], tree: &mut Vec<Piece>) {
    if ranges.len() <= TREE {
        return tree.extend(compact(ranges));
    }
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let mut left = Vec::new();
    grow(below, &mut left);
    let first = above.first().map_or(0, |(first, _)| *first);
    tree.push(Piece::Plain(instruction(JGE, 0, 1, first)));
    tree.push(Piece::Plain(instruction(JA, 0, 0, u32::try_from(left.len()).unwrap_or(u32::MAX))));
    tree.append(&mut left);
    grow(above, tree);
}

/// What a test leads to.
#[derive(Clone, Copy)]
enum Target {
    Test(usize),
    Outcome(Outcome),
}

/// Tests, then each outcome once.
fn compact(ranges: &[(u32, Outcome)]) -> Vec<Piece> {
    let mut tests = Vec::new();
    tests_of(ranges, &mut tests);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for (_, outcome) in ranges {
        if !outcomes.contains(outcome) {
            outcomes.push(*outcome);
        }
    }
    let over = |from: usize, to: Target| {
        let place = match to {
            Target::Test(index) => index,
            Target::Outcome(outcome) => {
                tests.len() + outcomes.iter().position(|known| *known == outcome).unwrap_or(usize::MAX / 2)
            }
        };
        // Too far can't be (see TREE); were it so, the filter would not be the same, which is seen.
        u8::try_from(place - from - 1).unwrap_or(u8::MAX)
    };
    let test = |(index, (first, [yes, no])): (usize, &(u32, [Target; 2]))| {
        Piece::Plain(instruction(JGE, over(index, *yes), over(index, *no), *first))
    };
    let end = |outcome: &Outcome| match outcome {
        Outcome::Answer(answer) => Piece::Plain(instruction(RETURN, 0, 0, *answer)),
        Outcome::Arguments(at) => Piece::Tail(*at),
    };
    tests.iter().enumerate().map(test).chain(outcomes.iter().map(end)).collect()
}

/// A balanced tree of tests, each before those that it leads to.
fn tests_of(ranges: &[(u32, Outcome)], tests: &mut Vec<(u32, [Target; 2])>) -> Target {
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let Some((first, outcome)) = above.first() else { return Target::Outcome(Outcome::Answer(0)) };
    if below.is_empty() {
        return Target::Outcome(*outcome);
    }
    let index = tests.len();
    tests.push((*first, [Target::Outcome(*outcome); 2]));
    let no = tests_of(below, tests);
    let yes = tests_of(above, tests);
    tests[index].1 = [yes, no];
    Target::Test(index)
}

/// Where the old filter goes on after instruction `at`.
fn next(program: &[Instruction], at: usize) -> Option<Vec<usize>> {
    let one = program.get(at)?;
    Some(match one.code {
        RETURN => Vec::new(),
        JA => vec![at + 1 + usize::try_from(one.k).ok()?],
        JEQ | JGT | JGE | JSET => vec![at + 1 + usize::from(one.jt), at + 1 + usize::from(one.jf)],
        _ => vec![at + 1],
    })
}

/// All of the old filter that is still needed, in its order.
fn tails(program: &[Instruction], pieces: &[Piece]) -> Option<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    let mut ask: Vec<usize> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Plain(_) => None,
            Piece::Tail(at) => Some(*at),
        })
        .collect();
    while let Some(at) = ask.pop() {
        if found.insert(at) {
            ask.extend(next(program, at)?);
        }
    }
    Some(found)
}

/// The old filter's instruction `at` where `places` says that it is now.
fn moved(program: &[Instruction], at: usize, places: &BTreeMap<usize, usize>) -> Option<Instruction> {
    let mut one = *program.get(at)?;
    let here = places.get(&at)?;
    let over = |to: usize| places.get(&to)?.checked_sub(here + 1);
    match (one.code, &next(program, at)?[..]) {
        (JA, [to]) => one.k = u32::try_from(over(*to)?).ok()?,
        (_, [yes, no]) => {
            one.jt = u8::try_from(over(*yes)?).ok()?;
            one.jf = u8::try_from(over(*no)?).ok()?;
        }
        // What falls through must still do so.
        (_, [to]) if over(*to)? != 0 => return None,
        _ => {}
    }
    Some(one)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::oci::LinuxSeccomp;

    /// The kernel's machine, as much of it as filters use: accumulator and 64 bytes of data.
    fn run(program: &[Instruction], data: &[u32; 16]) -> u32 {
        let (mut at, mut a) = (0, 0u32);
        loop {
            let one = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { one.jt } else { one.jf });
            match one.code {
                LOAD => a = data[usize::try_from(one.k).unwrap() / 4],
                RETURN => return one.k,
                JA => at += usize::try_from(one.k).unwrap(),
                JEQ => at += jump(a == one.k),
                JGT => at += jump(a > one.k),
                JGE => at += jump(a >= one.k),
                JSET => at += jump(a & one.k != 0),
                0x54 => a &= one.k,
                other => panic!("code {other:#x}"),
            }
        }
    }

    /// Every number of every architecture, with arguments that are and are not what the filter compares with.
    fn assert_same(old: &[Instruction], new: &[Instruction]) {
        let mut arguments: Vec<u32> = old.iter().filter(|one| one.code == JEQ).map(|one| one.k).collect();
        arguments.extend([0, 1, 0x0002_0000, 0x7e02_0000, u32::MAX]);
        arguments.sort_unstable();
        arguments.dedup();
        let mut turn = 0usize;
        for arch in [0xc000_003e, 0x4000_0003, 0xc000_00b7, 0x4000_0028, 0, u32::MAX] {
            for number in
                (0..1200).chain(0x3fff_fff0..0x4000_0500).chain([0x7fff_ffff, u32::MAX - 1, u32::MAX])
            {
                for _ in 0..12 {
                    let mut data = [0u32; 16];
                    (data[0], data[1]) = (number, arch);
                    for word in &mut data[4..] {
                        turn += 7919;
                        *word = arguments[turn % arguments.len()];
                    }
                    assert_eq!(run(old, &data), run(new, &data), "{arch:#x} {number:#x} {data:?}");
                }
            }
        }
    }

    fn both(profile: &LinuxSeccomp) -> (Vec<Instruction>, Vec<Instruction>) {
        let old = super::super::compile::whole(profile).unwrap();
        let new = shorten(old.clone());
        (old, new)
    }

    #[test]
    fn the_answers_are_the_same() {
        let engine: LinuxSeccomp = serde_json::from_value(testkit::seccomp_profile()).unwrap();
        let (old, new) = both(&engine);
        assert!(new.len() * 2 < old.len(), "{} of {}", new.len(), old.len());
        assert_same(&old, &new);
        // Another order, other arguments, other answers.
        for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_LOG"] {
            let profile: LinuxSeccomp = serde_json::from_value(serde_json::json!({
                "defaultAction": default,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"],
                "syscalls": [
                    {"names": ["read", "write", "openat", "futex"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
                    {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
                        "args": [{"index": 0, "value": 131072, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 4_294_967_297u64, "op": "SCMP_CMP_GT"}]},
                    {"names": ["clone"], "action": "SCMP_ACT_TRAP",
                        "args": [{"index": 0, "value": 2_114_060_288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
                    {"names": ["mount", "umount2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                    {"names": ["ptrace"], "action": "SCMP_ACT_TRACE", "errnoRet": 9},
                ],
            }))
            .unwrap();
            let (old, new) = both(&profile);
            assert_same(&old, &new);
        }
    }

    #[test]
    fn what_it_can_not_follow_stays() {
        let ret = |k| instruction(RETURN, 0, 0, k);
        let load = instruction(LOAD, 0, 0, NUMBER);
        for program in [
            // A number that is computed with, or tested bit by bit; an architecture by more than its value.
            vec![load, instruction(0x54, 0, 0, 7), instruction(JEQ, 0, 1, 3), ret(1), ret(2)],
            vec![load, instruction(JSET, 0, 1, 3), ret(1), ret(2)],
            vec![instruction(LOAD, 0, 0, ARCHITECTURE), instruction(JGT, 0, 1, 3), ret(1), ret(2)],
            vec![load, instruction(JEQ, 0, 9, 3), ret(1)],
            vec![],
        ] {
            assert!(shorter(&program).is_none(), "{program:?}");
            assert_eq!(shorten(program.clone()), program);
        }
    }
}
