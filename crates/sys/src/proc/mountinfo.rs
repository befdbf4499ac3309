//! The mounts of a mount namespace (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use super::MAX_BYTES;
use crate::Result;
use crate::durable::read_bounded;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number; may be used again after it is unmounted.
    pub id: u64,
    /// The mount it is on.
    pub parent: u64,
    /// The device's major and minor number, as in `st_dev`.
    pub device: (u32, u32),
    /// What of the file system is mounted: `/` or a directory or file within.
    pub root: PathBuf,
    /// Where, seen from the process's root.
    pub mount_point: PathBuf,
    /// Options of this mount, such as `rw`, `nosuid`.
    pub options: Vec<String>,
    /// Propagation: `shared:N`, `master:N`, `propagate_from:N`, `unbindable`. None for a private one.
    pub propagation: Vec<String>,
    /// The file system's type, such as `cgroup2`.
    pub fs_type: String,
    /// The device's path or another name for the source.
    pub source: OsString,
    /// Options of the file system.
    pub super_options: Vec<String>,
}

/// The mounts that this process sees.
pub fn mounts() -> Result<Vec<Mount>> {
    Ok(parse_mountinfo(&read_bounded("/proc/self/mountinfo", MAX_BYTES)?))
}

/// The mounts that process `pid` sees.
pub fn mounts_of(pid: i32) -> Result<Vec<Mount>> {
    Ok(parse_mountinfo(&read_bounded(format!("/proc/{pid}/mountinfo"), MAX_BYTES)?))
}

/// Reads the text of a `mountinfo` file; lines of another form are left out.
#[must_use]
pub fn parse_mountinfo(text: &[u8]) -> Vec<Mount> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let (major, minor) = std::str::from_utf8(fields.next()?).ok()?.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = PathBuf::from(unescape(fields.next()?));
    let mount_point = PathBuf::from(unescape(fields.next()?));
    let options = list(fields.next()?);
    let propagation = fields.by_ref().take_while(|field| *field != b"-");
    let propagation = propagation.map(|field| String::from_utf8_lossy(field).into_owned()).collect();
    let fs_type = unescape(fields.next()?).to_string_lossy().into_owned();
    let source = unescape(fields.next()?);
    let super_options = list(fields.next()?);
    Some(Mount {
        id,
        parent,
        device,
        root,
        mount_point,
        options,
        propagation,
        fs_type,
        source,
        super_options,
    })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn list(field: &[u8]) -> Vec<String> {
    field.split(|byte| *byte == b',').map(|option| String::from_utf8_lossy(option).into_owned()).collect()
}

/// Undoes the kernel's `\ooo` for space, tab, newline and backslash.
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    OsString::from_vec(bytes)
}
