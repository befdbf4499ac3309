//! When logs are not rotated (contract §7): what somebody else could have put there, or holds locked, keeps its name, and
//! writing goes on in it.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use monitor::Stream::Stdout;
use monitor::logs::{Logs, Options};

use crate::scratch::Scratch;

fn rotating(path: &Path) -> Options {
    Options {
        paths: vec![path.display().to_string()],
        cid: "c1".into(),
        // Two lines of one letter.
        size_max: Some(100),
        rotate: true,
        max_files: 9,
        ..Options::default()
    }
}

/// The letters that a file's lines are.
fn letters(path: &Path) -> String {
    fs::read_to_string(path).unwrap().lines().map(|line| &line[45..]).collect()
}

fn say(logs: &mut Logs, letters: &str) {
    for letter in letters.chars() {
        logs.write(Stdout, format!("{letter}\n").as_bytes());
    }
}

/// Another process that holds a lock of fcntl(2) on a file.
struct Locker(Child);

impl Locker {
    fn on(path: &Path, kind: &str) -> Self {
        // struct flock of x86_64 and aarch64: type, whence, start, length, pid.
        let script = "use Fcntl; open(F, '+<', $ARGV[0]) or die; my $lock = pack('ssx4qqix4', eval $ARGV[1], 0, 0, 0, 0); \
                      fcntl(F, F_SETLK, $lock) or die; $| = 1; print 'x'; sleep 1000";
        let mut perl = Command::new("perl");
        perl.args(["-e", script]).arg(path).arg(kind).stdout(Stdio::piped());
        let mut child = perl.spawn().expect("perl");
        let mut said = [0; 1];
        let read = child.stdout.take().unwrap().read_exact(&mut said);
        let locker = Self(child);
        read.expect("the lock");
        locker
    }
}

impl Drop for Locker {
    fn drop(&mut self) {
        // It may have died by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_locked_log_is_not_rotated_until_it_is_let_go_of() {
    for kind in ["F_WRLCK", "F_RDLCK"] {
        let dir = Scratch::new("rotation");
        let path = dir.join("log");
        let mut logs = Logs::open(&rotating(&path)).unwrap();
        say(&mut logs, "ab");
        let locker = Locker::on(&path, kind);
        say(&mut logs, "cde");
        assert_eq!(letters(&path), "abcde", "{kind}: writing goes on");
        assert!(!dir.join("log.1").exists() && !dir.join("log.new").exists());
        // A reopen rotates as well, where nobody has renamed the file.
        logs.reopen();
        assert!(!dir.join("log.1").exists());
        assert_eq!(logs.failure(), None);
        drop(locker);
        say(&mut logs, "f");
        assert_eq!((letters(&path), letters(&dir.join("log.1"))), ("f".into(), "abcde".into()), "{kind}");
    }
}

#[test]
fn a_lock_of_flock_is_no_obstacle() {
    let dir = Scratch::new("rotation");
    let path = dir.join("log");
    let mut logs = Logs::open(&rotating(&path)).unwrap();
    // flock(2) is another kind of lock: readers that follow a log use it among themselves.
    let reader = fs::File::open(&path).unwrap();
    reader.lock().unwrap();
    say(&mut logs, "abc");
    assert_eq!((letters(&path), letters(&dir.join("log.1"))), ("c".into(), "ab".into()));
}

#[test]
fn a_missing_log_is_made_anew_but_not_where_anybody_may_write() {
    for (mode, remade) in [(0o755, true), (0o775, true), (0o777, false), (0o1777, false)] {
        let dir = Scratch::new("rotation");
        let place = dir.join("place");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
        let path = place.join("log");
        let mut logs = Logs::open(&rotating(&path)).unwrap();
        say(&mut logs, "ab");
        fs::remove_file(&path).unwrap();
        say(&mut logs, "c");
        assert_eq!(path.exists(), remade, "{mode:o}");
        if remade {
            assert_eq!(letters(&path), "c");
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        }
        assert_eq!(
            fs::read_dir(&place).unwrap().count(),
            usize::from(remade),
            "{mode:o}: no backup of nothing"
        );
        assert_eq!(logs.failure(), None);
    }
}

#[test]
fn a_log_that_is_there_is_rotated_also_where_anybody_may_write() {
    let dir = Scratch::new("rotation");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let path = dir.join("log");
    let mut logs = Logs::open(&rotating(&path)).unwrap();
    say(&mut logs, "abc");
    assert_eq!((letters(&path), letters(&dir.join("log.1"))), ("c".into(), "ab".into()));
}

#[test]
fn what_took_the_logs_place_is_left_alone() {
    let dir = Scratch::new("rotation");
    let secret = dir.join("secret");
    fs::write(&secret, "secret").unwrap();
    type Put = fn(&Path, &Path);
    let puts: [(&str, Put); 4] = [
        ("another file", |path, _| fs::write(path, "other").unwrap()),
        ("a link", |path, secret| symlink(secret, path).unwrap()),
        ("a link to nothing", |path, _| symlink("/no/such/file", path).unwrap()),
        ("a directory", |path, _| fs::create_dir(path).unwrap()),
    ];
    for (number, (what, put)) in puts.into_iter().enumerate() {
        let place = dir.join(&number.to_string());
        fs::create_dir(&place).unwrap();
        let path = place.join("log");
        let mut logs = Logs::open(&rotating(&path)).unwrap();
        say(&mut logs, "ab");
        fs::rename(&path, place.join("mine")).unwrap();
        put(&path, &secret);
        say(&mut logs, "cde");
        assert_eq!(letters(&place.join("mine")), "abcde", "{what}: writing goes on");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 2, "{what}: nothing is renamed, nothing made");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn a_link_in_place_of_the_new_file_is_not_followed() {
    for rotate in [true, false] {
        let dir = Scratch::new("rotation");
        let (path, victim) = (dir.join("log"), dir.join("victim"));
        fs::write(&victim, "precious").unwrap();
        for name in ["log.new", "log.tmp"] {
            symlink(&victim, dir.join(name)).unwrap();
        }
        let mut logs = Logs::open(&Options { rotate, ..rotating(&path) }).unwrap();
        say(&mut logs, "abc");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(letters(&path).ends_with('c'));
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }
}
