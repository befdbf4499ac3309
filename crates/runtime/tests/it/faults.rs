//! The walk: at every failpoint of the library, the monitor, the runtime and the files below them, one fault (an error,
//! the process's death, a wait) in a whole life of a container; then the fault is gone, somebody else recovers, and what
//! was acknowledged must hold, with nothing left behind.
//!
//! The points are found in the source. Each is walked in the first course of life that passes it, in the process that
//! passes it: the victim (this binary run again, with the library in it) or the programs. These are this build's own,
//! beside the test: the workspace's tests compile the failpoints in. Scripts around them read what is to happen from a file.
#![expect(clippy::print_stdout, reason = "which points were walked")]

mod judge;
mod life;
mod points;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtime::{HandlerConfig, MonitorConfig, RuntimeConfig, Runtimes};
use testkit::{Bundle, LeakCheck, RuntimeKind};

use crate::kit::{self, Kit, run};
use judge::{Facts, Judge};

/// Nothing takes so long, even here; a victim that hangs ends the test.
const NEVER: Duration = Duration::from_secs(240);
/// Handlers: our monitor, and conmon, each over our runtime; and ours over what it does not know for ours, so that it
/// runs it for execs.
const OURS: &str = "wharf-oci";
const WITH_CONMON: &str = "with-conmon";
const FOREIGN: &str = "foreign-oci";

/// Ends with 7 when it is asked to, and says so.
const PROGRAM: &str =
    "trap 'echo last; exit 7' TERM; trap : USR1; echo first; while :; do sleep 3600 & wait $!; done";
/// Does not listen (and has the text by which it is told).
const STUBBORN: &str =
    "trap '' TERM; trap : USR1; echo first; while :; do sleep 3600 & wait $!; done; exit 7";

/// What the victim does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// create, start, exec, update, pause, resume, kill, a log's rotation, stop, delete.
    Plain,
    /// The same with conmon as the monitor.
    Conmon,
    /// The same with a program that must be killed, a checkpoint and a restore, and execs by the runtime.
    Stubborn,
    /// Recovers what others left that died in the middle.
    Recovery,
}

const COURSES: [Course; 4] = [Course::Plain, Course::Conmon, Course::Stubborn, Course::Recovery];

impl Course {
    fn named(name: &str) -> Self {
        COURSES.into_iter().find(|course| format!("{course:?}") == name).expect("a course")
    }
}

/// Which processes have the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Library,
    Monitor,
    Runtime,
}

const SIDES: [Side; 3] = [Side::Library, Side::Monitor, Side::Runtime];

impl Side {
    /// Where it writes the points that it passes.
    fn trace(self) -> &'static str {
        match self {
            Self::Library => "trace-library",
            Self::Monitor => "trace-wharf-monitor",
            Self::Runtime => "trace-wharf-oci",
        }
    }
}

/// Where the programs read what is to happen.
const POINTS: [(Side, &str); 2] =
    [(Side::Monitor, "points-wharf-monitor"), (Side::Runtime, "points-wharf-oci")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// At the first pass of each process; then all is well again.
    Error,
    /// At each pass.
    Errors,
    Kill,
    Sleep,
}

#[derive(Debug, Clone)]
struct Case {
    name: String,
    action: Action,
    course: Course,
    side: Side,
}

impl Case {
    fn rule(&self) -> String {
        match self.action {
            Action::Error => format!("{}=error@1", self.name),
            Action::Errors => format!("{}=error", self.name),
            Action::Kill => format!("{}=kill", self.name),
            Action::Sleep => format!("{}=sleep:{}", self.name, if whole() { 500 } else { 100 }),
        }
    }

    /// Whether the monitor, who sees output and exit, is what fails.
    fn blind(&self) -> bool {
        self.action != Action::Sleep && self.side == Side::Monitor
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} in {:?} of {:?}", self.name, self.action, self.side, self.course)
    }
}

/// Whether this is the whole walk, by `cargo xtask faults`.
fn whole() -> bool {
    std::env::var_os("WHARF_FAULTS").is_some()
}

fn log_of(dir: &Path, id: &str) -> PathBuf {
    dir.join(format!("{id}.log"))
}

/// By how many descriptors a monitor has grown in a course without a fault.
fn grown(dir: &Path, course: Course) -> PathBuf {
    dir.join(format!("grown-{course:?}"))
}

