use std::path::Path;

use wit_parser::{Resolve, WorldItem};

use super::*;
use crate::host::fixtures;

/// The interfaces that a world of `wit/` imports or exports, without versions.
fn interfaces(world: &str, exports: bool) -> Vec<String> {
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(Path::new(wit)).expect("valid WIT");
    let world = resolve.select_world(&[package], Some(world)).expect("the world");
    let world = &resolve.worlds[world];
    let items = if exports { &world.exports } else { &world.imports };
    let names = items
        .iter()
        .filter(|(_, item)| matches!(item, WorldItem::Interface { .. }))
        .map(|(key, _)| {
            let name = resolve.name_world_key(key);
            name.split('@').next().expect("a name").to_owned()
        });
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn the_worlds_import_what_is_offered() {
    for world in ["http-service", "command", "imports"] {
        assert_eq!(interfaces(world, false), OFFERED, "{world}");
    }
}

#[test]
fn the_worlds_export_what_is_run() {
    assert_eq!(interfaces("http-service", true), [HTTP_HANDLER]);
    assert_eq!(interfaces("http-handler", true), [HTTP_HANDLER]);
    assert_eq!(interfaces("command", true), [COMMAND]);
}

#[test]
fn tells_guests_apart() {
    let cases = [
        (fixtures::http("unreachable"), Guest::Http),
        (fixtures::cli("(i32.const 0)"), Guest::Command),
        (fixtures::command(""), Guest::Preview1),
    ];
    for (binary, guest) in cases {
        assert_eq!(classify(&binary), Ok(guest));
    }
}

#[test]
fn names_every_missing_import() {
    let imports = vec![
        "wasi:nn/tensor@0.2.0-rc-2024-10-28".to_owned(),
        "acme:billing/api@1.0.0".to_owned(),
    ];
    assert_eq!(
        classify(&fixtures::missing_import()),
        Err(Refusal::MissingImports { imports })
    );
}

#[test]
fn names_the_missing_import_of_a_module() {
    let binary = wat::parse_str(r#"(module (import "env" "abort" (func)) (func (export "_start")))"#).expect("valid");
    let imports = vec!["env.abort".to_owned()];
    assert_eq!(classify(&binary), Err(Refusal::MissingImports { imports }));
}

#[test]
fn an_interface_is_offered_in_every_version_of_its_series_and_in_no_other() {
    assert!(offered("wasi:http/types@0.2.0"));
    assert!(offered("wasi:http/types@0.2.99"));
    for other in [
        "wasi:http/types@0.3.0",
        "wasi:http/types",
        "wasi:http/typesetting@0.2.0",
        "wasi:http/types@0.20.0",
    ] {
        assert!(!offered(other), "{other}");
    }
}

#[test]
fn says_what_a_file_is_that_is_not_wasm() {
    let cases: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"\x7fELF\x02\x01\x01\0", "ELF"),
        (b"\x1f\x8b\x08\0", "gzip"),
        (b"(module)", "text form"),
        (b"#!/bin/sh\n", "script"),
        (b"<!doctype html>", "3c 21 64 6f"),
    ];
    for (binary, words) in cases {
        let Err(Refusal::NotWasm { detail }) = classify(binary) else {
            panic!("{words} was taken for Wasm")
        };
        assert!(detail.contains(words), "{detail}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let whole = fixtures::http("unreachable");
    let detail = |length: usize| match classify(&whole[..length]) {
        Err(Refusal::Invalid { detail }) => detail,
        other => panic!("cut at {length}: {other:?}"),
    };
    assert!(
        detail(whole.len() / 2).contains("truncated"),
        "{}",
        detail(whole.len() / 2)
    );
    // Names and the like stand at the end; without them it is whole.
    let whole_at = |length: usize| wasmparser::validate(&whole[..length]).is_ok();
    for length in (4..whole.len()).filter(|length| !whole_at(*length)) {
        assert!(classify(&whole[..length]).is_err(), "cut at {length}");
    }
}

#[test]
fn a_guest_without_an_entry_point_is_told_what_is_wanted() {
    let module = wat::parse_str(r#"(module (func (export "add")))"#).expect("valid");
    let Err(Refusal::NoEntrypoint { detail }) = classify(&module) else {
        panic!("it ran")
    };
    assert_eq!(
        detail,
        "it is a core module without the function _start; it exports add"
    );
    let component = wat::parse_str("(component)").expect("valid");
    let Err(Refusal::NoEntrypoint { detail }) = classify(&component) else {
        panic!("it ran")
    };
    assert!(detail.contains("wasi:http/incoming-handler@0.2"), "{detail}");
}

#[test]
fn the_package_and_its_worlds_are_described() {
    let mut resolve = Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit");
    let (package, _) = resolve.push_path(Path::new(wit)).expect("valid WIT");
    let package = &resolve.packages[package];
    assert_eq!(package.name.to_string(), "wherry:workload@0.1.0");
    assert!(package.docs.contents.is_some());
    for (name, world) in &package.worlds {
        assert!(resolve.worlds[*world].docs.contents.is_some(), "{name}");
    }
}
