//! Encryption at rest: a backend whose chosen values are sealed before they reach the backend below.
//!
//! A sealed value is `sealed:v1:<key id>:`, a salt of 32 bytes, and AES-256-GCM of the value with its key path as
//! associated data, so that a value moved to another path does not open. Every value has a data key of its own, derived
//! (HKDF-SHA256) from the named key and the salt. The salt is a MAC (HMAC-SHA256) of path and value under another key
//! derived from the named one: no two different values ever share a data key, however many are written, which random
//! 96-bit nonces could not promise, and a value written twice looks the same twice, so that a write that changes
//! nothing still commits nothing. What the disk shows is the length of a value and whether a path came back to an
//! earlier one.
//!
//! Values are sealed with the current key and opened with whichever they name; writing a value again re-seals it, and
//! [`Encrypted::reseal`] does so with all. The keys may be replaced while the store is used ([`Keyring`]). What
//! was written before encryption was turned on has no prefix, and opens as it is where [`Encrypted::plaintext`] allows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::{Backend, Change, Error, Kv, Outcome, Page, Range, Read, Revision, Signal, Watch, Write};

const MARK: &[u8] = b"sealed:v1:";
const SALT: usize = 32;
/// How many values are read at a time while they are sealed anew.
const RESEALED_AT_ONCE: usize = 100;

/// The keys values are sealed and opened with. Does not print them.
#[derive(Clone)]
pub struct Keys {
    current: Arc<SealingKey>,
    older: BTreeMap<String, Arc<SealingKey>>,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The name is not 1 to 63 of `a-z`, `0-9`, `-`.
    #[error("encryption key name \"{0}\" must be 1 to 63 characters of a-z, 0-9 and -")]
    Name(String),
    /// Two keys have one name.
    #[error("encryption key \"{0}\" is given twice")]
    Twice(String),
}

impl Keys {
    /// Seals with this key. Its name is written beside every value and must never be given to another key.
    pub fn new(name: &str, secret: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        Ok(Keys {
            current: Arc::new(SealingKey::new(name, secret)?),
            older: BTreeMap::new(),
        })
    }

    /// Opens values sealed with a further key, which is no longer used to seal.
    pub fn with_older(mut self, name: &str, secret: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        if name == self.current.name || self.older.contains_key(name) {
            return Err(KeyError::Twice(name.to_owned()));
        }
        self.older
            .insert(name.to_owned(), Arc::new(SealingKey::new(name, secret)?));
        Ok(self)
    }

    fn named(&self, name: &[u8]) -> Option<&SealingKey> {
        if name == self.current.name.as_bytes() {
            return Some(&self.current);
        }
        self.older.get(std::str::from_utf8(name).ok()?).map(|key| &**key)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("current", &self.current.name)
            .finish_non_exhaustive()
    }
}

/// Keys that can be replaced while a store uses them. Clones are the same ring.
#[derive(Clone, Debug)]
pub struct Keyring(Arc<RwLock<Arc<Keys>>>);

impl Keyring {
    /// Seals and opens with these from now on. Nothing that is still stored may be sealed with a key that is not among
    /// them.
    pub fn replace(&self, keys: Keys) {
        *self.0.write() = Arc::new(keys);
    }

    /// The name of the key that values are sealed with.
    pub fn current(&self) -> String {
        self.get().current.name.clone()
    }

    fn get(&self) -> Arc<Keys> {
        self.0.read().clone()
    }
}

impl From<Keys> for Keyring {
    fn from(keys: Keys) -> Self {
        Keyring(Arc::new(RwLock::new(Arc::new(keys))))
    }
}

/// One named key, as what is derived from it.
struct SealingKey {
    name: String,
    data_keys: hkdf::Prk,
    salts: hmac::Key,
}

