//! The signing key, and signatures by it (ES256, RFC 7518).

use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::claims::Claims;

/// Bytes of a coordinate of a P-256 point.
const COORDINATE: usize = 32;

pub(super) struct Keys {
    /// Derived from the public key, so that it needs no storing.
    id: String,
    /// The coordinates of the public point, in URL-safe base64.
    point: [String; 2],
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Keys {
    /// Reads a PKCS #8 PEM.
    pub(super) fn from_pem(pem: &str) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| e.to_string())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
            .map_err(|e| e.to_string())?;
        // An uncompressed point, SEC 1: 0x04, then both coordinates.
        let point = pair.public_key().as_ref();
        let (x, y) = point
            .get(1..)
            .and_then(|both| both.split_at_checked(COORDINATE))
            .ok_or("a compressed point")?;
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (encode(x), encode(y));
        Ok(Self {
            id: encode(&Sha256::digest(point)),
            signing: EncodingKey::from_ec_pem(pem.as_bytes()).map_err(|e| e.to_string())?,
            verifying: DecodingKey::from_ec_components(&x, &y).map_err(|e| e.to_string())?,
            point: [x, y],
        })
    }

    /// The public key as a JSON Web Key.
    pub(super) fn public(&self) -> Value {
        let [x, y] = &self.point;
        json!({"use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256", "x": x, "y": y})
    }

    /// The claims of a token that this key signed for `issuer`; times and audiences are the caller's to check.
    pub(super) fn open(&self, token: &str, issuer: &str) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        validation.validate_exp = false;
        validation.validate_aud = false;
        jsonwebtoken::decode(token, &self.verifying, &validation)
            .ok()
            .map(|data| data.claims)
    }
}

/// Signs claims.
pub(super) struct Signer(Arc<Keys>);

impl Signer {
    pub(super) fn new(keys: Arc<Keys>) -> Self {
        Self(keys)
    }

    pub(super) fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.0.id.clone());
        header.typ = None;
        jsonwebtoken::encode(&header, claims, &self.0.signing)
    }
}
