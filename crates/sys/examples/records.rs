//! Replaces records as fast as the disk lets, and says after each that it is on the disk, until it is killed: what a power cut
//! must not take back. For `dev/vm/reboot.sh`.
//!
//! usage: records DIRECTORY WRITERS

use std::io::Write as _;
use std::path::PathBuf;

fn main() {
    let mut args = std::env::args().skip(1);
    let directory = PathBuf::from(args.next().unwrap_or_else(|| ".".into()));
    let writers = args.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let path = directory.join(format!("r{writer}"));
            scope.spawn(move || {
                // Longer and shorter ones in turn, so that half of a new one over an old one would show.
                for number in 1_u64.. {
                    let padding = usize::try_from(number % 7).unwrap_or(0) * 3000;
                    let record = format!(
                        "{{\"number\": {number}, \"padding\": \"{}\", \"again\": {number}}}",
                        "x".repeat(padding)
                    );
                    let replaced = sys::durable::replace_path(&path, record.as_bytes(), 0o600);
                    let said = match replaced {
                        Ok(()) => writeln!(std::io::stdout().lock(), "ACK r{writer} {number}"),
                        Err(error) => writeln!(std::io::stdout().lock(), "FAIL {error}"),
                    };
                    if said.is_err() {
                        return;
                    }
                }
            });
        }
    });
}
