//! The embedded OCI runtime wharf-oci, and execs as a library.
//!
//! ```text
//! config.json ─plan──► InitPlan ─create──► init, waiting ─start──► the container's program
//! process.json ─process─► ProcessPlan ─exec::Target::spawn──► a further process
//! ```
//! What shall happen is computed by pure functions ([`process`], `plan`, [`mounts::options`]); what acts on the kernel runs
//! in a process with one thread. Nothing of a container is opened by a path that it could have changed meanwhile, and no
//! code of an image runs before the container's program does.

mod become_program;
pub mod cgroup;
mod cgroup_owner;
pub mod checkpoint;
pub mod cli;
mod clone;
pub mod create;
pub mod criu;
pub mod error;
mod events;
pub mod exec;
pub mod harness;
mod hooks;
mod init;
mod inroot;
pub mod lifecycle;
mod mempolicy;
pub mod mounts;
pub mod namespaces;
mod netdev;
pub mod passwd;
mod plan;
pub mod process;
mod procfs;
pub mod protect;
pub mod record;
mod rights;
mod sdnotify;
pub mod seccomp;
mod selinux;
pub mod start;
mod update;

pub use error::{Error, Result};
pub use plan::OCI_VERSION;

/// Where state is kept if nobody says otherwise.
pub const DEFAULT_ROOT: &str = "/run/wharf-oci";
