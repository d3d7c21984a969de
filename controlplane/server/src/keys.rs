//! The keys that Secrets are encrypted with at rest, in `DIR/keys/encryption.json`.
//!
//! Made on first start. A data directory whose store exists without its keys is refused: going on with a new key would
//! look like an empty set of Secrets until the first of them is read. Keys that were replaced stay in the file, since
//! history and backups hold what was sealed with them. With a key management plugin the file holds no key that it has not
//! wrapped, except such as were made before the plugin was used.

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use store::encrypt::Keys;
use zeroize::Zeroizing;

use crate::{
    files,
    kms::{self, Kms, Wrapped},
};

const NAME: &str = "encryption.json";

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
    /// A key was wrapped by a plugin, and there is none.
    #[error("encryption key \"{0}\" is wrapped by a KMS plugin: give --kms-endpoint")]
    NeedsKms(String),
    /// The plugin is of no use.
    #[error(transparent)]
    Kms(#[from] kms::Error),
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
}

/// The file: keys by name, and the one that new values are sealed with. Does not print.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct File {
    current: String,
    keys: BTreeMap<String, Entry>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Entry {
    /// 32 bytes in base64.
    Plain(String),
    Wrapped(Wrapped),
}

/// Reads the keys below `directory`, or makes the first one where there is no store yet.
pub(crate) fn ensure(directory: &Path, store_exists: bool) -> Result<File, Error> {
    files::make_directory(directory)?;
    let path = directory.join(NAME);
    match files::read(&path)? {
        Some(text) => File::parse(&Zeroizing::new(text), &path),
        None if store_exists => Err(Error::Missing { path }),
        None => {
            let name = "key1".to_owned();
            let file = File {
                keys: BTreeMap::from([(name.clone(), Entry::Plain(STANDARD.encode(seed()?.as_slice())))]),
                current: name,
            };
            file.save(directory)?;
            Ok(file)
        }
    }
}

fn seed() -> Result<Zeroizing<[u8; 32]>, Error> {
    let mut seed = Zeroizing::new([0; 32]);
    rand::fill(seed.as_mut()).map_err(|_| Error::Random)?;
    Ok(seed)
}

impl File {
    /// Reads what `path` holds, or what stands in for it.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let malformed = |reason: String| Error::Malformed {
            path: path.to_owned(),
            reason,
        };
        let file: File = serde_json::from_str(text).map_err(|e| malformed(e.to_string()))?;
        for (name, entry) in &file.keys {
            if let Entry::Plain(encoded) = entry {
                plain(encoded).map_err(|reason| malformed(format!("key \"{name}\" {reason}")))?;
            }
        }
        match file.keys.contains_key(&file.current) {
            true => Ok(file),
            false => Err(malformed(format!("key \"{}\" is missing", file.current))),
        }
    }

    pub(crate) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(serde_json::to_string_pretty(self).expect("maps of strings are JSON"))
    }

    pub(crate) fn save(&self, directory: &Path) -> Result<(), Error> {
        Ok(files::write_private(&directory.join(NAME), &self.text())?)
    }

    /// The keys as they are used.
    pub(crate) async fn open(&self, kms: Option<&Kms>) -> Result<Keys, Error> {
        let mut secrets = BTreeMap::new();
        for (name, entry) in &self.keys {
            let secret = match (entry, kms) {
                (Entry::Plain(encoded), _) => plain(encoded).map_err(|reason| Error::Malformed {
                    path: NAME.into(),
                    reason,
                })?,
                (Entry::Wrapped(wrapped), Some(kms)) => kms.unwrap(wrapped).await?,
                (Entry::Wrapped(_), None) => return Err(Error::NeedsKms(name.clone())),
            };
            secrets.insert(name, secret);
        }
        let refused = |e: store::encrypt::KeyError| Error::Malformed {
            path: NAME.into(),
            reason: e.to_string(),
        };
        let current = secrets
            .remove(&self.current)
            .ok_or_else(|| Error::NeedsKms(self.current.clone()))?;
        let keys = Keys::new(&self.current, &current).map_err(refused)?;
        let mut older = secrets.iter();
        older.try_fold(keys, |keys, (name, secret)| {
            keys.with_older(name, secret).map_err(refused)
        })
    }

    /// The same keys and a new one, which opens but does not seal yet; with its name.
    pub(crate) async fn with_new_key(&self, kms: Option<&Kms>) -> Result<(File, String), Error> {
        let seed = seed()?;
        let entry = match kms {
            Some(kms) => Entry::Wrapped(kms.wrap(&seed).await?),
            None => Entry::Plain(STANDARD.encode(seed.as_slice())),
        };
        let name = (1..)
            .map(|n| format!("key{n}"))
            .find(|name| !self.keys.contains_key(name))
            .expect("there are more names than keys");
        let mut file = self.clone();
        file.keys.insert(name.clone(), entry);
        Ok((file, name))
    }

    /// The same keys, of which this one seals.
    pub(crate) fn sealing_with(mut self, name: &str) -> File {
        name.clone_into(&mut self.current);
        self
    }

    /// Whether the key that seals is wrapped with the plugin's key of this id.
    pub(crate) fn is_wrapped_with(&self, key_id: &str) -> bool {
        matches!(self.keys.get(&self.current), Some(Entry::Wrapped(wrapped)) if wrapped.key_id == key_id)
    }
}

