//! Which files a log is: the one of its name, and before it those that it was rotated to.
//!
//! Known names: `PATH.N`, where 1 is the newest, and kubelet's `PATH.YYYYMMDD-HHMMSS`. Compressed ones are
//! left out.

use std::cmp::Reverse;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sys::Ctx as _;

use crate::Result;

/// Rotated files beyond this number are not read: the oldest.
const FILES_MAX: usize = 64;

/// Tells one file from another, as long as it is open.
pub(super) type Inode = (u64, u64);

/// A file of the log.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) inode: Inode,
}

/// Opens the files of the log at `path`, the oldest first. None where there is none.
pub(super) fn open_all(path: &Path) -> Result<Vec<Opened>> {
    // A rotation between listing and opening would hide a file: what is open must be what is listed.
    for _ in 0..10 {
        let opened = open_listed(path)?;
        let inodes: Vec<Inode> = opened.iter().map(|o| o.inode).collect();
        if open_listed(path)?.iter().map(|o| o.inode).eq(inodes.iter().copied()) {
            return Ok(opened);
        }
    }
    open_listed(path)
}

fn open_listed(path: &Path) -> Result<Vec<Opened>> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut rotated = Vec::new();
    for entry in std::fs::read_dir(dir).ctx("list", dir)? {
        let entry = entry.ctx("list", dir)?;
        if let Some(age) = entry.file_name().to_str().and_then(|file| age(&name, file)) {
            rotated.push((age, entry.path()));
        }
    }
    rotated.sort();
    let skip = rotated.len().saturating_sub(FILES_MAX);
    let paths = rotated.into_iter().skip(skip).map(|(_, file)| file).chain([path.to_path_buf()]);
    let mut opened: Vec<Opened> = Vec::new();
    for file in paths {
        if let Some(file) = open(&file)? {
            opened.retain(|o| o.inode != file.inode);
            opened.push(file);
        }
    }
    Ok(opened)
}

fn open(path: &Path) -> Result<Option<Opened>> {
    let file = match File::open(path).ctx("open", path) {
        Err(error) if error.is_gone() => return Ok(None),
        result => result?,
    };
    let meta = file.metadata().ctx("stat", path)?;
    if !meta.is_file() {
        return Ok(Err(std::io::Error::other("not a file")).ctx("read log", path)?);
    }
    Ok(Some(Opened { file, inode: (meta.dev(), meta.ino()) }))
}

/// The file that has the log's name now.
pub(super) fn current(path: &Path) -> Option<Inode> {
    std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Sorts rotated files, the oldest first: by date, then by number downwards.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Age {
    Dated(String),
    Numbered(Reverse<u32>),
}

fn age(name: &str, file: &str) -> Option<Age> {
    let suffix = file.strip_prefix(name)?.strip_prefix('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if digits(suffix) && suffix.len() <= 6 {
        return suffix.parse().ok().map(|n| Age::Numbered(Reverse(n)));
    }
    let (date, time) = suffix.split_once('-')?;
    let dated = date.len() == 8 && time.len() == 6 && digits(date) && digits(time);
    dated.then(|| Age::Dated(suffix.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rotated_files() {
        let mut ages: Vec<Age> = [
            "c.log.1",
            "c.log.20260102-000000",
            "c.log.10",
            "c.log.2",
            "c.log.20260101-120000",
            "c.log",
            "c.log.20260101-120000.gz",
            "c.log.tmp",
            "c.log.",
            "d.log.1",
            "c.log.2026-1",
        ]
        .iter()
        .filter_map(|file| age("c.log", file))
        .collect();
        ages.sort();
        let expected = [
            Age::Dated("20260101-120000".to_owned()),
            Age::Dated("20260102-000000".to_owned()),
            Age::Numbered(Reverse(10)),
            Age::Numbered(Reverse(2)),
            Age::Numbered(Reverse(1)),
        ];
        assert_eq!(ages, expected);
    }
}
