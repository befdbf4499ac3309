//! `process`: arguments, environment, directory, user, rights, limits.

use serde_json::json;

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn processes() {
    check(&cases());
}

#[test]
fn rights_of_processes() {
    check(&rights());
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("status 0").args(&["true"]),
        case("status 1").args(&["false"]).exits(1, ""),
        case("status 255").sh("exit 255").exits(255, ""),
        case("killed by SIGKILL").sh("kill -9 $$; sleep 9").exits(0, "").unset("/linux/namespaces/0").exits(137, ""),
        case("killed by SIGTERM").sh("kill $$; sleep 9").unset("/linux/namespaces/0").exits(143, ""),
        case("output").shared().sh("echo out").prints("out\n"),
        case("arguments with spaces and quotes").args(&["printf", "%s|", "a b", "", "'\"", "*"]).prints("a b||'\"|*|"),
        case("program found in the path of the container").args(&["echo", "x"]).prints("x\n"),
        case("program by absolute path").args(&["/bin/echo", "x"]).prints("x\n"),
        case("program by path from cwd").args(&["./echo", "x"]).set("/process/cwd", json!("/bin")).prints("x\n"),
        case("script without an interpreter line is not a program")
            .before("printf 'echo x\\n' > rootfs/x; chmod 755 rootfs/x")
            .args(&["/x"])
            .refused("exec"),
        case("script with an interpreter")
            .before("printf '#!/bin/sh\\necho x\\n' > rootfs/x; chmod 755 rootfs/x")
            .args(&["/x"])
            .prints("x\n"),
        case("environment is what is given")
            .set("/process/env", json!(["PATH=/bin", "A=b=c", "EMPTY="]))
            .args(&["env"])
            .prints("PATH=/bin\nA=b=c\nEMPTY=\nHOME=/root\n"),
        case("HOME is kept").set("/process/env", json!(["PATH=/bin", "HOME=/x"])).sh("echo $HOME").prints("/x\n"),
        case("HOME comes from the container's passwd")
            .set("/process/env", json!(["PATH=/bin"]))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .sh("echo $HOME")
            .prints("/home\n"),
        case("HOME of a user without a name")
            .set("/process/env", json!(["PATH=/bin"]))
            .set("/process/user", json!({"uid": 77, "gid": 77}))
            .sh("echo $HOME")
            .prints("/\n").but_prints(Crun, "\n", "crun leaves it empty"),
        case("the last of two variables of one name")
            .set("/process/env", json!(["PATH=/bin", "A=1", "A=2"]))
            .sh("echo $A")
            .prints("2\n"),
        case("a program sees the last of two variables of one name")
            .set("/process/env", json!(["PATH=/bin", "A=1", "B=", "A=2"]))
            .sh("tr '\\0' '\\n' < /proc/1/environ | grep -c ^A; echo $A")
            .prints("1\n2\n"),
        case("cwd").set("/process/cwd", json!("/etc")).sh("pwd; echo $PWD").prints("/etc\n/etc\n"),
        case("cwd is made").set("/process/cwd", json!("/a/b")).sh("pwd; stat -c '%a %u' /a").prints("/a/b\n755 0\n"),
        case("cwd through a link").before("ln -s etc rootfs/l").set("/process/cwd", json!("/l")).sh("pwd -P").prints("/etc\n"),
        case("uid and gid")
            .set("/process/user", json!({"uid": 1000, "gid": 2000}))
            .sh("id -u; id -g; id -G")
            .prints("1000\n2000\n2000\n"),
        case("additional gids")
            .set("/process/user", json!({"uid": 0, "gid": 0, "additionalGids": [5, 7]}))
            .sh("id -G")
            .prints("0 5 7\n"),
        case("umask").set("/process/user/umask", json!(0o077)).sh("umask").prints("0077\n"),
        case("umask when none is given").shared().sh("umask").prints("0022\n"),
        case("no descriptors leak").sh("ls /proc/self/fd | tr '\\n' ' '").prints("0 1 2 3 "),
        case("pid 1 is the program").sh("echo $$; cat /proc/1/comm; true").prints("1\nsh\n"),
        case("a session of its own").shared().sh("cut -d' ' -f5,6 /proc/self/stat").prints("1 1\n"),
        // The shell itself ignores SIGQUIT as process 1. The C library's own two signals above 31 may come ignored from whoever runs the tests.
        case("signals are neither blocked nor ignored")
            .sh("for s in SigBlk SigIgn; do echo $((0x$(grep $s /proc/1/status | cut -f2) & 0x7fffffff)); done").prints("0\n4\n"),
        case("open files").set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}]))
            .sh("ulimit -n; ulimit -Hn").prints("64\n128\n"),
        case("core size").set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]))
            .sh("ulimit -Hc").prints("0\n"),
        case("several limits")
            .set("/process/rlimits", json!([
                {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
                {"type": "RLIMIT_NPROC", "soft": 500, "hard": 500},
                {"type": "RLIMIT_MSGQUEUE", "soft": 1000, "hard": 1000},
            ]))
            .sh("grep -E 'stack|processes|msgqueue' /proc/self/limits | tr -s ' '")
            .prints("Max stack size 1048576 2097152 bytes \nMax processes 500 500 processes \nMax msgqueue size 1000 1000 bytes \n"),
        case("oom score").set("/process/oomScoreAdj", json!(500)).sh("cat /proc/self/oom_score_adj").prints("500\n"),
        case("no new privileges").shared().sh("grep NoNewPrivs /proc/self/status").prints("NoNewPrivs:\t1\n"),
        case("new privileges allowed").set("/process/noNewPrivileges", json!(false))
            .sh("grep NoNewPrivs /proc/self/status").prints("NoNewPrivs:\t0\n"),
        case("personality of 32 bits").set("/linux/personality", json!({"domain": "LINUX32"})).sh("uname -m").prints("i686\n")
            .but_prints(Runc, "x86_64\n", "runc knows personality from 1.2 on"),
        case("scheduler").set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 5}))
            .sh("cut -d' ' -f19,41 /proc/self/stat").prints("5 3\n")
            .but_prints(Runc, "0 0\n", "runc knows it from 1.2 on")
            .but_prints(Crun, "0 0\n", "crun knows it from 1.9 on"),
        case("io priority").set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 7}))
            .sh("ionice -p $$").prints("idle\n")
            .but_prints(Runc, "none: prio 0\n", "runc knows it from 1.2 on")
            .but_prints(Crun, "none: prio 0\n", "crun knows it from 1.9 on"),
        case("the seats of a terminal are not given").shared().sh("test -t 0 || echo no").prints("no\n"),
        case("no process at all").unset("/process").refused("process"),
    ]
}

