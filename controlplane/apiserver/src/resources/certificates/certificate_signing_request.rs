//! CertificateSigningRequest: somebody asks a signer for a certificate; somebody else may approve; the signer issues.
//!
//! Who asks is the server's to say, and what was asked for never changes. Who may approve or sign is admission's business.

use std::collections::HashSet;

use api::table::Column;
use api::time::{Timestamp, human_duration};
use api::{FieldError, FieldErrors, Object, Path};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};

use super::{conditions, request};
use crate::authn::UserInfo;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::copy_field;
use crate::resources::print::{columns, or_none};
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const MIN_SECONDS: i64 = 600;
const MAX_DOMAIN: usize = 253;
/// A domain, a slash, and a path of a label, a dot and a subdomain.
const MAX_SIGNER: usize = MAX_DOMAIN + 1 + 253 + 63 + 1;
const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

pub(crate) fn resource() -> Resource {
    Resource::of::<CertificateSigningRequest>()
        .short_names(&["csr"])
        .strategy(Requests)
        .printer(definitions(), cells)
        .field("spec.signerName")
        .approval()
        .status()
        .build()
}

struct Requests;

impl Strategy for Requests {
    fn prepare(&self, cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {
                identify(cx.user, new);
                new.set("status", json!({}));
            }
            Operation::Update { old } => {
                copy_field(old, new, "spec");
                copy_field(old, new, "status");
            }
            Operation::UpdateStatus { old } if cx.subresource == Some("approval") => {
                conditions::stamp(old, new, cx.now);
                let decided = new.at("status.conditions").cloned();
                copy_field(old, new, "status");
                match decided {
                    Some(decided) => new.set("status.conditions", decided),
                    None => drop(new.remove("status.conditions")),
                }
            }
            Operation::UpdateStatus { old } => {
                conditions::keep_decisions(old, new);
                conditions::stamp(old, new, cx.now);
            }
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, |_| Vec::new());
        let old = op.old();
        spec(old, &At::root(new, "spec"), &mut errors);
        conditions::rules(old, new, &mut errors);
        issued(old, new, &mut errors);
        if let Some(old) = old {
            conditions::changes(old, new, cx.subresource == Some("approval"), &mut errors);
            certificate_changes(old, new, cx.subresource, &mut errors);
        }
        errors
    }
}

/// Says who asks; whatever the caller claims.
fn identify(user: &UserInfo, new: &mut Object) {
    for field in ["username", "uid", "groups", "extra"] {
        new.remove(&format!("spec.{field}"));
    }
    for (field, text) in [("spec.username", &user.username), ("spec.uid", &user.uid)] {
        if !text.is_empty() {
            new.set(field, text.as_str());
        }
    }
    if !user.groups.is_empty() {
        new.set("spec.groups", json!(user.groups));
    }
    if !user.extra.is_empty() {
        new.set("spec.extra", json!(user.extra));
    }
}

/// What is asked for. What was wrong already when it was stored is let be.
fn spec(old: Option<&Object>, spec: &At<'_>, errors: &mut FieldErrors) {
    let asked = spec.child("request");
    if let Err(message) = request::der(asked.str()) {
        errors.push(asked.invalid(message));
    }
    let usages = spec.child("usages");
    if usages.is_empty() {
        errors.push(usages.required(""));
    }
    if old.is_none() {
        let unknown = usages
            .items()
            .into_iter()
            .filter(|usage| !USAGES.contains(&usage.str()));
        errors.extend(unknown.map(|usage| usage.not_supported(USAGES)));
        let mut seen = HashSet::new();
        let twice = usages.items().into_iter().filter(|usage| !seen.insert(usage.str()));
        errors.extend(twice.map(|usage| usage.duplicate()));
    }
    let signer = spec.child("signerName");
    if old.is_none() && signer.str() == LEGACY_SIGNER {
        errors.push(signer.invalid("the legacy signerName is not allowed via this API version"));
    } else {
        signer_name(&signer, errors);
    }
    let seconds = spec.child("expirationSeconds");
    if seconds.i64().is_some_and(|seconds| seconds < MIN_SECONDS) {
        errors.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
    }
}

/// `example.com/name`: a domain of several labels, and a path.
fn signer_name(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        return errors.push(at.required(""));
    }
    let parts: Vec<&str> = at.str().split('/').collect();
    let [domain, path] = parts.as_slice() else {
        return errors
            .push(at.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'"));
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(FieldError::too_long(at.path(), MAX_DOMAIN));
    }
    labels_of(at, domain, is_dns1123_label, errors);
    if !domain.contains('.') {
        errors.push(at.invalid_as(
            *domain,
            "should be a domain with at least two segments separated by dots",
        ));
    }
    labels_of(at, path, is_dns1123_subdomain, errors);
    if at.str().len() > MAX_SIGNER {
        errors.push(FieldError::too_long(at.path(), MAX_SIGNER));
    }
}

