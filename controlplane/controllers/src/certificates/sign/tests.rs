use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair};
use x509_parser::pem::parse_x509_pem;

use super::*;
use crate::certificates::CLIENT;

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// An authority that ends in 2030, and its certificate.
fn authority(algorithm: &'static rcgen::SignatureAlgorithm) -> (Authority, String) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let pem = params.self_signed(&key).unwrap().pem();
    (Authority::new(&pem, &key.serialize_pem()).unwrap(), pem)
}

fn request(signer: &str, name: &str, organization: &str, dns: &[&str], usages: &[&str]) -> Object {
    let mut params = CertificateParams::new(dns.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, name);
    let pem = params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();
    let mut object = Object::new("certificates.k8s.io/v1", "CertificateSigningRequest");
    object.set(
        "spec",
        json!({"request": STANDARD.encode(pem), "signerName": signer, "usages": usages}),
    );
    object
}

fn signed(authority: &Authority, request: &Object, seconds: Option<i64>, at: Timestamp) -> String {
    let Plan::Sign(parsed) = plan(request) else {
        panic!("it is to be signed")
    };
    authority.sign(&parsed, seconds, at, 1 << 127).unwrap()
}

#[test]
fn a_certificate_says_what_was_asked_and_what_the_signer_allows() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let (authority, ca) = authority(algorithm);
        let asked = request(
            CLIENT,
            "jane",
            "dev",
            &["a.example"],
            &["client auth", "digital signature"],
        );
        let pem = signed(&authority, &asked, Some(3600), now());
        let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
        let certificate = block.parse_x509().unwrap();
        let (_, ca) = parse_x509_pem(ca.as_bytes()).unwrap();
        let ca = ca.parse_x509().unwrap();
        certificate.verify_signature(Some(ca.public_key())).unwrap();
        assert_eq!(certificate.issuer().as_raw(), ca.subject().as_raw());
        assert_eq!(certificate.subject().to_string(), "O=dev, CN=jane");
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && !usage.key_encipherment() && !usage.key_cert_sign());
        let purposes = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(purposes.client_auth && !purposes.server_auth);
        assert!(!certificate.is_ca());
        let names = certificate.subject_alternative_name().unwrap().unwrap().value;
        assert_eq!(names.general_names.len(), 1);
        let valid = certificate.validity();
        let second = |offset: i64| now().as_second() + offset;
        assert_eq!(
            (valid.not_before.timestamp(), valid.not_after.timestamp()),
            (second(-300), second(3600))
        );
    }
}

#[test]
fn validity_is_bounded_by_the_policy_and_by_the_authority() {
    let (authority, _) = authority(&rcgen::PKCS_ECDSA_P256_SHA256);
    let asked = request(CLIENT, "jane", "dev", &[], &["client auth"]);
    let ends = |seconds, at: Timestamp| {
        let pem = signed(&authority, &asked, seconds, at);
        let (_, block) = parse_x509_pem(pem.as_bytes()).unwrap();
        let end = block.parse_x509().unwrap().validity().not_after.timestamp();
        end - at.as_second()
    };
    let year = 365 * 24 * 3600;
    assert_eq!(ends(None, now()), year - 300);
    assert_eq!(ends(Some(10 * year), now()), year - 300);
    assert_eq!(ends(Some(1), now()), 600);
    let late: Timestamp = "2029-12-31T00:00:00Z".parse().unwrap();
    assert_eq!(ends(None, late), 24 * 3600);
    let Plan::Sign(parsed) = plan(&asked) else { panic!() };
    let after = late + SignedDuration::from_hours(25);
    assert!(matches!(
        authority.sign(&parsed, None, after, 1),
        Err(crate::certificates::authority::AuthorityError::Expired(_))
    ));
}

#[test]
fn what_a_signer_does_not_sign_fails_in_words() {
    let asked = request(CLIENT, "jane", "dev", &[], &["server auth"]);
    let Plan::Fail(why) = plan(&asked) else {
        panic!("it fails")
    };
    assert_eq!(why, "invalid usage for client certificate: server auth");
    let others = request("example.com/x", "jane", "dev", &[], &["server auth"]);
    assert!(matches!(plan(&others), Plan::Leave));
}
