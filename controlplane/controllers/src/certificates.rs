//! CertificateSigningRequests of the built-in signers: kubelets' requests are approved where RBAC lets them, what is
//! approved is signed by the cluster's authority, and what is done with is removed.

pub(crate) mod approve;
pub(crate) mod authority;
pub(crate) mod clean;
mod der;
mod request;
pub(crate) mod sign;

use api::Object;
use base64::{Engine, engine::general_purpose::STANDARD};
use client::{Informer, Meta, Scope, kinds};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use x509_parser::pem::parse_x509_pem;

use crate::Context;

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// What is kept of a CertificateSigningRequest.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    metadata: Meta,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    signer_name: Box<str>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Box<[Condition]>,
    #[serde(deserialize_with = "issued")]
    certificate: Option<Issued>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    r#type: Box<str>,
    status: Box<str>,
    last_update_time: Option<Timestamp>,
}

/// A certificate that a request got.
#[derive(Copy, Clone, Debug)]
struct Issued {
    /// Its end; `None` where it cannot be read.
    until: Option<Timestamp>,
}

fn issued<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Issued>, D::Error> {
    let field: Option<std::borrow::Cow<'de, str>> = Option::deserialize(deserializer)?;
    Ok(field
        .filter(|field| !field.is_empty())
        .map(|field| Issued { until: end(&field) }))
}

/// The end of a certificate in a field's base64.
fn end(field: &str) -> Option<Timestamp> {
    let pem = STANDARD.decode(field).ok()?;
    let (_, block) = parse_x509_pem(&pem).ok()?;
    let certificate = block.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl Request {
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status
            .conditions
            .iter()
            .find(|condition| *condition.r#type == *kind)
    }

    fn is(&self, kind: &str) -> bool {
        self.condition(kind).is_some()
    }

    /// Whether nobody has decided on it.
    fn is_undecided(&self) -> bool {
        !self.is(APPROVED) && !self.is(DENIED) && self.status.certificate.is_none()
    }

    /// Whether a certificate is due.
    fn is_due(&self) -> bool {
        let failed = self
            .condition(FAILED)
            .is_some_and(|condition| *condition.status == *"True");
        self.is(APPROVED) && !self.is(DENIED) && !failed && self.status.certificate.is_none()
    }
}

async fn requests(context: &Context) -> Informer<Request> {
    let requests = context.informers.get(&kinds::CERTIFICATE_SIGNING_REQUEST, Scope::All);
    requests.synced().await;
    requests
}

/// Adds a condition to a request.
fn add_condition(request: &mut Object, condition: Value) {
    let mut conditions = request.list_at("status.conditions").to_vec();
    conditions.push(condition);
    request.set("status.conditions", conditions);
}
