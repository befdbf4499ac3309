//! A case as data, and how it is run.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::{Scratch, wait_for};

pub(crate) use crate::peer::Runtime::{self, Crun, Runc, Wharf};

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The program ran: its status and what it printed, and what the host saw afterwards.
    Ran(i32, String),
    /// The runtime refused, and the program did not run.
    Refused,
}

enum Edit {
    Set(String, Value),
    Add(String, Value),
    Unset(String),
}

/// What another runtime does, and why.
struct Other {
    runtime: Runtime,
    outcome: Outcome,
    /// Only versions after those of Debian 12 do.
    newer: bool,
}

/// One row of the matrix.
pub(crate) struct Case {
    name: &'static str,
    /// Shell in the container; without, the case sets `process.args`.
    probe: String,
    shared: bool,
    edits: Vec<Edit>,
    before: String,
    after: String,
    expected: Outcome,
    /// What the text of our refusal must have in it.
    says: &'static str,
    others: Vec<Other>,
    without: Vec<(Runtime, &'static str)>,
}

/// A case that is not edited yet: busybox with the configuration of a container engine, printing nothing.
pub(crate) fn case(name: &'static str) -> Case {
    Case {
        name,
        probe: String::new(),
        shared: false,
        edits: Vec::new(),
        before: String::new(),
        after: String::new(),
        expected: Outcome::Ran(0, String::new()),
        says: "",
        others: Vec::new(),
        without: Vec::new(),
    }
}

impl Case {
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Puts `value` where the JSON pointer says; what is missing on the way is made.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Self {
        self.edits.push(Edit::Set(pointer.to_owned(), value));
        self
    }

    /// Appends to the array that is there.
    pub(crate) fn add(mut self, pointer: &str, value: Value) -> Self {
        self.edits.push(Edit::Add(pointer.to_owned(), value));
        self
    }

    pub(crate) fn unset(mut self, pointer: &str) -> Self {
        self.edits.push(Edit::Unset(pointer.to_owned()));
        self
    }

    pub(crate) fn mount(self, destination: &str, kind: &str, source: &str, options: &[&str]) -> Self {
        let mount = json!({"destination": destination, "type": kind, "source": source, "options": options});
        self.add("/mounts", mount)
    }

    /// The probe: a line of shell in the container.
    pub(crate) fn sh(mut self, line: &str) -> Self {
        self.probe = line.to_owned();
        self
    }

    /// The case bears others in its container: a container start is what costs time here. `@n` in its texts is a
    /// number of its own, for names that must differ.
    pub(crate) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    pub(crate) fn args(self, args: &[&str]) -> Self {
        self.set("/process/args", json!(args))
    }

    /// Shell on the host before the run, in the bundle's directory.
    pub(crate) fn before(mut self, script: &str) -> Self {
        self.before = script.to_owned();
        self
    }

    /// Shell on the host after the run, whose output is part of the outcome.
    pub(crate) fn after(mut self, script: &str) -> Self {
        self.after = script.to_owned();
        self
    }

    pub(crate) fn prints(mut self, text: &str) -> Self {
        self.expected = Outcome::Ran(0, text.to_owned());
        self
    }

    pub(crate) fn exits(mut self, status: i32, text: &str) -> Self {
        self.expected = Outcome::Ran(status, text.to_owned());
        self
    }

    /// The runtime refuses, and ours says `text`.
    pub(crate) fn refused(mut self, text: &'static str) -> Self {
        self.expected = Outcome::Refused;
        self.says = text;
        self
    }

    /// `runtime` prints something else, for this reason.
    pub(crate) fn but_prints(self, runtime: Runtime, text: &str, reason: &'static str) -> Self {
        self.but_exits(runtime, 0, text, reason)
    }

