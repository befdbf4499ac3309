//! System call filters: `linux.seccomp` → BPF, cached, and loaded.
//!
//! ```text
//! profile ──▶ cache (by SHA-256 of profile and versions) ──▶ Filter ──load()──▶ the calling thread
//!                └─ miss: libseccomp compiles (18 to 30 ms) ┘
//! ```
//! [`Filter::load`] is one system call on memory prepared before, fit for a child between clone and exec.

mod cache;
mod compile;
mod notify;
mod ranges;
mod sha256;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;

use model::oci::LinuxSeccomp;

pub use cache::Cache;
pub use compile::known;
pub use notify::{ContainerProcessState, send};
use sys::seccomp::Instruction;

/// What is wrong with a profile, or with the kernel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("linux.seccomp: {0}")]
pub struct Error(String);

impl Error {
    fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }

    fn because(what: &str, cause: &dyn std::fmt::Display) -> Self {
        Self(format!("{what}: {cause}"))
    }
}

/// A filter that is ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    program: Vec<Instruction>,
    flags: u32,
}

const TSYNC: u32 = 1;
const LOG: u32 = 1 << 1;
const SPEC_ALLOW: u32 = 1 << 2;
const NEW_LISTENER: u32 = 1 << 3;
const TSYNC_ESRCH: u32 = 1 << 4;
const WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// The flags that profiles may ask for, for `features`.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Those of [`FLAGS`] that the kernel knows.
pub fn supported_flags() -> Vec<&'static str> {
    let bits = [TSYNC, LOG, SPEC_ALLOW, WAIT_KILLABLE_RECV | NEW_LISTENER];
    FLAGS.into_iter().zip(bits).filter(|(_, bits)| sys::seccomp::knows(*bits)).map(|(name, _)| name).collect()
}

impl Filter {
    /// The filter of `profile`: from `cache`, or compiled and put there.
    ///
    /// A cache that can't be read or written is no error: the filter is compiled.
    ///
    /// # Errors
    /// An action, architecture, operator or flag that is unknown; a rule that libseccomp refuses.
    pub fn prepare(profile: &LinuxSeccomp, cache: Option<&Cache>) -> Result<Self, Error> {
        let flags = flags(profile)?;
        if flags & NEW_LISTENER != 0 && profile.listener_path.as_deref().is_none_or(str::is_empty) {
            return Err(Error::new("SCMP_ACT_NOTIFY needs a listenerPath"));
        }
        let key = cache.and_then(|_| cache::key(profile));
        let found = cache.zip(key.as_deref()).and_then(|(cache, key)| cache.get(key));
        if let Some(program) = found {
            return Ok(Self { program, flags });
        }
        let program = compile::compile(profile)?;
        if let Some((cache, key)) = cache.zip(key) {
            cache.put(&key, &program);
        }
        Ok(Self { program, flags })
    }

    /// Loads the filter into the calling thread. Needs CAP_SYS_ADMIN or no_new_privs.
    ///
    /// Async-signal-safe. With [`Self::has_listener`] the descriptor of the notifications is returned: hand its number
    /// to the parent by `write` (the one call that is never notified) and let it take a copy by `pidfd_getfd`.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn load(&self) -> rustix::io::Result<Option<OwnedFd>> {
        sys::seccomp::load(&self.program, self.flags)
    }

    /// Whether loading gives a descriptor that a listener has to get.
    #[must_use]
    pub fn has_listener(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, Error> {
    let notifies = profile.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY");
    // Without a word from the profile, runc spares the container the slow store bypass mitigation.
    let mut flags = if profile.flags.is_none() { SPEC_ALLOW } else { 0 };
    for flag in profile.flags.iter().flatten() {
        flags |= match flag.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => SPEC_ALLOW,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if notifies => WAIT_KILLABLE_RECV,
            "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => 0,
            other => return Err(Error::new(format!("unknown flag {other:?}"))),
        };
    }
    if notifies {
        flags |= NEW_LISTENER;
        if flags & TSYNC != 0 {
            flags |= TSYNC_ESRCH;
        }
    }
    Ok(flags)
}

fn decode(bytes: &[u8]) -> Option<Vec<Instruction>> {
    let chunks = bytes.chunks_exact(8);
    if bytes.is_empty() || !chunks.remainder().is_empty() {
        return None;
    }
    let parse = |b: &[u8]| {
        Some(Instruction {
            code: u16::from_ne_bytes([*b.first()?, *b.get(1)?]),
            jt: *b.get(2)?,
            jf: *b.get(3)?,
            k: u32::from_ne_bytes(b.get(4..8)?.try_into().ok()?),
        })
    };
    chunks.map(parse).collect()
}

fn encode(program: &[Instruction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend(instruction.code.to_ne_bytes());
        bytes.extend([instruction.jt, instruction.jf]);
        bytes.extend(instruction.k.to_ne_bytes());
    }
    bytes
}
