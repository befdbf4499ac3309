//! Whom the kernel kills first for want of memory (proc_pid_oom_score_adj(5)).

use crate::{Ctx as _, Error, Result};

/// The range of values; -1000 exempts from being killed.
pub const MIN: i32 = -1000;
/// The other end.
pub const MAX: i32 = 1000;

/// A process's value.
pub fn read(pid: i32) -> Result<i32> {
    let path = path(pid);
    let text = crate::proc::read(&path)?;
    text.trim().parse().map_err(|_| Error::other("parse", path, "no number"))
}

/// Sets a process's value and returns the one it has then. Without `CAP_SYS_RESOURCE` it can't be lowered
/// below what a privileged process last set: then it gets the lowest that is allowed.
pub fn write(pid: i32, value: i32) -> Result<i32> {
    let path = path(pid);
    let value = value.clamp(MIN, MAX);
    if attempt(&path, value)? {
        return Ok(value);
    }
    // The limit is not shown anywhere: between what was refused and what is, halving finds it.
    let (mut refused, mut allowed) = (value, read(pid)?);
    while allowed - refused > 1 {
        let middle = refused.midpoint(allowed);
        if attempt(&path, middle)? {
            allowed = middle;
        } else {
            refused = middle;
        }
    }
    Ok(allowed)
}

/// Whether the kernel takes the value.
fn attempt(path: &str, value: i32) -> Result<bool> {
    match std::fs::write(path, value.to_string()) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(false),
        result => result.map(|()| true).ctx("write", path),
    }
}

fn path(pid: i32) -> String {
    format!("/proc/{pid}/oom_score_adj")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_or_clamped() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let start = read(pid).unwrap();
        assert_eq!(write(pid, 700).unwrap(), 700);
        assert_eq!(read(pid).unwrap(), 700);
        assert_eq!(write(pid, 5000).unwrap(), 1000);
        let lowest = write(pid, -998).unwrap();
        assert_eq!(read(pid).unwrap(), lowest);
        let privileged = super::super::caps::get().unwrap().effective
            & super::super::caps::mask(&[super::super::caps::SYS_RESOURCE])
            != 0;
        assert!(if privileged { lowest == -998 } else { lowest <= start }, "{lowest} {start}");
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(read(pid).unwrap_err().is_gone());
    }
}
