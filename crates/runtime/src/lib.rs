//! The lifecycle layer: takes containers in charge and answers for each until it is gone.
//!
//! It drives any OCI runtime (runc's command line) through a monitor (conmon's command line), on a state
//! root that several processes may share. Callers are async; the core is synchronous and is reached through
//! one bounded door ([`blocking`]).
//!
//! What it must never do: invent an exit or a time, signal a pid that is not held by a pidfd, wait without
//! a bound, or leave a half-made container behind.
//!
//! ```no_run
//! # async fn example() -> runtime::Result<()> {
//! use runtime::{CreateRequest, RuntimeConfig, Runtimes};
//! let runtimes = Runtimes::from_config(&RuntimeConfig::detect("/run/wharfinger"))?;
//! let id = "web".parse().expect("a good id");
//! let container = runtimes.create(CreateRequest::new(id, "/var/lib/bundles/web")).await?;
//! container.start().await?;
//! let ended = container.wait().await?;
//! assert_eq!(ended.code, 0);
//! container.delete(false).await?;
//! # Ok(()) }
//! ```

mod attach;
pub mod blocking;
mod bundle;
mod cgroups;
mod checkpoint;
mod cleanup;
mod clock;
pub mod config;
mod container;
mod create;
mod delete;
mod dir;
mod driver;
mod error;
mod event;
mod exec;
mod from_file;
mod handler;
#[doc(hidden)]
pub mod harness;
mod images;
mod kill;
mod limits;
pub mod logs;
mod monitor;
mod pause;
mod process;
mod ps;
mod ready;
mod record;
mod recover;
mod request;
mod runtimes;
mod start;
mod stats;
mod status;
mod stop;
mod stream;
mod systemd;
mod update;
mod watch;

pub use attach::{Attached, Output};
pub use config::{CgroupManager, HandlerConfig, HandlerKind, MonitorConfig, RuntimeConfig, TrustConfig};
pub use container::Container;
pub use error::{Error, Kind, Result};
pub use event::{Event, Happened};
pub use exec::Exec;
pub use handler::{Handler, HandlerReport, Version};
pub use logs::{LogLine, LogOptions, LogReader};
pub use ps::Process;
pub use recover::Recovered;
pub use request::{CheckpointRequest, CreateRequest, ExecOutput, ExecRequest, ExecStreams, Io, Size, Stdin};
pub use runtimes::Runtimes;
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Stats};
pub use status::{Ended, Status};
pub use stream::Events;

/// A named place where tests let the process fail or die.
pub(crate) fn point(name: &'static str) -> Result<()> {
    use sys::Ctx as _;
    Ok(sys::fail::point(name).ctx("pass", name)?)
}

/// Tells blocking work that its caller was dropped.
pub(crate) struct GivenUp(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl GivenUp {
    pub(crate) fn new() -> Self {
        Self(std::sync::Arc::default())
    }

    /// True once this is dropped.
    pub(crate) fn flag(&self) -> std::sync::Arc<std::sync::atomic::AtomicBool> {
        self.0.clone()
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}
