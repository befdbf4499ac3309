//! A state root of a test's own, on the runtime and monitor under test.

use std::path::PathBuf;
use std::time::Duration;

use model::Id;
use runtime::{
    CgroupManager, Container, CreateRequest, HandlerConfig, MonitorConfig, RuntimeConfig, Runtimes,
};
use testkit::{Bundle, LeakCheck, Scratch};

/// A state root with everything that a test needs; checks for leaks at the end.
pub struct Kit {
    pub scratch: Scratch,
    pub runtimes: Runtimes,
    pub leaks: Option<LeakCheck>,
}

pub fn id(text: &str) -> Id {
    Id::new(text).expect("an id")
}

/// The handler under test.
pub fn handler() -> HandlerConfig {
    let runtime = testkit::runtime_under_test();
    let monitor = testkit::monitor_under_test();
    HandlerConfig::new(runtime.name(), runtime.path.clone(), MonitorConfig::new(monitor.path))
}

/// The cgroup manager under test.
pub fn manager() -> CgroupManager {
    testkit::cgroup_manager_under_test().parse().expect("WHARF_TEST_CGROUP_MANAGER")
}

/// The configuration of a root in `scratch` for the handler under test, and others.
pub fn config(root: PathBuf, mut others: Vec<HandlerConfig>) -> RuntimeConfig {
    others.insert(0, handler());
    let mut config = RuntimeConfig::new(root, others);
    config.cgroup_manager = manager();
    config.create_timeout_floor = Duration::from_millis(1);
    config
}

impl Kit {
    pub fn new(what: &str) -> Self {
        Self::with(what, |_| {})
    }

    pub fn with(what: &str, change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        // tokio keeps a pair of sockets for signals in each process that ever had a runtime.
        run(async {});
        let leaks = LeakCheck::start();
        let scratch = Scratch::new(what);
        let mut config = config(scratch.path().join("state"), Vec::new());
        change(&mut config);
        let runtimes = Runtimes::from_config(&config).expect("runtimes");
        Self { scratch, runtimes, leaks: Some(leaks) }
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    pub async fn create(&self, bundle: &Bundle) -> Container {
        let request = CreateRequest::new(id(bundle.id()), bundle.path());
        self.runtimes.create(request).await.expect("create")
    }

    /// Creates it with a log.
    pub async fn create_logged(&self, bundle: &Bundle) -> (Container, PathBuf) {
        let log = self.scratch.path().join(format!("{}.log", bundle.id()));
        let mut request = CreateRequest::new(id(bundle.id()), bundle.path());
        request.log = Some(log.clone());
        (self.runtimes.create(request).await.expect("create"), log)
    }

    /// What the containers' directory has beside the files of the root itself.
    pub fn litter(&self) -> Vec<String> {
        let own = [".names", ".lock", ".events", ".events.lock"];
        let entries = std::fs::read_dir(self.root()).expect("list");
        let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        let mut found: Vec<String> = names.filter(|name| !own.contains(&name.as_str())).collect();
        let names = std::fs::read_dir(self.root().join(".names")).expect("list");
        found.extend(names.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()));
        found
    }

    /// Nothing is left, anywhere.
    pub fn finish(mut self) {
        assert_eq!(self.litter(), Vec::<String>::new());
        let leaks = self.leaks.take().expect("a check");
        drop(self);
        leaks.finish();
    }
}

/// Runs a test's future on a runtime that is gone afterwards, descriptors and all.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_io().enable_time().build();
    runtime.expect("tokio").block_on(future)
}
