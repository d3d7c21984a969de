//! The cluster's certificate authority as a signer of requests (RFC 5280): what a certificate says comes from the request
//! and the signer's policy, never from the extensions that the request asks for, but for its names.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{KeyPair, SigningKey};
use x509_parser::{pem::parse_x509_pem, prelude::ParsedExtension};

use super::{
    der::{bit_string, bits, extension, integer, oid, sequence, time, tlv},
    request::{AltName, Attribute, Parsed},
};

/// How long a certificate is valid where the request does not say, and at most (`--cluster-signing-duration`).
const LONGEST: SignedDuration = SignedDuration::from_hours(365 * 24);
const SHORTEST: SignedDuration = SignedDuration::from_mins(10);
/// Certificates begin earlier by this much, for clocks that are behind.
const BACKDATE: SignedDuration = SignedDuration::from_mins(5);
/// A certificate that is valid for less than this does not end earlier for having begun earlier.
const SHORT: SignedDuration = SignedDuration::from_hours(8);

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the authority's certificate or key cannot be read: {0}")]
    Unreadable(String),
    #[error("the signer has expired: NotAfter={0}")]
    Expired(Timestamp),
    #[error("the authority's key cannot sign")]
    Sign(#[source] rcgen::Error),
}

/// A certificate authority with its key. Does not print the key.
pub struct Authority {
    key: KeyPair,
    /// DER of the AlgorithmIdentifier of its signatures.
    algorithm: &'static [u8],
    /// DER of its own subject.
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
    until: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// An authority of its certificate and private key, both PEM.
    pub fn new(certificate: &str, key: &str) -> Result<Self, AuthorityError> {
        let unreadable = |why: &dyn std::fmt::Display| AuthorityError::Unreadable(why.to_string());
        let key = KeyPair::from_pem(key).map_err(|error| unreadable(&error))?;
        let algorithm = algorithm(&key).ok_or_else(|| unreadable(&"an unknown kind of key"))?;
        let (_, block) = parse_x509_pem(certificate.as_bytes()).map_err(|error| unreadable(&error))?;
        let parsed = block.parse_x509().map_err(|error| unreadable(&error))?;
        let key_id = parsed.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        let until = Timestamp::from_second(parsed.validity().not_after.timestamp());
        Ok(Self {
            algorithm,
            name: parsed.subject().as_raw().to_vec(),
            key_id,
            until: until.map_err(|error| unreadable(&error))?,
            key,
        })
    }

    /// Signs a request that a signer's rules have let pass; the certificate in PEM.
    pub(super) fn sign(
        &self,
        request: &Parsed,
        seconds: Option<i64>,
        now: Timestamp,
        serial: u128,
    ) -> Result<String, AuthorityError> {
        let (from, until) = self.validity(seconds, now)?;
        let body = sequence(&[
            tlv(0xa0, &integer(2)),
            integer(serial >> 1),
            self.algorithm.to_vec(),
            self.name.clone(),
            sequence(&[time(from), time(until)]),
            subject(&request.subject),
            request.public_key.clone(),
            tlv(0xa3, &sequence(&self.extensions(request))),
        ]);
        let signature = self.key.sign(&body).map_err(AuthorityError::Sign)?;
        let certificate = sequence(&[body, self.algorithm.to_vec(), bit_string(&signature)]);
        Ok(pem(&certificate))
    }

    /// From when until when a certificate is valid: never beyond the authority itself.
    fn validity(&self, seconds: Option<i64>, now: Timestamp) -> Result<(Timestamp, Timestamp), AuthorityError> {
        let asked = seconds.map_or(LONGEST, SignedDuration::from_secs);
        let length = asked.clamp(SHORTEST, LONGEST);
        let from = now.checked_sub(BACKDATE).unwrap_or(Timestamp::MIN);
        if from >= self.until {
            return Err(AuthorityError::Expired(self.until));
        }
        let start = if length < SHORT { now } else { from };
        let until = start.checked_add(length).unwrap_or(Timestamp::MAX);
        Ok((from, until.min(self.until)))
    }

