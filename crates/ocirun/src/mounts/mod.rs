//! Mounts: what the options say (pure), and the mounting (by descriptors).

pub(crate) mod attach;
mod old;
pub mod options;
pub(crate) mod prepare;
pub(crate) mod source;
