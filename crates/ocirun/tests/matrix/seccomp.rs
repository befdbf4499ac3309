//! `linux.seccomp`.

use serde_json::{Value, json};

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn filters() {
    check(&cases());
}

fn deny(name: &'static str, rule: Value) -> Case {
    profile(
        name,
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]}),
    )
}

fn profile(name: &'static str, profile: Value) -> Case {
    case(name).set("/linux/seccomp", profile)
}

/// mkdir(2) under a filter: the text of its errno.
const MKDIR: &str = "mkdir /x 2>&1 | sed 's/.*: //'; test -d /x && echo made";

pub(crate) fn cases() -> Vec<Case> {
    let docker = testkit::seccomp_profile();
    vec![
        profile("the usual profile", docker.clone()).sh("grep Seccomp: /proc/self/status; echo ok").prints("Seccomp:\t2\nok\n"),
        profile("the usual profile forbids", docker).set("/process/capabilities", json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]}))
            .sh("unshare -U true 2>&1 | sed 's/.*: //'").prints("Operation not permitted\n"),
        case("no filter").sh("grep Seccomp: /proc/self/status").prints("Seccomp:\t0\n"),
        deny("errno of a rule", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28})).sh(MKDIR).exits(1, "No space left on device\n"),
        deny("errno when none is given", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})).sh(MKDIR).exits(1, "Operation not permitted\n"),
        deny("an argument decides", json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 0o700, "op": "SCMP_CMP_EQ"}]}))
            .sh("mkdir -m 700 /x 2>/dev/null || echo denied; mkdir /y && echo made").prints("made\n"),
        deny("a masked argument", json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3, "args": [{"index": 1, "value": 15, "valueTwo": 9, "op": "SCMP_CMP_MASKED_EQ"}]}))
            .sh("kill -9 9999 2>&1 | sed 's/.*: //'; kill -25 1 2>&1 | sed 's/.*: //'; kill -0 1 && echo ok").prints("No such process\nNo such process\nok\n"),
        deny("kill of the process", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"})).args(&["mkdir", "/x"]).exits(159, ""),
        deny("kill of the thread", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_THREAD"})).args(&["mkdir", "/x"]).exits(159, ""),
        deny("kill", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL"})).args(&["mkdir", "/x"]).exits(159, ""),
        deny("trap", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP"})).args(&["mkdir", "/x"]).exits(159, ""),
        deny("trace without a tracer", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRACE"})).sh(MKDIR).exits(1, "Function not implemented\n"),
        deny("log", json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_LOG"})).sh(MKDIR).prints("made\n"),
        deny("an unknown call is skipped", json!({"names": ["fly_away", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"})).sh(MKDIR).exits(1, "Operation not permitted\n"),
        deny("an unknown action", json!({"names": ["mkdir"], "action": "SCMP_ACT_DANCE"})).refused("SCMP_ACT_DANCE"),
        deny("an unknown operator", json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "LIKE"}]})).refused("LIKE"),
        deny("an argument above the fifth", json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 9, "value": 1, "op": "SCMP_CMP_EQ"}]})).refused("index 9"),
        profile("an unknown architecture", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]})).refused("SCMP_ARCH_PDP11"),
        profile("an unknown default action", json!({"defaultAction": "ALLOW"})).refused("ALLOW"),
        profile("an unknown flag", json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["FAST"], "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})).refused("FAST"),
        profile("flags", json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})).sh(MKDIR).exits(1, "Operation not permitted\n")
            .but_refused(Runc, "Debian's runc takes no flags"),
        profile("three architectures", json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]})).sh(MKDIR).exits(1, "Operation not permitted\n"),
        profile("notify without a listener", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})).refused("listenerPath").but_prints(Crun, "", "crun lets the calls hang"),
        profile("notify with a listener that is not there", json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nowhere/s",
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]})).refused("/nowhere/s"),
        profile("a filter without no_new_privs", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
            .set("/process/noNewPrivileges", json!(false)).sh(MKDIR).exits(1, "Operation not permitted\n"),
        profile("a filter for a user without rights", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}))
            .set("/process/noNewPrivileges", json!(false)).set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .sh("mkdir /tmp/x 2>&1 | sed 's/.*: //'").prints("No space left on device\n"),
        profile("the filter does not forbid what sets up the container", json!({"defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["setuid", "setgid", "setgroups", "capset", "mount", "pivot_root", "umount2", "sethostname", "chdir"], "action": "SCMP_ACT_ERRNO"}]}))
            .args(&["echo", "ok"]).prints("ok\n"),
    ]
}
