//! Certificate authorities and the leaves they sign (X.509, RFC 5280; subjects as Kubernetes reads them: common name =
//! user, organizations = groups).

use std::{collections::BTreeSet, net::IpAddr, path::Path};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate, parse_x509_pem};
use zeroize::Zeroizing;

use super::{Error, Identity};
use crate::files;

/// Years an authority is valid for.
const AUTHORITY_YEARS: i16 = 10;
/// Days a leaf is valid for, and how long before its end it is replaced.
const LEAF_DAYS: i32 = 365;
const RENEW_BEFORE_DAYS: i64 = 90;

/// A certificate authority with its key.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate to be signed.
pub(crate) struct Leaf {
    /// File name without extension.
    pub(crate) file: &'static str,
    pub(crate) common_name: String,
    pub(crate) organizations: Vec<String>,
    pub(crate) purpose: Purpose,
}

/// What a leaf is for.
pub(crate) enum Purpose {
    Client,
    Server { names: Vec<String>, addresses: Vec<IpAddr> },
}

impl Authority {
    /// Reads `NAME.crt` and `NAME.key`, or makes them.
    pub(crate) fn ensure(directory: &Path, name: &str, common_name: &str, now: Timestamp) -> Result<Self, Error> {
        let (crt, key) = (
            directory.join(format!("{name}.crt")),
            directory.join(format!("{name}.key")),
        );
        let broken = |reason: String| Error::Certificate {
            path: crt.clone(),
            reason,
        };
        let (certificate, key) = match (files::read(&crt)?, files::read(&key)?) {
            (Some(certificate), Some(key)) => (certificate, key),
            // The key is written first: a certificate without its key means that the key was lost.
            (Some(_), None) => return Err(broken(format!("its key {} is missing", key.display()))),
            (None, _) => {
                let made = make_authority(common_name, now).map_err(|e| broken(e.to_string()))?;
                files::write_private(&key, &made.key)?;
                files::write_private(&crt, &made.certificate)?;
                (made.certificate, made.key)
            }
        };
        let key = KeyPair::from_pem(&key).map_err(|e| broken(e.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|e| broken(e.to_string()))?;
        Ok(Self { certificate, issuer })
    }

    /// The authority's certificate, PEM.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The authority's key, PKCS #8 PEM.
    pub(crate) fn key(&self) -> Zeroizing<String> {
        Zeroizing::new(self.issuer.key().serialize_pem())
    }

    /// Reads the leaf's files, or signs a new one where they are missing, near their end or carry other names.
    pub(crate) fn ensure_leaf(&self, directory: &Path, leaf: &Leaf, now: Timestamp) -> Result<Identity, Error> {
        let crt = directory.join(format!("{}.crt", leaf.file));
        let key = directory.join(format!("{}.key", leaf.file));
        if let (Some(certificate), Some(key)) = (files::read(&crt)?, files::read(&key)?)
            && is_current(&certificate, leaf, now)
        {
            return Ok(Identity { certificate, key });
        }
        let made = self.sign(leaf, now).map_err(|e| Error::Certificate {
            path: crt.clone(),
            reason: e.to_string(),
        })?;
        files::write_private(&key, &made.key)?;
        files::write_private(&crt, &made.certificate)?;
        Ok(made)
    }

    fn sign(&self, leaf: &Leaf, now: Timestamp) -> Result<Identity, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, leaf.common_name.as_str());
        for organization in &leaf.organizations {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization.as_str());
        }
        set_validity(&mut params, now, |day| day.saturating_add(LEAF_DAYS.days()));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        match &leaf.purpose {
            Purpose::Client => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Purpose::Server { names, addresses } => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                for name in names {
                    params
                        .subject_alt_names
                        .push(SanType::DnsName(name.as_str().try_into()?));
                }
                params
                    .subject_alt_names
                    .extend(addresses.iter().map(|ip| SanType::IpAddress(*ip)));
            }
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn make_authority(common_name: &str, now: Timestamp) -> Result<Identity, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    set_validity(&mut params, now, |day| day.saturating_add(AUTHORITY_YEARS.years()));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    Ok(Identity {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    })
}

/// Valid from the day before `now`, for clocks that are behind.
fn set_validity(params: &mut CertificateParams, now: Timestamp, end: impl Fn(Date) -> Date) {
    let today = now.to_zoned(TimeZone::UTC).date();
    let midnight = |day: Date| {
        let part = |n: i8| u8::try_from(n).expect("months and days are positive");
        rcgen::date_time_ymd(i32::from(day.year()), part(day.month()), part(day.day()))
    };
    params.not_before = midnight(today.saturating_sub(1.day()));
    params.not_after = midnight(end(today));
}

/// Whether a certificate on disk is parseable, not near its end, and carries exactly the leaf's names.
fn is_current(pem: &str, leaf: &Leaf, now: Timestamp) -> bool {
    let Ok((_, pem)) = parse_x509_pem(pem.as_bytes()) else {
        return false;
    };
    let Ok(certificate) = pem.parse_x509() else {
        return false;
    };
    let left = certificate
        .validity()
        .not_after
        .timestamp()
        .saturating_sub(now.as_second());
    let wanted = match &leaf.purpose {
        Purpose::Client => BTreeSet::new(),
        Purpose::Server { names, addresses } => names
            .iter()
            .cloned()
            .chain(addresses.iter().map(IpAddr::to_string))
            .collect(),
    };
    left > RENEW_BEFORE_DAYS * 24 * 3600
        && common_name(&certificate).as_deref() == Some(&leaf.common_name)
        && alternative_names(&certificate) == wanted
}

fn common_name(certificate: &X509Certificate<'_>) -> Option<String> {
    certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()
        .map(str::to_owned)
}

fn alternative_names(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let names = certificate
        .extensions()
        .iter()
        .filter_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        });
    names.flatten().filter_map(name_text).collect()
}

fn name_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    }
}
