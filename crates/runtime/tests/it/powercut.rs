//! The power is cut in the middle of a durable write: whatever the disk has then, recovery makes the old of it or the new,
//! or says which container's record is broken; the others do not notice. And the writes are synced in the order that
//! makes the bad cases impossible.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use model::{Exit, Signal, State};
use runtime::{Container, CreateRequest, Happened, Kind, Runtimes};
use testkit::Bundle;

use crate::kit::{self, Kit, id, run};

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);
const PROGRAM: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 3600 & wait $!; done";
/// A temporary file as a process leaves it that is no more.
const TEMP: &str = ".tmp-4194303-0";
const OTHER_BOOT: &str = "00000000-0000-0000-0000-000000000000";

/// What a file has after the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Missing,
    /// The first of so many parts of sixteen.
    Torn(usize),
    Whole,
}

impl Left {
    fn all() -> impl Iterator<Item = Self> {
        [Self::Missing, Self::Whole].into_iter().chain((0..16).map(Self::Torn))
    }

    fn put(self, path: &Path, bytes: &[u8]) {
        match self {
            Self::Missing => drop(fs::remove_file(path)),
            Self::Torn(parts) => fs::write(path, &bytes[..bytes.len() * parts / 16]).expect("write"),
            Self::Whole => fs::write(path, bytes).expect("write"),
        }
    }
}

