//! `root`, masked and read-only paths, propagation.

use serde_json::json;

use super::case::{Case, Runc, case, check};

#[test]
fn root_file_systems() {
    check(&cases());
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a writable root").shared().sh("touch /x && echo ok").prints("ok\n"),
        case("a read-only root").set("/root/readonly", json!(true)).sh("touch /x 2>&1").exits(1, "touch: /x: Read-only file system\n"),
        case("a read-only root with a writable mount").set("/root/readonly", json!(true))
            .mount("/tmp", "tmpfs", "tmpfs", &[]).sh("touch /tmp/x && echo ok").prints("ok\n"),
        case("an absolute root").set("/root/path", json!("@bundle/rootfs")).sh("echo ok").prints("ok\n"),
        case("a root through a link").before("mv rootfs real; ln -s real rootfs").sh("echo ok").prints("ok\n").but_refused(Runc, "runc takes no link"),
        case("/ has no parent").shared().sh("cd /..; pwd; ls -id / /.. | awk '{print $1}' | sort -u | wc -l").prints("/\n1\n"),
        // The root itself, whose source is its path on the host.
        case("the host's mounts are gone")
            .sh("grep -c '/rootfs / ' /proc/self/mountinfo; grep -c -E '/(boot|home|run/.*) ' /proc/self/mountinfo")
            .exits(1, "1\n0\n"),
        case("masked file reads as empty").set("/linux/maskedPaths", json!(["/etc/hosts"])).sh("wc -c < /etc/hosts").prints("0\n"),
        case("masked file can't be written").set("/linux/maskedPaths", json!(["/etc/hosts"]))
            .sh("echo x > /etc/hosts; wc -c < /etc/hosts").prints("0\n"),
        case("masked directory is empty and read-only").set("/linux/maskedPaths", json!(["/etc"]))
            .sh("ls /etc; touch /etc/x 2>&1").exits(1, "touch: /etc/x: Read-only file system\n"),
        case("masked path that is not there").set("/linux/maskedPaths", json!(["/nowhere", "/proc/nowhere"])).sh("echo ok").prints("ok\n"),
        case("masked link's target").before("ln -s hosts rootfs/etc/l")
            .set("/linux/maskedPaths", json!(["/etc/l"])).sh("wc -c < /etc/l").prints("0\n"),
        case("usual masks").shared().sh("wc -c < /proc/keys; ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | wc -w").prints("0\n0\n"),
        case("read-only file").set("/linux/readonlyPaths", json!(["/etc/hosts"]))
            .sh("cat /etc/hosts; echo x 2>/dev/null > /etc/hosts || echo denied").prints("127.0.0.1 localhost\ndenied\n"),
        case("read-only directory").set("/linux/readonlyPaths", json!(["/etc"]))
            .sh("cat /etc/hosts; touch /etc/x 2>&1").exits(1, "127.0.0.1 localhost\ntouch: /etc/x: Read-only file system\n"),
        case("read-only path that is not there").set("/linux/readonlyPaths", json!(["/nowhere"])).sh("echo ok").prints("ok\n"),
        case("usual read-only paths")
            .shared().sh("for p in /proc/sys/kernel/domainname /proc/sysrq-trigger; do (echo x > $p) 2>/dev/null || echo denied; done").prints("denied\ndenied\n"),
        case("/proc/sys without protection").set("/linux/readonlyPaths", json!([]))
            .sh("echo quay > /proc/sys/kernel/hostname; hostname").prints("quay\n"),
        case("propagation is private where nothing is said").shared().sh("grep '/rootfs / ' /proc/self/mountinfo | grep -c -E 'shared|master'").exits(1, "0\n")
            .but_prints(Runc, "1\n", "runc 1.1.5 lets the root hear of the host's mounts"),
        case("root propagation slave").set("/linux/rootfsPropagation", json!("slave"))
            .sh("grep '/rootfs / ' /proc/self/mountinfo | grep -c -E 'shared|master'").exits(1, "0\n")
            .but_prints(Runc, "1\n", "runc 1.1.5 lets the root hear of the host's mounts"),
        case("root propagation shared").set("/linux/rootfsPropagation", json!("shared"))
            .sh("grep -E '/rootfs / ' /proc/self/mountinfo | grep -c shared").prints("1\n").but_exits(Runc, 1, "0\n", "runc makes its own mount of the root private"),
        case("root propagation unbindable").set("/linux/rootfsPropagation", json!("unbindable"))
            .sh("grep -E '/rootfs / ' /proc/self/mountinfo | grep -c unbindable").prints("1\n").but_refused(Runc, "runc can't bind the root then").but_newer_exits(Runc, 1, "0\n", "runc makes its own mount of the root private"),
        case("a root that is a mount point").before("mount --bind rootfs rootfs; mount --make-private rootfs").sh("echo ok").prints("ok\n"),
    ]
}
