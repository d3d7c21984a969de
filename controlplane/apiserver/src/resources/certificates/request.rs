//! What a CertificateSigningRequest carries: a signed PKCS #10 request in PEM, and in its status certificates in PEM.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

const REQUEST: &str = "CERTIFICATE REQUEST";
const CERTIFICATE: &str = "CERTIFICATE";

/// The DER of the request in a field's base64; the error says what is wrong with it. The signature has been verified.
pub(crate) fn der(field: &str) -> Result<Vec<u8>, String> {
    let not_pem = || format!("PEM block type must be {REQUEST}");
    let pem = STANDARD.decode(field).map_err(|_| not_pem())?;
    let (_, block) = parse_x509_pem(&pem).map_err(|_| not_pem())?;
    if block.label != REQUEST {
        return Err(not_pem());
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents)
        .map_err(|_| "asn1: structure error: not a certificate request".to_owned())?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".to_owned());
    }
    request
        .verify_signature()
        .map_err(|_| "x509: the signature of the certificate request is not valid".to_owned())?;
    Ok(block.contents)
}

/// What is wrong with the certificates in a field's base64, if anything.
pub(super) fn certificates(field: &str) -> Result<(), String> {
    let pem = STANDARD.decode(field).unwrap_or_default();
    let (mut rest, mut blocks) = (pem.as_slice(), 0);
    while let Ok((after, block)) = parse_x509_pem(rest) {
        if block.label != CERTIFICATE {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if has_headers(rest, after) {
            return Err("no PEM block headers are permitted".to_owned());
        }
        X509Certificate::from_der(&block.contents).map_err(|_| "x509: malformed certificate".to_owned())?;
        (rest, blocks) = (after, blocks + 1);
    }
    match blocks {
        0 => Err("must contain at least one CERTIFICATE PEM block".to_owned()),
        _ => Ok(()),
    }
}

/// Whether the block before `after` has header lines (RFC 1421): they have a colon, which base64 has not.
fn has_headers(block: &[u8], after: &[u8]) -> bool {
    let length = block.len().saturating_sub(after.len());
    let text = block.get(..length).map(String::from_utf8_lossy).unwrap_or_default();
    let inside = text.lines().skip_while(|line| !line.starts_with("-----BEGIN"));
    inside.skip(1).any(|line| line.contains(':'))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A request for a common name and organizations, as the field holds it.
    pub(crate) fn field(common_name: &str, organizations: &[&str]) -> String {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        let mut name = rcgen::DistinguishedName::new();
        name.push(rcgen::DnType::CommonName, common_name);
        for organization in organizations {
            name.push(rcgen::DnType::OrganizationName, *organization);
        }
        params.distinguished_name = name;
        let request = params.serialize_request(&key).expect("a request");
        STANDARD.encode(request.pem().expect("PEM"))
    }

    /// One made once, so that snapshots do not change.
    pub(crate) const FIXED: &str = include_str!("testing/request.txt");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_that_its_key_is_held() {
        let good = testing::field("jane", &[]);
        assert!(der(&good).is_ok());
        let pem = String::from_utf8(STANDARD.decode(&good).expect("base64")).expect("text");
        let (_, block) = parse_x509_pem(pem.as_bytes()).expect("PEM");
        let mut contents = block.contents;
        *contents.last_mut().expect("a byte") ^= 1;
        let body = STANDARD.encode(&contents);
        let forged = format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----\n");
        assert!(
            der(&STANDARD.encode(forged))
                .expect_err("a forgery")
                .contains("signature")
        );
        let other = pem.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        for bad in [other.as_str(), "nonsense", ""] {
            let error = der(&STANDARD.encode(bad)).expect_err("no request");
            assert_eq!(error, "PEM block type must be CERTIFICATE REQUEST");
        }
    }

    #[test]
    fn what_is_issued_is_certificates_and_nothing_else() {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("parameters");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let say = |text: &str| certificates(&STANDARD.encode(text));
        assert_eq!(say(&format!("{pem}{pem}")), Ok(()));
        assert_eq!(
            say(""),
            Err("must contain at least one CERTIFICATE PEM block".to_owned())
        );
        assert_eq!(
            say(&key.serialize_pem()),
            Err("only CERTIFICATE PEM blocks are allowed, found \"PRIVATE KEY\"".to_owned())
        );
    }
}
