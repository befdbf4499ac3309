//! The options of a mount, as fstab(5), mount(8) and the runtime specification spell them.

use std::collections::BTreeSet;

use sys::mount_attr as attr;

use crate::error::{Error, Result};

/// What the options of one mount ask for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountOptions {
    /// `bind` or `rbind`; the bool is whether mounts below the source come along.
    pub bind: Option<bool>,
    /// `remount`.
    pub remount: bool,
    /// Attributes that are set on this mount.
    pub set: u64,
    /// Attributes that are cleared on this mount.
    pub clear: u64,
    /// Attributes that are set on this mount and those below it.
    pub rec_set: u64,
    /// Attributes that are cleared on this mount and those below it.
    pub rec_clear: u64,
    /// Propagation changes in their order; the bool is whether mounts below are changed too.
    pub propagation: Vec<(u64, bool)>,
    /// `tmpcopyup`: the tmpfs begins with what was there.
    pub tmpcopyup: bool,
    /// `idmap` or `ridmap`; the bool is whether mounts below are mapped too.
    pub idmap: Option<bool>,
    /// Options of the filesystem, `name` or `name=value`.
    pub data: Vec<(String, Option<String>)>,
    /// The SELinux label of its root, where the filesystem takes none as an option.
    pub root_label: Option<String>,
}

const SHARED: u64 = 1 << 20;
const PRIVATE: u64 = 1 << 18;
const SLAVE: u64 = 1 << 19;
const UNBINDABLE: u64 = 1 << 17;

/// Attributes by name: bits that are set and bits that are cleared.
const ATTRIBUTES: [(&str, u64, u64); 19] = [
    ("ro", attr::RDONLY, 0),
    ("rw", 0, attr::RDONLY),
    ("nosuid", attr::NOSUID, 0),
    ("suid", 0, attr::NOSUID),
    ("nodev", attr::NODEV, 0),
    ("dev", 0, attr::NODEV),
    ("noexec", attr::NOEXEC, 0),
    ("exec", 0, attr::NOEXEC),
    ("noatime", attr::NOATIME, attr::ATIME_MASK),
    ("atime", 0, attr::ATIME_MASK),
    ("strictatime", attr::STRICTATIME, attr::ATIME_MASK),
    ("nostrictatime", 0, attr::ATIME_MASK),
    ("relatime", 0, attr::ATIME_MASK),
    ("norelatime", 0, attr::ATIME_MASK),
    ("nodiratime", attr::NODIRATIME, 0),
    ("diratime", 0, attr::NODIRATIME),
    ("nosymfollow", attr::NOSYMFOLLOW, 0),
    ("symfollow", 0, attr::NOSYMFOLLOW),
    ("defaults", 0, 0),
];

/// Words of the superblock that the kernel's mount API takes as flags.
const SUPERBLOCK: [&str; 7] = ["sync", "async", "dirsync", "mand", "nomand", "lazytime", "nolazytime"];

/// Words that mean nothing to the kernel.
const IGNORED: [&str; 11] = [
    "silent",
    "loud",
    "iversion",
    "noiversion",
    "acl",
    "noacl",
    "private=",
    "nofail",
    "auto",
    "noauto",
    "_netdev",
];

/// The propagation that a word names, and whether it is for all mounts below.
#[must_use]
pub fn propagation(word: &str) -> Option<(u64, bool)> {
    let (word, all) = match word {
        "rshared" | "rprivate" | "rslave" | "runbindable" => (&word[1..], true),
        _ => (word, false),
    };
    let flag = match word {
        "shared" => SHARED,
        "private" => PRIVATE,
        "slave" => SLAVE,
        "unbindable" => UNBINDABLE,
        _ => return None,
    };
    Some((flag, all))
}

/// Whether the propagation shares events with the host.
#[must_use]
pub fn is_shared(flag: u64) -> bool {
    flag == SHARED
}

