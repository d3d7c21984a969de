use bytes::Bytes;
use futures::StreamExt;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{Encrypted, KeyError, Keyring, Keys, MARK};
use crate::memory::Memory;
use crate::{Backend, Error, Outcome, Page, Revision, Signal, Write, suite};

fn keys(name: &str, byte: u8) -> Keys {
    Keys::new(name, &Zeroizing::new([byte; 32])).unwrap()
}

fn secrets(memory: &Memory, keys: Keys) -> Encrypted<Memory> {
    Encrypted::new(memory.clone(), keys, |key| key.starts_with("secrets/"))
}

async fn raw(memory: &Memory, key: &str) -> Bytes {
    memory.get(key).await.unwrap().value.unwrap().value
}

async fn read(backend: &impl Backend, key: &str) -> Result<Bytes, Error> {
    Ok(backend.get(key).await?.value.unwrap().value)
}

#[tokio::test]
async fn passes_the_suite_when_everything_is_sealed() {
    suite::run_all(async || Encrypted::new(Memory::new(), keys("k1", 1), |_| true)).await;
}

#[tokio::test]
async fn seals_chosen_values_only() {
    let memory = Memory::new();
    let store = secrets(&memory, keys("k1", 1));
    store.write(Write::put("secrets/a", "hunter2")).await.unwrap();
    store.write(Write::put("maps/a", "plain")).await.unwrap();
    let sealed = raw(&memory, "secrets/a").await;
    assert!(sealed.starts_with(b"sealed:v1:k1:") && !sealed.windows(7).any(|part| part == b"hunter2"));
    assert_eq!(raw(&memory, "maps/a").await, "plain");
    let range = store.range("", Page::all(), None).await.unwrap();
    assert!(range.items.iter().map(|kv| &kv.value).eq(["plain", "hunter2"]));
}

#[tokio::test]
async fn opens_values_replaced_and_conflicting() {
    let memory = Memory::new();
    let store = secrets(&memory, keys("k1", 1));
    let mut watch = store.watch("secrets/", Revision::FIRST).await.unwrap();
    store.write(Write::put("secrets/a", "1")).await.unwrap();
    store.write(Write::put("secrets/a", "2")).await.unwrap();
    let Outcome::Conflict { current, .. } = store.write(Write::create("secrets/a", "3")).await.unwrap() else {
        panic!("it exists")
    };
    assert_eq!(current.unwrap().value, "2");
    watch.next().await;
    let Some(Ok(Signal::Change(change))) = watch.next().await else {
        panic!("a second change")
    };
    assert_eq!(
        (change.value.unwrap(), change.prev.unwrap().value),
        (Bytes::from("2"), Bytes::from("1"))
    );
}

#[tokio::test]
async fn older_keys_open_and_writing_again_seals_anew() {
    let memory = Memory::new();
    secrets(&memory, keys("k1", 1))
        .write(Write::put("secrets/a", "x"))
        .await
        .unwrap();
    let rotated = keys("k2", 2).with_older("k1", &Zeroizing::new([1; 32])).unwrap();
    let store = secrets(&memory, rotated);
    assert_eq!(read(&store, "secrets/a").await.unwrap(), "x");
    let outcome = store.write(Write::put("secrets/a", "x")).await.unwrap();
    assert!(
        matches!(outcome, Outcome::Committed(_)),
        "the key changed, so the stored value does"
    );
    assert!(raw(&memory, "secrets/a").await.starts_with(b"sealed:v1:k2:"));
    let error = read(&secrets(&memory, keys("k3", 3)), "secrets/a").await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("\"secrets/a\" is encrypted with key \"k2\", which was not given"),
        "{error}"
    );
}

