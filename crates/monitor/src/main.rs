//! wharf-monitor: the process that stands beside a container.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(monitor::process::main(std::env::args_os().skip(1)))
}
