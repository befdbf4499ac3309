//! Capabilities of this thread (capabilities(7)): sets are bit masks, bit N for capability N.

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::{Ctx as _, Error, Result};

/// `CAP_CHOWN`.
pub const CHOWN: u8 = 0;
/// `CAP_DAC_OVERRIDE`.
pub const DAC_OVERRIDE: u8 = 1;
/// `CAP_DAC_READ_SEARCH`.
pub const DAC_READ_SEARCH: u8 = 2;
/// `CAP_FOWNER`.
pub const FOWNER: u8 = 3;
/// `CAP_KILL`.
pub const KILL: u8 = 5;
/// `CAP_SETGID`.
pub const SETGID: u8 = 6;
/// `CAP_SETUID`.
pub const SETUID: u8 = 7;
/// `CAP_SETPCAP`.
pub const SETPCAP: u8 = 8;
/// `CAP_SYS_CHROOT`.
pub const SYS_CHROOT: u8 = 18;
/// `CAP_SYS_PTRACE`.
pub const SYS_PTRACE: u8 = 19;
/// `CAP_SYS_ADMIN`.
pub const SYS_ADMIN: u8 = 21;
/// `CAP_SYS_RESOURCE`.
pub const SYS_RESOURCE: u8 = 24;

/// The three sets that capget(2) gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// Those that count now.
    pub effective: u64,
    /// Those that may become effective.
    pub permitted: u64,
    /// Those that an exec may pass on.
    pub inheritable: u64,
}

/// A mask of these capabilities.
#[must_use]
pub fn mask(capabilities: &[u8]) -> u64 {
    capabilities
        .iter()
        .fold(0, |mask, capability| mask | 1u64.checked_shl(u32::from(*capability)).unwrap_or(0))
}

/// This thread's sets.
pub fn get() -> Result<Caps> {
    let sets = rustix::thread::capabilities(None).ctx("read capabilities of", "self")?;
    Ok(Caps {
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    })
}

/// Sets this thread's sets (capset(2)).
pub fn set(caps: Caps) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(caps.effective),
        permitted: CapabilitySet::from_bits_retain(caps.permitted),
        inheritable: CapabilitySet::from_bits_retain(caps.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).ctx("set capabilities of", "self")
}

/// Takes all capabilities that are not in `keep` out of the bounding set (needs `CAP_SETPCAP`).
pub fn drop_bounding_except(keep: u64) -> Result<()> {
    for capability in 0..=last()? {
        if keep & mask(&[capability]) == 0 && bounded(capability)? {
            let bit = CapabilitySet::from_bits_retain(mask(&[capability]));
            rustix::thread::remove_capability_from_bounding_set(bit)
                .ctx_with("drop capability", || capability.to_string())?;
        }
    }
    Ok(())
}

/// Whether a capability is in the bounding set.
pub fn bounded(capability: u8) -> Result<bool> {
    let bit = CapabilitySet::from_bits_retain(mask(&[capability]));
    rustix::thread::capability_is_in_bounding_set(bit)
        .ctx_with("ask for capability", || capability.to_string())
}

/// Empties the ambient set.
pub fn clear_ambient() -> Result<()> {
    rustix::thread::clear_ambient_capability_set().ctx("clear", "ambient capabilities")
}

/// Keeps only those of `keep` that this thread has, everywhere: ambient, bounding, and the other three sets.
///
/// Children of an exec as root get the bounding set, so who starts programs that need more keeps more there:
/// `bounding` is added to `keep` for that set.
pub fn drop_except(keep: u64, bounding: u64) -> Result<()> {
    let now = get()?;
    clear_ambient()?;
    if now.effective & mask(&[SETPCAP]) != 0 {
        drop_bounding_except(keep | bounding)?;
    }
    let keep = keep & now.permitted;
    set(Caps { effective: keep, permitted: keep, inheritable: 0 })
}

/// The highest capability that this kernel knows.
pub fn last() -> Result<u8> {
    let path = "/proc/sys/kernel/cap_last_cap";
    let text = crate::proc::read(path)?;
    text.trim().parse().map_err(|_| Error::other("parse", path, "no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_all_but_what_is_kept() {
        // Capabilities are the thread's, so the test's other threads keep theirs.
        std::thread::spawn(|| {
            let before = get().unwrap();
            let keep = mask(&[KILL, SYS_ADMIN]) & before.permitted;
            drop_except(keep, mask(&[CHOWN])).unwrap();
            assert_eq!(get().unwrap(), Caps { effective: keep, permitted: keep, inheritable: 0 });
            if before.effective & mask(&[SETPCAP]) != 0 {
                assert!(!bounded(SYS_PTRACE).unwrap());
                assert_eq!(bounded(KILL).unwrap(), before.permitted & mask(&[KILL]) != 0);
            }
            assert!(last().unwrap() >= 37);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn masks() {
        assert_eq!(mask(&[0, 21, 63]), 1 | 1 << 21 | 1 << 63);
        assert_eq!(mask(&[64, 255]), 0);
    }
}