impl SealingKey {
    fn new(name: &str, secret: &Zeroizing<[u8; 32]>) -> Result<Self, KeyError> {
        let named = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if name.is_empty() || name.len() > 63 || !name.bytes().all(named) {
            return Err(KeyError::Name(name.to_owned()));
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"wherry store").extract(&**secret);
        let salts = Zeroizing::new(derive(&root, &[b"salts"]));
        let data_keys = Zeroizing::new(derive(&root, &[b"data keys"]));
        Ok(SealingKey {
            name: name.to_owned(),
            data_keys: hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &*data_keys),
            salts: hmac::Key::new(hmac::HMAC_SHA256, &*salts),
        })
    }

    fn seal(&self, path: &str, value: &[u8]) -> Bytes {
        let salt = self.salt(path, value);
        let mut sealed = BytesMut::with_capacity(MARK.len() + self.name.len() + 1 + SALT + value.len() + 16);
        sealed.put_slice(MARK);
        sealed.put_slice(self.name.as_bytes());
        sealed.put_u8(b':');
        sealed.put_slice(&salt);
        let body = sealed.len();
        sealed.put_slice(value);
        let mut text = sealed.split_off(body);
        self.data_key(&salt)
            .seal_in_place_append_tag(nonce(), Aad::from(path.as_bytes()), &mut Appending(&mut text))
            .expect("AES-GCM seals anything below 64 GiB");
        sealed.unsplit(text);
        sealed.freeze()
    }

    fn open(&self, path: &str, salt: &[u8; SALT], text: &[u8]) -> Option<Bytes> {
        let mut opened = BytesMut::from(text);
        let aad = Aad::from(path.as_bytes());
        let length = self.data_key(salt).open_in_place(nonce(), aad, &mut opened).ok()?.len();
        opened.truncate(length);
        Some(opened.freeze())
    }

    fn salt(&self, path: &str, value: &[u8]) -> [u8; SALT] {
        let mut mac = hmac::Context::with_key(&self.salts);
        mac.update(&(path.len() as u64).to_be_bytes());
        mac.update(path.as_bytes());
        mac.update(value);
        let mut salt = [0; SALT];
        salt.copy_from_slice(mac.sign().as_ref());
        salt
    }

    fn data_key(&self, salt: &[u8; SALT]) -> LessSafeKey {
        let key = Zeroizing::new(derive(&self.data_keys, &[b"data key", salt]));
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("the key has the length of the algorithm"))
    }
}

/// One nonce does, since a data key seals one value only.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn derive(from: &hkdf::Prk, info: &[&[u8]]) -> [u8; 32] {
    let mut key = [0; 32];
    from.expand(info, hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key))
        .expect("32 bytes are one block of HKDF");
    key
}

/// `BytesMut` as what the cipher appends its tag to.
struct Appending<'a>(&'a mut BytesMut);

impl AsRef<[u8]> for Appending<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0
    }
}

impl AsMut<[u8]> for Appending<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.0
    }
}

impl<'a> Extend<&'a u8> for Appending<'_> {
    fn extend<I: IntoIterator<Item = &'a u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

type Predicate = dyn Fn(&str) -> bool + Send + Sync;

/// Seals and opens; shared by the backend and its watches.
#[derive(Clone)]
struct Envelope {
    keys: Keyring,
    chosen: Arc<Predicate>,
    plaintext: bool,
}

impl Envelope {
    /// A value that is not chosen but looks sealed is sealed as well, so that what is read is always what was written.
    fn seal(&self, path: &str, value: Bytes) -> Bytes {
        match (self.chosen)(path) || value.starts_with(MARK) {
            true => self.keys.get().current.seal(path, &value),
            false => value,
        }
    }

    fn open(&self, path: &str, stored: Bytes) -> Result<Bytes, Error> {
        let corrupt = |why: &str| Error::Corrupt {
            what: format!("the value of \"{path}\" {why}"),
        };
        let Some(rest) = stored.strip_prefix(MARK) else {
            return match self.plaintext || !(self.chosen)(path) {
                true => Ok(stored),
                false => Err(corrupt("is not encrypted, as it must be")),
            };
        };
        let mut parts = rest.splitn(2, |byte| *byte == b':');
        let (name, sealed) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let keys = self.keys.get();
        let key = keys.named(name).ok_or_else(|| {
            corrupt(&format!(
                "is encrypted with key \"{}\", which was not given",
                String::from_utf8_lossy(name)
            ))
        })?;
        let (salt, text) = sealed.split_first_chunk().ok_or_else(|| corrupt("is cut short"))?;
        key.open(path, salt, text)
            .ok_or_else(|| corrupt("does not decrypt: it was altered, or belongs elsewhere"))
    }

