//! wharf-oci as a program: commands, execs, hooks, safety, broken state.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it could not test"
)]

mod checkpoint;
mod commands;
mod containerd;
mod descriptors;
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
mod sdnotify;
mod start;
mod state;
mod systemd;
mod terminal;
mod userns;
