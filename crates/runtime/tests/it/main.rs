//! The lifecycle layer against real runtimes and monitors: `WHARF_TEST_RUNTIME` (runc, crun, wharf-oci) and
//! `WHARF_TEST_MONITOR` (conmon, wharf-monitor).
#![allow(missing_docs, reason = "tests")]
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "tests")]
#![allow(unreachable_pub, reason = "one binary")]

mod bad;
mod churn;
mod ends;
mod exec;
mod faults;
mod images;
mod kit;
mod life;
mod logs;
mod model_of_life;
mod pause;
mod powercut;
mod recovery;
mod rig;
mod rows;
mod stats;
mod stop;
mod streams;
mod update;
