//! The lifecycle layer, through one monitor and one runtime.

use std::time::Instant;

use anyhow::{Context as _, Result};
use runtime::{
    CgroupManager, Container, CreateRequest, HandlerConfig, MonitorConfig, RuntimeConfig, Runtimes,
};
use testkit::{Bundle, Scratch, unique_id};

use crate::measure::{Phases, since};

/// Our library, set up on a state root of its own on a tmpfs.
pub(crate) struct Ours {
    // Dropped before the root is unmounted.
    runtimes: Runtimes,
    tokio: tokio::runtime::Runtime,
    config: RuntimeConfig,
    /// Unmounted and removed last.
    root: Scratch,
}

impl Ours {
    pub(crate) fn new(monitor: &str, runtime: &str) -> Result<Self> {
        let found = std::panic::catch_unwind(|| {
            (testkit::Monitor::named(monitor).path, testkit::Runtime::named(runtime).path)
        });
        let (monitor, program) = found.map_err(|_| anyhow::anyhow!("{monitor} or {runtime} is not there"))?;
        let root = Scratch::tmpfs("bench-ours", 256 << 20);
        let mut handler = HandlerConfig::new(runtime, program, MonitorConfig::new(monitor));
        handler.root = Some(root.join("runtime"));
        let mut config = RuntimeConfig::new(root.join("state"), vec![handler]);
        config.cgroup_manager = CgroupManager::Cgroupfs;
        let (runtimes, tokio) = open(&config)?;
        Ok(Self { runtimes, tokio, config, root })
    }

    /// Takes the library down, with all that it knows, and up again.
    pub(crate) fn restart(&mut self) -> Result<()> {
        (self.runtimes, self.tokio) = open(&self.config)?;
        Ok(())
    }

    /// A directory for what belongs to this state root.
    pub(crate) fn place(&self) -> &std::path::Path {
        self.root.path()
    }

    /// Runs something of the library to its end.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.tokio.block_on(future)
    }

    /// All handlers and containers.
    pub(crate) fn runtimes(&self) -> &Runtimes {
        &self.runtimes
    }

    /// create, start, wait, delete.
    pub(crate) fn life(&self, bundle: &Bundle) -> Result<Phases> {
        let id = unique_id("life").parse().context("make an id")?;
        self.tokio.block_on(async {
            let begin = Instant::now();
            let container = self.runtimes.create(CreateRequest::new(id, bundle.path())).await?;
            let created = since(begin);
            container.start().await?;
            container.wait().await?;
            let ended = since(begin);
            container.delete(false).await?;
            Ok(vec![("create", created), ("start, wait", ended - created), ("delete", since(begin) - ended)])
        })
    }

    /// A container that runs until it is deleted.
    pub(crate) fn start(&self, bundle: &Bundle) -> Result<Container> {
        let id = unique_id("run").parse().context("make an id")?;
        self.tokio.block_on(async {
            let container = self.runtimes.create(CreateRequest::new(id, bundle.path())).await?;
            container.start().await?;
            Ok(container)
        })
    }

    /// Kills and removes.
    pub(crate) fn remove(&self, container: &Container) {
        if let Err(error) = self.tokio.block_on(container.delete(true)) {
            eprintln!("bench: {error}");
        }
    }
}

fn open(config: &RuntimeConfig) -> Result<(Runtimes, tokio::runtime::Runtime)> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = tokio.context("start tokio")?;
    let runtimes = {
        let _guard = tokio.enter();
        Runtimes::from_config(config)?
    };
    Ok((runtimes, tokio))
}
