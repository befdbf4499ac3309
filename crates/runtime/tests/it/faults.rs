//! Our monitor and our runtime die, fail or dawdle at each of their failpoints, in a whole life of a container; then
//! the fault is gone, and the library has to make order: a container as the kernel has it or none, nothing left.
//!
//! The programs are this build's own, beside the test: the workspace's tests compile the failpoints in. Scripts
//! around them read what is to happen from a file.
#![expect(clippy::print_stdout, reason = "which points were walked")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Exit, Signal, State};
use runtime::{CreateRequest, ExecRequest, HandlerConfig, MonitorConfig, RuntimeConfig, Runtimes};
use testkit::{Bundle, LeakCheck, RuntimeKind};

use crate::kit::{self, Kit, run};

/// Nothing takes so long, even here; a call that hangs ends the test.
const NEVER: Duration = Duration::from_secs(240);
const GRACE: Duration = Duration::from_secs(2);

/// What the container's program is told by, in its command line.
const PROGRAM: &str = "trap 'exit 7' TERM; while :; do sleep 3600 & wait $!; done";

struct Walk {
    kit: Kit,
    config: RuntimeConfig,
    bundle: Bundle,
}

impl Walk {
    /// None, and a word about it, where this run of the suite has other programs.
    fn new(what: &str) -> Option<Self> {
        let test = std::env::current_exe().expect("this program");
        let build = test.ancestors().nth(2).expect("the build's directory").to_owned();
        let programs = ["wharf-oci", "wharf-monitor"].map(|name| build.join(name));
        if testkit::runtime_under_test().kind != RuntimeKind::WharfOci {
            println!("walked where wharf-oci is the runtime under test");
            return None;
        }
        if !programs.iter().all(|program| program.is_file()) {
            println!("NOT TESTED: {}: no programs of this build", build.display());
            return None;
        }
        // A build of one crate alone may not have them.
        if !programs.iter().all(|program| has(program, "WHARF_FAILPOINTS_TRACE")) {
            println!("NOT TESTED: {}: the programs have no failpoints", build.display());
            return None;
        }
        let kit = Kit::new(what);
        let [oci, monitor] = programs.map(|program| script(kit.scratch.path(), &program));
        let handler = HandlerConfig::new("wharf-oci", oci, MonitorConfig::new(monitor));
        let mut config = RuntimeConfig::new(kit.root(), vec![handler]);
        config.cgroup_manager = kit::manager();
        let bundle = Bundle::shell(what, PROGRAM);
        Some(Self { kit, config, bundle })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.kit.scratch.path().join(name)
    }

