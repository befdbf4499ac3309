//! What the monitor gives up, and what shields it.

use std::path::Path;

use sys::process::caps::{self, Caps};

use crate::message;

/// Writes -1000 into our oom_score_adj; what stood there before, if it was changed.
pub(super) fn shield_from_oom() -> Option<i32> {
    let path = Path::new("/proc/self/oom_score_adj");
    let before = std::fs::read_to_string(path).ok()?.trim().parse().ok()?;
    // Only privileged callers may; without it the kernel may choose us, as it may any process.
    std::fs::write(path, "-1000").ok()?;
    Some(before)
}

/// Goes on from a file that no container can write (CVE-2019-5736): execs are, until their program runs, this program.
pub(super) fn protect_program(args: &[std::ffi::OsString]) {
    if let Err(error) = ocirun::protect::reexec(args, None) {
        // Then execs are left to the runtime.
        message::warning(format_args!("protect this program's file: {error}"));
    }
    // A program that is executed by its descriptor is called after that by some kernels.
    if let Err(error) = rustix::thread::set_name(c"wharf-monitor") {
        message::debug(format_args!("set the process's name: {error}"));
    }
}

/// A log at the limit of file sizes (RLIMIT_FSIZE) is an error like a full disk, not the end of this process.
pub(super) fn survive_file_limit() {
    // It fails for no signal that exists.
    let _ = sys::process::signal::ignore(rustix::process::Signal::XFSZ.as_raw());
}

/// After the start: nobody may look into our memory or open our program through /proc, and of root's power only what the
/// rest of the work needs is kept. Programs that we start as root get their full power from the bounding set; with
/// `put_aside` the power is not in force but can be taken up again, which execs from this process need.
///
/// Not done: no_new_privs. It would be inherited by the runtimes of execs and by the exit command, and through the
/// runtime by the container, where setuid programs would no longer work.
pub(super) fn drop_power(put_aside: bool) {
    if let Err(error) = sys::process::set_dumpable(false) {
        message::warning(format_args!("become non-dumpable: {error}"));
    }
    if !rustix::process::geteuid().is_root() || no_root() {
        return;
    }
    let keep = caps::mask(&[
        caps::DAC_OVERRIDE,
        caps::DAC_READ_SEARCH,
        caps::FOWNER,
        caps::KILL,
        caps::SYS_RESOURCE,
    ]);
    let dropped = caps::get().and_then(|now| {
        let permitted = if put_aside { now.permitted } else { now.permitted & keep };
        caps::set(Caps { effective: now.effective & keep, permitted, ..now })
    });
    if let Err(error) = dropped {
        message::warning(format_args!("drop capabilities: {error}"));
    }
}

/// Whether root is no longer special (SECBIT_NOROOT): our children would then stay without power.
fn no_root() -> bool {
    rustix::thread::capabilities_secure_bits()
        .is_ok_and(|bits| bits.contains(rustix::thread::CapabilitiesSecureBits::NO_ROOT))
}