/// The root's configuration with the programs in `dir`.
fn config(root: &Path, dir: &Path) -> RuntimeConfig {
    let handler = |name: &str, program: &str, monitor: PathBuf| {
        HandlerConfig::new(name, dir.join(program), MonitorConfig::new(monitor))
    };
    let handlers = vec![
        handler(OURS, OURS, dir.join("wharf-monitor")),
        handler(WITH_CONMON, OURS, testkit::Monitor::named("conmon").path),
        handler(FOREIGN, FOREIGN, dir.join("wharf-monitor")),
    ];
    let mut config = RuntimeConfig::new(root, handlers);
    config.cgroup_manager = kit::manager();
    config
}

struct Walk {
    kit: Kit,
    bundle: Bundle,
    stubborn: Bundle,
}

impl Walk {
    /// None, and a word about it, where this run of the suite has other programs.
    fn new(what: &str) -> Option<Self> {
        let programs = failing_programs()?;
        let kit = Kit::new(what);
        for program in programs {
            script(kit.scratch.path(), &program);
        }
        let ours = kit.scratch.path().join(OURS);
        testkit::script(kit.scratch.path(), FOREIGN, &format!("#!/bin/sh\nexec {} \"$@\"\n", ours.display()));
        Some(Self { kit, bundle: Bundle::shell(what, PROGRAM), stubborn: Bundle::shell(what, STUBBORN) })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.kit.scratch.path().join(name)
    }

    /// Runs a victim to its end or death.
    fn victim(&self, id: &str, course: Course, rule: &str, side: Side) {
        for (program, file) in POINTS {
            fs::write(self.file(file), if side == program { rule } else { "" }).expect("write");
        }
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", "faults::life::victim", "--ignored", "--nocapture", "--test-threads=1"]);
        let bundle = if course == Course::Stubborn { &self.stubborn } else { &self.bundle };
        command.env("WALK_ROOT", self.kit.root()).env("WALK_BUNDLE", bundle.path()).env("WALK_ID", id);
        command.env("WALK_COURSE", format!("{course:?}")).env("WALK_DIR", self.kit.scratch.path());
        command
            .env("WALK_FACTS", self.file("facts"))
            .env("WHARF_FAILPOINTS_TRACE", self.file(Side::Library.trace()));
        command.env("WHARF_FAILPOINTS", if side == Side::Library { rule } else { "" });
        let told = fs::File::create(self.file("told")).expect("create");
        let errors = told.try_clone().expect("clone");
        command.stdin(Stdio::null()).stdout(told).stderr(errors);
        let mut child = command.spawn().expect("run the victim");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait") {
                break status;
            }
            if begin.elapsed() > NEVER {
                let _ = child.kill();
                let facts = fs::read_to_string(self.file("facts")).unwrap_or_default();
                panic!("{rule} in {side:?} of {course:?}: hangs after {facts}");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        for (_, file) in POINTS {
            fs::write(self.file(file), "").expect("write");
        }
        let told = fs::read_to_string(self.file("told")).unwrap_or_default();
        let killed = status.signal() == Some(9) && side == Side::Library;
        assert!(status.success() || killed, "{rule} in {side:?} of {course:?}: {status}: {told}");
    }

    fn fresh(&self) {
        fs::write(self.file("facts"), "").expect("write");
        for side in SIDES {
            fs::write(self.file(side.trace()), "").expect("write");
        }
    }