    pub(crate) fn but_exits(
        mut self,
        runtime: Runtime,
        status: i32,
        text: &str,
        _reason: &'static str,
    ) -> Self {
        let outcome = Outcome::Ran(status, text.to_owned());
        self.others.push(Other { runtime, outcome, newer: false });
        self
    }

    /// As [`Case::but_exits`], for versions after those of Debian 12 (runc 1.1.5, crun 1.8.1). With those, `runtime` may
    /// also do what ours does.
    pub(crate) fn but_newer_exits(
        mut self,
        runtime: Runtime,
        status: i32,
        text: &str,
        _reason: &'static str,
    ) -> Self {
        let outcome = Outcome::Ran(status, text.to_owned());
        self.others.push(Other { runtime, outcome, newer: true });
        self
    }

    pub(crate) fn but_refused(mut self, runtime: Runtime, _reason: &'static str) -> Self {
        self.others.push(Other { runtime, outcome: Outcome::Refused, newer: false });
        self
    }

    /// `runtime` can't do it at all, for this reason.
    pub(crate) fn without(mut self, runtime: Runtime, reason: &'static str) -> Self {
        self.without.push((runtime, reason));
        self
    }

    /// What `runtime` may do; nothing where it can't.
    fn expected_of(&self, runtime: Runtime) -> Vec<&Outcome> {
        if self.without.iter().any(|(other, _)| *other == runtime) {
            return Vec::new();
        }
        let newer = !runtime.is_debian_12s();
        let others = self.others.iter().filter(|other| other.runtime == runtime && (newer || !other.newer));
        let mut outcomes: Vec<&Outcome> = others.map(|other| &other.outcome).collect();
        if newer && runtime != Wharf || outcomes.is_empty() {
            outcomes.push(&self.expected);
        }
        outcomes
    }

    fn edit(&self, spec: &mut Value, run: &Run, n: usize) {
        for edit in &self.edits {
            match edit {
                Edit::Set(pointer, value) => *slot(spec, &run.text(pointer, n)) = run.value(value, n),
                Edit::Add(pointer, value) => {
                    let slot = slot(spec, pointer);
                    if slot.is_null() {
                        *slot = json!([]);
                    }
                    slot.as_array_mut().expect("an array").push(run.value(value, n));
                }
                Edit::Unset(pointer) => {
                    let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
                    match slot(spec, parent) {
                        Value::Object(map) => drop(map.remove(key)),
                        Value::Array(list) => drop(list.remove(key.parse().expect("an index"))),
                        _ => {}
                    }
                }
            }
        }
    }
}

fn slot<'a>(mut at: &'a mut Value, pointer: &str) -> &'a mut Value {
    for key in pointer.split('/').skip(1) {
        at = match at {
            Value::Array(list) => &mut list[key.parse::<usize>().expect("an index")],
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                other.as_object_mut().expect("an object").entry(key).or_insert(Value::Null)
            }
        };
    }
    at
}

