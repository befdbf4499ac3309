//! config.json that is wrong, and programs and roots that are not there. The error is one line; nothing is left.

use serde_json::json;

use super::case::{Case, Crun, Runc, case, check};

#[test]
fn bad_configuration() {
    check(&cases());
}

#[test]
fn bad_programs_and_roots() {
    check(&programs());
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("config.json missing").before("rm config.json").refused("config.json"),
        case("config.json empty").before(": > config.json").refused("config.json"),
        case("config.json cut off").before("head -c 100 config.json > c; mv c config.json").refused("config.json"),
        case("config.json is a list").before("echo '[]' > config.json").refused("config.json"),
        case("config.json is a directory").before("rm config.json; mkdir config.json").refused("config.json"),
        case("version missing").unset("/ociVersion").refused("ociVersion").but_prints(Runc, "", "runc does not ask"),
        case("version of another world").set("/ociVersion", json!("x.y")).refused("ociVersion")
            .but_prints(Runc, "", "runc does not ask").but_newer_exits(Crun, 0, "", "crun 1.21 does not ask"),
        case("root missing").unset("/root").refused("root"),
        case("root path missing").unset("/root/path").refused("root"),
        case("root of a wrong type").set("/root", json!("rootfs")).refused("config.json"),
        case("arguments missing").unset("/process/args").refused("process.args"),
        case("arguments empty").set("/process/args", json!([])).refused("process.args"),
        case("arguments of a wrong type").set("/process/args", json!("sh")).refused("config.json"),
        case("cwd missing").unset("/process/cwd").refused("process.cwd"),
        case("cwd relative").set("/process/cwd", json!("etc")).refused("process.cwd").but_prints(Crun, "", "crun takes it from /"),
        case("user of a wrong type").set("/process/user", json!("root")).refused("config.json").but_prints(Crun, "", "crun takes it for root"),
        case("uid negative").set("/process/user/uid", json!(-5)).refused("config.json"),
        case("environment with a NUL").set("/process/env", json!(["PATH=/bin", "A=b\u{0}c"])).refused("process.env")
            .but_prints(Crun, "", "crun takes what is before it"),
        case("argument with a NUL").set("/process/args", json!(["echo", "b\u{0}c"])).refused("process.args")
            .but_prints(Crun, "b\n", "crun takes what is before it"),
        case("limit of an unknown kind").set("/process/rlimits", json!([{"type": "RLIMIT_FUN", "soft": 1, "hard": 1}])).refused("RLIMIT_FUN"),
        case("limit twice").set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 1, "hard": 1}]))
            .refused("RLIMIT_CORE").but_prints(Crun, "", "crun takes the last").but_prints(Runc, "", "runc checks from 1.2 on"),
        case("soft above hard").set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 5, "hard": 1}])).refused("RLIMIT_CORE"),
        case("oom score out of range").set("/process/oomScoreAdj", json!(5000)).refused("oomScoreAdj"),
        case("mount without a destination").add("/mounts", json!({"type": "tmpfs", "source": "x"})).refused("destination"),
        case("hook without a path").set("/hooks/prestart", json!([{"args": ["x"]}])).refused("path"),
        case("propagation of an unknown kind").set("/linux/rootfsPropagation", json!("sideways")).refused("sideways").but_prints(Crun, "", "crun leaves it out"),
        case("intelRdt").set("/linux/intelRdt", json!({"closID": "x"})).refused("intelRdt").but_prints(Runc, "", "runc leaves it out where the machine has none").but_prints(Crun, "", "crun leaves it out where the machine has none"),
        case("masked path relative").set("/linux/maskedPaths", json!(["etc"])).refused("maskedPaths")
            .but_prints(Runc, "", "runc takes it from /")
            .but_prints(Crun, "", "crun takes it from /"),
        case("personality of an unknown domain").set("/linux/personality", json!({"domain": "PDP11"})).refused("PDP11")
            .but_prints(Runc, "", "runc knows personality from 1.2 on"),
    ]
}

pub(crate) fn programs() -> Vec<Case> {
    vec![
        case("program missing").args(&["nothing-of-that-name"]).refused("nothing-of-that-name"),
        case("program missing by path").args(&["/bin/nothing"]).refused("/bin/nothing"),
        case("program is a directory").args(&["/etc"]).refused("/etc"),
        case("program not executable").args(&["/etc/hosts"]).refused("/etc/hosts"),
        case("program of a wrong format")
            .before("printf '\\177ELF garbage' > rootfs/x; chmod 755 rootfs/x")
            .args(&["/x"])
            .refused("/x"),
        case("interpreter missing")
            .before("printf '#!/nowhere/sh\\n' > rootfs/x; chmod 755 rootfs/x")
            .args(&["/x"])
            .refused("/x"),
        case("program that the user may not run")
            .before("cp rootfs/bin/busybox rootfs/echo; chmod 700 rootfs/echo")
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/capabilities", json!({}))
            .args(&["/echo", "ran"])
            .refused("/echo"),
        case("root is a file").before("rm -r rootfs; touch rootfs").refused("rootfs"),
        case("root is missing").before("rm -r rootfs").refused("rootfs"),
        case("root is empty").before("rm -r rootfs; mkdir rootfs").refused("exec").refused("true"),
        case("cwd is a file").set("/process/cwd", json!("/etc/hosts")).refused("/etc/hosts"),
        case("cwd that the user may not enter")
            .before("mkdir rootfs/c; chmod 700 rootfs/c")
            .set("/process/user", json!({"uid": 1000, "gid": 1000}))
            .set("/process/cwd", json!("/c"))
            .sh("ls . 2>/dev/null || echo denied")
            .prints("denied\n"),
        case("cwd by a descriptor of the runtime")
            .set("/process/cwd", json!("/proc/self/fd/7"))
            .refused("/proc/self/fd/7"),
        case("bind over a missing parent that is a file")
            .before("mkdir src")
            .mount("/etc/hosts/x", "bind", "src", &["bind"])
            .refused("/etc/hosts/x"),
        case("bind a directory onto a file")
            .before("mkdir src")
            .mount("/etc/hosts", "bind", "src", &["bind"])
            .refused("/etc/hosts"),
        case("bind a file onto a directory")
            .before("touch f")
            .mount("/etc", "bind", "f", &["bind"])
            .refused("/etc"),
    ]
}