fn plain(encoded: &str) -> Result<Zeroizing<[u8; 32]>, String> {
    let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|e| e.to_string())?);
    let bytes = bytes
        .as_slice()
        .try_into()
        .map_err(|_| "is not 32 bytes long".to_owned());
    bytes.map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use store::encrypt::Keyring;
    use tempfile::tempdir;

    use super::*;
    use crate::kms::tests::Plugin;

    #[test]
    fn keeps_the_key_it_made() {
        let dir = tempdir().unwrap();
        ensure(dir.path(), false).unwrap();
        let first = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
        ensure(dir.path(), true).unwrap();
        assert_eq!(first, std::fs::read_to_string(dir.path().join(NAME)).unwrap());
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
            std::fs::write(dir.path().join(NAME), text).unwrap();
            let error = ensure(dir.path(), true).err().unwrap().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn a_new_key_opens_before_it_seals_and_older_ones_stay() {
        let dir = tempdir().unwrap();
        let first = ensure(dir.path(), false).unwrap();
        let (both, name) = first.with_new_key(None).await.unwrap();
        let sealing = |keys: Keys| Keyring::from(keys).current();
        assert_eq!(
            (&*name, sealing(both.open(None).await.unwrap())),
            ("key2", "key1".to_owned())
        );
        let second = both.sealing_with(&name);
        assert_eq!(sealing(second.open(None).await.unwrap()), "key2");
        second.save(dir.path()).unwrap();
        let read = ensure(dir.path(), true).unwrap();
        assert_eq!((&*read.current, read.keys.len()), ("key2", 2));
    }

    #[tokio::test]
    async fn with_a_plugin_the_file_holds_what_it_wrapped() {
        let dir = tempdir().unwrap();
        let plugin = Plugin::start(dir.path());
        let kms = Kms::at(&plugin.endpoint).unwrap();
        let first = ensure(&dir.path().join("keys"), false).unwrap();
        assert!(!first.is_wrapped_with("first"));
        let (file, name) = first.with_new_key(Some(&kms)).await.unwrap();
        let file = file.sealing_with(&name);
        assert!(file.is_wrapped_with("first") && !file.is_wrapped_with("second"));
        let file = File::parse(&file.text(), Path::new("f")).unwrap();
        file.open(Some(&kms)).await.unwrap();
        let error = file.open(None).await.unwrap_err().to_string();
        assert!(error.contains("--kms-endpoint"), "{error}");
        assert_eq!((plugin.asked("encrypt"), plugin.asked("decrypt")), (1, 1));
    }
}
