use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConnection, ServerConfig, ServerConnection};

use super::*;

const HOOK: &str = "hook.hooks.svc";

/// What plain `openssl req -x509` makes: for a name, signed by itself, and an authority.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::new([HOOK.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    params
}

fn made(params: &CertificateParams) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate"), key)
}

fn verifier(believed: &[&rcgen::Certificate]) -> Verifier {
    let mut authorities = Authorities::none();
    for certificate in believed {
        assert_eq!(authorities.add(certificate.pem().as_bytes()), 1);
    }
    Verifier {
        believed: Some(authorities),
        provider: Arc::new(aws_lc_rs::default_provider()),
    }
}

fn judged(verifier: &Verifier, shown: &CertificateDer<'_>, name: &str, year: u64) -> Result<(), rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let now = UnixTime::since_unix_epoch(Duration::from_secs((year - 1970) * 31_557_600 + 86_400));
    verifier.verify_server_cert(shown, &[], &name, &[], now).map(drop)
}

#[test]
fn an_authority_that_is_given_is_believed_as_the_server_it_names() {
    let (own, _) = made(&authority());
    let verifier = verifier(&[&own]);
    assert_eq!(judged(&verifier, own.der(), HOOK, 2026), Ok(()));
    for (name, year, wrong) in [
        ("other.hooks.svc", 2026, "not valid for name"),
        (HOOK, 2041, "certificate expired"),
        (HOOK, 2019, "certificate not valid yet"),
    ] {
        let refused = judged(&verifier, own.der(), name, year).expect_err(wrong).to_string();
        assert!(refused.contains(wrong), "{refused}");
    }
}

#[test]
fn an_authority_that_is_not_given_is_no_server() {
    let (own, key) = made(&authority());
    let (stranger, _) = made(&authority());
    let verifier = verifier(&[&own]);
    judged(&verifier, stranger.der(), HOOK, 2026).expect_err("signs itself");
    // The same name and the same key, but not the same certificate.
    let mut renewed = authority();
    renewed.not_after = date_time_ymd(2041, 1, 1);
    let renewed = renewed.self_signed(&key).expect("a certificate");
    let refused = judged(&verifier, renewed.der(), HOOK, 2026).expect_err("is another");
    assert!(refused.to_string().contains("CaUsedAsEndEntity"), "{refused}");
}

#[test]
fn what_an_authority_signs_is_believed_as_ever() {
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority(), key).expect("an authority");
    let verifier = verifier(&[authority.as_ref()]);
    let mut leaf = CertificateParams::new(["leaf.hooks.svc".to_owned()]).expect("a name");
    leaf.not_after = date_time_ymd(2030, 1, 1);
    let leaf_key = KeyPair::generate().expect("a key");
    let leaf = leaf.signed_by(&leaf_key, &*authority).expect("a leaf");
    assert_eq!(judged(&verifier, leaf.der(), "leaf.hooks.svc", 2026), Ok(()));
    judged(&verifier, leaf.der(), HOOK, 2026).expect_err("another name");
    judged(&verifier, leaf.der(), "leaf.hooks.svc", 2031).expect_err("expired");
}

#[test]
fn a_certificate_for_another_purpose_is_no_servers() {
    for (purposes, good) in [
        (vec![ExtendedKeyUsagePurpose::ClientAuth], false),
        (
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
            true,
        ),
        (vec![ExtendedKeyUsagePurpose::Any], true),
    ] {
        let mut params = authority();
        params.extended_key_usages = purposes.clone();
        let (own, _) = made(&params);
        let found = judged(&verifier(&[&own]), own.der(), HOOK, 2026);
        assert_eq!(found.is_ok(), good, "{purposes:?}: {found:?}");
    }
}

/// A handshake in memory; the server shows a certificate and signs with a key.
fn handshake(client: Client, shown: &rcgen::Certificate, key: &KeyPair) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let signing = provider.key_provider.load_private_key(key)?;
    let certified = rustls::sign::CertifiedKey::new(vec![shown.der().clone()], signing);
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    let mut server = ServerConnection::new(Arc::new(server))?;
    let name = ServerName::try_from(HOOK).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client.with_no_client_auth()), name)?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory takes it");
        }
        let mut read = bytes.as_slice();
        while !read.is_empty() {
            server.read_tls(&mut read).expect("memory gives it");
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory takes it");
        }
        let mut read = bytes.as_slice();
        while !read.is_empty() {
            client.read_tls(&mut read).expect("memory gives it");
            client.process_new_packets()?;
        }
    }
    Ok(())
}

#[test]
fn whoever_shows_a_certificate_has_its_key() {
    let (own, key) = made(&authority());
    let (_, other) = made(&authority());
    let believing = || {
        let mut authorities = Authorities::none();
        authorities.add(own.pem().as_bytes());
        authorities.client()
    };
    assert_eq!(handshake(believing(), &own, &key), Ok(()));
    assert_eq!(handshake(anybody(), &own, &key), Ok(()));
    let unsigned = Err(rustls::Error::InvalidCertificate(CertificateError::BadSignature));
    assert_eq!(handshake(believing(), &own, &other), unsigned);
    assert_eq!(handshake(anybody(), &own, &other), unsigned);
}

#[test]
fn broken_certificates_are_passed_over() {
    let (own, _) = made(&authority());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mut authorities = Authorities::none();
    assert_eq!(authorities.add(format!("{broken}{}", own.pem()).as_bytes()), 1);
    assert_eq!(authorities.add(b"junk"), 0);
}
