//! wharf-oci as a program: commands, execs, hooks, safety, broken state.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod commands;
mod dev;
mod exec;
mod hooks;
mod hostile;
mod image;
mod kit;
mod limits;
mod listener;
mod netdev;
mod notify;
mod rootless;
mod safety;
mod start;
mod state;
mod terminal;
mod userns;
