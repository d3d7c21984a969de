//! A certificate with its key, and when it is to be replaced. Pure.

use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// A certificate is replaced when this part of its life is over, and up to this much later: not all nodes at once.
const EARLIEST: f64 = 0.7;
const SPREAD: f64 = 0.2;

pub(crate) struct Held {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// The subject's common name.
    pub(crate) user: String,
    /// Names and addresses, in order.
    pub(crate) names: Vec<String>,
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Held {
    /// Reads PEM: certificates, and the key of the first.
    pub(crate) fn parse(pem: &str) -> Option<Self> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<_, _>>()
            .ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
        let user = leaf.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let (names, validity) = (names(&leaf), leaf.validity().clone());
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Self {
            user,
            names,
            from: at(validity.not_before)?,
            until: at(validity.not_after)?,
            chain,
            key,
        })
    }

    /// When it is to be replaced: always the same moment for the same certificate.
    pub(crate) fn renew_at(&self) -> Timestamp {
        let life = self.until.duration_since(self.from);
        self.from
            .saturating_add(part(life, EARLIEST + SPREAD * self.fraction()))
            .unwrap_or(self.until)
    }

    /// Between nothing and one, as good as by chance.
    fn fraction(&self) -> f64 {
        let digest = self.chain.first().map(Sha256::digest).unwrap_or_default();
        let number = digest
            .iter()
            .take(4)
            .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
        f64::from(number) / (f64::from(u32::MAX) + 1.0)
    }

    /// Whether it is one of these authorities'. A data directory may be older than its cluster.
    pub(crate) fn is_signed_by(&self, authorities: &[CertificateDer<'static>]) -> bool {
        let Some(Ok((_, leaf))) = self.chain.first().map(|leaf| X509Certificate::from_der(leaf)) else {
            return false;
        };
        authorities.iter().any(|authority| {
            let parsed = X509Certificate::from_der(authority);
            parsed.is_ok_and(|(_, by)| leaf.verify_signature(Some(by.public_key())).is_ok())
        })
    }
}

fn part(life: SignedDuration, part: f64) -> SignedDuration {
    life.mul_f64(part)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let lists = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    let mut names: Vec<String> = lists.flatten().filter_map(name).collect();
    names.sort();
    names
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|b| std::net::IpAddr::from(b).to_string()),
        },
        _ => None,
    }
}
