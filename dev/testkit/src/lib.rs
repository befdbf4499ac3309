//! What the tests share: bundles, root file systems, leak checks, faulty runtimes.
