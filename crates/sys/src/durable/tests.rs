use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use super::*;

pub(crate) struct TempDir(pub(crate) PathBuf);

impl TempDir {
    pub(crate) fn new(what: &str) -> Self {
        let path = PathBuf::from(format!("/tmp/wh-sys-{what}-{}-{}", std::process::id(), temp_name()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn replaces_whole_and_leaves_no_temporary() {
    let dir = TempDir::new("replace");
    let path = dir.0.join("state.json");
    for content in [&b"one"[..], b"", b"three"] {
        replace_path(&path, content, 0o640).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap(), content);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    }
    assert_eq!(entries(&dir.0), ["state.json"]);
}

#[test]
fn a_failed_replacement_keeps_the_old_and_removes_the_temporary() {
    let dir = TempDir::new("replace-error");
    std::fs::create_dir(dir.0.join("d")).unwrap();
    std::fs::write(dir.0.join("d/x"), "x").unwrap();
    let error = replace_path(dir.0.join("d"), b"new", 0o600).unwrap_err();
    assert_eq!(error.op, "rename");
    assert_eq!(entries(&dir.0), ["d"]);
    assert!(replace_path(dir.0.join("none/file"), b"", 0o600).unwrap_err().is_gone());
}

#[test]
fn a_temporary_of_a_dead_namesake_is_no_obstacle() {
    let dir = TempDir::new("stale");
    for n in 0..200 {
        std::fs::write(dir.0.join(format!(".tmp-{}-{n}", std::process::id())), "stale").unwrap();
    }
    replace_path(dir.0.join("f"), b"x", 0o600).unwrap();
    assert_eq!(std::fs::read(dir.0.join("f")).unwrap(), b"x");
}

#[test]
fn temporaries_tell_their_owner() {
    assert_eq!(temp_owner(&temp_name()), i32::try_from(std::process::id()).ok());
    for other in ["state.json", ".tmp-", ".tmp-12", ".tmp-x-1", ".tmp-0-1", ".tmp--1-1", ".tmp-1-x"] {
        assert_eq!(temp_owner(other), None, "{other}");
    }
}

#[test]
fn removal_is_idempotent() {
    let dir = TempDir::new("remove");
    let path = dir.0.join("f");
    std::fs::write(&path, "").unwrap();
    remove(&path).unwrap();
    assert!(!path.exists());
    remove(&path).unwrap();
    remove(dir.0.join("no/dir/f")).unwrap();
    remove_tree(dir.0.join("no/dir")).unwrap();
    remove_tree(dir.0.join("none")).unwrap();
}

#[test]
fn bounded_reads_refuse_what_is_large_or_no_file() {
    let dir = TempDir::new("read");
    let path = dir.0.join("f");
    std::fs::write(&path, "12345").unwrap();
    assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
    let error = read_bounded(&path, 4).unwrap_err().to_string();
    assert_eq!(error, format!("read {}: larger than 4 bytes", path.display()));
    rustix::fs::mkfifoat(rustix::fs::CWD, dir.0.join("fifo"), Mode::from_raw_mode(0o600)).unwrap();
    for other in [dir.0.join("fifo"), dir.0.clone(), PathBuf::from("/dev/zero")] {
        assert!(read_bounded(&other, 5).unwrap_err().to_string().ends_with("not a regular file"));
    }
    assert!(read_bounded("/proc/self/stat", 4096).unwrap().len() > 10);
}

#[test]
fn trees_go_and_what_links_point_to_stays() {
    let dir = TempDir::new("tree");
    std::fs::create_dir(dir.0.join("keep")).unwrap();
    std::fs::write(dir.0.join("keep/file"), "x").unwrap();
    std::fs::create_dir_all(dir.0.join("t/a/b")).unwrap();
    std::fs::write(dir.0.join("t/a/b/f"), "x").unwrap();
    symlink(dir.0.join("keep"), dir.0.join("t/a/link")).unwrap();
    symlink("..", dir.0.join("t/a/up")).unwrap();
    remove_tree(dir.0.join("t")).unwrap();
    assert_eq!(entries(&dir.0), ["keep"]);
    assert_eq!(entries(&dir.0.join("keep")), ["file"]);
    symlink(dir.0.join("keep"), dir.0.join("l")).unwrap();
    remove_tree(dir.0.join("l")).unwrap();
    assert_eq!(entries(&dir.0.join("keep")), ["file"]);
}

#[test]
fn deep_trees_go_too() {
    let dir = TempDir::new("deep");
    let top = dir.0.join("t");
    std::fs::create_dir(&top).unwrap();
    let mut at = open_dir(&top).unwrap();
    for _ in 0..1500 {
        rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o700)).unwrap();
        at = rustix::fs::openat(&at, "d", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    drop(at);
    remove_tree(&top).unwrap();
    assert_eq!(entries(&dir.0), [""; 0]);
}

#[test]
fn durability_is_by_file_system() {
    assert_eq!(Durability::of(open_dir(Path::new("/dev/shm")).unwrap()).unwrap(), Durability::Memory);
    assert_eq!(Durability::of(open_dir(Path::new("/proc")).unwrap()).unwrap(), Durability::Disk);
}
