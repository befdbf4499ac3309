//! wharf-oci: the embedded OCI runtime.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ocirun::cli::main(std::env::args_os().collect()))
}
