//! wharf-monitor: the process that stands beside a container.

use monitor as _;

fn main() {}
