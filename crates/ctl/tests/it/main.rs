//! `wharf` as a person and as a script use it, on real containers.
//!
//! Which runtime and monitor: `WHARF_TEST_RUNTIME` and `WHARF_TEST_MONITOR`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "one binary, and a test that cannot go on fails"
)]

mod kit;
mod life;
mod terminal;
mod usage;
mod wrong;