    /// What others left that died in the middle.
    fn mess(&self, id: &str) {
        let die = |what: &str, course, point: &str| {
            let _ = fs::remove_file(self.file("facts"));
            self.victim(&format!("{id}-{what}"), course, &format!("{point}=kill"), Side::Library);
        };
        die("half", Course::Plain, "create.answered");
        die("mark", Course::Plain, "delete.marked");
        die("gone", Course::Plain, "delete.dir-renamed");
        die("exec", Course::Conmon, "exec.started");
        die("boot", Course::Plain, "stop.before-signal");
        let boot = format!("{id}-boot");
        testkit::kill_cgroups(&boot);
        // As a record on a disk looks after the machine was started anew.
        let path = self.kit.root().join(&boot).join("state.json");
        let mut record: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).expect("read")).expect("a record");
        record["boot_id"] = "00000000-0000-0000-0000-000000000000".into();
        fs::write(&path, record.to_string()).expect("write");
    }

    /// The points that a course passes when nothing goes wrong, and where.
    fn passes(&self, course: Course) -> Vec<(Side, BTreeSet<String>)> {
        self.case(&Case { name: String::new(), action: Action::Sleep, course, side: Side::Library });
        let passed = |side: Side| {
            let trace = fs::read_to_string(self.file(side.trace())).expect("a trace");
            (side, trace.lines().map(str::to_owned).collect())
        };
        SIDES.map(passed).into()
    }

    /// One life with a fault in it, and what is there afterwards. Gives what it cost, if the point was passed.
    fn case(&self, case: &Case) -> Option<String> {
        let id = testkit::unique_id("walk");
        let leaks = LeakCheck::of(&id);
        if case.course == Course::Recovery {
            self.mess(&id);
        }
        self.fresh();
        let rule = if case.name.is_empty() { String::new() } else { case.rule() };
        self.victim(&id, case.course, &rule, case.side);
        let facts = Facts::read(&self.file("facts"));
        let passed = SIDES.iter().any(|side| {
            let trace = fs::read_to_string(self.file(side.trace())).unwrap_or_default();
            trace.lines().any(|name| name == case.name)
        });
        let mut lost = facts.lost_calls();
        if case.side == Side::Runtime
            && case.name.starts_with("oci.delete.")
            && self.runtime_record(case, &id)
        {
            lost.push("the runtime's record".to_owned());
        }
        let runtimes = config(&self.kit.root(), self.kit.scratch.path());
        lost.extend(run(async {
            let runtimes = Runtimes::from_config(&runtimes).expect("runtimes");
            let judge = Judge { kit: &self.kit, case, id: &id, facts: &facts, runtimes };
            tokio::time::timeout(NEVER, judge.judge()).await.unwrap_or_else(|_| panic!("{case}: hangs"))
        }));
        assert_eq!(self.kit.litter(), Vec::<String>::new(), "{case}");
        let mut unfinished = Vec::new();
        judge::unfinished(self.kit.scratch.path(), &mut unfinished);
        assert!(unfinished.is_empty(), "{case}: {unfinished:?}");
        self.remove_logs();
        leaks.finish();
        passed.then(|| if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") })
    }

    /// Whether a runtime that never got to delete has kept its own record, which is then deleted as the page says.
    fn runtime_record(&self, case: &Case, id: &str) -> bool {
        let runtime = |args: &[&str]| {
            let output = Command::new(self.file(OURS)).args(args).arg(id).output();
            output.expect("run wharf-oci").status.success()
        };
        let kept = runtime(&["state"]);
        assert!(!kept || case.action != Action::Sleep, "{case}: kept by being slow");
        assert_eq!(judge::members(id), 0, "{case}: its record is all that is left");
        assert!(runtime(&["delete", "--force"]), "{case}");
        kept
    }

    fn remove_logs(&self) {
        for entry in fs::read_dir(self.kit.scratch.path()).expect("list").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.contains(".log") {
                fs::remove_file(entry.path()).expect("remove");
            }
        }
    }

    /// All names, each in each process that passes it, in the first course in which it does; and those that none does.
    fn cases(&self, action: Action) -> (Vec<Case>, BTreeSet<String>) {
        let mut names = points::in_source();
        let (mut cases, mut done) = (Vec::new(), BTreeSet::new());
        for course in COURSES {
            let passes = self.passes(course);
            if names.is_empty() {
                testkit::not_tested("points that no course passes: there is no source here");
                names = passes.iter().flat_map(|(_, passed)| passed.clone()).collect();
            }
            for (side, passed) in passes {
                for name in passed.into_iter().filter(|name| names.contains(name)) {
                    if done.insert((name.clone(), side)) {
                        cases.push(Case { name, action, course, side });
                    }
                }
            }
        }
        names.retain(|name| SIDES.iter().all(|side| !done.contains(&(name.clone(), *side))));
        (cases, names)
    }

    fn finish(self) {
        let traces = SIDES.map(Side::trace).into_iter().chain(POINTS.map(|(_, file)| file));
        for file in traces.chain([OURS, FOREIGN, "wharf-monitor", "facts", "told"]) {
            fs::remove_file(self.file(file)).expect("remove");
        }
        for course in COURSES.into_iter().filter(|course| *course != Course::Recovery) {
            fs::remove_file(grown(self.kit.scratch.path(), course)).expect("remove");
        }
        drop((self.bundle, self.stubborn));
        self.kit.finish();
    }
}

/// All points in the source: none where there is none.
pub(crate) fn names() -> BTreeSet<String> {
    points::in_source()
}

