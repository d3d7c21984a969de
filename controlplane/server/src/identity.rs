//! The identity of a cluster whose control planes share a store: authorities, service account key and encryption keys,
//! kept in that store, sealed with a key that is derived from the cluster's token. The first control plane makes them;
//! every other opens them with the same token, and each signs its own certificates.
//!
//! Sealed is: [`SALT`] bytes of salt, a nonce, and AES-256-GCM of the files as JSON. The key is PBKDF2-HMAC-SHA256 of the
//! token, slow on purpose, since whoever can read the store can try tokens. A wrong token is found out by the cipher's
//! tag, which is compared in constant time.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    pbkdf2, rand,
};
use jiff::Timestamp;
use store::{Backend, Expect, Outcome, Revision, Write};
use zeroize::Zeroizing;

use crate::{files, keys, pki};

/// Where it is kept; no kind is served from there, and it is sealed already.
pub(crate) const KEY: &str = "wherry/identity//cluster";
/// Said to the cipher, so that nothing else opens as an identity.
const CONTEXT: &[u8] = b"wherry cluster identity 1";
const SALT: usize = 32;
/// Rounds of key derivation (OWASP's figure for PBKDF2-HMAC-SHA256): a fifth of a second, once at start.
const ROUNDS: NonZeroU32 = NonZeroU32::new(600_000).expect("not zero");
/// The shortest token: 128 bits in hexadecimal digits.
const SHORTEST_TOKEN: usize = 32;

/// The files of an identity below the data directory.
const FILES: [&str; 6] = [
    "pki/ca.crt",
    "pki/ca.key",
    "pki/front-proxy-ca.crt",
    "pki/front-proxy-ca.key",
    "pki/sa.key",
    ENCRYPTION,
];
/// The one of them that changes.
const ENCRYPTION: &str = "keys/encryption.json";
/// Tells a directory's cluster from others.
const DISTINCTIVE: &str = "pki/ca.crt";

/// What opens a cluster's identity. Does not print.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// A token of at least 32 characters.
    pub fn new(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        match text.len() >= SHORTEST_TOKEN {
            true => Ok(Token(Zeroizing::new(text.to_owned()))),
            false => Err(Error::ShortToken),
        }
    }

    fn key(&self, salt: &[u8]) -> LessSafeKey {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            salt,
            self.0.as_bytes(),
            key.as_mut(),
        );
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.as_slice()).expect("the key has the algorithm's length"))
    }

    /// Seals a text.
    pub(crate) fn seal(&self, text: &[u8]) -> Result<Vec<u8>, Error> {
        let (mut salt, mut nonce) = ([0; SALT], [0; NONCE_LEN]);
        rand::fill(&mut salt).map_err(|_| Error::Random)?;
        rand::fill(&mut nonce).map_err(|_| Error::Random)?;
        let mut sealed = Zeroizing::new(text.to_vec());
        self.key(&salt)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(CONTEXT), &mut *sealed)
            .map_err(|_| Error::Random)?;
        Ok([&salt[..], &nonce, &sealed].concat())
    }

    /// Opens what [`Token::seal`] made.
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (salt, rest) = sealed.split_first_chunk::<SALT>().ok_or(Error::Damaged)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Error::Damaged)?;
        let mut opened = Zeroizing::new(text.to_vec());
        let length = self
            .key(salt)
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(CONTEXT), &mut opened)
            .map_err(|_| Error::WrongToken)?
            .len();
        opened.truncate(length);
        Ok(opened)
    }
}

/// Why there is no identity. Each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "the cluster token is too short: it protects every key of the cluster; make one with: openssl rand -hex 32"
    )]
    ShortToken,
    #[error("the cluster token is not this cluster's: give --token as on the other control planes")]
    WrongToken,
    #[error("the cluster's identity in the store is damaged; restore the store from a backup")]
    Damaged,
    #[error("{directory} belongs to another cluster: choose another --data-dir, or the store of that cluster")]
    Foreign { directory: String },
    #[error("no random bytes from the operating system")]
    Random,
    #[error("cannot read the cluster's identity from the store")]
    Store(#[from] store::Error),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
}

