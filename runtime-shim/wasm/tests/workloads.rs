//! The committed guests are those that their text makes.

#[path = "../src/host/fixtures.rs"]
mod fixtures;

use std::{fs, path::Path};

#[test]
fn committed_guests_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/workloads");
    for (name, binary) in fixtures::all() {
        let committed = fs::read(directory.join(name)).unwrap_or_default();
        assert!(
            committed == binary,
            "{name} is stale: cargo run -p wasm --example workloads -- tests/workloads"
        );
    }
}
