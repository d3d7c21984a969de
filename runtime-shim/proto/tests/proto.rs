//! The generated messages, client and server are what `proto/cri.proto` says.
//!
//! After a change to it: `UPDATE_PROTO=1 cargo test -p proto --test proto`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says that something is wrong")]

use std::path::Path;

#[test]
fn the_checked_in_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    let descriptors = protox::compile([root.join("proto/cri.proto")], [root.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .btree_map(".")
        .skip_debug([".runtime.v1.AuthConfig"])
        .out_dir(made.path())
        .compile_fds(descriptors)
        .unwrap();
    let made = std::fs::read_to_string(made.path().join("runtime.v1.rs")).unwrap();
    let checked_in = root.join("src/v1/generated.rs");
    if std::env::var_os("UPDATE_PROTO").is_some() {
        std::fs::write(&checked_in, &made).unwrap();
    }
    let current = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(made == current, "src/v1/generated.rs is not what proto/cri.proto makes");
}
