//! The generated clients are what `proto/*.proto` say.
//!
//! After a change to one: `UPDATE_PROTO=1 cargo test -p containerd --test proto`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test says that something is wrong")]

use std::path::Path;

const SERVICES: [&str; 4] = ["content", "events", "images", "leases"];

#[test]
fn the_checked_in_clients_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = tempfile::tempdir().unwrap();
    for service in SERVICES {
        let file = root.join(format!("proto/{service}.proto"));
        let descriptors = protox::compile([file], [root.join("proto")]).unwrap();
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false)
            .bytes(".")
            .out_dir(made.path())
            .compile_fds(descriptors)
            .unwrap();
        let name = format!("containerd.services.{service}.v1.rs");
        let made = std::fs::read_to_string(made.path().join(&name)).unwrap();
        let checked_in = root.join("src/services").join(&name);
        if std::env::var_os("UPDATE_PROTO").is_some() {
            std::fs::write(&checked_in, &made).unwrap();
        }
        let current = std::fs::read_to_string(&checked_in).unwrap_or_default();
        assert!(
            made == current,
            "src/services/{name} is not what proto/{service}.proto makes"
        );
    }
}
