//! Exit statuses: see the end of `wharf --help`.

use std::io::Write as _;
use std::process::ExitCode;

use runtime::Kind;

use crate::args::Command;

/// What a failure of ours becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnFailure {
    /// By the error's kind, 1 to 6.
    ByKind,
    /// 125 to 127, as the program's own status uses the small numbers.
    AboveTheProgram,
}

/// `run` and `exec` keep the small numbers for the program.
pub(crate) fn own_failure(command: &Command) -> OwnFailure {
    match command {
        Command::Run(_) | Command::Exec(_) => OwnFailure::AboveTheProgram,
        _ => OwnFailure::ByKind,
    }
}

/// Says what went wrong and gives the status for it.
pub(crate) fn report(error: &anyhow::Error, own: OwnFailure) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    // Nobody is left to be told when stderr is gone.
    let _ = writeln!(std::io::stderr(), "wharf: {}", text(error));
    ExitCode::from(match own {
        OwnFailure::ByKind => by_kind(error),
        OwnFailure::AboveTheProgram => above(&text(error)),
    })
}

/// The error in one line: an error of the lifecycle layer has its causes in its own text.
pub(crate) fn text(error: &anyhow::Error) -> String {
    let mut parts = Vec::new();
    for cause in error.chain() {
        parts.push(cause.to_string());
        if cause.is::<runtime::Error>() {
            break;
        }
    }
    parts.join(": ").replace('\n', " ")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
}

fn by_kind(error: &anyhow::Error) -> u8 {
    match error.chain().find_map(|e| e.downcast_ref::<runtime::Error>()).map(runtime::Error::kind) {
        Some(Kind::Invalid) => 2,
        Some(Kind::NotFound) => 3,
        Some(Kind::Precondition) => 4,
        Some(Kind::Exists) => 5,
        Some(Kind::Internal | Kind::Unsupported | Kind::Exhausted | Kind::Timeout) => 6,
        Some(Kind::Cancelled) | None => 1,
    }
}

/// As podman and shells do it: told from the runtime's words, the one thing that all runtimes give.
fn above(message: &str) -> u8 {
    let message = message.to_lowercase();
    // A volume or a root file system that is missing is no missing program.
    let of_program = [": exec ", ": exec: ", "executable"].iter().any(|word| message.contains(word));
    if !of_program {
        125
    } else if message.contains("executable file not found") || message.contains("no such file or directory") {
        127
    } else if message.contains("permission denied")
        || message.contains("exec format error")
        || message.contains("is a directory")
        || message.contains("operation not permitted")
    {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_failures() {
        for (message, code) in [
            ("start x: exec /nope: no such file or directory", 127),
            ("create x: run runtime: runc x: exec: \"nope\": executable file not found in $PATH", 127),
            (
                "create x: run runtime: crun x: executable file `/nope` not found in $PATH: No such file or directory",
                127,
            ),
            ("create x: run runtime: runc x: exec: \"/bin\": permission denied", 126),
            ("create x: run runtime: crun x: open executable: Operation not permitted", 126),
            ("start x: exec /text: exec format error", 126),
            ("create x: run runtime: wharf-oci x: open mount /nope: no such file or directory", 125),
            ("create x: run runtime: crun x: error stat'ing file `/nope`: No such file or directory", 125),
            ("exec x: change directory to /nope: no such file or directory", 125),
            ("root file system /nope: No such file or directory", 125),
            ("create x: anything else", 125),
        ] {
            assert_eq!(above(message), code, "{message}");
        }
        let missing = runtime::Error::NotFound { op: "find", object: "x".to_owned() };
        assert_eq!(by_kind(&anyhow::Error::from(missing).context("stop")), 3);
        assert_eq!(by_kind(&anyhow::anyhow!("other")), 1);
    }
}
