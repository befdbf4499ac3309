//! wharf-monitor: the process that stands beside a container.

fn main() {}
