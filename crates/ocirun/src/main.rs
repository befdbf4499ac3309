//! wharf-oci: the embedded OCI runtime.

fn main() {}
