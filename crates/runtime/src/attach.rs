//! Attach: clients of a monitor's socket and of its control fifos.

use std::io::Write as _;
use std::time::{Duration, Instant};

use sys::Ctx as _;

use crate::dir::Dir;
use crate::request::Size;
use crate::{Error, Result};

/// How long the monitor may take to read its control fifo.
const CTL_TIMEOUT: Duration = Duration::from_secs(10);

/// Sets the size of the container's terminal.
pub(crate) fn set_size(dir: &Dir, size: Size) -> Result<()> {
    control(&dir.file("ctl"), &format!("1 {} {}\n", size.rows, size.columns))
}

/// Writes a line into a control fifo, waiting for its reader.
pub(crate) fn control(path: &std::path::Path, line: &str) -> Result<()> {
    let end = Instant::now() + CTL_TIMEOUT;
    loop {
        let done = sys::fifo::open_writer(path).and_then(|fd| {
            let mut file = std::fs::File::from(fd);
            file.write_all(line.as_bytes()).ctx("write", path)
        });
        match done {
            Ok(()) => return Ok(()),
            // ENXIO: nobody reads yet; EAGAIN: it is full.
            Err(error) if matches!(error.errno(), Some(6 | 11)) && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) if matches!(error.errno(), Some(6 | 11)) => {
                let object = path.display().to_string();
                return Err(Error::Timeout { op: "write", object, after: CTL_TIMEOUT });
            }
            Err(error) => return Err(error.into()),
        }
    }
}
