//! A state root of the test's own, the runtime and the monitor under test, and containers in it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::{Signal, State};
use runtime::{Container, CreateRequest, HandlerConfig, MonitorConfig, RuntimeConfig, Runtimes};
use testkit::{Bundle, monitor_under_test, runtime_under_test, unique_id, wait_until};

/// A grace that no test lives to see the end of.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
pub(crate) const TERM: Signal = Signal::TERM;

pub(crate) struct Rig {
    pub(crate) runtimes: Runtimes,
    base: PathBuf,
    root: PathBuf,
}

impl Rig {
    pub(crate) fn new(what: &str) -> Self {
        let base = Path::new("/run").join(unique_id(what));
        let root = base.join("state");
        Self { runtimes: open(&root), base, root }
    }

    /// The same state root as another process sees it: nothing is shared but the files.
    pub(crate) fn another(&self) -> Runtimes {
        open(&self.root)
    }

    pub(crate) fn log(&self, bundle: &Bundle) -> PathBuf {
        self.base.join(format!("{}.log", bundle.id()))
    }

    /// The container's state directory.
    pub(crate) fn dir(&self, bundle: &Bundle) -> PathBuf {
        self.root.join(bundle.id())
    }

    pub(crate) async fn create(&self, bundle: &Bundle) -> Container {
        let mut request = CreateRequest::new(bundle.id().parse().unwrap(), bundle.path());
        request.log = Some(self.log(bundle));
        self.runtimes.create(request).await.unwrap()
    }

    pub(crate) async fn start(&self, bundle: &Bundle) -> Container {
        let container = self.create(bundle).await;
        container.start().await.unwrap();
        container
    }

    /// Starts a container whose program says `ready` when it is.
    pub(crate) async fn ready(&self, bundle: &Bundle) -> Container {
        let container = self.start(bundle).await;
        self.said(bundle, "ready");
        container
    }

    /// Waits until the container has written `text`.
    pub(crate) fn said(&self, bundle: &Bundle, text: &str) {
        let log = self.log(bundle);
        wait_until(&format!("{text:?} in the log"), || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains(text))
        });
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            testkit::kill_cgroups(testkit::mark());
        }
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

fn open(root: &Path) -> Runtimes {
    let (runtime, monitor) = (runtime_under_test(), monitor_under_test());
    let handler = HandlerConfig::new(runtime.name(), &runtime.path, MonitorConfig::new(&monitor.path));
    let mut config = RuntimeConfig::new(root, vec![handler]);
    config.cgroup_manager = crate::kit::manager();
    Runtimes::from_config(&config).unwrap()
}

/// A program that says `ready` and then waits for signals; `traps` says what it does with them.
pub(crate) fn waiter(what: &str, traps: &str) -> Bundle {
    Bundle::shell(what, &format!("{traps}\necho ready; while :; do sleep 3600 & wait $!; done"))
}

pub(crate) fn state(container: &Container) -> State {
    container.status().state
}

/// Whether the process is gone, or dead and only not waited for.
pub(crate) fn is_gone(pid: i32) -> bool {
    sys::proc::stat(pid).map_or(true, |stat| matches!(stat.state, 'Z' | 'X'))
}
