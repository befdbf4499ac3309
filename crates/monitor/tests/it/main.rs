//! Black-box tests of the monitor's library and program.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can not go on fails")]

mod attach;
mod attach_client;
mod contract;
mod control;
mod hostile;
mod journal;
mod logs;
mod logs_program;
mod logs_rotation;
mod pause;
mod pin;
mod podman;
mod scratch;
mod stand;
