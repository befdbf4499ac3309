//! `update`.

use crate::create::Context;
use crate::error::{Error, Result};

/// Runs the command.
pub(crate) fn run(_context: &Context, _parser: &mut lexopt::Parser) -> Result<()> {
    Err(Error::Usage("update container: not there yet".to_owned()))
}
