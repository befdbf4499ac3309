//! The command line: conmon's, whole, and the few options of ours.
//!
//! [`low`] is what was typed, by GLib's rules; [`high`] is what it means, after all checks that conmon makes before it
//! opens a file, in its order and with its texts.

pub mod high;
pub mod low;
mod options;

pub use high::{Args, Mode};
pub use low::Low;

/// What the command line asks for.
#[derive(Debug)]
pub enum Command {
    /// `--version`.
    Version,
    /// `--help`.
    Help,
    /// Stand beside a container or an exec.
    Run(Box<Args>),
}

/// The version of conmon that is stood in for.
pub const CONMON_VERSION: &str = "2.2.1";

/// What `--version` prints. Callers take the third word of the first line for a version (CRI-O) or match the line
/// (podman 4); the third line tells this monitor from conmon.
#[must_use]
pub fn version_text() -> String {
    format!(
        "conmon version {CONMON_VERSION}\ncommit: {}\nwharf-monitor {}\n",
        option_env!("WHARF_COMMIT").unwrap_or("unknown"),
        env!("CARGO_PKG_VERSION"),
    )
}

/// What `--help` prints.
#[must_use]
pub fn help_text() -> String {
    let mut text = String::from(
        "Usage:\n  wharf-monitor [OPTION…]\n\nStands beside a container: a drop-in for conmon.\n\n\
         Options:\n",
    );
    for option in options::OPTIONS.iter().filter(|option| !option.help.is_empty()) {
        let short = option.short.map_or(String::from("    "), |short| format!("-{short}, "));
        let value = if option.kind == options::Kind::Flag { "" } else { "=…" };
        let long = format!("--{}{value}", option.long);
        text.push_str(&format!("  {short}{long:<34} {}\n", option.help));
    }
    text
}
