//! Bad input, and what it gets: an error that names operation, object and cause; nothing left behind;
//! other containers untouched.

use std::time::Duration;

use model::{Exit, Name, State};
use runtime::{
    Container, CreateRequest, ExecRequest, HandlerConfig, HandlerKind, Kind, MonitorConfig, Runtimes,
};
use serde_json::{Value, json};
use testkit::{Bundle, Scratch, script, unique_id};

use crate::kit::{self, Kit, id, run};

/// A kit with another container that runs meanwhile.
struct Scene {
    kit: Kit,
    bystander: Container,
}

/// Plays `play` beside a container that must come through it untouched.
fn scene(what: &str, handlers: Vec<HandlerConfig>, play: impl AsyncFnOnce(&Scene, &Bundle)) {
    let kit = Kit::with(what, |config| {
        config.handlers.extend(handlers);
        config.probe_timeout = Duration::from_secs(2);
    });
    let bundle = Bundle::sleeper(what);
    let kit = run(async {
        let bystander = kit.create(&bundle).await;
        bystander.start().await.expect("start");
        let scene = Scene { kit, bystander };
        play(&scene, &bundle).await;
        scene.still_fine().await;
        scene.kit
    });
    drop(bundle);
    kit.finish();
}

/// A shell script in `dir`.
fn program(dir: &Scratch, name: &str, text: &str) -> std::path::PathBuf {
    script(dir.path(), name, &format!("#!/bin/sh\n{text}\n"))
}

impl Scene {
    /// The create fails with this kind and these words, and leaves nothing.
    async fn refused(&self, what: &str, request: CreateRequest, kind: Kind, words: &[&str]) {
        let error = self.kit.runtimes.create(request.clone()).await.expect_err(what);
        let text = error.to_string();
        assert_eq!(error.kind(), kind, "{what}: {text}");
        for word in words {
            assert!(text.contains(word), "{what}: {text:?} has no {word:?}");
        }
        assert!(text.len() < 4096, "{what}: {} bytes", text.len());
        let bystander = self.bystander.id().to_string();
        assert_eq!(self.kit.litter(), [bystander], "{what}");
        let gone = self.kit.runtimes.get(&request.id).await.expect_err(what);
        assert_eq!(gone.kind(), Kind::NotFound, "{what}: {gone}");
    }

    async fn still_fine(&self) {
        let container = &self.bystander;
        assert_eq!(container.status().state, State::Running);
        let output = container.exec_sync(ExecRequest::new(["echo", "fine"])).await.expect("exec");
        assert_eq!((output.stdout.as_slice(), output.exit), (&b"fine\n"[..], Exit::Code(0)));
        container.delete(true).await.expect("delete");
    }
}

fn request(bundle: &Bundle) -> CreateRequest {
    CreateRequest::new(id(&unique_id("bad")), bundle.path())
}

#[test]
fn bundles_that_are_none() {
    type Break = fn(&mut Value);
    let cases: [(&str, Break, &[&str]); 9] = [
        (
            "version",
            |c| c["ociVersion"] = json!("2.0.0"),
            &["config.json", "ociVersion \"2.0.0\" is not 1.x"],
        ),
        ("no process", |c| c["process"] = json!(null), &["config.json", "process is missing"]),
        ("no args", |c| c["process"]["args"] = json!([]), &["process.args is empty"]),
        ("no root", |c| c["root"] = json!(null), &["root.path is missing"]),
        (
            "root not there",
            |c| c["root"]["path"] = json!("nowhere"),
            &["root.path", "nowhere is no directory"],
        ),
        (
            "mounts",
            |c| c["mounts"] = json!(vec![json!({"destination": "/x"}); 100_000]),
            &["mounts has 100000"],
        ),
        ("env", |c| c["process"]["env"] = json!(vec!["A".repeat(100_000); 105]), &["process.env", "bytes"]),
        ("terminal", |c| c["process"]["terminal"] = json!(true), &["process.terminal is true"]),
        (
            "cgroup",
            |c| c["linux"]["cgroupsPath"] = json!("/a/../../b"),
            &["linux.cgroupsPath \"/a/../../b\""],
        ),
    ];
    scene("bad-bundle", Vec::new(), async |scene, _| {
        for (what, breaks, words) in cases {
            let bundle = Bundle::sleeper("bad").edit(breaks);
            scene.refused(what, request(&bundle), Kind::Invalid, words).await;
        }
        let bundle = &Bundle::sleeper("bad");
        let config = bundle.path().join("config.json");
        std::fs::write(&config, "{ not json").expect("write");
        scene.refused("not JSON", request(bundle), Kind::Invalid, &["config.json", "not JSON"]).await;
        std::fs::write(&config, "[1, 2]").expect("write");
        scene.refused("a list", request(bundle), Kind::Invalid, &["config.json", "not an object"]).await;
        std::fs::remove_file(&config).expect("remove");
        scene.refused("no config.json", request(bundle), Kind::NotFound, &["config.json", "not found"]).await;
        std::fs::create_dir(&config).expect("mkdir");
        scene.refused("a directory", request(bundle), Kind::Invalid, &["config.json", "regular file"]).await;
        let nowhere = CreateRequest::new(id(&unique_id("bad")), "/no/such/bundle");
        scene.refused("no bundle", nowhere, Kind::NotFound, &["/no/such/bundle", "not found"]).await;
    });
}