/// Checks the labels between dots; of the first that is wrong, all that is wrong.
fn labels_of(at: &At<'_>, text: &str, rule: fn(&str) -> Vec<String>, errors: &mut FieldErrors) {
    let found = text.split('.').map(|label| (label, rule(label)));
    if let Some((label, messages)) = found.into_iter().find(|(_, messages)| !messages.is_empty()) {
        let say = |message: String| at.invalid_as(text, format!("validating label {label:?}: {message}"));
        errors.extend(messages.into_iter().map(say));
    }
}

/// The certificate, where one was issued just now.
fn issued(old: Option<&Object>, new: &Object, errors: &mut FieldErrors) {
    let certificate = certificate(new);
    let before = old.map(self::certificate).unwrap_or_default();
    let tolerated =
        old.is_some() && (before == certificate || request::certificates(before).is_err() && !before.is_empty());
    if certificate.is_empty() || tolerated {
        return;
    }
    if let Err(message) = request::certificates(certificate) {
        let path = Path::root("status").child("certificate");
        errors.push(FieldError::invalid(&path, "<certificate data>", message));
    }
}

fn certificate(request: &Object) -> &str {
    request.str_at("status.certificate").unwrap_or_default()
}

/// Only the `status` endpoint issues, and only once.
fn certificate_changes(old: &Object, new: &Object, subresource: Option<&str>, errors: &mut FieldErrors) {
    let before = certificate(old);
    if before == certificate(new) {
        return;
    }
    let path = Path::root("status").child("certificate");
    if subresource != Some("status") {
        errors.push(FieldError::forbidden(&path, "updates may not set certificate content"));
    } else if !before.is_empty() {
        errors.push(FieldError::forbidden(
            &path,
            "updates may not modify existing certificate content",
        ));
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Age|string",
        "SignerName|string||Who is asked to sign.",
        "Requestor|string||Who asks.",
        "RequestedDuration|string||How long the certificate is to be valid.",
        "Condition|string||What has become of the request.",
    ])
}

fn cells(request: &Object, now: Timestamp) -> Vec<Value> {
    let text = |path: &str| request.str_at(path).unwrap_or_default();
    let seconds = request.i64_at("spec.expirationSeconds");
    vec![
        request.name().into(),
        age(request.creation_timestamp(), now),
        or_none(text("spec.signerName")),
        text("spec.username").into(),
        seconds.map_or_else(|| "<none>".into(), |seconds| human_duration(seconds).into()),
        state(request).into(),
    ]
}

/// `Approved,Issued` and the like.
fn state(request: &Object) -> String {
    let conditions = request.list_at("status.conditions");
    let has = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.get("type").and_then(Value::as_str) == Some(kind))
    };
    let mut words = vec![match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (false, true) => "Approved",
        (false, false) => "Pending",
    }];
    if has("Failed") {
        words.push("Failed");
    }
    if !certificate(request).is_empty() {
        words.push("Issued");
    }
    words.join(",")
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let csr = |spec: Value, status: Value| {
        json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "jane",
            "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status})
    };
    let fixed = request::testing::FIXED.trim();
    let good = json!({"request": fixed, "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"],
        "username": "somebody-else", "expirationSeconds": 3600});
    let mut asked = good.clone();
    asked["username"] = json!("jane");
    let approved = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "eA=="});
    crate::resources::testing::Cases {
        valid: vec![csr(good, json!({"certificate": "bm8="}))],
        invalid: vec![
            (
                csr(
                    json!({"request": "bm8=", "signerName": "legacy/a/b", "usages": ["client auth", "fun", "fun"],
                    "expirationSeconds": 1}),
                    json!({}),
                ),
                vec![
                    "spec.request: Invalid value: \"bm8=\": PEM block type must be CERTIFICATE REQUEST",
                    USAGE_1,
                    USAGE_2,
                    "spec.usages[2]: Duplicate value: \"fun\"",
                    "spec.signerName: Invalid value: \"legacy/a/b\": must be a fully qualified domain and path of the form \
                     'example.com/signer-name'",
                    "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
                ],
            ),
            (
                csr(
                    json!({"request": fixed, "signerName": "kubernetes.io/legacy-unknown"}),
                    json!({}),
                ),
                vec![
                    "spec.usages: Required value",
                    "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed \
                     via this API version",
                ],
            ),
            (
                csr(
                    json!({"request": fixed, "usages": ["any"], "signerName": "local/X"}),
                    json!({}),
                ),
                vec![
                    "spec.signerName: Invalid value: \"local\": should be a domain with at least two segments separated by \
                     dots",
                    "spec.signerName: Invalid value: \"X\": validating label \"X\": a lowercase RFC 1123 subdomain must \
                     consist of lower case alphanumeric characters, '-' or '.', and must start and end with an \
                     alphanumeric character (e.g. 'example.com', regex used for validation is \
                     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                ],
            ),
        ],
        table: vec![csr(asked, approved), csr(json!({}), json!({}))],
    }
}

