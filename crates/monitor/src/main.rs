//! wharf-monitor: the process that stands beside a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    let hidden = monitor::hidden::run(std::env::args_os());
    let status = hidden.unwrap_or_else(|| monitor::process::main(std::env::args_os()));
    ExitCode::from(status)
}
