//! The hidden mode `pause`: a pod's first process. It reaps what is left to it, and ends when it is told to.

use std::io::Write as _;

use rustix::process::Signal;
use sys::process::{self, Reap, SignalFd, wait_any};

use crate::Error;

/// Runs until SIGTERM or SIGINT comes; the status to exit with.
///
/// As the first process of a pid namespace it would be spared both signals; read from a descriptor they come all the
/// same.
#[must_use]
pub fn main() -> u8 {
    match run() {
        Ok(()) => 0,
        Err(error) => {
            // The status tells as well, should stderr be closed.
            let _ = writeln!(std::io::stderr(), "wharf-monitor pause: {error}");
            1
        }
    }
}

fn run() -> Result<(), Error> {
    let fail = |error: sys::Error| Error::io(error.op, &error.object, error.source);
    let [child, terminate, interrupt] = [Signal::CHILD, Signal::TERM, Signal::INT].map(Signal::as_raw);
    let signals = SignalFd::new(&[child, terminate, interrupt]).map_err(fail)?;
    // Only the name in ps(1).
    let _ = process::set_name("pause");
    loop {
        sys::poll::readable(&signals, None).map_err(|error| Error::io("poll", "signals", error))?;
        while let Some(caught) = signals.take().map_err(fail)? {
            if caught.signal != child {
                return Ok(());
            }
        }
        while matches!(wait_any().map_err(fail)?, Reap::Ended(_)) {}
    }
}