#[tokio::test]
async fn keys_are_replaced_under_the_store_and_everything_is_sealed_anew() {
    let memory = Memory::new();
    let ring = Keyring::from(keys("k1", 1));
    let store = Encrypted::new(memory.clone(), ring.clone(), |key| key.starts_with("secrets/"));
    for n in 0..250 {
        store
            .write(Write::put(format!("secrets/{n:03}"), n.to_string()))
            .await
            .unwrap();
    }
    store.write(Write::put("maps/a", "plain")).await.unwrap();
    memory.write(Write::put("secrets/plain", "from before")).await.unwrap();
    let store = store.plaintext(true);
    let mut watch = store.watch("secrets/", Revision::FIRST).await.unwrap();
    ring.replace(keys("k2", 2).with_older("k1", &Zeroizing::new([1; 32])).unwrap());
    assert_eq!(ring.current(), "k2");
    assert_eq!(store.reseal("").await.unwrap(), 251);
    assert_eq!(store.reseal("").await.unwrap(), 0, "once is enough");
    for kv in memory.range("secrets/", Page::all(), None).await.unwrap().items {
        assert!(kv.value.starts_with(b"sealed:v1:k2:"), "{}", kv.key);
    }
    assert_eq!(raw(&memory, "maps/a").await, "plain");
    ring.replace(keys("k2", 2));
    assert_eq!(read(&store, "secrets/007").await.unwrap(), "7");
    let first = watch.next().await.unwrap();
    assert!(
        matches!(first, Err(Error::Corrupt { .. })),
        "history still needs the older key: {first:?}"
    );
}

#[tokio::test]
async fn plain_values_open_only_where_allowed() {
    let memory = Memory::new();
    memory.write(Write::put("secrets/a", "{}")).await.unwrap();
    let error = read(&secrets(&memory, keys("k1", 1)), "secrets/a").await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    assert_eq!(
        read(&secrets(&memory, keys("k1", 1)).plaintext(true), "secrets/a")
            .await
            .unwrap(),
        "{}"
    );
}

#[tokio::test]
async fn altered_or_moved_values_do_not_open() {
    let memory = Memory::new();
    let store = secrets(&memory, keys("k1", 1));
    store.write(Write::put("secrets/a", "x")).await.unwrap();
    let sealed = raw(&memory, "secrets/a").await;
    memory.write(Write::put("secrets/b", sealed.clone())).await.unwrap();
    assert!(
        matches!(read(&store, "secrets/b").await, Err(Error::Corrupt { .. })),
        "moved"
    );
    for at in MARK.len()..sealed.len() {
        let mut altered = sealed.to_vec();
        altered[at] ^= 1;
        memory.write(Write::put("secrets/a", altered)).await.unwrap();
        assert!(
            matches!(read(&store, "secrets/a").await, Err(Error::Corrupt { .. })),
            "byte {at} altered"
        );
    }
    for length in MARK.len()..sealed.len() {
        memory
            .write(Write::put("secrets/a", sealed.slice(..length)))
            .await
            .unwrap();
        assert!(
            matches!(read(&store, "secrets/a").await, Err(Error::Corrupt { .. })),
            "cut to {length}"
        );
    }
}

#[test]
fn key_names_are_checked() {
    let secret = Zeroizing::new([0; 32]);
    for name in ["", "K1", "a:b", "ü", &"a".repeat(64)] {
        assert!(matches!(Keys::new(name, &secret), Err(KeyError::Name(_))), "{name:?}");
    }
    assert!(matches!(
        keys("k1", 1).with_older("k1", &secret),
        Err(KeyError::Twice(_))
    ));
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_equals_itself(path in "[a-z/]{0,20}", value: Vec<u8>, other: Vec<u8>) {
        let keys = keys("k", 9);
        let sealed = keys.current.seal(&path, &value);
        prop_assert_eq!(&sealed, &keys.current.seal(&path, &value));
        prop_assert_eq!(value == other, sealed == keys.current.seal(&path, &other));
        let envelope = super::Envelope { keys: keys.into(), chosen: std::sync::Arc::new(|_| false), plaintext: false };
        prop_assert_eq!(envelope.open(&path, sealed).unwrap(), value);
    }

    #[test]
    fn plain_values_come_back_whatever_they_look_like(tail: Vec<u8>, marked: bool) {
        let envelope = super::Envelope { keys: keys("k", 9).into(), chosen: std::sync::Arc::new(|_| false), plaintext: false };
        let value = Bytes::from([if marked { MARK } else { b"" }, &tail[..]].concat());
        prop_assert_eq!(envelope.open("p", envelope.seal("p", value.clone())).unwrap(), value);
    }
}
