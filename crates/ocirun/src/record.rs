//! What is known of a container between two commands: ROOT/ID/state.json, replaced atomically.
//!
//! ```text
//! ROOT/ID/state.json   this record
//! ROOT/ID/config.json  the configuration as it was at create
//! ROOT/ID/start.sock   there until the container is started
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::Id;
use model::oci::{Spec, State};
use serde::{Deserialize, Serialize};
use sys::pidfd::PidFd;
use sys::{Ctx as _, durable};

use crate::cgroup::Cgroup;
use crate::error::{Error, Result};

/// As large a document as is read.
pub(crate) const MAX_DOCUMENT: u64 = 32 << 20;

/// The record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// [`Record::VERSION`].
    pub version: u32,
    /// The specification's version of its config.json.
    pub oci_version: String,
    /// The container.
    pub id: String,
    /// Its init.
    pub pid: i32,
    /// When init started, in ticks since the boot: with the pid it names one process.
    pub start_time: u64,
    /// The boot it belongs to.
    pub boot_id: String,
    /// An absolute path.
    pub bundle: PathBuf,
    /// An absolute path.
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    /// Who created it.
    pub owner: u32,
    /// The annotations of its config.json.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Its cgroup.
    #[serde(default)]
    pub cgroup: Option<Cgroup>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the specification's words")]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    /// The specification's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// A container's directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dir {
    path: PathBuf,
    id: String,
}

impl Dir {
    /// The directory of `id` below `root`.
    ///
    /// # Errors
    /// An id that is none.
    pub fn of(root: &Path, id: &str) -> Result<Self> {
        let id = Id::new(id).map_err(|error| Error::invalid("container id", error.to_string()))?;
        Ok(Self { path: root.join(id.as_str()), id: id.as_str().to_owned() })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it.
    ///
    /// # Errors
    /// [`Error::Exists`]; the system's.
    pub fn make(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = std::fs::DirBuilder::new();
        builder.mode(0o700);
        match builder.create(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let parent = self.path.parent().unwrap_or(Path::new("/"));
                std::fs::DirBuilder::new()
                    .mode(0o711)
                    .recursive(true)
                    .create(parent)
                    .ctx("make directory", parent)?;
                builder.create(&self.path).ctx("make directory", &self.path)?;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(self.id.clone()))
            }
            result => Ok(result.ctx("make directory", &self.path)?),
        }
    }

    /// Whether there is one.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Where init waits for its start.
    #[must_use]
    pub fn start_socket(&self) -> PathBuf {
        self.path.join("start.sock")
    }

    /// Removes it with all in it; gone is done.
    ///
    /// # Errors
    /// The system's.
    pub fn remove(&self) -> Result<()> {
        Ok(durable::remove_tree(&self.path)?)
    }

    /// Writes the record.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(std::io::Error::from).ctx("write", "state.json")?;
        replace(&self.path.join("state.json"), &bytes, 0o600)
    }

    /// Keeps the configuration.
    ///
    /// # Errors
    /// The system's.
    pub fn write_config(&self, bytes: &[u8]) -> Result<()> {
        let path = self.path.join("config.json");
        Ok(std::fs::write(&path, bytes).ctx("write", path)?)
    }

    /// The configuration as it was at create.
    ///
    /// # Errors
    /// The system's; not a configuration.
    pub fn config(&self) -> Result<Spec> {
        read_config(&self.path.join("config.json")).map(|(spec, _)| spec)
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`Error::NoContainer`]; the system's; a record that is cut off or of another version.
    pub fn read(&self) -> Result<Record> {
        let path = self.path.join("state.json");
        let bytes = match durable::read_bounded(&path, MAX_DOCUMENT) {
            Err(error) if error.errno() == Some(libc::ENOENT) => {
                return Err(Error::NoContainer(self.id.clone()));
            }
            result => result?,
        };
        let bad = |cause: String| sys::Error::other("read", &path, cause);
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if record.version != Record::VERSION {
            return Err(
                bad(format!("version {} is not known, {} is", record.version, Record::VERSION)).into()
            );
        }
        Ok(record)
    }
}

/// Replaces a file atomically. It is of this boot only, so that nothing is synced to a disk.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default();
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, rustix::fs::Mode::empty()).ctx("open", parent)?;
    Ok(durable::replace(&dir, name, bytes, mode, durable::Durability::Memory)?)
}

/// Reads and parses a config.json; gives the bytes too.
///
/// # Errors
/// The system's; not a configuration.
pub(crate) fn read_config(path: &Path) -> Result<(Spec, Vec<u8>)> {
    let bytes = durable::read_bounded(path, MAX_DOCUMENT)?;
    let spec = serde_json::from_slice(&bytes)
        .map_err(|error| sys::Error::other("parse", path, error.to_string()))?;
    Ok((spec, bytes))
}

impl Record {
    /// The version that is written and read.
    pub const VERSION: u32 = 1;

    /// A pidfd of its init, none if that is gone.
    ///
    /// # Errors
    /// The system's.
    pub fn init(&self) -> Result<Option<PidFd>> {
        if self.pid <= 0 || self.boot_id != sys::proc::boot_id()? {
            return Ok(None);
        }
        let Some(pidfd) = PidFd::open_verified(self.pid, self.start_time)? else { return Ok(None) };
        // Dead, though nobody has waited for it yet.
        match sys::proc::stat(self.pid) {
            Ok(stat) if matches!(stat.state, 'Z' | 'X') => Ok(None),
            Ok(_) => Ok(Some(pidfd)),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The status, and the pidfd of its init if it is alive.
    ///
    /// # Errors
    /// The system's.
    pub fn status(&self, dir: &Dir) -> Result<(Status, Option<PidFd>)> {
        let Some(init) = self.init()? else { return Ok((Status::Stopped, None)) };
        if self.cgroup.as_ref().is_some_and(|cgroup| cgroup.is_frozen().unwrap_or(false)) {
            return Ok((Status::Paused, Some(init)));
        }
        let status = if dir.start_socket().exists() { Status::Created } else { Status::Running };
        Ok((status, Some(init)))
    }

    /// The state as hooks and `state` show it.
    #[must_use]
    pub fn state(&self, status: &str) -> State {
        State {
            oci_version: self.oci_version.clone(),
            id: self.id.clone(),
            status: status.to_owned(),
            pid: if status == "stopped" { 0 } else { self.pid },
            bundle: self.bundle.to_string_lossy().into_owned(),
            annotations: self.annotations.clone(),
        }
    }
}
