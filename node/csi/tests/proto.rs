//! The generated messages, clients and servers are what `proto/` says.
//!
//! After a change to it: `UPDATE_PROTO=1 cargo test -p csi --test proto`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says that something is wrong")]

use std::path::Path;

/// Messages that hold secrets print by hand.
const SECRET: [&str; 8] = [
    ".csi.v1.CreateVolumeRequest",
    ".csi.v1.DeleteVolumeRequest",
    ".csi.v1.ControllerPublishVolumeRequest",
    ".csi.v1.ControllerUnpublishVolumeRequest",
    ".csi.v1.ControllerExpandVolumeRequest",
    ".csi.v1.NodeStageVolumeRequest",
    ".csi.v1.NodePublishVolumeRequest",
    ".csi.v1.NodeExpandVolumeRequest",
];

#[test]
fn the_checked_in_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    for file in ["csi", "pluginregistration"] {
        let descriptors = protox::compile([root.join(format!("proto/{file}.proto"))], [root.join("proto")]).unwrap();
        tonic_prost_build::configure()
            .build_transport(false)
            .btree_map(".")
            .skip_debug(SECRET)
            .out_dir(made.path())
            .compile_fds(descriptors)
            .unwrap();
    }
    for (file, checked_in) in [
        ("csi.v1.rs", "src/v1/generated.rs"),
        ("pluginregistration.rs", "src/registration/generated.rs"),
    ] {
        let made = std::fs::read_to_string(made.path().join(file)).unwrap();
        let path = root.join(checked_in);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&path, &made).unwrap();
        }
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(made == current, "{checked_in} is not what proto/ makes");
    }
}
