//! The runtimes that are compared.

use std::process::Command;
use std::sync::OnceLock;

/// A runtime that a case is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Wharf,
    Runc,
    Crun,
}

use Runtime::{Crun, Runc, Wharf};

impl Runtime {
    pub(crate) fn program(self) -> std::path::PathBuf {
        testkit::Runtime::named(self.name()).path
    }

    /// Whether it is of the version that the table was written for.
    pub(crate) fn is_debian_12s(self) -> bool {
        static NEWER: OnceLock<[bool; 2]> = OnceLock::new();
        let newer = NEWER.get_or_init(|| {
            [(Runc, "1.1.5"), (Crun, "1.8.1")].map(|(runtime, version)| {
                let output =
                    Command::new(runtime.program()).arg("--version").output().expect("run --version");
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                !text.lines().next().unwrap_or_default().split([' ', '+']).any(|word| word == version)
            })
        });
        match self {
            Wharf => true,
            Runc => !newer[0],
            Crun => !newer[1],
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Wharf => "wharf-oci",
            Runc => "runc",
            Crun => "crun",
        }
    }
}
