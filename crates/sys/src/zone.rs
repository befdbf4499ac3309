//! The local time zone.

#![expect(unsafe_code, reason = "localtime_r is only in libc")]

/// Seconds that local time is ahead of UTC at `unix` seconds since the epoch (localtime_r(3): the variable TZ, else
/// /etc/localtime). 0 if it can't be told.
#[must_use]
pub fn local_offset(unix: i64) -> i64 {
    // SAFETY: `tm` is a plain struct for which all zero bytes are valid.
    let mut tm: libc::tm = unsafe { std::mem::zeroed() };
    let time: libc::time_t = unix;
    // SAFETY: both pointers are to live locals of the right types. localtime_r reads the environment (TZ) like
    // getenv; nothing in this workspace changes the environment of a running process.
    let told = unsafe { libc::localtime_r(&raw const time, &raw mut tm) };
    if told.is_null() { 0 } else { tm.tm_gmtoff }
}
