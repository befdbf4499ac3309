//! Restores from images that are not to be trusted.

use std::os::unix::fs::PermissionsExt as _;

use runtime::{CheckpointRequest, Kind};
use testkit::Bundle;

use crate::kit::{Kit, run};

#[test]
fn a_restore_takes_no_images_that_others_can_write() {
    let kit = Kit::new("images");
    let bundle = Bundle::shell("images", "exit 3");
    let images = kit.scratch.dir("images");
    std::fs::set_permissions(&images, std::fs::Permissions::from_mode(0o777)).unwrap();
    run(async {
        let container = kit.create(&bundle).await;
        container.start().await.expect("start");
        container.wait().await.expect("wait");
        let before = container.status();
        let request = CheckpointRequest { images: images.clone(), ..Default::default() };
        let error = container.restore(request).await.expect_err("restore");
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().ends_with("images: others can write it"), "{error}");
        assert_eq!(container.status().state, before.state, "the container is what it was");
        container.delete(true).await.expect("delete");
    });
    drop(bundle);
    kit.finish();
}
