//! Build, check and test tasks: cargo xtask.

fn main() {}