    /// The points that a life passes when nothing goes wrong.
    fn points(&self, prefix: &str) -> Vec<String> {
        fs::write(self.file("trace"), "").expect("write");
        self.case("");
        let trace = fs::read_to_string(self.file("trace")).expect("a trace");
        fs::remove_file(self.file("trace")).expect("remove");
        let names: BTreeSet<&str> = trace.lines().filter(|name| name.starts_with(prefix)).collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// One life with a fault in it, and what is there afterwards.
    fn case(&self, rule: &str) {
        let id = testkit::unique_id("fault");
        let leaks = LeakCheck::of(&id);
        fs::write(self.file("points"), rule).expect("write");
        run(self.within(rule, self.life(&id)));
        fs::write(self.file("points"), "").expect("write");
        run(self.within(rule, self.judge(&id, rule)));
        assert_eq!(self.kit.litter(), Vec::<String>::new(), "{rule}");
        println!("{rule}");
        leaks.finish();
    }

    async fn within(&self, rule: &str, work: impl Future<Output = ()>) {
        let hung = tokio::time::timeout(NEVER, work).await.is_err();
        assert!(!hung, "{rule}: hangs");
    }

    /// What works works, what does not is an error: both are right here.
    async fn life(&self, id: &str) {
        let runtimes = Runtimes::from_config(&self.config).expect("runtimes");
        let request = CreateRequest::new(kit::id(id), self.bundle.path());
        let Ok(container) = runtimes.create(request).await else { return };
        let resources = serde_json::json!({ "memory": { "limit": 64 << 20 } });
        let resources = serde_json::from_value(resources).expect("resources");
        drop(container.start().await);
        drop(container.exec_sync(ExecRequest::new(["true"])).await);
        drop(container.update(resources).await);
        drop(container.pause().await);
        drop(container.resume().await);
        drop(container.stop(Signal::TERM, GRACE).await);
        drop(container.delete(false).await);
    }

    async fn judge(&self, id: &str, rule: &str) {
        let runtimes = Runtimes::from_config(&self.config).expect("runtimes");
        let recovered = runtimes.recover().await.expect("recover");
        assert!(recovered.failed.is_empty(), "{rule}: {:?}", recovered.failed);
        if rule.starts_with("oci.delete.") {
            // A runtime that never gets to delete keeps its own record, which it can be told to delete.
            let program = self.file("wharf-oci");
            let deleted = std::process::Command::new(program).args(["delete", "--force", id]).status();
            assert!(deleted.expect("run wharf-oci").success(), "{rule}");
        }
        let Ok(container) = runtimes.get(&kit::id(id)).await else { return };
        let status = container.status();
        match (status.state, status.pid) {
            (State::Exited, _) => {
                let ended = status.ended.as_ref().unwrap_or_else(|| panic!("{rule}: no end"));
                // Only where the monitor, the one who sees it, was kept from saying so.
                let unseen = rule.starts_with("monitor.") || rule.starts_with("durable.");
                assert!(ended.exit != Exit::Lost || unseen, "{rule}: {ended:?}");
                assert_eq!(members(id), 0, "{rule}: exited and alive");
            }
            (state, Some(pid)) => {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let runs = String::from_utf8_lossy(&line).contains("exit 7");
                assert_eq!(runs, state != State::Created, "{rule}: {state}, and {line:?}");
            }
            (state, None) => panic!("{rule}: {state} without a pid"),
        }
        container.delete(true).await.unwrap_or_else(|error| panic!("{rule}: {error}"));
    }

    fn all(self, prefix: &str, action: &str) -> usize {
        let points = self.points(prefix);
        for point in &points {
            self.case(&format!("{point}={action}"));
        }
        println!("{} points of {prefix}* walked with {action}", points.len());
        self.finish();
        points.len()
    }

    fn all_at_once(self) -> usize {
        let points = self.points("");
        let rules: Vec<String> = points.iter().map(|point| format!("{point}=sleep:50")).collect();
        self.case(&rules.join(";"));
        self.finish();
        points.len()
    }

    fn finish(self) {
        for file in ["points", "wharf-oci", "wharf-monitor"] {
            fs::remove_file(self.file(file)).expect("remove");
        }
        drop(self.bundle);
        self.kit.finish();
    }
}

/// A script around a program that does with it what the files beside say.
fn script(dir: &Path, program: &Path) -> PathBuf {
    let path = dir.join(program.file_name().expect("a name"));
    let (dir, program) = (dir.display(), program.display());
    let text = format!(
        "#!/bin/sh\nexport WHARF_FAILPOINTS=\"$(cat {dir}/points 2>/dev/null)\"\n\
         unset WHARF_FAILPOINTS_TRACE\n[ -e {dir}/trace ] && export WHARF_FAILPOINTS_TRACE={dir}/trace\n\
         exec {program} \"$@\"\n"
    );
    fs::write(&path, text).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    path
}

fn has(program: &Path, text: &str) -> bool {
    let found = std::process::Command::new("grep").args(["-qaF", text]).arg(program).status();
    found.expect("run grep").success()
}

/// How many processes are in cgroups that are named after the container.
fn members(id: &str) -> usize {
    let groups = testkit::marked_cgroups(id);
    groups
        .iter()
        .map(|group| fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines().count())
        .sum()
}

/// Walks all points whose names begin so, and gives how many there were; none where it can't be tested.
fn walk(what: &str, prefix: &str, action: &str) -> Option<usize> {
    Walk::new(what).map(|walk| walk.all(prefix, action))
}

#[test]
fn monitor_killed_at_every_point() {
    assert!(walk("monkill", "monitor.", "kill").is_none_or(|points| points >= 19));
}

#[test]
fn monitor_failing_at_every_point() {
    assert!(walk("monfail", "monitor.", "error").is_none_or(|points| points >= 19));
}

#[test]
fn runtime_killed_at_every_point() {
    assert!(walk("ocikill", "oci.", "kill").is_none_or(|points| points >= 26));
}

#[test]
fn runtime_failing_at_every_point() {
    assert!(walk("ocifail", "oci.", "error").is_none_or(|points| points >= 26));
}

#[test]
fn files_of_the_programs_failing() {
    assert!(walk("filefail", "durable.", "error").is_none_or(|points| points >= 3));
}

/// All at once in one life; with `WHARF_FAULTS=all` (`cargo xtask faults`) one after the other.
#[test]
fn everything_dawdling_at_every_point() {
    let walked = if std::env::var_os("WHARF_FAULTS").is_some() {
        walk("dawdle", "", "sleep:300")
    } else {
        Walk::new("dawdle").map(Walk::all_at_once)
    };
    assert!(walked.is_none_or(|points| points >= 48));
}
