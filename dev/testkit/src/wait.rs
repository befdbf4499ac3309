//! Waiting for conditions, and names nobody else has.

use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a condition may take before the test fails: far more than any sane machine needs.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// [`DEADLINE`] times `WHARF_TEST_SLOW`, a whole number, for machines that are emulated.
pub fn deadline() -> Duration {
    let factor = std::env::var("WHARF_TEST_SLOW").ok().and_then(|text| text.parse::<u32>().ok());
    DEADLINE * factor.unwrap_or(1).max(1)
}

const PAUSE: Duration = Duration::from_millis(10);

/// Asks again and again until `probe` gives a value.
///
/// # Panics
/// After [`deadline`], with `what`.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    wait_or(|| what.to_owned(), probe)
}

/// [`wait_for`], with a `what` that is made when it is wanted: it can tell what there was instead.
pub(crate) fn wait_or<T>(what: impl Fn() -> String, mut probe: impl FnMut() -> Option<T>) -> T {
    let (begin, limit) = (Instant::now(), deadline());
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begin.elapsed() < limit, "waited {} s in vain for: {}", limit.as_secs(), what());
        std::thread::sleep(PAUSE);
    }
}

/// Asks again and again until `probe` says yes.
///
/// # Panics
/// After [`deadline`], with `what`.
pub fn wait_until(what: &str, mut probe: impl FnMut() -> bool) {
    wait_for(what, || probe().then_some(()));
}

/// Says what can't be tested here: on stderr, and in the file `WHARF_NOT_TESTED`, from which `cargo xtask test` repeats it at the end.
/// The test then passes without having shown this.
pub fn not_tested(what: &str) {
    let line = format!("NOT TESTED: {}\n", what.lines().collect::<Vec<_>>().join("; "));
    eprint!("{line}");
    if let Some(path) = std::env::var_os("WHARF_NOT_TESTED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        written.unwrap_or_else(|error| panic!("append to {}: {error}", path.display()));
    }
}

/// A container id that no other test has, with `what` for the reader and the process's [`mark`](crate::mark).
pub fn unique_id(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}-{}", crate::mark(), NEXT.fetch_add(1, Ordering::Relaxed))
}
