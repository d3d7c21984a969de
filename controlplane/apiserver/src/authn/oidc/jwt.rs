//! JSON Web Tokens (RFC 7519) and the signatures on them (RFC 7518): what a token says, and whether a key has signed it.
//! Pure.

use api::time::Timestamp;
use aws_lc_rs::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How long before its time a token is taken, as go-oidc has it.
const NOT_BEFORE_LEEWAY: f64 = 300.0;

/// How a token may be signed: the asymmetric algorithms of RFC 7518.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    ES256,
    ES384,
    ES512,
    PS256,
    PS384,
    PS512,
}

impl Algorithm {
    /// All, in the order in which Kubernetes names them.
    pub const ALL: [Algorithm; 9] = [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
    ];

    /// As a token's header names it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::ES512 => "ES512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
        }
    }

    /// The algorithm of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Algorithm::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            Algorithm::ES256 | Algorithm::ES384 | Algorithm::ES512 => return None,
        })
    }

    /// The curve it is for, and how signatures on it are checked.
    fn curve(self) -> Option<(Curve, &'static dyn VerificationAlgorithm)> {
        Some(match self {
            Algorithm::ES256 => (Curve::P256, &signature::ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => (Curve::P384, &signature::ECDSA_P384_SHA384_FIXED),
            Algorithm::ES512 => (Curve::P521, &signature::ECDSA_P521_SHA512_FIXED),
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "P-256" => Curve::P256,
            "P-384" => Curve::P384,
            "P-521" => Curve::P521,
            _ => return None,
        })
    }

    /// Bytes of a coordinate.
    fn bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }
}

/// A token as it was sent: nothing of it is believed yet.
pub(crate) struct Token<'t> {
    header: Header,
    claims: Value,
    /// What is signed.
    signed: &'t str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
    /// Extensions that must be understood; none are.
    crit: Option<Value>,
}

impl<'t> Token<'t> {
    /// Reads a token; `None` for what is none.
    pub(crate) fn read(text: &'t str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Header = serde_json::from_slice(&part(header)?).ok()?;
        if header.crit.is_some() {
            return None;
        }
        Some(Token {
            header,
            claims: serde_json::from_slice(&part(claims)?).ok()?,
            signed,
            signature: part(signature)?,
        })
    }

    /// Who made it, as it says itself.
    pub(crate) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// What it says.
    pub(crate) fn claims(&self) -> Option<&Map<String, Value>> {
        self.claims.as_object()
    }

    /// How it is signed, if it may be signed so.
    pub(crate) fn algorithm(&self, allowed: &[Algorithm]) -> Result<Algorithm, String> {
        let found = Algorithm::named(&self.header.alg).filter(|algorithm| allowed.contains(algorithm));
        found.ok_or_else(|| {
            let names: Vec<&str> = allowed.iter().map(|algorithm| algorithm.name()).collect();
            format!(
                "oidc: malformed jwt: unexpected signature algorithm {:?}; expected {names:?}",
                self.header.alg
            )
        })
    }

    /// Whether it names a key.
    pub(crate) fn names_key(&self) -> bool {
        !self.header.kid.is_empty()
    }
}

/// What must hold of the claims of any token.
pub(crate) fn check(
    claims: &Map<String, Value>,
    issuer: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<(), String> {
    let made_by = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    if made_by != issuer {
        return Err(format!(
            "oidc: id token issued by a different provider, expected {issuer:?} got {made_by:?}"
        ));
    }
    let meant: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !meant.iter().any(|audience| audiences.iter().any(|own| own == audience)) {
        return Err(format!("oidc: expected audience in {audiences:?} got {meant:?}"));
    }
    let time = |claim: &str| claims.get(claim).and_then(Value::as_f64);
    let seconds = now.as_millisecond() as f64 / 1000.0;
    match time("exp") {
        Some(end) if seconds <= end => {}
        Some(end) => return Err(format!("oidc: token is expired (Token Expiry: {})", shown(end))),
        None => return Err("oidc: token has no expiry".to_owned()),
    }
    match time("nbf") {
        Some(begin) if seconds + NOT_BEFORE_LEEWAY < begin => Err(format!(
            "oidc: current time {now} before the nbf (not before) time: {}",
            shown(begin)
        )),
        _ => Ok(()),
    }
}

fn shown(seconds: f64) -> String {
    let time = Timestamp::from_second(seconds as i64);
    time.map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// A public key of an issuer.
#[derive(Debug)]
pub(crate) struct Key {
    id: String,
    /// What it is for alone, where it says so.
    algorithm: Option<String>,
    material: Material,
}

#[derive(Debug)]
enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point, SEC 1.
    Point(Curve, Vec<u8>),
}

/// A JSON Web Key (RFC 7517), as far as it is read.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Jwk {
    kty: String,
    kid: String,
    alg: Option<String>,
    r#use: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// The keys of a set that can check signatures, up to so many; others are left out.
pub(crate) fn read_keys(set: &Value, limit: usize) -> Vec<Key> {
    let keys = set.get("keys").and_then(Value::as_array).into_iter().flatten();
    keys.filter_map(|key| Key::read(key.clone())).take(limit).collect()
}

impl Key {
    fn read(key: Value) -> Option<Self> {
        let key: Jwk = serde_json::from_value(key).ok()?;
        if key.r#use.as_deref().is_some_and(|used| used != "sig") {
            return None;
        }
        let number = |text: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()?;
            let begin = bytes.iter().position(|byte| *byte != 0)?;
            bytes.get(begin..).map(<[u8]>::to_vec)
        };
        let material = match key.kty.as_str() {
            "RSA" => Material::Rsa(RsaPublicKeyComponents {
                n: number(&key.n)?,
                e: number(&key.e)?,
            }),
            "EC" => {
                let curve = Curve::named(&key.crv)?;
                let mut point = vec![4];
                for coordinate in [&key.x, &key.y] {
                    let bytes = number(coordinate)?;
                    point.resize(point.len() + curve.bytes().checked_sub(bytes.len())?, 0);
                    point.extend(bytes);
                }
                Material::Point(curve, point)
            }
            _ => return None,
        };
        Some(Key {
            id: key.kid,
            algorithm: key.alg,
            material,
        })
    }

    /// Whether the token may be signed by it.
    pub(crate) fn fits(&self, token: &Token<'_>) -> bool {
        let named = token.header.kid.is_empty() || token.header.kid == self.id;
        named && self.algorithm.as_ref().is_none_or(|own| *own == token.header.alg)
    }

    /// Whether the token is signed by it.
    pub(crate) fn verifies(&self, token: &Token<'_>, algorithm: Algorithm) -> bool {
        let message = token.signed.as_bytes();
        match &self.material {
            Material::Rsa(components) => algorithm
                .rsa()
                .is_some_and(|how| components.verify(how, message, &token.signature).is_ok()),
            Material::Point(curve, point) => {
                algorithm
                    .curve()
                    .filter(|(wanted, _)| wanted == curve)
                    .is_some_and(|(_, how)| {
                        UnparsedPublicKey::new(how, point)
                            .verify(message, &token.signature)
                            .is_ok()
                    })
            }
        }
    }
}