    /// Whether a stored value is as [`Envelope::seal`] would make it now.
    fn is_current(&self, path: &str, stored: &[u8]) -> bool {
        let Some(rest) = stored.strip_prefix(MARK) else {
            return !(self.chosen)(path);
        };
        let keys = self.keys.get();
        rest.strip_prefix(keys.current.name.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&b':'))
    }

    fn open_kv(&self, kv: Kv) -> Result<Kv, Error> {
        Ok(Kv {
            value: self.open(&kv.key, kv.value)?,
            ..kv
        })
    }

    fn open_change(&self, change: Change) -> Result<Change, Error> {
        let value = change.value.map(|value| self.open(&change.key, value)).transpose()?;
        let prev = change.prev.map(|prev| self.open_kv(prev)).transpose()?;
        Ok(Change { value, prev, ..change })
    }

    fn open_signal(&self, signal: Signal) -> Result<Signal, Error> {
        match signal {
            Signal::Change(change) => self.open_change(change).map(Signal::Change),
            progress @ Signal::Progress(_) => Ok(progress),
        }
    }
}

/// A backend whose chosen values are sealed in the backend below.
pub struct Encrypted<B> {
    below: B,
    envelope: Envelope,
}

impl<B: Backend> Encrypted<B> {
    /// Seals the values of those keys that `chosen` says, from now on.
    pub fn new(below: B, keys: impl Into<Keyring>, chosen: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Encrypted {
            below,
            envelope: Envelope {
                keys: keys.into(),
                chosen: Arc::new(chosen),
                plaintext: false,
            },
        }
    }

    /// Whether values that should be sealed may be plain, because they were written before encryption was turned on.
    /// Otherwise they count as damaged: whoever can write the disk must not be able to replace a sealed value.
    pub fn plaintext(mut self, readable: bool) -> Self {
        self.envelope.plaintext = readable;
        self
    }

    /// Seals anew what begins with `prefix` and is not sealed with the current key; returns how many values that were.
    /// Others may write meanwhile. What is to expire must not be among them, since it no longer would.
    pub async fn reseal(&self, prefix: &str) -> Result<usize, Error> {
        let mut resealed = 0;
        loop {
            let (mut page, mut missed) = (Page::first(RESEALED_AT_ONCE), false);
            loop {
                let range = self.below.range(prefix, page.clone(), None).await?;
                page.after = range.items.last().map(|kv| kv.key.clone()).or(page.after);
                for kv in range.items {
                    if !self.envelope.is_current(&kv.key, &kv.value) {
                        match self.reseal_one(kv).await? {
                            true => resealed += 1,
                            false => missed = true,
                        }
                    }
                }
                if !range.more {
                    break;
                }
            }
            // Whoever was faster may have sealed with an older key, if it is another process.
            if !missed {
                return Ok(resealed);
            }
        }
    }

    /// Answers `false` where somebody else has changed it meanwhile.
    async fn reseal_one(&self, kv: Kv) -> Result<bool, Error> {
        let (key, revision) = (kv.key.clone(), kv.revision);
        let opened = self.envelope.open_kv(kv)?;
        let outcome = self.write(Write::update(key, opened.value, revision)).await?;
        Ok(!matches!(outcome, Outcome::Conflict { .. }))
    }
}

#[async_trait]
impl<B: Backend> Backend for Encrypted<B> {
    async fn get(&self, key: &str) -> Result<Read<Option<Kv>>, Error> {
        let read = self.below.get(key).await?;
        Ok(Read {
            value: read.value.map(|kv| self.envelope.open_kv(kv)).transpose()?,
            revision: read.revision,
        })
    }

    async fn range(&self, prefix: &str, page: Page, at: Option<Revision>) -> Result<Range, Error> {
        let range = self.below.range(prefix, page, at).await?;
        let items = range
            .items
            .into_iter()
            .map(|kv| self.envelope.open_kv(kv))
            .collect::<Result<_, _>>()?;
        Ok(Range { items, ..range })
    }

    async fn write(&self, mut write: Write) -> Result<Outcome, Error> {
        write.value = write.value.map(|value| self.envelope.seal(&write.key, value));
        match self.below.write(write).await? {
            Outcome::Conflict { key, current } => {
                let current = current.map(|kv| self.envelope.open_kv(kv)).transpose()?;
                Ok(Outcome::Conflict { key, current })
            }
            decided => Ok(decided),
        }
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, Error> {
        let envelope = self.envelope.clone();
        Ok(self
            .below
            .watch(prefix, from)
            .await?
            .try_map(move |signal| envelope.open_signal(signal)))
    }

    async fn compact(&self, to: Revision) -> Result<(), Error> {
        self.below.compact(to).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        self.below.revision().await
    }
}

#[cfg(test)]
mod tests;
