//! `linux.devices`, the usual ones, and what may be done with them.

use serde_json::json;

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn devices() {
    check(&cases());
}

pub(crate) fn cases() -> Vec<Case> {
    let device = |name, value| case(name).set("/linux/devices", json!([value]));
    let rule = |name, value| case(name).add("/linux/resources/devices", value);
    vec![
        case("usual devices")
            .shared().sh("cd /dev; stat -c '%n %t:%T %a %u:%g' full null random tty urandom zero")
            .prints("full 1:7 666 0:0\nnull 1:3 666 0:0\nrandom 1:8 666 0:0\ntty 5:0 666 0:0\nurandom 1:9 666 0:0\nzero 1:5 666 0:0\n"),
        case("usual links").shared().sh("cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done")
            .prints("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n"),
        case("usual devices work").shared().sh("head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/null; cat /dev/null; echo x 2>/dev/null > /dev/full || echo full")
            .prints("3\n3\nfull\n"),
        case("no console without a terminal").shared().sh("ls /dev/console 2>/dev/null").exits(1, ""),
        device("a character device", json!({"path": "/dev/my", "type": "c", "major": 10, "minor": 229, "fileMode": 384, "uid": 3, "gid": 4}))
            .sh("stat -c '%F %t:%T %a %u:%g' /dev/my").prints("character special file a:e5 600 3:4\n"),
        device("a block device", json!({"path": "/dev/blk", "type": "b", "major": 7, "minor": 99, "fileMode": 432}))
            .sh("stat -c '%F %t:%T %a' /dev/blk").prints("block special file 7:63 660\n"),
        device("a device type u", json!({"path": "/dev/my", "type": "u", "major": 10, "minor": 229, "fileMode": 384}))
            .sh("stat -c '%F' /dev/my").prints("character special file\n"),
        device("a fifo", json!({"path": "/dev/pipe", "type": "p", "fileMode": 438})).sh("stat -c '%F' /dev/pipe").prints("fifo\n"),
        device("a device in a directory that is made", json!({"path": "/dev/a/b/my", "type": "c", "major": 1, "minor": 3, "fileMode": 438}))
            .sh("echo x > /dev/a/b/my && echo ok").prints("ok\n"),
        device("a device outside /dev", json!({"path": "/my", "type": "c", "major": 1, "minor": 3, "fileMode": 438}))
            .sh("echo x > /my && stat -c '%t:%T' /my").prints("1:3\n"),
        device("a usual device given again", json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 420, "uid": 7, "gid": 7}))
            .sh("stat -c '%t:%T' /dev/null").prints("1:3\n").but_refused(Runc, "runc opens it for writing after giving it away"),
        device("a device of an unknown type", json!({"path": "/dev/x", "type": "z", "major": 1, "minor": 3})).refused("/dev/x").but_prints(Crun, "", "crun makes a character device"),
        device("a device without a path", json!({"type": "c", "major": 1, "minor": 3})).refused("path").but_prints(Runc, "", "runc leaves it out"),
        rule("a device that is not allowed", json!({"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rwm"}))
            .set("/linux/devices", json!([{"path": "/dev/my", "type": "c", "major": 10, "minor": 229, "fileMode": 438}]))
            .sh("cat /dev/my 2>&1 | head -1").prints("cat: can't open '/dev/my': Operation not permitted\n"),
        rule("a device that is allowed", json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"}))
            .set("/linux/devices", json!([{"path": "/dev/my", "type": "c", "major": 1, "minor": 11, "fileMode": 438}]))
            .sh("echo test > /dev/my && echo ok").prints("ok\n"),
        rule("a device that may be read alone", json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}))
            .set("/linux/devices", json!([{"path": "/dev/my", "type": "c", "major": 1, "minor": 11, "fileMode": 438}]))
            .sh("(echo test > /dev/my) 2>/dev/null || echo denied").prints("denied\n"),
        rule("all of a major number", json!({"allow": true, "type": "c", "major": 1, "access": "rw"}))
            .set("/linux/devices", json!([{"path": "/dev/my", "type": "c", "major": 1, "minor": 11, "fileMode": 438}]))
            .sh("echo test > /dev/my && echo ok").prints("ok\n"),
        rule("all devices", json!({"allow": true, "access": "rwm"}))
            .set("/linux/devices", json!([{"path": "/dev/my", "type": "c", "major": 1, "minor": 11, "fileMode": 438}]))
            .sh("echo test > /dev/my && echo ok").prints("ok\n"),
        rule("a hole in a wildcard is refused", json!({"allow": true, "type": "c", "major": 1, "access": "rw"}))
            .add("/linux/resources/devices", json!({"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}))
            .refused("takes a part out")
            .but_prints(Crun, "", "crun writes the rule, which the kernel ignores"),
        rule("a rule without access", json!({"allow": true, "type": "c", "major": 1, "minor": 11})).refused("access is missing").but_newer_exits(Crun, 0, "", "crun 1.21 takes it"),
        rule("a rule of an unknown type", json!({"allow": true, "type": "z", "major": 1, "minor": 11, "access": "r"})).refused("unknown type").but_newer_exits(Crun, 0, "", "crun 1.21 takes it"),
        case("nodes can be made").set("/process/capabilities", json!({"bounding": ["CAP_MKNOD"], "effective": ["CAP_MKNOD"], "permitted": ["CAP_MKNOD"]}))
            .sh("mknod /x c 10 229 && echo made; cat /x 2>/dev/null || echo denied").prints("made\ndenied\n"),
        case("no rules at all").unset("/linux/resources/devices").sh("echo x > /dev/null && echo ok").prints("ok\n"),
    ]
}
