//! The generated client is what `proto/etcd.proto` says.
//!
//! After a change to it: `UPDATE_PROTO=1 cargo test -p store-etcd --test proto`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says that something is wrong")]

use std::path::Path;

#[test]
fn the_checked_in_client_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    let descriptors = protox::compile([root.join("proto/etcd.proto")], [root.join("proto")]).unwrap();
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .bytes(".")
        .out_dir(made.path())
        .compile_fds(descriptors)
        .unwrap();
    let made = std::fs::read_to_string(made.path().join("etcdserverpb.rs")).unwrap();
    let checked_in = root.join("src/proto/etcdserverpb.rs");
    if std::env::var_os("UPDATE_PROTO").is_some() {
        std::fs::write(&checked_in, &made).unwrap();
    }
    let current = std::fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        made == current,
        "src/proto/etcdserverpb.rs is not what proto/etcd.proto makes"
    );
}
