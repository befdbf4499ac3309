//! The kernel's capabilities by name and number (capabilities(7), `include/uapi/linux/capability.h`).

/// Names by number: the index is the capability's number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities: bit N is capability N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// The set that `names` name, and those names that no capability has. Unknown names are a warning, as in runc.
    #[must_use]
    pub fn parse<S: AsRef<str>>(names: &[S]) -> (Self, Vec<String>) {
        let mut set = 0;
        let mut unknown = Vec::new();
        for name in names {
            match number(name.as_ref()) {
                Some(number) => set |= 1 << number,
                None => unknown.push(name.as_ref().to_owned()),
            }
        }
        (Self(set), unknown)
    }

    /// Whether capability `number` is in the set.
    #[must_use]
    pub fn contains(self, number: u8) -> bool {
        number < 64 && self.0 & (1 << number) != 0
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names in the set, by number. Numbers without a name here are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0u8..).zip(NAMES).filter(move |&(number, _)| self.contains(number)).map(|(_, name)| name)
    }
}

/// The number of the capability `name`: upper case with `CAP_`, as the OCI specification wants it.
#[must_use]
pub fn number(name: &str) -> Option<u8> {
    (0u8..).zip(NAMES).find(|&(_, known)| known == name).map(|(number, _)| number)
}

/// The name of capability `number`.
#[must_use]
pub fn name(number: u8) -> Option<&'static str> {
    NAMES.get(usize::from(number)).copied()
}

/// All names, by number.
#[must_use]
pub fn names() -> &'static [&'static str] {
    &NAMES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_kernels() {
        for (known, expected) in [
            ("CAP_CHOWN", 0),
            ("CAP_SETPCAP", 8),
            ("CAP_SYS_ADMIN", 21),
            ("CAP_MKNOD", 27),
            ("CAP_SYSLOG", 34),
            ("CAP_CHECKPOINT_RESTORE", 40),
        ] {
            assert_eq!(number(known), Some(expected));
            assert_eq!(name(expected), Some(known));
        }
        assert_eq!(number("cap_chown"), None);
        assert_eq!(number("CHOWN"), None);
        assert_eq!(name(41), None);
    }

    #[test]
    fn unknown_names_are_told_and_the_rest_is_kept() {
        let (set, unknown) = CapabilitySet::parse(&["CAP_KILL", "CAP_FLY", "CAP_CHOWN"]);
        assert_eq!(set, CapabilitySet(0b10_0001));
        assert_eq!(unknown, ["CAP_FLY"]);
        assert_eq!(set.names().collect::<Vec<_>>(), ["CAP_CHOWN", "CAP_KILL"]);
        assert!(set.contains(5) && !set.contains(1) && !set.contains(255));
        assert_eq!(set.intersection(CapabilitySet(1)), CapabilitySet(1));
    }
}
