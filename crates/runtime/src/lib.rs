//! The lifecycle layer: drives any OCI runtime through a monitor and answers for its containers.
