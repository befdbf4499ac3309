//! The state root and a container's directory in it: which file is where, and who may change them.
//!
//! ```text
//! ROOT/ID/            one container; the bundle that monitor and runtime get
//!   state.json  lock  config.json  events  exits/ID  exit.json  oom  attach  ctl  pidfile  runtime.log
//! ROOT/.new-PID-N     a container that is being made by process PID: not visible yet
//! ROOT/.gone-ID-N     a container that is deleted: only to be removed
//! ROOT/.names/NAME    a link to the id of the container with this name
//! ROOT/.events        the events of all containers
//! ```

use std::path::{Path, PathBuf};

use model::{Id, Name};
use sys::Ctx as _;
use sys::lock::FileLock;

use crate::record::Record;
use crate::{Error, Result};

/// The largest state.json that is read, in bytes.
const RECORD_MAX: u64 = 16 << 20;

/// The state root.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    /// Takes the directory, making it (mode 0700) where it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).ctx("resolve", path)?;
        let root = Self { path };
        for dir in [root.path.clone(), root.names()] {
            make_dirs(&dir)?;
        }
        Ok(root)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn names(&self) -> PathBuf {
        self.path.join(".names")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.path.join(".events")
    }

    /// The lock of what belongs to no single container: names.
    pub(crate) fn lock(&self) -> Result<FileLock> {
        Ok(FileLock::acquire(self.path.join(".lock"))?)
    }

    pub(crate) fn dir(&self, id: &Id) -> Dir {
        Dir { path: self.path.join(id.as_str()), id: id.clone() }
    }

    /// The id of the container called `name`.
    pub(crate) fn named(&self, name: &Name) -> Result<Option<Id>> {
        let link = self.names().join(name.as_str());
        match std::fs::read_link(&link).ctx("read", &link) {
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error.into()),
            Ok(target) => Ok(target.to_str().and_then(|id| Id::new(id).ok())),
        }
    }

    /// The ids that have a directory.
    pub(crate) fn ids(&self) -> Result<Vec<Id>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.path).ctx("list", &self.path)? {
            let entry = entry.ctx("list", &self.path)?;
            // Our own names begin with a dot, which no id does.
            if let Some(id) = entry.file_name().to_str().and_then(|name| Id::new(name).ok()) {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }
}

/// A container's directory.
#[derive(Debug, Clone)]
pub(crate) struct Dir {
    path: PathBuf,
    id: Id,
}

impl Dir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn id(&self) -> &Id {
        &self.id
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.file("state.json")
    }

    /// The same container in a directory that is called otherwise: while it is made, or removed.
    pub(crate) fn at(&self, path: PathBuf) -> Self {
        Self { path, id: self.id.clone() }
    }

    /// Waits for the container's lock.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is no such container.
    pub(crate) fn lock(&self, op: &'static str) -> Result<FileLock> {
        match FileLock::acquire(self.file("lock")) {
            Err(error) if error.is_gone() => Err(Error::not_found(op, &self.id)),
            result => Ok(result?),
        }
    }

    /// The record on disk.
    ///
    /// # Errors
    /// [`Error::NotFound`] when there is none, [`Error::Invalid`] when it is no record of ours.
    pub(crate) fn load(&self, op: &'static str) -> Result<Record> {
        let path = self.state();
        let bytes = match sys::durable::read_bounded(&path, RECORD_MAX) {
            Err(error) if error.is_gone() => return Err(Error::not_found(op, &self.id)),
            result => result?,
        };
        let bad = |cause: String| Error::invalid("read", path.display(), cause);
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if record.version != Record::VERSION {
            return Err(bad(format!("version {} where {} is known", record.version, Record::VERSION)));
        }
        if record.id != self.id {
            return Err(bad(format!("is the record of {}", record.id)));
        }
        Ok(record)
    }

    /// Replaces the record on disk.
    pub(crate) fn save(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record)
            .map_err(|error| Error::invalid("write", self.state().display(), error))?;
        Ok(sys::durable::replace_path(self.state(), &bytes, 0o600)?)
    }
}

/// Makes a directory with those above it, mode 0700.
pub(crate) fn make_dirs(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).ctx("mkdir", path)?;
    Ok(())
}