/// Runs all of `cases` with all runtimes and tells of all that went otherwise.
pub(crate) fn check(cases: &[Case]) {
    assert!(rustix::process::geteuid().is_root(), "the spec matrix needs root");
    share_mounts();
    // For those who work on the cases: only some of the runtimes.
    let chosen = std::env::var("WHARF_MATRIX_RUNTIMES").unwrap_or_else(|_| "runc crun wharf-oci".to_owned());
    let mut wrong = Vec::new();
    for runtime in [Runc, Crun, Wharf].into_iter().filter(|runtime| chosen.contains(runtime.name())) {
        let able = cases.iter().filter(|case| !case.expected_of(runtime).is_empty());
        let shares = |case: &&Case| case.shared && !case.expected_of(runtime).contains(&&Outcome::Refused);
        let (together, alone): (Vec<&Case>, Vec<&Case>) = able.partition(shares);
        for group in [together].into_iter().chain(alone.into_iter().map(|case| vec![case])) {
            wrong.extend(check_group(&group, runtime));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// As systemd leaves them: mounts that hear of one another. This thread gets a mount namespace of its own for it.
fn share_mounts() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    sys::spawn::unshare(libc::CLONE_NEWNS).expect("unshare");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("make private");
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    mount_change("/", shared).expect("make shared");
}

/// Runs `group` in one container.
fn check_group(group: &[&Case], runtime: Runtime) -> Vec<String> {
    if group.is_empty() {
        return Vec::new();
    }
    let run = Run::new();
    let mut spec = testkit::default_spec(&["true"]);
    spec["linux"]["cgroupsPath"] = json!(run.cgroup());
    for (n, case) in group.iter().enumerate() {
        case.edit(&mut spec, &run, n);
    }
    let script: String = group
        .iter()
        .enumerate()
        .filter(|(_, case)| !case.probe.is_empty())
        .map(|(n, case)| match group.len() {
            1 => run.text(&case.probe, n),
            _ => format!("printf '\\001'; ( {} ); printf '\\002%d' $?\n", run.text(&case.probe, n)),
        })
        .collect();
    if !script.is_empty() {
        spec["process"]["args"] = json!(["sh", "-c", script]);
    }
    std::fs::write(run.bundle.join("config.json"), serde_json::to_vec(&spec).expect("JSON")).expect("write");
    for (n, case) in group.iter().enumerate() {
        run.shell(case.name, &case.before, n);
    }
    let (status, output, errors) = run.run(runtime);
    let mut wrong = Vec::new();
    let (state, ..) = call(runtime, &run.root, &["state", &run.id]);
    if state == 0 {
        wrong.push(format!("{} [{}]: the container is still there", group[0].name, runtime.name()));
        call(runtime, &run.root, &["delete", "--force", &run.id]);
    }
    for (n, case) in group.iter().enumerate() {
        let outcome = if group.len() > 1 { part(&output, n) } else { Outcome::Ran(status, output.clone()) };
        wrong.extend(verdict(case, n, &run, runtime, outcome, errors.trim_end()));
    }
    testkit::kill_cgroups(&run.id);
    wrong
}

/// What the `n`th probe of a group printed, and its status.
fn part(output: &str, n: usize) -> Outcome {
    let part = output.split('\u{1}').nth(n + 1).and_then(|part| part.split_once('\u{2}'));
    let read = part.and_then(|(text, status)| Some(Outcome::Ran(status.parse().ok()?, text.to_owned())));
    read.unwrap_or(Outcome::Ran(-1, "no probe of the group ran".to_owned()))
}

fn verdict(
    case: &Case,
    n: usize,
    run: &Run,
    runtime: Runtime,
    outcome: Outcome,
    errors: &str,
) -> Option<String> {
    let expected = case.expected_of(runtime);
    let Outcome::Ran(status, output) = outcome else { return None };
    let outcome = if expected.contains(&&Outcome::Refused) && output.is_empty() && status != 0 {
        Outcome::Refused
    } else {
        let text = output + &run.shell(case.name, &case.after, n);
        let text = text.replace(&run.id, "@id").replace(&run.bundle.display().to_string(), "@bundle");
        Outcome::Ran(status, text)
    };
    let mut wrong = Vec::new();
    if !expected.contains(&&outcome) {
        wrong.push(format!("expected {expected:?}\n     got {outcome:?}"));
    }
    // What `start` says, the container's own standard error has too: one line, perhaps twice.
    let first = errors.lines().next().unwrap_or_default();
    let one_line = !first.is_empty() && errors.lines().all(|line| line == first);
    if runtime == Wharf
        && outcome == Outcome::Refused
        && !(one_line && first.contains(&run.text(case.says, n)))
    {
        wrong.push(format!("the error is not one line with {:?}", case.says));
    }
    let problems = wrong.join("\n     ");
    (!wrong.is_empty()).then(|| format!("{} [{}]: {problems}\n     {errors}", case.name, runtime.name()))
}

/// A bundle, an id and a state root for one container.
pub(crate) struct Run {
    pub bundle: Scratch,
    pub root: Scratch,
    pub id: String,
}

impl Run {
    /// With a small root file system: what testkit's has, but not all of busybox's links.
    pub(crate) fn new() -> Self {
        let bundle = Scratch::new("matrix");
        let root = bundle.dir("rootfs");
        let image = testkit::rootfs_image();
        for directory in ["bin", "dev", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "var"] {
            bundle.dir(&format!("rootfs/{directory}"));
        }
        let busybox = root.join("bin/busybox");
        if std::fs::hard_link(image.join("bin/busybox"), &busybox).is_err() {
            std::fs::copy(image.join("bin/busybox"), &busybox).expect("copy busybox");
        }
        for applet in APPLETS.split_ascii_whitespace() {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
        }
        for file in ["passwd", "group", "hosts"] {
            std::fs::copy(image.join("etc").join(file), root.join("etc").join(file)).expect("copy");
        }
        let sticky = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(root.join("tmp"), sticky).expect("chmod");
        Self { bundle, root: Scratch::new("matrix-root"), id: testkit::unique_id("matrix") }
    }

    pub(crate) fn cgroup(&self) -> String {
        format!("/wharfinger-test/{}", self.id)
    }

    /// `@bundle` and `@id` in texts are the run's own, `@n` is the case's.
    fn text(&self, text: &str, n: usize) -> String {
        text.replace("@bundle", &self.bundle.display().to_string())
            .replace("@id", &self.id)
            .replace("@n", &n.to_string())
    }

    fn value(&self, value: &Value, n: usize) -> Value {
        match value {
            Value::String(text) => json!(self.text(text, n)),
            Value::Array(list) => list.iter().map(|value| self.value(value, n)).collect(),
            Value::Object(map) => {
                map.iter().map(|(key, value)| (self.text(key, n), self.value(value, n))).collect()
            }
            other => other.clone(),
        }
    }

    /// A script on the host, in the bundle's directory: what it prints.
    fn shell(&self, name: &str, script: &str, n: usize) -> String {
        if script.is_empty() {
            return String::new();
        }
        let output = Command::new("sh")
            .args(["-euc", &self.text(script, n)])
            .current_dir(&self.bundle)
            .output()
            .expect("run sh");
        assert!(output.status.success(), "{name}: {script}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `run`, with its output in files: a pipe would be held open by whatever the container leaves behind.
    fn run(&self, runtime: Runtime) -> (i32, String, String) {
        let file = |name: &str| File::create(self.bundle.join(name)).expect("create");
        let child = Command::new(runtime.program())
            .arg("--root")
            .arg(&*self.root)
            .args(["run", "--bundle"])
            .arg(&*self.bundle)
            .arg(&self.id)
            .current_dir(&self.bundle)
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .expect("run the runtime");
        let what = format!("{} run {}", runtime.name(), self.id);
        let mut child = Reaped(child);
        let status = wait_for(&what, || child.0.try_wait().expect("wait"));
        let read = |name: &str| {
            let bytes = std::fs::read(self.bundle.join(name)).expect("read");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        (status.code().unwrap_or(-1), read("stdout"), read("stderr"))
    }
}

/// A runtime that does not outlive a test that gave up on it.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|status| status.is_none()) {
            // Ignored: it ended just now.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// What probes use.
const APPLETS: &str = "awk cat chmod chown cmp cut dd df echo env false grep head hostname id ionice kill ln ls mkdir \
    mknod mount mv printf ps pwd readlink rm rmdir sed sh sleep sort stat tail test touch tr true umount uname uniq \
    unshare wc whoami xargs";

/// Another command of the runtime: its status and output.
pub(crate) fn call(runtime: Runtime, root: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(runtime.program())
        .arg("--root")
        .arg(root)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("run the runtime");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}