/// The files of an identity, by their paths below the data directory.
pub(crate) type Files = BTreeMap<String, Zeroizing<String>>;

/// Sees to it that `directory` holds the identity that the store has, making it where this is the first control plane.
pub(crate) async fn ensure(
    backend: &dyn Backend,
    token: &Token,
    directory: &Path,
    now: Timestamp,
) -> Result<(), Error> {
    loop {
        if let Some((files, _)) = stored(backend, token).await? {
            return install(directory, &files);
        }
        let files = match read(directory)? {
            Some(files) => files,
            None => make(&directory.join("identity.new"), now)?,
        };
        let write = Write::create(KEY, token.seal(&to_json(&files))?);
        if let Outcome::Committed(_) = backend.write(write).await? {
            tracing::info!("the cluster's identity is made");
            return install(directory, &files);
        }
        // Another control plane was faster: its identity counts.
    }
}

/// The identity in the store, and the revision it has.
pub(crate) async fn stored(backend: &dyn Backend, token: &Token) -> Result<Option<(Files, Revision)>, Error> {
    let Some(kv) = backend.get(KEY).await?.value else {
        return Ok(None);
    };
    Ok(Some((from_json(&token.open(&kv.value)?)?, kv.revision)))
}

/// Replaces the encryption keys of the identity in the store; `false` where it has changed since `revision`.
pub(crate) async fn replace_keys(
    backend: &dyn Backend,
    token: &Token,
    (mut files, revision): (Files, Revision),
    keys: Zeroizing<String>,
) -> Result<bool, Error> {
    files.insert(ENCRYPTION.to_owned(), keys);
    let write = Write {
        expect: Expect::At(revision),
        ..Write::put(KEY, token.seal(&to_json(&files))?)
    };
    Ok(matches!(backend.write(write).await?, Outcome::Committed(_)))
}

/// The encryption keys among the files.
pub(crate) fn keys_of(files: &Files) -> Result<&str, Error> {
    files.get(ENCRYPTION).map(|text| &***text).ok_or(Error::Damaged)
}

/// The identity that a data directory holds; `None` where it holds none.
pub(crate) fn read(directory: &Path) -> Result<Option<Files>, Error> {
    let mut files = Files::new();
    for name in FILES {
        match files::read(&directory.join(name))? {
            Some(text) => files.insert(name.to_owned(), Zeroizing::new(text)),
            None if files.is_empty() => return Ok(None),
            None => return Err(Error::Damaged),
        };
    }
    Ok(Some(files))
}

/// Writes the files, unless the directory holds another cluster's.
pub(crate) fn install(directory: &Path, identity: &Files) -> Result<(), Error> {
    if identity.keys().map(String::as_str).ne(sorted(FILES)) {
        return Err(Error::Damaged);
    }
    let foreign = |text: String| identity.get(DISTINCTIVE).is_none_or(|ours| **ours != text);
    if files::read(&directory.join(DISTINCTIVE))?.is_some_and(foreign) {
        return Err(Error::Foreign {
            directory: directory.display().to_string(),
        });
    }
    for part in ["pki", "keys"] {
        files::make_directory(&directory.join(part))?;
    }
    // What tells the cluster comes last: where it is, all is.
    let (last, rest): (Vec<_>, Vec<_>) = identity.iter().partition(|(name, _)| *name == DISTINCTIVE);
    for (name, text) in rest.into_iter().chain(last) {
        let path = directory.join(name);
        if files::read(&path)?.is_none_or(|old| old != **text) {
            files::write_private(&path, text)?;
        }
    }
    Ok(())
}

/// Makes a new identity in a directory that is removed again.
fn make(directory: &Path, now: Timestamp) -> Result<Files, Error> {
    files::remove_directory(directory)?;
    pki::make_roots(&directory.join("pki"), now)?;
    keys::ensure(&directory.join("keys"), false)?;
    let made = read(directory)?.ok_or(Error::Damaged);
    files::remove_directory(directory)?;
    made
}

