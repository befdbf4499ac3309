//! Random operations of several callers, with two libraries on one state root, with faults in between, against a
//! reference of the life cycle.
//!
//! In each round some callers do something to the same few containers at once. Meanwhile a monitor or an init may be
//! killed, callers may go without waiting, a failpoint of the library or of a program may act, or both libraries are
//! taken down and others recover. Whatever order it all got: there must be one in which the reference gives each
//! caller the answer that it had, and the state that is there afterwards; that is also the kernel's, and the exit one
//! that it can have. In the end all can be deleted, and nothing is left.
//!
//! The seed is printed with what was done; `WHARF_MODEL_SEED=N` does the same operations again (the plan,
//! not the interleaving: who is first in a round is the kernel's choice), and
//! `WHARF_MODEL_ROUNDS` and `WHARF_MODEL_SEEDS` make it longer: CONTRIBUTING.md.
#![expect(clippy::print_stdout, reason = "how much was done")]

mod look;
mod plan;
mod reference;
mod world;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use runtime::RuntimeConfig;
use serde_json::json;
use testkit::Bundle;

use crate::faults;
use crate::kit::{self, Kit, run};
use plan::{Planner, Points, Program};
use world::World;

/// What takes some seconds where nothing else runs.
const ROUNDS: usize = 60;
/// Ends with 7 when it is asked to.
const PROGRAM: &str = "trap 'exit 7' TERM; while :; do sleep 3600 & wait $!; done";

/// What all rounds of a run have.
struct Setup {
    root: PathBuf,
    config: RuntimeConfig,
    bundle: PathBuf,
    failing: Option<Failing>,
}

/// Programs with failpoints, which read what is to happen from files.
struct Failing {
    dir: PathBuf,
}

impl Failing {
    fn arm(&self, program: Program, rule: &str) {
        fs::write(self.file(program), rule).expect("write");
    }

    fn disarm(&self, program: Program) {
        self.arm(program, "");
    }

    fn file(&self, program: Program) -> PathBuf {
        self.dir.join(match program {
            Program::Monitor => "points-wharf-monitor",
            Program::Runtime => "points-wharf-oci",
        })
    }
}

/// What was done, for who looks for the reason of a failure.
struct Tale {
    seed: u64,
    lines: Vec<String>,
}

impl Tale {
    fn tell(&mut self, line: String) {
        // At once, for who looks for the reason of a hang.
        if number("WHARF_MODEL_TALE").is_some() {
            println!("{line}");
        }
        self.lines.push(line);
    }
}

impl Drop for Tale {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}\nWHARF_MODEL_SEED={}", self.lines.join("\n"), self.seed);
            testkit::kill_cgroups(testkit::mark());
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn random_callers_and_faults_agree_with_the_model() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let any = u64::from(now.subsec_nanos()) << 20 | u64::from(std::process::id());
    let first = number("WHARF_MODEL_SEED").unwrap_or(any);
    for seed in (0..number("WHARF_MODEL_SEEDS").unwrap_or(1)).map(|more| first.wrapping_add(more)) {
        one(seed);
    }
}

fn one(seed: u64) {
    println!("WHARF_MODEL_SEED={seed}");
    let rounds =
        number("WHARF_MODEL_ROUNDS").and_then(|rounds| usize::try_from(rounds).ok()).unwrap_or(ROUNDS);
    let (kit, bundle) = (Kit::new("model"), Bundle::shell("model", PROGRAM));
    let bundle =
        bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": world::LIMITS[0]}}));
    let (config, failing) = configured(&kit);
    let setup = Setup { root: kit.root(), config, bundle: bundle.path().to_owned(), failing };
    let points = Points::new(faults::names());
    let begin = Instant::now();
    let calls = run(async {
        let mut tale = Tale { seed, lines: Vec::new() };
        let (mut planner, mut world) = (Planner::new(seed, &points), World::new(&setup));
        for number in 0..rounds {
            world.round(number, &planner.round(), &mut tale).await;
        }
        let calls = world.calls;
        world.end(&mut tale).await;
        calls
    });
    println!("{calls} calls in {rounds} rounds, {} ms", begin.elapsed().as_millis());
    drop(bundle);
    kit.finish();
}

/// Programs that can fail, where they are under test and there.
fn configured(kit: &Kit) -> (RuntimeConfig, Option<Failing>) {
    let mut config = kit::config(kit.root(), Vec::new());
    let Some(programs) = faults::failing_programs() else { return (config, None) };
    let dir = kit.scratch.path().to_owned();
    let [runtime, monitor] = programs.map(|program| faults::script(&dir, &program));
    config.handlers[0].path = runtime;
    config.handlers[0].monitor.path = monitor;
    (config, Some(Failing { dir }))
}
