//! `events`.

use crate::create::Context;
use crate::error::{Error, Result};

/// Runs the command.
pub(crate) fn run(_context: &Context, _parser: &mut lexopt::Parser) -> Result<()> {
    Err(Error::Usage("events container: not there yet".to_owned()))
}
