//! `mounts[].options`: every flag, as mountinfo shows it.

use serde_json::json;

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn options_of_mounts() {
    check(&cases());
}

/// The mount's own flags and the file system's, of the mount on /mnt.
const FLAGS: &str = "grep ' /mnt@n ' /proc/self/mountinfo | awk '{split($NF, a, \",\"); print $6, a[1]}'";

fn bind_is_shared(name: &'static str, option: &str) -> Case {
    case(name)
        .before("mkdir src@n; mount -t tmpfs -o mode=755 x src@n")
        .mount("/mnt@n", "bind", "src@n", &["rbind", option])
        .sh("grep ' /mnt@n ' /proc/self/mountinfo | cut -d' ' -f7 | grep -c '^shared:'")
        .prints("1\n")
        .without(Crun, "crun 1.8 leaves it as the source is")
}

pub(crate) fn cases() -> Vec<Case> {
    let tmpfs = |name, options: &[&str], shown: &str| {
        case(name).mount("/mnt@n", "tmpfs", "tmpfs", options).shared().sh(FLAGS).prints(&format!("{shown}\n"))
    };
    let bind = |name, options: &[&str], shown: &str| {
        case(name)
            .shared()
            .before("mkdir src@n; mount -t tmpfs -o mode=755 x src@n")
            .mount("/mnt@n", "bind", "src@n", options)
            .sh("grep ' /mnt@n ' /proc/self/mountinfo | cut -d' ' -f6")
            .prints(&format!("{shown}\n"))
    };
    vec![
        tmpfs("option ro", &["ro"], "ro,relatime rw"),
        tmpfs("option rw", &["ro", "rw"], "rw,relatime rw").but_prints(
            Crun,
            "ro,relatime rw\n",
            "crun never clears a flag",
        ),
        tmpfs("option nosuid", &["nosuid"], "rw,nosuid,relatime rw"),
        tmpfs("option nodev", &["nodev"], "rw,nodev,relatime rw"),
        tmpfs("option noexec", &["noexec"], "rw,noexec,relatime rw"),
        tmpfs(
            "option suid after nosuid",
            &["nosuid", "nodev", "noexec", "suid", "dev", "exec"],
            "rw,relatime rw",
        )
        .but_prints(Crun, "rw,nosuid,nodev,noexec,relatime rw\n", "crun never clears a flag"),
        tmpfs("option noatime", &["noatime"], "rw,noatime rw"),
        tmpfs("option strictatime", &["strictatime"], "rw rw"),
        tmpfs("option nodiratime", &["nodiratime"], "rw,nodiratime,relatime rw"),
        tmpfs("option nosymfollow", &["nosymfollow"], "rw,relatime,nosymfollow rw")
            .but_refused(Crun, "crun knows it from 1.9 on"),
        tmpfs(
            "options together",
            &["nosuid", "noexec", "nodev", "ro", "noatime"],
            "ro,nosuid,nodev,noexec,noatime rw",
        ),
        tmpfs("option defaults", &["defaults"], "rw,relatime rw")
            .but_refused(Runc, "runc passes it to the file system"),
        bind("bind nosuid", &["bind", "nosuid"], "rw,nosuid,relatime"),
        bind("bind with several", &["bind", "nosuid", "nodev", "noexec"], "rw,nosuid,nodev,noexec,relatime"),
        bind("bind rnoexec", &["rbind", "rnoexec"], "rw,noexec,relatime"),
        bind("bind rnosuid and rnodev", &["rbind", "rnosuid", "rnodev"], "rw,nosuid,nodev,relatime"),
        bind("bind rnoatime", &["rbind", "rnoatime"], "rw,noatime")
            .but_refused(Crun, "crun forgets the mask of the access times"),
        bind("bind ro and noatime", &["bind", "ro", "noatime"], "ro,noatime"),
        case("bind keeps the source's flags")
            .shared()
            .before("mkdir src@n; mount -t tmpfs -o nosuid,nodev,mode=755 x src@n")
            .mount("/mnt@n", "bind", "src@n", &["bind", "ro"])
            .sh("grep ' /mnt@n ' /proc/self/mountinfo | cut -d' ' -f6")
            .prints("ro,nosuid,nodev,relatime\n")
            .but_prints(Runc, "ro,relatime\n", "runc keeps them from 1.2 on")
            .but_prints(Crun, "ro,relatime\n", "crun drops them"),
        case("data of the file system")
            .shared()
            .mount("/mnt@n", "tmpfs", "tmpfs", &["nr_inodes=77", "size=1m"])
            .sh("grep ' /mnt@n ' /proc/self/mountinfo | grep -c 'size=1024k,nr_inodes=77'")
            .prints("1\n"),
        case("an option that nobody knows").mount("/mnt@n", "tmpfs", "tmpfs", &["fancy"]).refused("fancy"),
        case("option sync")
            .shared()
            .mount("/mnt@n", "tmpfs", "tmpfs", &["sync"])
            .sh("grep ' /mnt@n ' /proc/self/mountinfo | sed 's/.* - tmpfs tmpfs //' | grep -c sync")
            .prints("1\n"),
        case("option dirsync")
            .shared()
            .mount("/mnt@n", "tmpfs", "tmpfs", &["dirsync"])
            .sh("grep ' /mnt@n ' /proc/self/mountinfo | sed 's/.* - tmpfs tmpfs //' | grep -c dirsync")
            .prints("1\n"),
        case("option lazytime")
            .shared()
            .mount("/mnt@n", "tmpfs", "tmpfs", &["lazytime"])
            .sh("grep ' /mnt@n ' /proc/self/mountinfo | sed 's/.* - tmpfs tmpfs //' | grep -c lazytime")
            .prints("1\n"),
        bind_is_shared("option shared", "shared"),
        bind_is_shared("option rshared", "rshared"),
        case("no options")
            .shared()
            .add("/mounts", json!({"destination": "/mnt@n", "type": "tmpfs", "source": "tmpfs"}))
            .sh(FLAGS)
            .prints("rw,relatime rw\n"),
    ]
}
