use rustix::thread::UnshareFlags;

use super::*;
use crate::durable::tests::TempDir;

/// Runs `test` in a mount namespace of its own (the calling thread's), where nothing propagates out.
fn isolated(test: impl FnOnce() + Send + 'static) {
    std::thread::spawn(|| {
        crate::ns::unshare(UnshareFlags::NEWNS | UnshareFlags::FS).unwrap();
        propagate("/", Propagation::Private, Depth::Recursive).unwrap();
        test();
    })
    .join()
    .unwrap();
}

fn path_fd(path: &Path) -> OwnedFd {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

#[test]
fn file_systems_are_made_attached_and_unmounted() {
    let dir = TempDir::new("mount");
    let path = dir.0.clone();
    isolated(move || {
        let params = [Param::Value("size", "64k"), Param::Value("mode", "0711")];
        let fs = new_fs("tmpfs", &params, MountAttrFlags::MOUNT_ATTR_NOSUID).unwrap();
        assert!(!is_mount_point(&path).unwrap());
        attach(&fs, path_fd(&path)).unwrap();
        assert!(is_mount_point(&path).unwrap());
        std::fs::write(path.join("f"), "x").unwrap();
        // tmpfs answers a tree removal with its mount point.
        assert_eq!(crate::durable::remove_tree(&path).unwrap_err().errno(), Some(libc::EXDEV));
        std::fs::write(path.join("f"), "x").unwrap();
        let mount = crate::proc::mounts_of(rustix::thread::gettid().as_raw_pid()).unwrap();
        let mount = mount.iter().find(|mount| mount.mount_point == path).unwrap();
        assert!(mount.options.iter().any(|option| option == "nosuid"), "{mount:?}");
        assert!(unmount(&path, Unmount::Detach).unwrap());
        assert!(!unmount(&path, Unmount::IfUnused).unwrap());
        assert!(!unmount(path.join("none"), Unmount::IfUnused).unwrap());
    });
}

#[test]
fn attributes_are_set_on_copies() {
    let dir = TempDir::new("attr");
    let path = dir.0.clone();
    isolated(move || {
        std::fs::write(path.join("f"), "x").unwrap();
        let copy = clone_tree(CWD, &path, Depth::Recursive).unwrap();
        let read_only = Attr { set: MountAttrFlags::MOUNT_ATTR_RDONLY, ..Attr::default() };
        set_attr(&copy, read_only, Depth::Recursive).unwrap();
        std::fs::create_dir(path.join("ro")).unwrap();
        attach_at(&copy, CWD, path.join("ro")).unwrap();
        let error = std::fs::write(path.join("ro/f"), "y").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
        std::fs::write(path.join("f"), "y").unwrap();
        bind(path.join("ro"), path.join("ro"), Depth::One).unwrap();
        assert!(unmount(path.join("ro"), Unmount::IfUnused).unwrap());
        // A removal stops at the mount, and what is on it stays.
        crate::durable::remove_tree(&path).unwrap_err();
        assert!(is_mount_point(path.join("ro")).unwrap());
    });
}

#[test]
fn errors_have_the_kernels_words() {
    let error = new_fs("tmpfs", &[Param::Value("no-such", "1")], MountAttrFlags::empty()).unwrap_err();
    assert!(error.to_string().contains("no-such"), "{error}");
    new_fs("no-such-fs", &[], MountAttrFlags::empty()).unwrap_err();
}

#[test]
fn the_root_is_changed() {
    let dir = TempDir::new("pivot");
    let path = dir.0.clone();
    isolated(move || {
        let fs = new_fs("tmpfs", &[], MountAttrFlags::empty()).unwrap();
        attach(&fs, path_fd(&path)).unwrap();
        std::fs::write(path.join("inside"), "x").unwrap();
        pivot_into(&fs).unwrap();
        assert!(Path::new("/inside").exists() && !Path::new("/proc").exists());
        assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
    });
}
