//! The embedded OCI runtime wharf-oci, and execs as a library.

pub mod cgroup;
pub mod seccomp;
