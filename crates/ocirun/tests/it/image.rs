//! What an image, or a caller with more groups than its containers are to have, can bring along.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};

use rustix::fs::{CWD, FileType, Mode};
use serde_json::json;
use testkit::{Bundle, Scratch};

use crate::kit::Oci;

/// CVE-2025-4437, CVE-2024-9676: a passwd that is endless, blocks, or leads to a file of the host.
#[test]
fn a_strange_passwd_is_neither_waited_for_nor_followed() {
    let oci = Oci::new();
    let bundle = Bundle::shell("passwd", "echo $HOME")
        .edit(|spec| spec["process"]["env"] = json!(["PATH=/bin:/usr/bin"]));
    let passwd = bundle.rootfs().join("etc/passwd");
    fs::create_dir_all(passwd.parent().unwrap()).unwrap();
    let outside = Scratch::new("passwdout");
    fs::write(outside.path().join("passwd"), "evil:x:0:0::/evil:/bin/sh\n").unwrap();
    for kind in ["fifo", "huge", "link"] {
        let _ = fs::remove_file(&passwd);
        match kind {
            "fifo" => rustix::fs::mknodat(CWD, &passwd, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            "huge" => fs::File::create(&passwd).unwrap().set_len(1 << 40).unwrap(),
            _ => symlink(outside.path().join("passwd"), &passwd).unwrap(),
        }
        assert_eq!(oci.run_bundle(&bundle).ok().out, "/\n", "{kind}");
    }
    fs::remove_file(&passwd).unwrap();
}

/// CVE-2022-2995, CVE-2023-25173: groups are those of config.json, none of the caller's, none forgotten.
#[test]
fn supplementary_groups_are_those_that_are_named() {
    let oci = Oci::new();
    let mut bundle = Bundle::shell("groups", "grep Groups /proc/self/status");
    for (more, expected) in [(json!([]), ""), (json!([7, 1000]), "7 1000")] {
        bundle.change(|spec| spec["process"]["user"] = json!({"uid": 33, "gid": 44, "additionalGids": more}));
        let out = oci.run_bundle(&bundle).ok().out;
        assert_eq!(out.trim_start_matches("Groups:").trim(), expected);
    }
}

/// CVE-2021-41103, CVE-2024-25621: where a container's state is, no other user comes in.
#[test]
fn no_other_user_can_enter_a_containers_directory() {
    let (oci, bundle) = (Oci::new(), Bundle::sleeper("modes"));
    let container = oci.create(&bundle);
    let dir = oci.root().join(container.id());
    assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o077, 0);
    for entry in fs::read_dir(&dir).unwrap() {
        let meta = entry.unwrap().metadata().unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o022), (rustix::process::getuid().as_raw(), 0));
    }
}

/// CVE-2022-4318, CVE-2024-5154, CVE-2025-24965: we leave no file in an image, so none that a link leads elsewhere.
#[test]
fn no_file_is_written_in_the_image() {
    let oci = Oci::new();
    let outside = Scratch::new("written");
    let bundle = Bundle::shell("written", "true")
        .edit(|spec| spec["process"]["env"] = json!(["PATH=/bin", "HOME=/\nevil:x:0:0::/:/bin/sh"]));
    let etc = bundle.rootfs().join("etc");
    fs::create_dir_all(&etc).unwrap();
    let names = ["mtab", "passwd", "group", "hosts", "hostname", "resolv.conf"];
    for name in names {
        let _ = fs::remove_file(etc.join(name));
        symlink(outside.path().join(name), etc.join(name)).unwrap();
    }
    let before = fs::read_dir(&etc).unwrap().count();
    oci.run_bundle(&bundle).ok();
    assert_eq!(fs::read_dir(&etc).unwrap().count(), before);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "something was made outside");
    for name in names {
        assert!(etc.join(name).is_symlink(), "{name} was replaced");
    }
}

/// CVE-2026-57231, CVE-2026-17113: what an image names and gives no value gets none of the host's, and ends nobody.
#[test]
fn a_variable_without_a_value_brings_none_of_the_hosts() {
    let oci = Oci::new();
    let env = json!(["PATH=/bin:/usr/bin", "HOST_SECRET", "*", "HOST_*", "PLAIN=1"]);
    let bundle = Bundle::sleeper("bareenv").edit(|spec| spec["process"]["env"] = env);
    let with_secret = |args: &[&str]| {
        let output = oci.command().args(args).env("HOST_SECRET", "kept").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        text
    };
    let container = oci.start(&bundle);
    // Empty until the program has taken the place of ours.
    let file = format!("/proc/{}/environ", container.pid());
    let inside = testkit::wait_for("the program's environment", || {
        fs::read(&file).ok().filter(|text| !text.is_empty())
    });
    let seen = with_secret(&["exec", bundle.id(), "env"]);
    for text in [String::from_utf8_lossy(&inside).into_owned(), seen] {
        assert!(
            text.contains("PLAIN=1") && !text.contains("kept") && !text.contains("HOST_SECRET="),
            "{text:?}"
        );
    }
    drop(container);
    let once =
        bundle.edit(|spec| spec["process"]["args"] = json!(["sh", "-c", "env; cat /proc/self/environ"]));
    let text = with_secret(&["run", "--bundle", &once.path().to_string_lossy(), once.id()]);
    assert!(text.contains("PLAIN=1") && !text.contains("kept"), "{text:?}");
}