/// `wharf-oci` and `wharf-monitor` with failpoints: this build's own. None, and a word about it, where this run of
/// the suite has other programs.
pub(crate) fn failing_programs() -> Option<[PathBuf; 2]> {
    if testkit::runtime_under_test().kind != RuntimeKind::WharfOci {
        testkit::not_tested("faults in programs: wharf-oci is not the runtime under test");
        return None;
    }
    let test = std::env::current_exe().expect("this program");
    let build = test.ancestors().nth(2).expect("the build's directory").to_owned();
    let programs = ["wharf-oci", "wharf-monitor"].map(|name| build.join(name));
    if !programs.iter().all(|program| program.is_file()) {
        testkit::not_tested(&format!("faults in programs: {} has none", build.display()));
        return None;
    }
    // A build of one crate alone may not have them.
    if !programs.iter().all(|program| has(program, "WHARF_FAILPOINTS_TRACE")) {
        testkit::not_tested(&format!("faults in programs: those in {} have no failpoints", build.display()));
        return None;
    }
    Some(programs)
}

/// A script around a program that does with it what the files beside say.
pub(crate) fn script(dir: &Path, program: &Path) -> PathBuf {
    let name = program.file_name().expect("a name").to_str().expect("a name");
    let (place, program) = (dir.display(), program.display());
    let text = format!(
        "#!/bin/sh\nexport WHARF_FAILPOINTS=\"$(cat {place}/points-{name} 2>/dev/null)\"\n\
         export WHARF_FAILPOINTS_TRACE={place}/trace-{name}\n\
         exec {program} \"$@\"\n"
    );
    testkit::script(dir, name, &text)
}

fn has(program: &Path, text: &str) -> bool {
    let found = Command::new("grep").args(["-qaF", text]).arg(program).status();
    found.expect("run grep").success()
}

/// Walks part `part` of `parts` of all points with one action, and gives how many points that were; none where it
/// can't be tested.
fn walk(action: Action, part: usize, parts: usize) -> Option<usize> {
    let walk = Walk::new(&format!("walk{action:?}{part}").to_lowercase())?;
    let begin = Instant::now();
    let (cases, never) = walk.cases(action);
    let names = |cases: &[Case]| cases.iter().map(|case| case.name.clone()).collect::<BTreeSet<_>>();
    let all = names(&cases);
    assert!(all.len() >= 60, "only {} points are passed: {all:?}", all.len());
    let cases: Vec<Case> = cases.into_iter().skip(part).step_by(parts).collect();
    let mut missed = Vec::new();
    for case in &cases {
        let begin = Instant::now();
        let Some(cost) = walk.case(case) else {
            missed.push(case.name.clone());
            continue;
        };
        if whole() {
            println!("walked {case}: {cost} ({} ms)", begin.elapsed().as_millis());
        }
    }
    let never: Vec<String> = never.into_iter().collect();
    println!(
        "{} cases, {} of {} points walked with {action:?} in {} s; not passed this time: [{}]; never passed: [{}]",
        cases.len(),
        names(&cases).len(),
        all.len() + never.len(),
        begin.elapsed().as_secs(),
        missed.join(", "),
        never.join(", ")
    );
    // A watch passes some or not, by who is first.
    assert!(missed.len() * 10 <= cases.len(), "not passed: {missed:?}");
    walk.finish();
    Some(names(&cases).len())
}

#[test]
fn every_point_failing_1() {
    assert!(walk(Action::Error, 0, 2).is_none_or(|points| points >= 30));
}

#[test]
fn every_point_failing_2() {
    assert!(walk(Action::Error, 1, 2).is_none_or(|points| points >= 30));
}

#[test]
fn every_point_killed_1() {
    assert!(walk(Action::Kill, 0, 2).is_none_or(|points| points >= 30));
}

#[test]
fn every_point_killed_2() {
    assert!(walk(Action::Kill, 1, 2).is_none_or(|points| points >= 30));
}

#[test]
fn every_point_dawdling_1() {
    assert!(walk(Action::Sleep, 0, 2).is_none_or(|points| points >= 30));
}

#[test]
fn every_point_dawdling_2() {
    assert!(walk(Action::Sleep, 1, 2).is_none_or(|points| points >= 30));
}

/// A fault that stays; the others pass. Takes long, as what must be written down is tried again and again.
#[test]
fn every_point_failing_for_good() {
    if !whole() {
        testkit::not_tested("faults that stay: cargo xtask faults has them");
        return;
    }
    assert!(walk(Action::Errors, 0, 1).is_none_or(|points| points >= 60));
}
