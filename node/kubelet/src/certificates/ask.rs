//! Asks for one certificate: a new key, a request, and the wait for its answer.

use std::{io, time::Duration};

use api::{NamespacedName, Object};
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Client, kinds};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use serde_json::{Value, json};

use super::{Held, Node, Purpose, store};
use crate::blocking;

/// How long an answer is waited for: an administrator may have to give it.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
const FIRST_LOOK: Duration = Duration::from_millis(50);
const LAST_LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("cannot make a request for a certificate")]
    Make(#[source] rcgen::Error),
    #[error("cannot ask for a certificate")]
    Ask(#[source] client::Error),
    #[error("the request \"{name}\" was refused: {why}")]
    Refused { name: String, why: String },
    #[error("nobody has answered the request \"{name}\" yet; approve it with: kubectl certificate approve {name}")]
    Unanswered { name: String },
    #[error("the request \"{name}\" is gone")]
    Gone { name: String },
    #[error("the certificate that came cannot be used")]
    Unusable,
    #[error("cannot keep the certificate")]
    Keep(#[source] io::Error),
}

/// A new certificate, which has been kept.
pub(super) async fn ask(node: &Node, purpose: Purpose, client: &Client) -> Result<Held, Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Make)?;
    let request = request(node, purpose, &key).map_err(Error::Make)?;
    let kind = &kinds::CERTIFICATE_SIGNING_REQUEST;
    let made = client.create(kind, None, &request).await.map_err(Error::Ask)?;
    let name = made.name().to_owned();
    let answered = tokio::time::timeout(PATIENCE, answer(client, &name)).await;
    let certificate = answered.map_err(|_| Error::Unanswered { name })??;
    let pem = format!("{certificate}{}", key.serialize_pem());
    let held = Held::parse(&pem).ok_or(Error::Unusable)?;
    let fits = held.user == node.user() && held.names == node.names(purpose) && held.is_signed_by(&node.authorities);
    if !fits {
        return Err(Error::Unusable);
    }
    let file = purpose.file(&node.data_dir);
    let written = blocking::run(move || store::write(&file, &pem)).await;
    let written = written.unwrap_or_else(|panicked| Err(io::Error::other(panicked)));
    written.map_err(Error::Keep)?;
    Ok(held)
}

/// The CertificateSigningRequest.
fn request(node: &Node, purpose: Purpose, key: &KeyPair) -> Result<Value, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(DnType::CommonName, node.user());
    if purpose == Purpose::Serving {
        params
            .subject_alt_names
            .push(SanType::DnsName(node.name.as_str().try_into()?));
        let addresses = node.addresses.iter().map(|address| SanType::IpAddress(*address));
        params.subject_alt_names.extend(addresses);
    }
    let pem = params.serialize_request(key)?.pem()?;
    Ok(json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"generateName": "csr-"},
        "spec": {
            "request": STANDARD.encode(pem), "signerName": purpose.signer(),
            "usages": ["digital signature", purpose.usage()],
        },
    }))
}

/// Waits for the certificate, in PEM.
async fn answer(client: &Client, name: &str) -> Result<String, Error> {
    let key = NamespacedName::cluster(name);
    let mut pause = FIRST_LOOK;
    loop {
        let found = client.get_opt(&kinds::CERTIFICATE_SIGNING_REQUEST, &key).await;
        let found: Option<Object> = found.map_err(Error::Ask)?;
        let found = found.ok_or_else(|| Error::Gone { name: name.to_owned() })?;
        if let Some(answer) = read(&found) {
            return answer.map_err(|why| Error::Refused {
                name: name.to_owned(),
                why,
            });
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// What became of a request: the certificate, or why there is none. `None`: nothing yet. Pure.
pub(super) fn read(request: &Object) -> Option<Result<String, String>> {
    let conditions = request.list_at("status.conditions").iter();
    let text = |condition: &Value, field: &str| {
        condition
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut refusals = conditions.filter(|condition| matches!(text(condition, "type").as_str(), "Denied" | "Failed"));
    if let Some(refusal) = refusals.next() {
        return Some(Err(format!(
            "{}: {}",
            text(refusal, "reason"),
            text(refusal, "message")
        )));
    }
    let certificate = request.str_at("status.certificate").filter(|text| !text.is_empty())?;
    let decoded = STANDARD
        .decode(certificate)
        .ok()
        .and_then(|pem| String::from_utf8(pem).ok());
    Some(decoded.ok_or_else(|| "the certificate is not in PEM".to_owned()))
}