fn sorted(mut names: [&str; FILES.len()]) -> [&str; FILES.len()] {
    names.sort_unstable();
    names
}

pub(crate) fn to_json(files: &Files) -> Zeroizing<Vec<u8>> {
    let plain: BTreeMap<&str, &str> = files.iter().map(|(name, text)| (&**name, &***text)).collect();
    Zeroizing::new(serde_json::to_vec(&plain).expect("a map of strings is JSON"))
}

pub(crate) fn from_json(json: &[u8]) -> Result<Files, Error> {
    let plain: BTreeMap<String, String> = serde_json::from_slice(json).map_err(|_| Error::Damaged)?;
    Ok(plain
        .into_iter()
        .map(|(name, text)| (name, Zeroizing::new(text)))
        .collect())
}

#[cfg(test)]
mod tests {
    use store::memory::Memory;
    use tempfile::tempdir;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    fn now() -> Timestamp {
        "2026-11-20T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        let token = Token::new(TOKEN).unwrap();
        let sealed = token.seal(b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_eq!(&**token.open(&sealed).unwrap(), b"hunter2");
        assert_ne!(sealed, token.seal(b"hunter2").unwrap(), "a salt and a nonce of its own");
        let other = Token::new("another token, which is as long as it must be").unwrap();
        assert!(matches!(other.open(&sealed), Err(Error::WrongToken)));
        let mut altered = sealed.clone();
        *altered.last_mut().unwrap() ^= 1;
        assert!(matches!(token.open(&altered), Err(Error::WrongToken)));
        assert!(matches!(token.open(&sealed[..40]), Err(Error::Damaged)));
        assert!(matches!(Token::new("short"), Err(Error::ShortToken)));
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[tokio::test]
    async fn the_first_makes_it_and_the_others_open_it() {
        let (store, token) = (Memory::new(), Token::new(TOKEN).unwrap());
        let directories = [tempdir().unwrap(), tempdir().unwrap()];
        for directory in &directories {
            ensure(&store, &token, directory.path(), now()).await.unwrap();
            ensure(&store, &token, directory.path(), now()).await.unwrap();
        }
        let [first, second] = directories
            .each_ref()
            .map(|directory| read(directory.path()).unwrap().unwrap());
        assert!(first == second);
        assert!(!directories[0].path().join("identity.new").exists());
        let raw = store.get(KEY).await.unwrap().value.unwrap().value;
        assert!(!raw.windows(11).any(|part| part == b"PRIVATE KEY"));

        let wrong = Token::new("another token, which is as long as it must be").unwrap();
        let stranger = tempdir().unwrap();
        let refused = ensure(&store, &wrong, stranger.path(), now()).await;
        assert!(matches!(refused, Err(Error::WrongToken)));
        ensure(&Memory::new(), &token, stranger.path(), now()).await.unwrap();
        let refused = ensure(&store, &token, stranger.path(), now()).await;
        assert!(matches!(refused, Err(Error::Foreign { .. })));
    }

    #[tokio::test]
    async fn a_directory_with_an_identity_lends_it_to_an_empty_store() {
        let (token, directory) = (Token::new(TOKEN).unwrap(), tempdir().unwrap());
        ensure(&Memory::new(), &token, directory.path(), now()).await.unwrap();
        let before = read(directory.path()).unwrap().unwrap();
        let store = Memory::new();
        ensure(&store, &token, directory.path(), now()).await.unwrap();
        let (after, revision) = stored(&store, &token).await.unwrap().unwrap();
        assert!(before == after);
        let keys = Zeroizing::new("{}".to_owned());
        assert!(
            replace_keys(&store, &token, (after, revision), keys.clone())
                .await
                .unwrap()
        );
        assert!(
            !replace_keys(&store, &token, (before, revision), keys).await.unwrap(),
            "somebody was faster"
        );
        let (files, _) = stored(&store, &token).await.unwrap().unwrap();
        assert_eq!(keys_of(&files).unwrap(), "{}");
    }
}
