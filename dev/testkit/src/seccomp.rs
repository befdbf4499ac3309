//! The seccomp profile that ordinary containers run under.

use serde_json::{Value, json};

/// System calls that an ordinary container may make, one name a line.
const ALLOWED: &str = include_str!("../data/syscalls.txt");

/// A profile of the usual size: some 300 calls allowed, `personality` and `clone` by their arguments,
/// all else refused with EPERM, `clone3` with ENOSYS.
pub fn seccomp_profile() -> Value {
    let names: Vec<&str> = ALLOWED.lines().filter(|line| !line.is_empty()).collect();
    let personalities = [0_u64, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let mut rules = vec![json!({ "names": names, "action": "SCMP_ACT_ALLOW" })];
    rules.extend(personalities.iter().map(|value| {
        json!({
            "names": ["personality"], "action": "SCMP_ACT_ALLOW",
            "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }],
        })
    }));
    rules.push(json!({
        "names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{ "index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }],
    }));
    rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}