#[cfg(test)]
const USAGE_1: &str = "spec.usages[1]: Unsupported value: \"fun\": supported values: \"any\", \"cert sign\", \"client auth\", \
    \"code signing\", \"content commitment\", \"crl sign\", \"data encipherment\", \"decipher only\", \"digital signature\", \
    \"email protection\", \"encipher only\", \"ipsec end system\", \"ipsec tunnel\", \"ipsec user\", \"key agreement\", \
    \"key encipherment\", \"microsoft sgc\", \"netscape sgc\", \"ocsp signing\", \"s/mime\", \"server auth\", \"signing\", \
    \"timestamping\"";
#[cfg(test)]
const USAGE_2: &str = "spec.usages[2]: Unsupported value: \"fun\": supported values: \"any\", \"cert sign\", \"client auth\", \
    \"code signing\", \"content commitment\", \"crl sign\", \"data encipherment\", \"decipher only\", \"digital signature\", \
    \"email protection\", \"encipher only\", \"ipsec end system\", \"ipsec tunnel\", \"ipsec user\", \"key agreement\", \
    \"key encipherment\", \"microsoft sgc\", \"netscape sgc\", \"ocsp signing\", \"s/mime\", \"server auth\", \"signing\", \
    \"timestamping\"";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{messages, now, object};

    fn stored(status: Value) -> Object {
        object(
            json!({"metadata": {"name": "jane"}, "spec": {"request": request::testing::FIXED.trim(),
            "signerName": "example.com/x", "usages": ["any"]}, "status": status}),
        )
    }

    /// Takes a write to an endpoint through the hooks.
    fn update(subresource: Option<&str>, old: &Object, status: Value) -> (Object, Vec<String>) {
        let user = UserInfo::default();
        let cx = Context {
            user: &user,
            now: now(),
            namespace: None,
            version: "v1",
            subresource,
            dry_run: false,
        };
        let op = match subresource {
            None => Operation::Update { old },
            Some(_) => Operation::UpdateStatus { old },
        };
        let mut new = stored(status);
        Requests.prepare(&cx, &op, &mut new);
        let found = messages(Requests.validate(&cx, &op, &new));
        (new, found)
    }

    #[test]
    fn an_approval_is_stamped_and_is_all_that_the_endpoint_changes() {
        let old = stored(json!({}));
        let decided = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "bm8="});
        let (new, found) = update(Some("approval"), &old, decided.clone());
        assert!(found.is_empty(), "{found:?}");
        let time = "2026-01-01T02:00:00Z";
        assert_eq!(
            new.at("status"),
            Some(
                &json!({"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": time,
                "lastTransitionTime": time}]})
            )
        );
        let (new, found) = update(None, &old, decided);
        assert!(found.is_empty(), "{found:?}");
        assert_eq!(new.at("status"), Some(&json!({})));
    }

    #[test]
    fn a_decision_is_final_and_made_by_approval_alone() {
        let approved = json!({"type": "Approved", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z",
            "lastUpdateTime": "2026-01-01T00:00:00Z"});
        let old = stored(json!({"conditions": [approved.clone()]}));
        let denied = json!({"type": "Denied", "status": "True"});
        let (_, found) = update(
            Some("approval"),
            &old,
            json!({"conditions": [approved.clone(), denied.clone()]}),
        );
        assert_eq!(
            found,
            ["status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"]
        );
        let (_, found) = update(Some("approval"), &old, json!({"conditions": []}));
        assert_eq!(
            found,
            ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
        );
        let (_, found) = update(Some("status"), &stored(json!({})), json!({"conditions": [denied]}));
        assert_eq!(
            found,
            ["status.conditions: Forbidden: updates may not add a condition of type \"Denied\""]
        );
        let (_, found) = update(
            Some("approval"),
            &old,
            json!({"conditions": [{"type": "Approved", "status": "False"}]}),
        );
        assert_eq!(
            found,
            ["status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""]
        );
    }

    #[test]
    fn a_certificate_is_issued_once() {
        let old = stored(json!({}));
        let (_, found) = update(Some("status"), &old, json!({"certificate": "bm8="}));
        assert_eq!(
            found,
            [
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
            ]
        );
        let old = stored(json!({"certificate": "bm8="}));
        let (_, found) = update(Some("status"), &old, json!({"certificate": "YQ=="}));
        assert_eq!(
            found,
            ["status.certificate: Forbidden: updates may not modify existing certificate content"]
        );
    }
}
