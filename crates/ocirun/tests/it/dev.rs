//! Images that bring a /dev of their own, or a link in its place.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::json;
use testkit::{Bundle, Scratch};

use crate::kit::Oci;

/// A bundle whose /dev is what the image has.
fn own_dev(name: &str, line: &str) -> Bundle {
    Bundle::shell(name, line).edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    })
}

/// CVE-2026-41579, CVE-2026-88264: /dev is a link that leads out of the image, to a directory with a `ptmx` in it.
#[test]
fn a_link_for_dev_does_not_lead_outside() {
    let oci = Oci::new();
    let absolute = |outside: &str| outside.to_owned();
    let climbing = |outside: &str| format!("../../../../../../../..{outside}");
    for target in [absolute as fn(&str) -> String, climbing] {
        let outside = Scratch::new("devout");
        fs::write(outside.path().join("ptmx"), "mine").unwrap();
        let bundle = own_dev("devlink", "true");
        fs::remove_dir_all(bundle.rootfs().join("dev")).ok();
        symlink(target(&outside.path().to_string_lossy()), bundle.rootfs().join("dev")).unwrap();
        // Whether it works or not: nothing outside is touched.
        oci.run_bundle(&bundle);
        let names: Vec<_> =
            fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["ptmx"]);
        assert_eq!(fs::read_to_string(outside.path().join("ptmx")).unwrap(), "mine");
    }
}

/// CVE-2026-88265: the standard streams are those that we were given, not what the image calls /dev/null.
#[test]
fn the_standard_streams_are_not_the_images() {
    let oci = Oci::new();
    let bundle = own_dev("devnull", "echo out; echo err >&2")
        .edit(|spec| spec["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let root = bundle.rootfs();
    fs::write(root.join("victim"), "untouched").unwrap();
    let owner = fs::metadata(root.join("victim")).unwrap().uid();
    fs::create_dir_all(root.join("dev")).unwrap();
    for name in ["null", "stdin", "stdout", "stderr"] {
        fs::remove_file(root.join("dev").join(name)).ok();
        symlink("/victim", root.join("dev").join(name)).unwrap();
    }
    oci.run_bundle(&bundle);
    let after = fs::metadata(root.join("victim")).unwrap();
    assert_eq!(
        (fs::read_to_string(root.join("victim")).unwrap().as_str(), after.uid()),
        ("untouched", owner)
    );
}
