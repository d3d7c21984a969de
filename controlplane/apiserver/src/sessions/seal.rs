//! AES-256-GCM around what a cookie holds, and random codes.

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NONCE: usize = 12;
pub(super) const PURPOSE: &[u8] = b"wherry dashboard session v1";

/// Seals and opens.
pub(super) struct Seal(RandomizedNonceKey);

impl Seal {
    pub(super) fn new(secret: &[u8]) -> Self {
        let mut key = [0; 32];
        let derived = Salt::new(HKDF_SHA256, &[]).extract(secret);
        derived
            .expand(&[PURPOSE], HKDF_SHA256)
            .and_then(|material| material.fill(&mut key))
            .expect("a hash's length can be had of it");
        Seal(RandomizedNonceKey::new(&AES_256_GCM, &key).expect("the key has the cipher's length"))
    }

    /// Seals for a purpose: what was sealed for one is nothing for another.
    pub(super) fn close(&self, purpose: &[u8], plain: &[u8]) -> Option<String> {
        let mut sealed = plain.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(purpose), &mut sealed).ok()?;
        let nonce: &[u8; NONCE] = nonce.as_ref();
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), sealed.as_slice()].concat()))
    }

    pub(super) fn open(&self, purpose: &[u8], value: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let nonce = Nonce::try_assume_unique_for_key(bytes.get(..NONCE)?).ok()?;
        let sealed = bytes.get_mut(NONCE..)?;
        let plain = self.0.open_in_place(nonce, Aad::from(purpose), sealed).ok()?;
        Some(plain.to_vec())
    }
}

/// A code that nobody guesses, fit for an address.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}
