//! The invariants of ARCHITECTURE.md, read off `cargo metadata`: who may name whom.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use cargo_metadata::{Dependency, DependencyKind, Metadata, MetadataCommand, Package};

/// Every crate of the workspace with the crates of ours that it may name. A new edge is written here and into
/// ARCHITECTURE.md before it is made.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("schema", &["api"]),
    ("store", &[]),
    ("store-redb", &["store"]),
    ("store-etcd", &["store"]),
    ("trust", &[]),
    ("apiserver", &["api", "schema", "store", "trust"]),
    ("image-registry", &["api", "apiserver", "store"]),
    ("client", &["api"]),
    ("scheduler", &["api", "client"]),
    ("controllers", &["api", "client"]),
    (
        "server",
        &[
            "api",
            "schema",
            "store",
            "store-redb",
            "store-etcd",
            "apiserver",
            "image-registry",
            "client",
            "scheduler",
            "controllers",
            "dashboard",
        ],
    ),
    ("dashboard", &[]),
    ("network", &[]),
    ("resident", &[]),
    ("proxy", &["api", "client", "cri", "resident"]),
    ("dns", &["api", "client", "resident"]),
    ("csi", &[]),
    ("kubelet", &["api", "client", "cri", "csi", "streaming"]),
    ("agent", &["api", "client", "kubelet", "proxy", "dns", "network", "cri"]),
    ("cri", &[]),
    ("proto", &["cri"]),
    ("streaming", &["cri"]),
    ("containerd", &["cri", "proto", "streaming"]),
    ("wasm", &["cri", "trust"]),
    ("shim", &["cri", "proto", "streaming", "wasm"]),
    (
        "wherry",
        &["server", "agent", "shim", "containerd", "wasm", "client", "cri"],
    ),
    ("architecture", &[]),
    ("e2e", &[]),
    (
        "harness",
        &[
            "api",
            "store",
            "apiserver",
            "client",
            "scheduler",
            "controllers",
            "kubelet",
        ],
    ),
    ("simulation", &[]),
    ("csi-driver", &["csi"]),
    ("history", &[]),
    ("fuzz", &[]),
    ("bench", &["e2e", "proto"]),
];

/// Crates that do no IO: none of these may be among their direct dependencies.
const PURE: &[&str] = &["api", "schema", "cri", "proto"];
const IO: &[&str] = &[
    "tokio",
    "hyper",
    "hyper-util",
    "axum",
    "redb",
    "kube",
    "rustix",
    "nix",
    "socket2",
    "wasmtime",
    "libc",
];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        .other_options([
            "--offline".to_owned(),
            "--filter-platform".to_owned(),
            "x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .expect("cargo metadata")
}

fn direct(package: &Package) -> BTreeSet<String> {
    let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
    normal.map(|d| d.name.to_string()).collect()
}

#[test]
fn crates_name_only_what_the_map_allows() {
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let ours: BTreeSet<String> = members.iter().map(|p| p.name.to_string()).collect();
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in &members {
        let name = package.name.to_string();
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} is not on the map"));
            continue;
        };
        let named = direct(package);
        for other in named.intersection(&ours).filter(|o| !may.contains(&o.as_str())) {
            wrong.push(format!("{name} must not name {other}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_crates_have_no_way_to_do_io() {
    let metadata = metadata();
    for package in metadata
        .workspace_packages()
        .iter()
        .filter(|p| PURE.contains(&p.name.as_str()))
    {
        let normal = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        // tokio without features is traits and types; its channels do no IO either.
        let pure = |d: &Dependency| d.name == "tokio" && !d.uses_default_features && d.features == ["sync"];
        let io: Vec<&str> = normal
            .filter(|d| IO.contains(&d.name.as_str()) && !pure(d))
            .map(|d| d.name.as_str())
            .collect();
        assert!(io.is_empty(), "{} is pure but names {io:?}", package.name);
    }
}

#[test]
fn wasmtime_is_reachable_only_from_the_wasm_runtime() {
    let metadata = metadata();
    for package in metadata
        .workspace_packages()
        .iter()
        .filter(|p| p.name.as_str() != "wasm")
    {
        let named = direct(package);
        let engines: Vec<&String> = named.iter().filter(|d| d.starts_with("wasmtime")).collect();
        assert!(engines.is_empty(), "{} names {engines:?}", package.name);
    }
}

#[test]
fn one_of_each_stack() {
    let built = built();
    for banned in ["ring", "openssl", "native-tls", "async-std"] {
        assert!(!built.contains_key(banned), "{banned} is in the dependency graph");
    }
    for single in ["hyper", "http", "h2", "tower", "tokio", "rustls"] {
        let versions = built.get(single).cloned().unwrap_or_default();
        assert!(versions.len() <= 1, "{single} is there in {versions:?}");
    }
}

/// Names and versions of what is compiled into the binary. From `cargo tree`, since the graph of `cargo metadata` also
/// holds what only an unused optional feature would bring.
fn built() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "wherry",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .current_dir(root)
        .output()
        .expect("cargo tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut built: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            built.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    built
}
