//! How fast are logs copied, and at what cost? Run as root:
//!
//! ```text
//! cargo run --release --example logcopy -- MIB [MONITOR…]
//! ```
//! For lines of 2, 100 and 4096 bytes: MB of input per second and CPU seconds of the copier per GiB, for this crate's
//! [`Logs`] in a loop of its own and for each MONITOR (conmon, wharf-monitor) driven through conmon's command line with
//! a runtime that only starts a writer. The log is on a tmpfs of the program's own.
//! `LOGCOPY_LINE=100` for one length only; `LOGCOPY_PIPE` and `LOGCOPY_READ` set the sizes of the loop's pipe and buffer;
//! with `LOGCOPY_DISK` the log is where /tmp is.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers: what can't go on ends")]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use monitor::Stream;
use monitor::logs::{Logs, Options};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const RUNS: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "write") {
        return write_lines(args[1].parse().unwrap(), args[2].parse().unwrap(), Path::new(&args[3]));
    }
    let mib: usize = args.first().map_or(256, |arg| arg.parse().unwrap());
    let dir = PathBuf::from(format!("/tmp/wh-logcopy-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let disk = std::env::var_os("LOGCOPY_DISK").is_some();
    if !disk {
        mount("logcopy", &dir, "tmpfs", MountFlags::empty(), None).unwrap();
    }
    println!("{:>40} {:>6} {:>8} {:>8}", "copier", "line", "MB/s", "s/GiB");
    let only = std::env::var("LOGCOPY_LINE").ok().map(|line| line.parse::<usize>().unwrap());
    for line in [2, 100, 4096].into_iter().filter(|line| only.is_none_or(|only| only == *line)) {
        // Short lines grow: 47 bytes of log for 2 of output.
        let mib = if line == 2 { mib.div_ceil(16) } else { mib };
        print(&dir, "library", line, mib, || through_library(&dir, line, mib));
        for monitor in args.iter().skip(1) {
            print(&dir, monitor, line, mib, || through_monitor(monitor, &dir, line, mib));
        }
    }
    if !disk {
        unmount(&dir, UnmountFlags::DETACH).unwrap();
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn print(dir: &Path, name: &str, line: usize, mib: usize, run: impl Fn() -> (Duration, Duration)) {
    let once = |_| {
        let run = run();
        check(&dir.join("log"), line, mib);
        std::fs::remove_file(dir.join("log")).unwrap();
        run
    };
    let mut runs: Vec<(Duration, Duration)> = (0..RUNS).map(once).collect();
    runs.sort();
    let (wall, cpu) = runs[RUNS / 2];
    let bytes = f64::from(u32::try_from(mib << 20).unwrap());
    let rate = bytes / 1e6 / wall.as_secs_f64();
    let cost = cpu.as_secs_f64() * f64::from(1 << 30) / bytes;
    println!("{name:>40} {line:>6} {rate:>8.0} {cost:>8.2}");
}

/// Every line must be there, and (for us) none split.
fn check(log: &Path, line: usize, mib: usize) {
    let mut lines = 0;
    let mut pieces = 0;
    let mut buffer = vec![0; 1 << 20];
    let mut file = std::fs::File::open(log).unwrap();
    let mut column = 0;
    loop {
        let len = file.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        for byte in &buffer[..len] {
            if column == 43 && *byte == b'P' {
                pieces += 1;
            }
            column += 1;
            if *byte == b'\n' {
                lines += 1;
                column = 0;
            }
        }
    }
    let expected = (mib << 20) / line;
    if lines - pieces != expected || pieces > 0 {
        println!("{:>40} {lines} lines, {pieces} of them pieces, where {expected} were written", "");
    }
}

fn write_lines(line: usize, mib: usize, cpu: &Path) {
    let mut text = vec![b'x'; line];
    text[line - 1] = b'\n';
    let text = text.repeat((1 << 20) / line);
    let mut left = (mib << 20) / line * line;
    let mut out = std::fs::File::from(rustix::io::dup(rustix::stdio::stdout()).unwrap());
    while left > 0 {
        let chunk = &text[..text.len().min(left)];
        // Boundaries of writes fall anywhere, as with a buffered writer.
        for part in chunk.chunks(65_536 - 7) {
            out.write_all(part).unwrap();
        }
        left -= chunk.len();
    }
    std::fs::write(cpu, cpu_time("self").as_nanos().to_string()).unwrap();
}

/// User and system time of this process, or of a process that has children reaped.
fn cpu_time(pid: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn through_library(dir: &Path, line: usize, mib: usize) -> (Duration, Duration) {
    let paths = vec![dir.join("log").display().to_string()];
    let options = Options { paths, cid: "c".into(), no_sync: true, ..Options::default() };
    let mut logs = Logs::open(&options).unwrap();
    let size = |name: &str| std::env::var(name).ok().map_or(262_144, |text| text.parse::<usize>().unwrap());
    let mut buffer = sys::pages::Pages::new(size("LOGCOPY_READ")).unwrap();
    let begun = Instant::now();
    let cpu = cpu_time("self");
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["write", &line.to_string(), &mib.to_string()])
        .arg(dir.join("cpu"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = writer.stdout.take().unwrap();
    rustix::pipe::fcntl_setpipe_size(&output, size("LOGCOPY_PIPE")).unwrap();
    loop {
        let len = output.read(&mut buffer).unwrap();
        if len == 0 {
            break;
        }
        logs.write(Stream::Stdout, &buffer[..len]);
    }
    logs.close();
    let cost = (begun.elapsed(), cpu_time("self") - cpu);
    writer.wait().unwrap();
    cost
}

fn through_monitor(program: &str, dir: &Path, line: usize, mib: usize) -> (Duration, Duration) {
    let this = std::env::current_exe().unwrap();
    let runtime = dir.join("runtime");
    let script = format!(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do [ \"$1\" = --pid-file ] && pid=$2; shift; done\n{} write {line} {mib} {} &\necho $! > \"$pid\"\n",
        this.display(),
        dir.join("cpu").display(),
    );
    std::fs::write(&runtime, script).unwrap();
    Command::new("chmod").arg("+x").arg(&runtime).status().unwrap();
    let before = children();
    let begun = Instant::now();
    let status = Command::new(program)
        .args(["--sync", "-c", "logcopy", "-u", "logcopy", "--no-sync-log", "--full-attach", "-b"])
        .arg(dir)
        .arg("-r")
        .arg(&runtime)
        .arg("-p")
        .arg(dir.join("pid"))
        .arg("-l")
        .arg(dir.join("log"))
        .arg("--exit-dir")
        .arg(dir)
        .stdin(Stdio::null())
        .status()
        .unwrap();
    let wall = begun.elapsed();
    assert!(status.success(), "{program}: {status}");
    let writer: u64 = std::fs::read_to_string(dir.join("cpu")).unwrap().parse().unwrap();
    (wall, (children() - before).saturating_sub(Duration::from_nanos(writer)))
}

/// The time of all children that were waited for, and of theirs.
fn children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // cutime and cstime, in hundredths of a second.
    let ticks: u64 = fields[13].parse::<u64>().unwrap() + fields[14].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