struct Scene {
    kit: Kit,
    bystander: Container,
    /// The directory of the one that is cut.
    dir: PathBuf,
    id: String,
    /// Its record before the write and after it, both of an older boot.
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Scene {
    /// A container that ran and was stopped, beside one that runs.
    async fn set(kit: Kit, bundle: &Bundle, sleeper: &Bundle) -> Self {
        let bystander = kit.create(sleeper).await;
        bystander.start().await.expect("start");
        let (container, log) = kit.create_logged(bundle).await;
        container.start().await.expect("start");
        testkit::wait_until("the trap", || fs::read_to_string(&log).is_ok_and(|log| log.contains("ready")));
        let dir = kit.root().join(bundle.id());
        let record = || older(&fs::read(dir.join("state.json")).expect("read"));
        let old = record();
        let ended = container.stop(Signal::TERM, HOUR).await.expect("stop");
        assert_eq!(ended.exit, Exit::Code(7));
        let new = record();
        drop(container);
        fs::remove_file(log).expect("remove");
        Self { kit, bystander, id: bundle.id().to_owned(), dir, old, new }
    }

    /// A process that knows nothing comes after the boot.
    async fn recovered(&self) -> (Runtimes, Vec<String>) {
        let runtimes = Runtimes::from_config(&kit::config(self.kit.root(), Vec::new())).expect("runtimes");
        let recovered = runtimes.recover().await.expect("recover");
        let found = runtimes.get(self.bystander.id()).await.expect("the other one");
        assert_eq!(found.status().state, State::Running);
        (runtimes, recovered.failed.into_iter().map(|(id, _)| id).collect())
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state.json")
    }
}

/// The record as one of an older boot.
fn older(bytes: &[u8]) -> Vec<u8> {
    let mut record: serde_json::Value = serde_json::from_slice(bytes).expect("a record");
    record["boot_id"] = OTHER_BOOT.into();
    record.to_string().into_bytes()
}

fn scene(what: &str, play: impl AsyncFnOnce(&Scene)) {
    let kit = Kit::new(what);
    let (bundle, sleeper) = (Bundle::shell(what, PROGRAM), Bundle::sleeper(what));
    let kit = run(async {
        let scene = Scene::set(kit, &bundle, &sleeper).await;
        play(&scene).await;
        scene.bystander.delete(true).await.expect("delete");
        scene.kit
    });
    drop((bundle, sleeper));
    kit.finish();
}

#[test]
fn each_step_of_a_write_gives_the_old_record_or_the_new() {
    scene("cut-steps", async |scene| {
        let exits = [scene.dir.join("exit.json"), scene.dir.join("exits").join(&scene.id)];
        let whole = exits.each_ref().map(|path| fs::read(path).unwrap_or_default());
        let mut done = 0;
        // Before the rename the old record is there, and the temporary file in whatever state; the exit that the monitor
        // wrote is there, or it was cut as well.
        for temp in Left::all() {
            for exit in [Left::Whole, Left::Missing, Left::Torn(0), Left::Torn(8)] {
                Left::Whole.put(&scene.state(), &scene.old);
                temp.put(&scene.dir.join(TEMP), &scene.new);
                for (path, bytes) in exits.iter().zip(&whole).filter(|(_, bytes)| !bytes.is_empty()) {
                    exit.put(path, bytes);
                }
                let (runtimes, failed) = scene.recovered().await;
                assert_eq!(failed, Vec::<String>::new(), "{temp:?} {exit:?}");
                assert!(!scene.dir.join(TEMP).exists(), "{temp:?} {exit:?}: the temporary file stays");
                let status = runtimes.get(&id(&scene.id)).await.expect("it was acknowledged").status();
                assert_eq!(status.state, State::Exited, "{temp:?} {exit:?}");
                let told = status.ended.as_ref().expect("an end").exit;
                let right = if exit == Left::Whole { Exit::Code(7) } else { Exit::Lost };
                assert_eq!(told, right, "{temp:?} {exit:?}");
                done += 1;
            }
        }
        assert_eq!(done, 72);
        // After the rename it is the new one, whatever else there is.
        Left::Whole.put(&scene.state(), &scene.new);
        let (runtimes, failed) = scene.recovered().await;
        assert_eq!(failed, Vec::<String>::new());
        let container = runtimes.get(&id(&scene.id)).await.expect("it was acknowledged");
        assert_eq!(container.status().ended.as_ref().expect("an end").exit, Exit::Code(7));
        container.delete(false).await.expect("delete");
    });
}

#[test]
fn a_record_that_is_torn_all_the_same_is_named_and_stands_in_nobodys_way() {
    scene("cut-torn", async |scene| {
        // No fsync, or a disk that lies.
        for parts in 0..16 {
            Left::Torn(parts).put(&scene.state(), &scene.new);
            let (runtimes, failed) = scene.recovered().await;
            assert_eq!(failed, [scene.id.as_str()], "{parts}");
            let error = runtimes.get(&id(&scene.id)).await.expect_err("torn");
            assert!(error.to_string().contains("state.json"), "{parts}: {error}");
            let listed = runtimes.list().await.expect("list");
            assert_eq!(listed.len(), 1, "{parts}: only the other one");
            let again = runtimes.create(CreateRequest::new(id(&scene.id), "/nowhere")).await;
            assert!(again.is_err(), "{parts}: its directory is still there");
        }
        Left::Missing.put(&scene.state(), &[]);
        let (runtimes, failed) = scene.recovered().await;
        assert_eq!(failed, Vec::<String>::new());
        assert_eq!(runtimes.get(&id(&scene.id)).await.expect_err("none").kind(), Kind::NotFound);
        Left::Whole.put(&scene.state(), &scene.new);
        let (runtimes, failed) = scene.recovered().await;
        assert_eq!(failed, Vec::<String>::new());
        runtimes.get(&id(&scene.id)).await.expect("mended").delete(false).await.expect("delete");
    });
}

#[test]
fn what_a_cut_create_and_a_cut_event_leave_is_put_in_order() {
    scene("cut-litter", async |scene| {
        let root = scene.kit.root();
        for (name, left) in
            [("0", Left::Missing), ("1", Left::Torn(0)), ("2", Left::Torn(8)), ("3", Left::Whole)]
        {
            let dir = root.join(format!(".new-4194303-1-{name}"));
            fs::create_dir(&dir).expect("mkdir");
            left.put(&dir.join("state.json"), &scene.new);
        }
        std::os::unix::fs::symlink("nobody", root.join(".names/loose")).expect("link");
        // The last event, of the stop, was written in part.
        let events = root.join(".events");
        let bytes = fs::read(&events).expect("read");
        fs::write(&events, &bytes[..bytes.len() - 9]).expect("write");
        Left::Whole.put(&scene.state(), &scene.new);
        let (runtimes, failed) = scene.recovered().await;
        assert_eq!(failed, Vec::<String>::new());
        runtimes.get(&id(&scene.id)).await.expect("it was acknowledged").delete(false).await.expect("delete");
        assert_eq!(scene.kit.litter(), [scene.bystander.id().as_str()]);
        let mut stream = runtimes.events(0).await.expect("events");
        let (mut last, mut errors) = (None, 0);
        loop {
            match stream.try_next().await {
                Ok(Some(event)) if event.id.as_str() == scene.id => last = Some(event.happened),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => errors += 1,
            }
            assert!(errors < 10, "errors without an end");
        }
        assert_eq!(last, Some(Happened::Deleted));
    });
}

/// The calls of each thread of a process that stops a container, as strace saw them.
fn traced(kit: &Kit, bundle: &Bundle) -> String {
    let out = kit.scratch.path().join("strace");
    let mut command = Command::new(testkit::require("strace"));
    command.args(["-f", "-y", "-qq", "-e", "trace=write,fsync,fdatasync,rename,renameat,renameat2", "-o"]);
    command.arg(&out).arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "recovery::victim", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env("VICTIM_OP", "Stop").env("VICTIM_ID", bundle.id()).env("VICTIM_ROOT", kit.root());
    command.env("VICTIM_BUNDLE", bundle.path()).stdin(Stdio::null()).stdout(Stdio::null());
    assert!(command.status().expect("run strace").success());
    let text = fs::read_to_string(&out).expect("read");
    fs::remove_file(out).expect("remove");
    text
}

#[test]
fn a_record_is_synced_before_it_is_renamed_and_its_directory_after() {
    let kit = Kit::new("cut-order");
    let bundle = Bundle::shell("cut-order", PROGRAM);
    run(async {
        let container = kit.create(&bundle).await;
        container.start().await.expect("start");
    });
    let dir = fs::File::open(kit.root()).expect("open");
    let disk = sys::durable::Durability::of(&dir).expect("statfs") == sys::durable::Durability::Disk;
    drop(dir);
    let text = traced(&kit, &bundle);
    let mut renames = 0;
    let lines: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(thread, line)| (thread, line.trim_start()))
        .collect();
    for (at, (thread, line)) in lines.iter().enumerate() {
        let Some(temp) =
            line.split('"').nth(1).filter(|name| line.starts_with("rename") && name.contains(".tmp-"))
        else {
            continue;
        };
        renames += 1;
        let of_thread = |lines: &[(&str, &str)]| -> Vec<String> {
            let own = lines.iter().filter(|(other, line)| other == thread && !line.contains("resumed>"));
            own.map(|(_, line)| line.trim_start().to_owned()).collect()
        };
        let (before, after) = (of_thread(&lines[..at]), of_thread(&lines[at + 1..]));
        let touched = before.iter().rev().find(|line| line.contains(&format!("{temp}>")));
        let synced = touched.is_some_and(|line| line.starts_with("fsync(") || line.starts_with("fdatasync("));
        let directory = format!("{}>", kit.root().join(bundle.id()).display());
        let then = after.first().is_some_and(|line| line.starts_with("fsync(") && line.contains(&directory));
        assert!(!disk || synced, "{temp} is renamed after {touched:?}");
        assert!(!disk || then, "after the rename of {temp}: {:?}", after.first());
    }
    assert!(renames >= 2, "only {renames} renames in {text}");
    if !disk {
        testkit::not_tested(&format!("the order of syncs: {} is in memory", kit.root().display()));
    }
    run(async {
        let container = kit.runtimes.get(&id(bundle.id())).await.expect("get");
        container.delete(true).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}