/// The five sets in one line.
const SETS: &str = "grep Cap /proc/self/status | cut -f2 | tr '\\n' ' '";

pub(crate) fn rights() -> Vec<Case> {
    let all = |caps: serde_json::Value| json!({"bounding": caps, "effective": caps, "permitted": caps});
    let set =
        |name: &'static str, caps: serde_json::Value| case(name).set("/process/capabilities", caps).sh(SETS);
    vec![
        set("no capabilities", all(json!([])))
            .prints("0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 "),
        case("capabilities missing").unset("/process/capabilities").sh(SETS)
            .prints("0000000000000000 0000000000000000 0000000000000000 0000000000000000 0000000000000000 "),
        set("three sets", all(json!(["CAP_KILL", "CAP_CHOWN"])))
            .prints("0000000000000000 0000000000000021 0000000000000021 0000000000000021 0000000000000000 "),
        set("bounding alone", json!({"bounding": ["CAP_KILL"]}))
            .prints("0000000000000000 0000000000000000 0000000000000000 0000000000000020 0000000000000000 "),
        set("inheritable and ambient", json!({"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}))
            .prints("0000000000000020 0000000000000020 0000000000000020 0000000000000020 0000000000000020 "),
        set("ambient for a user", json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .prints("0000000000000020 0000000000000020 0000000000000020 0000000000000021 0000000000000020 "),
        set("a user loses what is not ambient", all(json!(["CAP_KILL", "CAP_CHOWN"])))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .prints("0000000000000000 0000000000000000 0000000000000000 0000000000000021 0000000000000000 "),
        set("an unknown capability is left out", all(json!(["CAP_KILL", "CAP_FLY"])))
            .prints("0000000000000000 0000000000000020 0000000000000020 0000000000000020 0000000000000000 "),
        case("a file's capabilities do not pass the bounding set")
            .set("/process/capabilities", all(json!([])))
            .sh("chown 1:1 /etc/hosts 2>/dev/null; echo $?").prints("1\n"),
        case("root without CAP_DAC_OVERRIDE").set("/process/capabilities", all(json!([])))
            .before("printf x > rootfs/s; chown 1000 rootfs/s; chmod 600 rootfs/s")
            .sh("cat /s 2>/dev/null || echo denied").prints("denied\n"),
        case("mounting needs a capability").shared().sh("mount -t tmpfs x /mnt 2>/dev/null || echo denied").prints("denied\n"),
        case("mounting with it").set("/process/capabilities", all(json!(["CAP_SYS_ADMIN"])))
            .sh("mount -t tmpfs x /mnt && echo mounted").prints("mounted\n"),
        case("the runtime's own program can't be written")
            .set("/process/capabilities", all(json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"])))
            .sh("for e in /proc/[0-9]*/exe; do readlink $e; done | sort -u").prints("/bin/busybox\n"),
    ]
}
