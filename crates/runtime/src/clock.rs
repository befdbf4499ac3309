//! The clocks and the boot id.

use crate::Result;

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(sys::proc::now_ns()).unwrap_or(0)
}

/// Nanoseconds since boot, sleep included.
pub(crate) fn boottime_ns() -> u64 {
    u64::try_from(sys::proc::boottime_ns()).unwrap_or(0)
}

/// The name of this boot.
pub(crate) fn boot_id() -> Result<String> {
    Ok(sys::proc::boot_id()?)
}
