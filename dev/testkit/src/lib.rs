//! What the tests share: bundles, root file systems, leak checks, faulty runtimes.
//!
//! Everything a test makes carries the process's own [`mark`], so that tests may run side by side and each
//! can still prove that nothing of its own was left behind ([`LeakCheck`]). Helpers panic where a test
//! would have to: there is no silent skip, a missing tool is a failure that names the package
//! ([`require`]).
//!
//! ```no_run
//! let leaks = testkit::LeakCheck::start();
//! let bundle = testkit::Bundle::new("hello", &["echo", "hello"]);
//! // … run it …
//! drop(bundle);
//! leaks.finish();
//! ```
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of tests fails by panicking, and talks on stderr"
)]

mod bundle;
mod cgroup;
mod hostile;
mod leak;
mod programs;
mod pty;
mod rootfs;
mod scratch;
mod script;
mod seccomp;
mod spec;
mod wait;

pub use bundle::Bundle;
pub use cgroup::{kill_cgroups, marked_cgroups};
pub use hostile::feed;
pub use leak::LeakCheck;
pub use programs::{
    Monitor, MonitorKind, Runtime, RuntimeKind, cgroup_manager_under_test, find, monitor_under_test, program,
    programs, require, runtime_under_test, workspace,
};
pub use pty::{Pty, Terminal};
pub use rootfs::{install_rootfs, rootfs_image};
pub use scratch::Scratch;
pub use script::script;
pub use seccomp::seccomp_profile;
pub use spec::default_spec;
pub use wait::{DEADLINE, deadline, not_tested, unique_id, wait_for, wait_until};

use std::sync::OnceLock;

/// The letters that every id, directory and name of this process carries: `wt` and six or more letters.
pub fn mark() -> &'static str {
    static MARK: OnceLock<String> = OnceLock::new();
    MARK.get_or_init(|| {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let mut seed = nanos ^ (u128::from(std::process::id()) << 40);
        let mut text = format!("wt{}x", std::process::id());
        for _ in 0..5 {
            let digit = u32::try_from(seed % 36).unwrap_or(0);
            text.push(char::from_digit(digit, 36).unwrap_or('0'));
            seed /= 36;
        }
        text
    })
}
