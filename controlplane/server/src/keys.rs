//! The keys that Secrets are encrypted with at rest, in `DIR/keys/encryption.json`.
//!
//! Made on first start. A data directory whose store exists without its keys is refused: going on with a new key would
//! look like an empty set of Secrets until the first of them is read.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use store::encrypt::Keys;
use zeroize::Zeroizing;

use crate::files;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The store is there and its keys are not.
    #[error("{} is missing: the Secrets of this cluster cannot be read without it; restore it from a backup", path.display())]
    Missing { path: PathBuf },
    /// The file does not hold keys.
    #[error("{} does not hold encryption keys: {reason}; restore it from a backup", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
}

/// The file: keys by name, and the one that new values are sealed with.
#[derive(Serialize, Deserialize)]
struct File {
    current: String,
    keys: BTreeMap<String, String>,
}

/// Reads the keys below `directory`, or makes the first one where there is no store yet.
pub(crate) fn ensure(directory: &Path, store_exists: bool) -> Result<Keys, Error> {
    files::make_directory(directory)?;
    let path = directory.join("encryption.json");
    match files::read(&path)? {
        Some(text) => parse(&Zeroizing::new(text)).map_err(|reason| Error::Malformed { path, reason }),
        None if store_exists => Err(Error::Missing { path }),
        None => make(&path),
    }
}

fn make(path: &Path) -> Result<Keys, Error> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(secret.as_mut()).map_err(|_| Error::Random)?;
    let name = "key1".to_owned();
    let file = File {
        keys: BTreeMap::from([(name.clone(), STANDARD.encode(secret.as_slice()))]),
        current: name,
    };
    let text = Zeroizing::new(serde_json::to_string_pretty(&file).expect("a map of strings is JSON"));
    files::write_private(path, &text)?;
    Keys::new(&file.current, &secret).map_err(|e| Error::Malformed {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn parse(text: &str) -> Result<Keys, String> {
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let secret = |name: &str| -> Result<Zeroizing<[u8; 32]>, String> {
        let encoded = file
            .keys
            .get(name)
            .ok_or_else(|| format!("key \"{name}\" is missing"))?;
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|e| format!("key \"{name}\": {e}"))?);
        let bytes = bytes
            .as_slice()
            .try_into()
            .map_err(|_| format!("key \"{name}\" is not 32 bytes long"))?;
        Ok(Zeroizing::new(bytes))
    };
    let current = Keys::new(&file.current, &secret(&file.current)?).map_err(|e| e.to_string())?;
    file.keys
        .keys()
        .filter(|name| **name != file.current)
        .try_fold(current, |keys, name| {
            keys.with_older(name, &secret(name)?).map_err(|e| e.to_string())
        })
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn keeps_the_key_it_made() {
        let dir = tempdir().unwrap();
        ensure(dir.path(), false).unwrap();
        let first = std::fs::read_to_string(dir.path().join("encryption.json")).unwrap();
        ensure(dir.path(), true).unwrap();
        assert_eq!(
            first,
            std::fs::read_to_string(dir.path().join("encryption.json")).unwrap()
        );
    }

    #[test]
    fn refuses_a_store_without_its_keys() {
        let dir = tempdir().unwrap();
        let error = ensure(dir.path(), true).err().unwrap().to_string();
        assert!(error.contains("is missing") && error.contains("backup"), "{error}");
    }

    #[test]
    fn says_what_is_wrong_with_the_file() {
        let dir = tempdir().unwrap();
        for (text, says) in [
            ("{", "EOF"),
            (r#"{"current":"a","keys":{}}"#, "key \"a\" is missing"),
            (r#"{"current":"a","keys":{"a":"AAAA"}}"#, "not 32 bytes"),
        ] {
            std::fs::write(dir.path().join("encryption.json"), text).unwrap();
            let error = ensure(dir.path(), true).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
