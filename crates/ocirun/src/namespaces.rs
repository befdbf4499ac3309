//! Which namespaces a container gets, new or joined.

use std::path::{Path, PathBuf};

use model::oci::LinuxNamespace;
use sys::Ctx as _;

use crate::error::{Error, Result};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the kernel's names")]
pub enum Kind {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
    Time,
}

impl Kind {
    /// All of them, in the order in which they are joined.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Cgroup, Self::Ipc, Self::Uts, Self::Network, Self::Pid, Self::Time, Self::Mount];

    /// The specification's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mount",
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its file in /proc/PID/ns.
    #[must_use]
    pub fn file(self) -> &'static str {
        match self {
            Self::Mount => "mnt",
            Self::Network => "net",
            other => other.name(),
        }
    }

    /// `CLONE_NEW…`.
    #[must_use]
    pub fn flag(self) -> i32 {
        match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Time => 0x80,
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The namespaces of a container; the host's, where a kind is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces(Vec<(Kind, Option<PathBuf>)>);

impl Namespaces {
    /// Reads `linux.namespaces`.
    ///
    /// # Errors
    /// An unknown kind, or one that is there twice.
    pub fn new(list: &[LinuxNamespace]) -> Result<Self> {
        let mut namespaces = Self::default();
        for namespace in list {
            let bad = |cause: &str| {
                Err(Error::invalid("linux.namespaces", format!("{:?} {cause}", namespace.kind)))
            };
            let Some(kind) = Kind::parse(&namespace.kind) else { return bad("is no namespace") };
            if namespaces.has(kind) {
                return bad("is there twice");
            }
            let path = namespace.path.as_deref().filter(|path| !path.is_empty());
            if path.is_some_and(|path| !path.starts_with('/')) {
                return bad("has a path that is not absolute");
            }
            namespaces.0.push((kind, path.map(PathBuf::from)));
        }
        Ok(namespaces)
    }

    /// Whether the container has one that is not simply the host's.
    #[must_use]
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|(known, _)| *known == kind)
    }

    /// Whether a new one is made.
    #[must_use]
    pub fn is_new(&self, kind: Kind) -> bool {
        self.0.iter().any(|(known, path)| *known == kind && path.is_none())
    }

    /// Whether it is the one that this process is in, though config.json may join it by a path.
    ///
    /// # Errors
    /// The system's.
    pub fn is_ours(&self, kind: Kind) -> sys::Result<bool> {
        let identity = |path: &Path| {
            rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino)).ctx("open namespace", path)
        };
        match self.joined(kind) {
            Some(path) => {
                let own = PathBuf::from(format!("/proc/self/ns/{}", kind.file()));
                Ok(identity(path)? == identity(&own)?)
            }
            None => Ok(!self.has(kind)),
        }
    }

    /// The one that is joined.
    #[must_use]
    pub fn joined(&self, kind: Kind) -> Option<&PathBuf> {
        self.0.iter().find(|(known, _)| *known == kind).and_then(|(_, path)| path.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Namespaces> {
        Namespaces::new(&serde_json::from_str::<Vec<LinuxNamespace>>(json).unwrap())
    }

    #[test]
    fn new_joined_and_the_hosts() {
        let namespaces =
            read(r#"[{"type":"pid"},{"type":"network","path":"/proc/1/ns/net"},{"type":"ipc","path":""}]"#)
                .unwrap();
        assert!(namespaces.is_new(Kind::Pid) && namespaces.is_new(Kind::Ipc));
        assert!(namespaces.has(Kind::Network) && !namespaces.is_new(Kind::Network));
        assert!(!namespaces.has(Kind::User));
    }

    #[test]
    fn what_cannot_be() {
        for bad in [
            r#"[{"type":"pid"},{"type":"pid"}]"#,
            r#"[{"type":"net"}]"#,
            "[{}]",
            r#"[{"type":"pid","path":"x"}]"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
