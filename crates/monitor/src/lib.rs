//! The monitor's contract, its control protocol, and the process wharf-monitor.