    fn extensions(&self, request: &Parsed) -> Vec<Vec<u8>> {
        let mut extensions = Vec::new();
        let usages = KEY_USAGES.iter().filter(|(usage, _)| request.usages.contains(*usage));
        let set = usages.fold(0, |set, (_, bit)| set | bit);
        if set != 0 {
            extensions.push(extension("2.5.29.15", true, &bits(set)));
        }
        let mut purposes: Vec<&str> = Vec::new();
        for (usage, id) in PURPOSES {
            if request.usages.contains(*usage) && !purposes.contains(id) {
                purposes.push(id);
            }
        }
        if !purposes.is_empty() {
            let ids: Vec<Vec<u8>> = purposes.into_iter().map(oid).collect();
            extensions.push(extension("2.5.29.37", false, &sequence(&ids)));
        }
        extensions.push(extension("2.5.29.19", true, &sequence(&[])));
        if let Some(id) = &self.key_id {
            extensions.push(extension("2.5.29.35", false, &sequence(&[tlv(0x80, id)])));
        }
        if !request.names.is_empty() {
            let names: Vec<Vec<u8>> = request.names.iter().map(alternative_name).collect();
            // A certificate without a subject is told by these names alone (RFC 5280, 4.2.1.6).
            extensions.push(extension("2.5.29.17", request.subject.is_empty(), &sequence(&names)));
        }
        extensions
    }
}

/// Usages that are bits of KeyUsage, the first of them highest.
const KEY_USAGES: &[(&str, u16)] = &[
    ("signing", 1 << 15),
    ("digital signature", 1 << 15),
    ("content commitment", 1 << 14),
    ("key encipherment", 1 << 13),
    ("data encipherment", 1 << 12),
    ("key agreement", 1 << 11),
    ("cert sign", 1 << 10),
    ("crl sign", 1 << 9),
    ("encipher only", 1 << 8),
    ("decipher only", 1 << 7),
];

/// Usages that are purposes of ExtKeyUsage, in Kubernetes' order.
const PURPOSES: &[(&str, &str)] = &[
    ("any", "2.5.29.37.0"),
    ("server auth", "1.3.6.1.5.5.7.3.1"),
    ("client auth", "1.3.6.1.5.5.7.3.2"),
    ("code signing", "1.3.6.1.5.5.7.3.3"),
    ("email protection", "1.3.6.1.5.5.7.3.4"),
    ("s/mime", "1.3.6.1.5.5.7.3.4"),
    ("ipsec end system", "1.3.6.1.5.5.7.3.5"),
    ("ipsec tunnel", "1.3.6.1.5.5.7.3.6"),
    ("ipsec user", "1.3.6.1.5.5.7.3.7"),
    ("timestamping", "1.3.6.1.5.5.7.3.8"),
    ("ocsp signing", "1.3.6.1.5.5.7.3.9"),
    ("microsoft sgc", "1.3.6.1.4.1.311.10.3.3"),
    ("netscape sgc", "2.16.840.1.113730.4.1"),
];

/// The AlgorithmIdentifier of a key's signatures (RFC 5758, RFC 4055, RFC 8410).
fn algorithm(key: &KeyPair) -> Option<&'static [u8]> {
    let known: [(&rcgen::SignatureAlgorithm, &[u8]); 6] = [
        (
            &rcgen::PKCS_ECDSA_P256_SHA256,
            b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02",
        ),
        (
            &rcgen::PKCS_ECDSA_P384_SHA384,
            b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03",
        ),
        (&rcgen::PKCS_ED25519, b"\x30\x05\x06\x03\x2b\x65\x70"),
        (
            &rcgen::PKCS_RSA_SHA256,
            b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00",
        ),
        (
            &rcgen::PKCS_RSA_SHA384,
            b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c\x05\x00",
        ),
        (
            &rcgen::PKCS_RSA_SHA512,
            b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d\x05\x00",
        ),
    ];
    let of = key.algorithm();
    known.into_iter().find(|(known, _)| *known == of).map(|(_, der)| der)
}

fn subject(attributes: &[Attribute]) -> Vec<u8> {
    let part = |a: &Attribute| tlv(0x31, &sequence(&[oid(&a.oid), tlv(a.tag, &a.text)]));
    sequence(&attributes.iter().map(part).collect::<Vec<_>>())
}

fn alternative_name(name: &AltName) -> Vec<u8> {
    match name {
        AltName::Email(text) => tlv(0x81, text.as_bytes()),
        AltName::Dns(text) => tlv(0x82, text.as_bytes()),
        AltName::Uri(text) => tlv(0x86, text.as_bytes()),
        AltName::Ip(IpAddr::V4(address)) => tlv(0x87, &address.octets()),
        AltName::Ip(IpAddr::V6(address)) => tlv(0x87, &address.octets()),
    }
}

fn pem(der: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}
