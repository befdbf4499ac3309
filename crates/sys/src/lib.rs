//! The one place for system calls: pidfds, cgroups, durable files, mounts, sockets, children.
