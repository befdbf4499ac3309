//! The spec matrix: an edit of config.json, a probe run in the container, and what it shows, under wharf-oci, runc and
//! crun. All three agree, or the case says who does not and why.

#![expect(clippy::expect_used, reason = "a test says what it expects and what it can't test")]

mod bad_input;
mod case;
mod cgroups;
mod cgroups_v2;
mod devices;
mod hooks;
mod live;
mod mount_options;
mod mounts;
mod namespaces;
mod peer;
mod process;
mod rootfs;
mod seccomp;

/// The size that the project asks for: a case that is taken out needs another in its place.
#[test]
fn there_are_enough_cases() {
    let all = [
        bad_input::cases(),
        bad_input::programs(),
        cgroups::cases(),
        cgroups::refused(),
        cgroups_v2::cases(),
        cgroups_v2::refused(),
        devices::cases(),
        hooks::cases(),
        mounts::cases(),
        mount_options::cases(),
        namespaces::cases(),
        process::cases(),
        process::rights(),
        rootfs::cases(),
        seccomp::cases(),
    ];
    let mut names: Vec<&str> = all.iter().flatten().map(case::Case::name).collect();
    let count = names.len();
    eprintln!("{count} cases, each with wharf-oci, runc and crun");
    assert!(count >= 150, "{count} cases");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "two cases have one name");
}