/// Every word that is understood, for `features`.
#[must_use]
pub fn known() -> BTreeSet<String> {
    let plain = ATTRIBUTES.iter().map(|(name, ..)| (*name).to_owned());
    let recursive =
        ATTRIBUTES.iter().filter(|(name, ..)| *name != "defaults").map(|(name, ..)| format!("r{name}"));
    let other = [
        "bind",
        "rbind",
        "remount",
        "tmpcopyup",
        "idmap",
        "ridmap",
        "shared",
        "rshared",
        "private",
        "rprivate",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
    ];
    let other = other.iter().chain(SUPERBLOCK.iter()).chain(&IGNORED[..6]).map(|name| (*name).to_owned());
    plain.chain(recursive).chain(other).collect()
}

impl MountOptions {
    /// Reads the options of the mount at `destination`.
    ///
    /// # Errors
    /// An option with a NUL byte.
    pub fn parse(destination: &str, options: &[String]) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options {
            if option.contains('\0') {
                return Err(Error::invalid(
                    format!("mounts {destination}"),
                    format!("option {option:?} has a NUL"),
                ));
            }
            parsed.take(option);
        }
        Ok(parsed)
    }

    fn take(&mut self, option: &str) {
        if let Some((_, set, clear)) = ATTRIBUTES.iter().find(|(name, ..)| *name == option) {
            self.set = self.set & !clear | set;
            self.clear = self.clear & !set | clear;
            return;
        }
        let recursive =
            option.strip_prefix('r').and_then(|name| ATTRIBUTES.iter().find(|(word, ..)| *word == name));
        if let Some((_, set, clear)) = recursive {
            self.rec_set = self.rec_set & !clear | set;
            self.rec_clear = self.rec_clear & !set | clear;
            return;
        }
        if let Some(change) = propagation(option) {
            self.propagation.push(change);
            return;
        }
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.tmpcopyup = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "" => {}
            _ if IGNORED.contains(&option) => {}
            _ => {
                let (name, value) = match option.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (option, None),
                };
                self.data.push((name.to_owned(), value));
            }
        }
    }

    /// Whether the mount itself is to be read-only.
    #[must_use]
    pub fn readonly(&self) -> bool {
        self.set & attr::RDONLY != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> MountOptions {
        let options: Vec<String> = text.split(',').map(str::to_owned).collect();
        MountOptions::parse("/x", &options).unwrap()
    }

    #[test]
    fn words_and_what_they_ask_for() {
        let options = parse("rbind,ro,nosuid,rslave,noatime,rrw,size=64k,mode=755,foo");
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.set, attr::RDONLY | attr::NOSUID | attr::NOATIME);
        assert_eq!(options.clear, attr::ATIME_MASK);
        assert_eq!((options.rec_set, options.rec_clear), (0, attr::RDONLY));
        assert_eq!(options.propagation, [(SLAVE, true)]);
        let data: Vec<_> =
            options.data.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        assert_eq!(data, [("size", Some("64k")), ("mode", Some("755")), ("foo", None)]);
    }

    #[test]
    fn the_last_of_two_that_contradict_wins() {
        let options = parse("ro,rw,noexec,exec,noatime,strictatime");
        assert_eq!((options.set, options.clear & attr::RDONLY), (attr::STRICTATIME, attr::RDONLY));
        assert!(!options.readonly());
        assert!(parse("rw,ro").readonly());
        assert!(MountOptions::parse("/x", &["a\0b".to_owned()]).is_err());
    }

    #[test]
    fn rbind_is_not_the_recursive_form_of_bind() {
        assert_eq!(parse("rbind,bind").bind, Some(true));
        assert_eq!(parse("rprivate").propagation, [(PRIVATE, true)]);
        assert_eq!(parse("relatime").clear, attr::ATIME_MASK);
        assert_eq!(parse("rrelatime").rec_clear, attr::ATIME_MASK);
    }
}
