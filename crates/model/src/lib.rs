//! Pure types of containers: ids, states, exits, OCI documents, logs.
//!
//! Nothing here does I/O, reads a clock or an environment variable. What comes from outside is parsed
//! once into these types; inside, a value is valid by its type.

pub mod capability;
pub mod config;
pub mod exit;
#[doc(hidden)]
pub mod harness;
pub mod id;
pub mod log;
pub mod oci;
pub mod quantity;
pub mod signal;
pub mod spec;
pub mod state;
pub mod trust;
pub mod users;

pub use exit::{Exit, ExitRecord, Oom, Reason, Usage};
pub use id::{Id, IdError, Name};
pub use signal::{Signal, SignalError};
pub use state::{State, Transition};
pub use trust::Trust;
