//! This process and its children: forking, running programs, reaping, signals, capabilities.

mod status;

pub use status::WaitStatus;