#[test]
fn logs_that_can_not_be_written() {
    scene("bad-log", Vec::new(), async |scene, bundle| {
        let logged = |path: &str| {
            let mut request = request(bundle);
            request.log = Some(path.into());
            request
        };
        let dir = scene.kit.scratch.path().display().to_string();
        scene.refused("a directory", logged(&dir), Kind::Invalid, &["is a directory"]).await;
        scene.refused("in nothing", logged("/no/such/log"), Kind::Invalid, &["/no/such/log"]).await;
        scene.refused("relative", logged("some/log"), Kind::Invalid, &["no absolute path"]).await;
        // A read-only file system, whoever asks.
        let error = scene.kit.runtimes.create(logged("/proc/log")).await.expect_err("read-only");
        assert!(error.to_string().contains("spawn monitor"), "{error}");
    });
}

#[test]
fn ids_and_names_that_are_taken() {
    scene("bad-taken", Vec::new(), async |scene, bundle| {
        let mut first = request(bundle);
        first.name = Some(Name::new(unique_id("name")).expect("a name"));
        // Two creates of one id at once: one of them is the container.
        let (one, two) =
            tokio::join!(scene.kit.runtimes.create(first.clone()), scene.kit.runtimes.create(first.clone()));
        let (made, refused) = if one.is_ok() { (one, two) } else { (two, one) };
        let made = made.expect("one of the two");
        let refused = refused.expect_err("not both");
        assert_eq!(
            (refused.kind(), refused.to_string()),
            (Kind::Exists, format!("create {}: the id is taken", first.id))
        );
        let mut other = request(bundle);
        other.name = first.name.clone();
        let error = scene.kit.runtimes.create(other).await.expect_err("the name");
        assert_eq!(error.kind(), Kind::Exists, "{error}");
        assert!(error.to_string().contains("the name is taken"), "{error}");
        let name = first.name.expect("a name");
        let found = scene.kit.runtimes.find(name.as_str()).await.expect("by name");
        assert_eq!(found.id(), made.id());
        made.delete(true).await.expect("delete");
        let error = scene.kit.runtimes.find(name.as_str()).await.expect_err("gone");
        assert_eq!(error.kind(), Kind::NotFound, "{error}");
        for bad in ["", "../x", "a\nb", "a\0b", &"x".repeat(1 << 20)] {
            let error = scene.kit.runtimes.find(bad).await.expect_err("no name");
            assert_eq!(error.kind(), Kind::Invalid, "{error}");
            assert!(error.to_string().len() < 300);
        }
    });
}

