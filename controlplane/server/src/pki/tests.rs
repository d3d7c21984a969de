use jiff::{Timestamp, ToSpan};
use tempfile::tempdir;

use super::*;

fn names() -> Names {
    Names {
        api_addresses: vec!["127.0.0.1".parse().unwrap(), "10.96.0.1".parse().unwrap()],
        api_names: vec![],
        node_name: "n1".into(),
        node_addresses: vec!["10.0.0.5".parse().unwrap()],
    }
}

fn now() -> Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

#[test]
fn keeps_everything_on_the_second_start() {
    let dir = tempdir().unwrap();
    let first = Pki::ensure(dir.path(), &names(), now()).unwrap();
    let second = Pki::ensure(dir.path(), &names(), now()).unwrap();
    assert_eq!(first.ca, second.ca);
    assert_eq!(first.apiserver.certificate, second.apiserver.certificate);
    assert_eq!(first.admin.key, second.admin.key);
    assert_eq!(first.service_account_key, second.service_account_key);
}

#[test]
fn reissues_only_the_leaf_whose_names_changed() {
    let dir = tempdir().unwrap();
    let first = Pki::ensure(dir.path(), &names(), now()).unwrap();
    let mut moved = names();
    moved.api_addresses.push("192.0.2.7".parse().unwrap());
    let second = Pki::ensure(dir.path(), &moved, now()).unwrap();
    assert_ne!(first.apiserver.certificate, second.apiserver.certificate);
    assert_eq!(first.admin.certificate, second.admin.certificate);
    assert_eq!(first.ca, second.ca);
}

#[test]
fn renews_leaves_near_their_end_under_the_same_authority() {
    let dir = tempdir().unwrap();
    let first = Pki::ensure(dir.path(), &names(), now()).unwrap();
    let later = now().checked_add((300 * 24).hours()).unwrap();
    let second = Pki::ensure(dir.path(), &names(), later).unwrap();
    assert_ne!(first.admin.certificate, second.admin.certificate);
    assert_eq!(first.ca, second.ca);
}

#[test]
fn refuses_an_authority_that_lost_its_key() {
    let dir = tempdir().unwrap();
    Pki::ensure(dir.path(), &names(), now()).unwrap();
    std::fs::remove_file(dir.path().join("ca.key")).unwrap();
    let error = Pki::ensure(dir.path(), &names(), now()).unwrap_err().to_string();
    assert!(error.contains("ca.key is missing"), "{error}");
}

#[test]
fn keys_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempdir().unwrap();
    Pki::ensure(dir.path(), &names(), now()).unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}
