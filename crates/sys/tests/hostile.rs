//! The harnesses of the fuzz targets, with seeds and mutations of them.

#[test]
fn no_seed_and_no_mutation_is_too_strange() {
    assert!(testkit::feed(sys::harness::ALL) > 1000);
}
