//! The hidden modes: `wharf-monitor pause` and `wharf-monitor pin …`, or the program under the name `pause` or `pinns`.

use std::ffi::OsString;
use std::path::Path;

use crate::{pause, pin};

/// Runs the hidden mode that the program's name or its first argument asks for, if any; its exit status.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Option<u8> {
    let mut args = args.into_iter();
    let name = args.next().unwrap_or_default();
    match Path::new(&name).file_name().and_then(|name| name.to_str()) {
        Some("pause") => return Some(pause::main()),
        Some("pinns") => return Some(pin::main(args)),
        _ => {}
    }
    match args.next().as_ref().and_then(|word| word.to_str()) {
        Some("pause") => Some(pause::main()),
        Some("pin") => Some(pin::main(args)),
        _ => None,
    }
}
