//! Logs as the program writes them, beside a runtime that only starts a writer.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::scratch::Scratch;
use crate::stand::MONITOR;

/// A directory in which a monitor runs whose container is the shell script `body`. It begins when the runtime has
/// ended, as that, a shell, would take the ending of a child from the monitor.
pub(crate) fn stage(what: &str, body: &str) -> Scratch {
    let dir = Scratch::new(what);
    let runtime = dir.join("runtime");
    let text = format!(
        "#!/bin/sh\nfor a in \"$@\"; do [ \"$last\" = --pid-file ] && pidfile=$a; last=$a; done\n\
         (while kill -0 $$ 2>/dev/null; do sleep 0.01; done; {body}) &\necho $! > \"$pidfile\"\n"
    );
    fs::write(&runtime, text).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

pub(crate) fn monitor(program: &mut Command, dir: &Path, cid: &str) -> Child {
    let at = |name: &str| dir.join(name);
    program
        .args(["--sync", "-c", cid, "-u", cid, "--full-attach", "-b"])
        .arg(dir)
        .arg("-r")
        .arg(at("runtime"))
        .arg("-p")
        .arg(at("pid"))
        .arg("-l")
        .arg(at("log"))
        .arg("--exit-dir")
        .arg(dir)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the logs say together. A writer that is held up within a line for long leaves it in pieces.
fn lines(logs: &[PathBuf]) -> Vec<String> {
    let text: String = logs.iter().map(|log| fs::read_to_string(log).unwrap()).collect();
    let mut all = String::new();
    for line in text.lines() {
        let (head, content) = line.split_at(45);
        assert!(head.ends_with(" stdout F ") || head.ends_with(" stdout P "), "{line}");
        all += content;
        if head.ends_with("F ") {
            all.push('\n');
        }
    }
    all.lines().map(str::to_owned).collect()
}

/// A monitor that is ended with its test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn reopens_under_load_lose_and_double_nothing() {
    const COUNT: usize = 400_000;
    let dir = stage("reopen", &format!("seq {COUNT}"));
    let mut running = Running(monitor(&mut Command::new(MONITOR), dir.path(), "c1"));
    let mut files: Vec<PathBuf> = Vec::new();
    let (log, ctl) = (dir.join("log"), dir.join("ctl"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let status = loop {
        assert!(Instant::now() < deadline);
        if let Some(status) = running.0.try_wait().unwrap() {
            break status;
        }
        if ctl.exists() && log.exists() && files.len() < 200 {
            let renamed = dir.join(&format!("log.{}", files.len()));
            fs::rename(&log, &renamed).unwrap();
            files.push(renamed);
            // The monitor may end at any time: then nobody reads here any more.
            let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK;
            if let Ok(ctl) = rustix::fs::open(&ctl, flags, rustix::fs::Mode::empty()) {
                let _ = fs::File::from(ctl).write_all(b"2 0 0\n");
            }
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert!(status.success());
    files.extend(log.exists().then_some(log));
    let all = lines(&files);
    assert_eq!(all.len(), COUNT);
    assert!(all.iter().enumerate().all(|(at, line)| *line == (at + 1).to_string()));
}

#[test]
fn rotation_under_load_loses_and_doubles_nothing() {
    const COUNT: usize = 200_000;
    let dir = stage("rotate", &format!("seq {COUNT}"));
    let mut command = Command::new(MONITOR);
    command.args(["--log-rotate", "--log-max-files", "1000", "--log-size-max", "100000"]);
    let mut running = Running(monitor(&mut command, dir.path(), "c1"));
    assert!(running.0.wait().unwrap().success());
    let backups = (1..).map(|number| dir.join(&format!("log.{number}"))).take_while(|path| path.exists());
    let mut files: Vec<PathBuf> = backups.collect();
    assert!(files.len() > 50, "{} backups", files.len());
    files.reverse();
    files.push(dir.join("log"));
    assert!(files.iter().all(|file| fs::metadata(file).unwrap().len() <= 100_000));
    let all = lines(&files);
    assert_eq!(all.len(), COUNT);
    assert!(all.iter().enumerate().all(|(at, line)| *line == (at + 1).to_string()));
}

#[test]
fn the_limit_of_file_sizes_ends_nothing() {
    let dir = stage("fsize", "seq 5000; exit 7");
    let mut command = Command::new("prlimit");
    command.args(["--fsize=2000", MONITOR]);
    let mut running = Running(monitor(&mut command, dir.path(), "c1"));
    assert_eq!(running.0.wait().unwrap().code(), Some(7));
    assert_eq!(fs::metadata(dir.join("log")).unwrap().len(), 2000);
}
