//! Measures us beside the installed peers.

fn main() {}