#[test]
fn handlers_that_can_not_be_used() {
    let scratch = Scratch::new("handlers");
    let monitor = kit::handler().monitor;
    let plain = scratch.path().join("plain");
    std::fs::write(&plain, "no program").expect("write");
    let broken = |name: &str, path: &std::path::Path| HandlerConfig::new(name, path, monitor.clone());
    let mut vm = broken("vm", &kit::handler().path);
    vm.kind = HandlerKind::Vm;
    let mut hasty = broken("hasty", &kit::handler().path);
    hasty.create_timeout = Duration::ZERO;
    let mut unwatched = kit::handler();
    unwatched.name = "unwatched".to_owned();
    unwatched.monitor = MonitorConfig::new("/no/such/monitor");
    let cases = [
        (broken("missing", "/no/such/runtime".as_ref()), "/no/such/runtime: no such file"),
        (broken("plain", &plain), "not executable"),
        (broken("directory", scratch.path()), "not a file"),
        (broken("nowhere", "no-such-runtime-in-path".as_ref()), "not in PATH"),
        (vm, "vm is not supported"),
        (hasty, "create timeout"),
        (unwatched, "/no/such/monitor"),
        (broken("", &plain), "is no name"),
    ];
    let handlers: Vec<HandlerConfig> = cases.iter().map(|(handler, _)| handler.clone()).collect();
    for (handler, reason) in &cases {
        let mut config = kit::config(scratch.path().join("state"), vec![handler.clone()]);
        config.default_handler = handler.name.clone();
        let error = Runtimes::from_config(&config).expect_err("a broken default");
        assert_eq!(error.kind(), Kind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
    }
    scene("bad-handler", handlers, async |scene, bundle| {
        let reports = scene.kit.runtimes.handlers();
        for (handler, reason) in &cases {
            let report = reports.iter().find(|report| report.name == handler.name).expect("a report");
            let why = report.handler.as_ref().expect_err("broken");
            assert!(why.contains(reason), "{why}");
            let mut request = request(bundle);
            request.handler = Some(handler.name.clone());
            if !handler.name.is_empty() {
                scene.refused(&handler.name, request, Kind::Unsupported, &[&handler.name, reason]).await;
            }
        }
        let mut unknown = request(bundle);
        unknown.handler = Some("unheard-of".to_owned());
        scene.refused("unknown", unknown, Kind::NotFound, &["unheard-of", "not found"]).await;
    });
    drop(scratch);
}

#[test]
fn handlers_with_odd_answers() {
    let scratch = Scratch::new("answers");
    let cases = [
        ("hangs", "sleep 1000", Kind::Timeout, "not done after"),
        ("nothing", "exit 0", Kind::Invalid, "answers \"\""),
        ("garbage", "head -c 5000 /dev/urandom", Kind::Invalid, "answers"),
        ("endless", "exec cat /dev/zero", Kind::Invalid, "more than 1048576 bytes"),
        ("fails", "echo 'no 100% sure' >&2; exit 3", Kind::Internal, "no 100% sure"),
        ("no-newline", "printf 'what version'", Kind::Invalid, "answers \"what version\""),
        ("killed", "kill -9 $$", Kind::Internal, "signal"),
    ];
    let handlers = cases.iter().map(|(name, text, ..)| {
        let path = program(&scratch, name, text);
        HandlerConfig::new(*name, path, kit::handler().monitor)
    });
    let handlers = handlers.collect();
    scene("bad-answers", handlers, async |scene, _| {
        let kit = &scene.kit;
        let version = kit.runtimes.default_handler().expect("default").version().await.expect("version");
        assert!(version.version.starts_with(|c: char| c.is_ascii_digit()), "{version:?}");
        for (name, _, kind, words) in cases {
            let handler = kit.runtimes.handler(name).expect("usable as far as is known");
            let error = handler.version().await.expect_err(name);
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(words), "{name}: {text}");
            assert_eq!(error.kind(), kind, "{name}: {text}");
            let error = handler.features().await.expect_err(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    });
}

#[test]
fn runtimes_that_fail_to_create() {
    let scratch = Scratch::new("runtimes");
    let cases = [
        ("fails", "echo 'can not: 100% broken' >&2; exit 1", Kind::Internal, "can not: 100% broken"),
        ("silent", "exit 1", Kind::Internal, ""),
        ("no-pid", "exit 0", Kind::Internal, ""),
        ("hangs", "exec sleep 1000", Kind::Timeout, "not done after"),
    ];
    let handlers: Vec<HandlerConfig> = cases
        .iter()
        .map(|(name, text, ..)| {
            let path =
                program(&scratch, name, &format!("case \"$*\" in *' delete '*) exit 0;; esac; {text}"));
            HandlerConfig::new(*name, path, kit::handler().monitor)
        })
        .collect();
    scene("bad-runtime", handlers, async |scene, bundle| {
        for (name, _, kind, words) in cases {
            let mut request = request(bundle);
            request.handler = Some(name.to_owned());
            request.deadline = (kind == Kind::Timeout).then_some(Duration::from_secs(2));
            request.log = Some(scene.kit.scratch.path().join(format!("{name}.log")));
            let id = request.id.to_string();
            let log = request.log.clone().expect("a log");
            scene.refused(name, request, kind, &["create", &id, words]).await;
            assert!(!log.exists(), "{name}: the log is left");
        }
    });
}

#[test]
fn monitors_with_odd_answers() {
    let scratch = Scratch::new("monitors");
    let pid = "while [ \"$1\" != -P ]; do shift; done; echo $$ > \"$2\"; ";
    let cases = [
        ("hangs", "exec sleep 1000".to_owned(), Kind::Timeout, "not done after"),
        ("dies", "echo 'no log, 100% sure' >&2; exit 3".to_owned(), Kind::Internal, "no log, 100% sure"),
        ("is-killed", "kill -9 $$".to_owned(), Kind::Internal, "signal 9"),
        ("null", "echo null >&3".to_owned(), Kind::Internal, "no object"),
        (
            "negative",
            "echo '{\"pid\": -1, \"message\": \"said 100% no\"}' >&3".to_owned(),
            Kind::Internal,
            "said 100% no",
        ),
        ("half", "printf '{\"pid\": 4' >&3".to_owned(), Kind::Internal, "not JSON"),
        ("words", "echo hello >&3".to_owned(), Kind::Internal, "hello"),
        ("endless", "exec cat /dev/zero >&3".to_owned(), Kind::Internal, "more than 65536 bytes"),
        ("init", "echo '{\"pid\": 1}' >&3".to_owned(), Kind::Internal, "pid 1"),
        ("not-there", format!("{pid} echo '{{\"pid\": 4194303}}' >&3"), Kind::Internal, "4194303"),
        (
            "not-its-own",
            format!(
                "{pid} sleep 100 3>&- & echo $! > \"$2\"; echo '{{\"pid\": {}}}' >&3",
                std::process::id()
            ),
            Kind::Internal,
            "no living child",
        ),
        (
            "stays",
            format!("{pid} echo '{{\"pid\": 4194303}}' >&3; exec sleep 1000"),
            Kind::Timeout,
            "wait for monitor",
        ),
    ];
    let handlers: Vec<HandlerConfig> = cases
        .iter()
        .map(|(name, text, ..)| {
            let path = program(&scratch, name, text);
            HandlerConfig::new(*name, kit::handler().path, MonitorConfig::new(path))
        })
        .collect();
    scene("bad-monitor", handlers, async |scene, bundle| {
        for (name, _, kind, words) in cases {
            let mut request = request(bundle);
            request.handler = Some(name.to_owned());
            request.deadline = (kind == Kind::Timeout).then_some(Duration::from_secs(2));
            let id = request.id.to_string();
            scene.refused(name, request, kind, &["create", &id, words]).await;
        }
    });
}

#[test]
fn a_full_disk_and_a_root_that_is_read_only() {
    let kit = Kit::new("bad-disk");
    let full = Scratch::tmpfs("full", 64 << 10);
    let bundle = Bundle::sleeper("bad");
    run(async {
        let config = kit::config(full.path().join("state"), Vec::new());
        let runtimes = Runtimes::from_config(&config).expect("room for directories");
        std::fs::write(full.path().join("filler"), vec![0; 1 << 20]).expect_err("full");
        let error = runtimes.create(request(&bundle)).await.expect_err("no room");
        assert_eq!(error.kind(), Kind::Exhausted, "{error}");
        std::fs::remove_file(full.path().join("filler")).expect("remove");
        let left = std::fs::read_dir(full.path().join("state")).expect("list");
        let left: Vec<_> = left
            .map(|entry| entry.expect("entry").file_name())
            .filter(|n| !n.to_string_lossy().starts_with('.'))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        // With room again it goes on.
        let container = runtimes.create(request(&bundle)).await.expect("create");
        container.delete(true).await.expect("delete");
        let config = kit::config("/proc/state".into(), Vec::new());
        let error = Runtimes::from_config(&config).expect_err("no such file system");
        assert!(error.to_string().contains("/proc/state"), "{error}");
    });
    drop((bundle, full));
    kit.finish();
}
