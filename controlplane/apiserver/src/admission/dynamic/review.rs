//! AdmissionReview: what a webhook is asked, and what its answer says. Pure.

use api::Status;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// The versions of AdmissionReview that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V1beta1,
}

impl Version {
    /// The first that is known of those a webhook takes.
    pub(crate) fn of<'v>(mut accepted: impl Iterator<Item = &'v Value>) -> Option<Self> {
        accepted.find_map(|version| match version.as_str() {
            Some("v1") => Some(Version::V1),
            Some("v1beta1") => Some(Version::V1beta1),
            _ => None,
        })
    }

    fn api_version(self) -> &'static str {
        match self {
            Version::V1 => "admission.k8s.io/v1",
            Version::V1beta1 => "admission.k8s.io/v1beta1",
        }
    }
}

/// The review of a request.
pub(crate) fn question(version: Version, uid: &str, mut request: Value, object: Value, old: Value) -> Value {
    if let Some(request) = request.as_object_mut() {
        request.insert("uid".to_owned(), uid.into());
        request.insert("object".to_owned(), object);
        request.insert("oldObject".to_owned(), old);
    }
    json!({"kind": "AdmissionReview", "apiVersion": version.api_version(), "request": request})
}

/// What a webhook answers.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) allowed: bool,
    /// A JSON patch, as text.
    pub(crate) patch: Vec<u8>,
    pub(crate) warnings: Vec<String>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) result: Option<Value>,
}

/// Reads an answer; an error says what is wrong with it.
pub(crate) fn answer(version: Version, uid: &str, mutating: bool, review: &Value) -> Result<Answer, String> {
    let response = review.get("response").and_then(Value::as_object);
    let response = response.ok_or("webhook response was absent")?;
    if version == Version::V1 {
        check_v1(review, response, uid, mutating)?;
    }
    let patch = response.get("patch").and_then(Value::as_str).unwrap_or_default();
    let patch = match mutating {
        true => STANDARD
            .decode(patch)
            .map_err(|error| format!("response.patch is not base64: {error}"))?,
        false => Vec::new(),
    };
    let patch_type = response.get("patchType").and_then(Value::as_str);
    if let Some(other) = patch_type.filter(|kind| mutating && version == Version::V1 && *kind != "JSONPatch") {
        return Err(match other {
            "" => "webhook returned invalid response.patchType of \"\"".to_owned(),
            other => format!("unsupported patch type {other:?}"),
        });
    }
    let texts = |value: Option<&Value>| {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
    };
    let annotations = response.get("auditAnnotations").and_then(Value::as_object);
    let annotations = annotations.into_iter().flatten();
    Ok(Answer {
        allowed: response.get("allowed") == Some(&Value::Bool(true)),
        patch,
        warnings: texts(response.get("warnings")),
        annotations: annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        result: response.get("status").filter(|status| status.is_object()).cloned(),
    })
}

/// What only the first version promised: that the answer is to this question, and says which kind of patch it has.
fn check_v1(review: &Value, response: &Map<String, Value>, uid: &str, mutating: bool) -> Result<(), String> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let got = text(response.get("uid"));
    if got != uid {
        return Err(format!("expected response.uid={uid:?}, got {got:?}"));
    }
    let (api_version, kind) = (text(review.get("apiVersion")), text(review.get("kind")));
    if (api_version.as_str(), kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
        let slash = if api_version.contains('/') { "" } else { "/" };
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {slash}{api_version}, Kind={kind}"
        ));
    }
    let has_patch = !text(response.get("patch")).is_empty();
    let has_type = response.get("patchType").is_some_and(|value| !value.is_null());
    match (mutating, has_patch, has_type) {
        (false, true, _) => Err("validating webhook may not return response.patch".to_owned()),
        (false, false, true) => Err("validating webhook may not return response.patchType".to_owned()),
        (true, true, false) => Err("webhook returned response.patch but not response.patchType".to_owned()),
        (true, false, true) => Err("webhook returned response.patchType but not response.patch".to_owned()),
        _ => Ok(()),
    }
}

/// The refusal of a webhook as its Status says it.
pub(crate) fn denial(hook: &str, result: Option<Value>) -> Status {
    let by = format!("admission webhook {hook:?} denied the request");
    let mut status: Status = match result.and_then(|result| serde_json::from_value(result).ok()) {
        Some(status) => status,
        None => Status {
            code: 0,
            ..Status::unexplained("")
        },
    };
    if status.code < 400 {
        status.code = 400;
    }
    if status.status.is_empty() || status.status == "Success" {
        "Failure".clone_into(&mut status.status);
    }
    "Status".clone_into(&mut status.kind);
    "v1".clone_into(&mut status.api_version);
    status.message = match (&*status.message, &*status.reason) {
        ("", "") => format!("{by} without explanation"),
        ("", why) | (why, _) => format!("{by}: {why}"),
    };
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mutating: bool, review: &Value) -> Result<Answer, String> {
        answer(Version::V1, "u", mutating, review)
    }

    fn review(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn an_answer_is_to_the_question() {
        let patch = STANDARD.encode("[]");
        let cases = [
            (false, review(json!({"uid": "u", "allowed": true})), None),
            (
                true,
                review(json!({"uid": "u", "allowed": true, "patch": patch, "patchType": "JSONPatch"})),
                None,
            ),
            (
                false,
                json!({"kind": "AdmissionReview"}),
                Some("webhook response was absent"),
            ),
            (
                false,
                review(json!({"uid": "x"})),
                Some("expected response.uid=\"u\", got \"x\""),
            ),
            (
                false,
                json!({"kind": "Pod", "apiVersion": "v1", "response": {"uid": "u"}}),
                Some("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /v1, Kind=Pod"),
            ),
            (
                false,
                review(json!({"uid": "u", "patch": patch})),
                Some("validating webhook may not return response.patch"),
            ),
            (
                false,
                review(json!({"uid": "u", "patchType": "JSONPatch"})),
                Some("validating webhook may not return response.patchType"),
            ),
            (
                true,
                review(json!({"uid": "u", "patch": patch})),
                Some("webhook returned response.patch but not response.patchType"),
            ),
            (
                true,
                review(json!({"uid": "u", "patchType": "JSONPatch"})),
                Some("webhook returned response.patchType but not response.patch"),
            ),
            (
                true,
                review(json!({"uid": "u", "patch": patch, "patchType": "Sed"})),
                Some("unsupported patch type \"Sed\""),
            ),
        ];
        for (mutating, review, expected) in cases {
            assert_eq!(read(mutating, &review).err().as_deref(), expected, "{review}");
        }
        let old = json!({"response": {"allowed": true, "patch": patch}});
        let old = answer(Version::V1beta1, "u", true, &old).expect("an answer");
        assert_eq!((old.allowed, old.patch), (true, b"[]".to_vec()));
    }

    #[test]
    fn a_denial_says_what_the_webhook_says() {
        let by = "admission webhook \"a.b.c\" denied the request";
        let cases = [
            (None, 400, "", format!("{by} without explanation")),
            (
                Some(json!({"message": "no", "code": 403, "reason": "Forbidden"})),
                403,
                "Forbidden",
                format!("{by}: no"),
            ),
            (
                Some(json!({"reason": "Because", "code": 200})),
                400,
                "Because",
                format!("{by}: Because"),
            ),
        ];
        for (result, code, reason, message) in cases {
            let status = denial("a.b.c", result);
            assert_eq!((status.code, &*status.reason, status.message), (code, reason, message));
            assert_eq!(status.status, "Failure");
        }
    }
}
