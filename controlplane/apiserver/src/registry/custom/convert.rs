//! Between the versions of a custom resource: by name alone, or by the webhook of its definition.
//!
//! Rendering does not wait, so what a webhook has to convert is converted beforehand ([`prepare`]) and remembered on the
//! cached item, for all who read it in that version.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use api::{Object, Status};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::registry::catalog::{CachedItem, Endpoint};
use crate::registry::index::parse;
use crate::registry::{encode, render};
use crate::webhook::{Caller, Target};

/// How long a conversion may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Objects that are sent in one review.
const BATCH: usize = 500;

/// How objects of a kind come from one version to another.
pub(crate) enum Converter {
    /// Only the version's name differs.
    None,
    Webhook(Box<Webhook>),
}

/// The webhook of a definition.
pub(crate) struct Webhook {
    caller: Arc<Caller>,
    target: Target,
    /// The first version of ConversionReview that the webhook takes and we know.
    review: Option<&'static str>,
}

impl Converter {
    pub(super) fn of(definition: &Object, caller: &Arc<Caller>) -> Self {
        if definition.str_at("spec.conversion.strategy") != Some("Webhook") {
            return Converter::None;
        }
        let empty = Value::Null;
        let config = definition.at("spec.conversion.webhook.clientConfig").unwrap_or(&empty);
        let versions = definition.list_at("spec.conversion.webhook.conversionReviewVersions");
        let review = versions.iter().find_map(|version| match version.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        });
        Converter::Webhook(Box::new(Webhook {
            caller: caller.clone(),
            target: Target::read(config),
            review,
        }))
    }
}

/// Whether an object is in a version.
fn is_in(object: &Object, version: &str) -> bool {
    object.api_version() == version
}

/// Brings an object into the version of the endpoint, where objects of its kind are worked on.
pub(crate) async fn to_hub(endpoint: &Endpoint, object: Object) -> Result<Object, Status> {
    to_version(endpoint, object, &endpoint.hub().api_version).await
}

/// The object in the version in which it rests.
pub(crate) async fn to_storage<'o>(endpoint: &Endpoint, object: &'o Object) -> Result<Cow<'o, Object>, Status> {
    let storage = &endpoint.resource().storage().api_version;
    if endpoint.kind.custom.is_none() || is_in(object, storage) {
        return Ok(Cow::Borrowed(object));
    }
    to_version(endpoint, object.clone(), storage).await.map(Cow::Owned)
}

async fn to_version(endpoint: &Endpoint, mut object: Object, version: &str) -> Result<Object, Status> {
    let Some(custom) = &endpoint.kind.custom else {
        return Ok(object);
    };
    if is_in(&object, version) {
        return Ok(object);
    }
    match &custom.converter {
        Converter::None => object.set("apiVersion", version),
        Converter::Webhook(webhook) => {
            let mut converted = webhook.convert(vec![object], version, false).await?;
            object = converted.pop().unwrap_or_default();
        }
    }
    custom.normal().fit(&mut object);
    Ok(object)
}

/// An object of a custom kind in the version of the endpoint, where that takes no webhook.
pub(crate) fn by_name(endpoint: &Endpoint, object: &mut Object) {
    let Some(custom) = &endpoint.kind.custom else { return };
    let version = &endpoint.served().api_version;
    if !is_in(object, version) {
        object.set("apiVersion", version.as_ref());
        custom.normal().fit(object);
    }
}

/// Converts what a webhook has to convert before these items can be rendered for the endpoint.
pub(crate) async fn prepare(endpoint: &Endpoint, items: &[CachedItem]) -> Result<(), Status> {
    let Some((webhook, fit)) = hooked(endpoint) else {
        return Ok(());
    };
    let version = &endpoint.served().api_version;
    let is_missing =
        |item: &&CachedItem| !render::is_in_version(endpoint, &item.bytes) && !render::is_remembered(endpoint, item);
    let missing: Vec<&CachedItem> = items.iter().filter(is_missing).collect();
    for batch in missing.chunks(BATCH) {
        let objects = batch.iter().map(|item| parse(&item.bytes)).collect();
        let converted = webhook.convert(objects, version, true).await?;
        for (item, mut object) in batch.iter().zip(converted) {
            fit(&mut object);
            render::remember(endpoint, item, encode::served(&object));
        }
    }
    Ok(())
}

/// Bytes from the store's history in the version of the endpoint.
pub(crate) async fn past(endpoint: &Endpoint, bytes: Bytes) -> Result<Bytes, Status> {
    if endpoint.kind.custom.is_none() || render::is_in_version(endpoint, &bytes) {
        return Ok(bytes);
    }
    let object = to_hub(endpoint, parse(&bytes)).await?;
    Ok(encode::served(&object))
}

/// Whether a webhook brings objects of the kind from one version to another.
pub(crate) fn is_by_webhook(endpoint: &Endpoint) -> bool {
    let custom = endpoint.kind.custom.as_ref();
    custom.is_some_and(|custom| matches!(custom.converter, Converter::Webhook(_)))
}

fn hooked(endpoint: &Endpoint) -> Option<(&Webhook, impl Fn(&mut Object))> {
    let custom = endpoint.kind.custom.as_ref()?;
    let normal = custom.normal();
    match &custom.converter {
        Converter::None => None,
        Converter::Webhook(webhook) => Some((webhook, move |object: &mut Object| normal.fit(object))),
    }
}

impl Webhook {
    /// Asks the webhook for objects in another version. `list` is whether they are shown as a list.
    async fn convert(&self, objects: Vec<Object>, version: &str, list: bool) -> Result<Vec<Object>, Status> {
        let about = objects.first().map(describe).unwrap_or_default();
        let failed = |why: String| failure(format!("conversion webhook for {about} {why}"));
        let Some(review) = self.review else {
            return Err(failure("no supported conversion review versions".to_owned()));
        };
        let uid = crate::random_uuid().to_string();
        let values: Vec<&Object> = objects.iter().collect();
        let request = json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{review}"),
            "request": {"uid": uid, "desiredAPIVersion": version, "objects": values},
        });
        let answer = self
            .caller
            .call(&self.target, request.to_string().into(), PATIENCE)
            .await;
        let answer = answer.map_err(|error| failed(format!("failed: {error}")))?;
        let converted = read(&answer, review, &uid).map_err(|why| failed(format!("failed: {why}")))?;
        if converted.len() != objects.len() {
            return Err(failed(format!(
                "returned {} objects, expected {}",
                converted.len(),
                objects.len()
            )));
        }
        let mut out = Vec::with_capacity(objects.len());
        for (nth, (original, converted)) in objects.iter().zip(converted).enumerate() {
            let word = if list {
                "invalid converted object"
            } else {
                "invalid object"
            };
            let object = accept(original, converted, version)
                .map_err(|why| failed(format!("returned {word} at index {nth}: {why}")))?;
            out.push(object);
        }
        Ok(out)
    }
}

/// As Go prints a group, version and kind.
fn describe(object: &Object) -> String {
    format!("{}, Kind={}", object.api_version(), object.kind())
}

/// What cannot be converted cannot be served.
fn failure(message: String) -> Status {
    let mut status = Status::internal("");
    status.message = message;
    status.reason.clear();
    status.details = None;
    status
}

/// The converted objects of an answer.
fn read(answer: &[u8], review: &str, uid: &str) -> Result<Vec<Value>, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let text = |pointer: &str| answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if review == "v1" {
        let (version, kind) = (text("/apiVersion"), text("/kind"));
        if (version, kind) != ("apiextensions.k8s.io/v1", "ConversionReview") {
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {version}, Kind={kind}"
            ));
        }
    }
    let response = answer
        .get("response")
        .filter(|response| response.is_object())
        .ok_or("no response provided")?;
    if review == "v1" && text("/response/uid") != uid {
        return Err(format!(
            "expected response.uid={uid:?}, got {:?}",
            text("/response/uid")
        ));
    }
    match (text("/response/result/status"), text("/response/result/message")) {
        ("Success", _) => {}
        (status, "") => return Err(format!("response.result.status was '{status}', not 'Success'")),
        (_, message) => return Err(message.to_owned()),
    }
    Ok(response
        .get("convertedObjects")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default())
}

/// Checks that a webhook changed only what is its own, and puts back the metadata that is not.
fn accept(original: &Object, converted: Value, version: &str) -> Result<Object, String> {
    let mut object = Object::from_value(converted).map_err(|error| error.to_string())?;
    if object.api_version() != version {
        let got = object.api_version();
        return Err(format!("invalid groupVersion (expected {version}, received {got})"));
    }
    if object.kind() != original.kind() {
        let (expected, got) = (original.kind(), object.kind());
        return Err(format!("invalid kind (expected {expected}, received {got})"));
    }
    let same = |what: &str, e: &str, a: &str| match e == a {
        true => Ok(()),
        false => Err(format!("must have the same {what}: {e} != {a}")),
    };
    same("name", original.name(), object.name())?;
    let namespace = |object: &Object| object.namespace().unwrap_or_default().to_owned();
    same("namespace", &namespace(original), &namespace(&object))?;
    same("UID", original.uid(), object.uid())?;
    let Some(metadata) = object.at("metadata").filter(|metadata| metadata.is_object()).cloned() else {
        return Err("missing metadata in converted object".to_owned());
    };
    object.set(
        "metadata",
        original.at("metadata").cloned().unwrap_or_else(|| json!({})),
    );
    for field in ["labels", "annotations"] {
        let path = format!("metadata.{field}");
        match metadata.get(field) {
            None | Some(Value::Null) => drop(object.remove(&path)),
            Some(Value::Object(map)) if map.values().all(Value::is_string) => object.set(&path, map.clone()),
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn answers_are_believed_only_as_far_as_they_may_be() {
        let answer = |value: Value| read(value.to_string().as_bytes(), "v1", "u");
        let review = |response: Value| {
            json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": response})
        };
        let good = review(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{}]}));
        assert_eq!(answer(good), Ok(vec![json!({})]));
        for (given, why) in [
            (
                json!({"kind": "X"}),
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got , Kind=X",
            ),
            (review(Value::Null), "no response provided"),
            (
                review(json!({"uid": "other"})),
                "expected response.uid=\"u\", got \"other\"",
            ),
            (
                review(json!({"uid": "u", "result": {"status": "Failed"}})),
                "response.result.status was 'Failed', not 'Success'",
            ),
            (
                review(json!({"uid": "u", "result": {"status": "Failed", "message": "cannot"}})),
                "cannot",
            ),
        ] {
            assert_eq!(answer(given), Err(why.to_owned()));
        }
    }

    #[test]
    fn metadata_is_the_servers_but_for_labels_and_annotations() {
        let original = object(json!({"apiVersion": "a/v1", "kind": "K", "spec": 1, "metadata": {
            "name": "n", "uid": "u", "generation": 2, "labels": {"a": "b"}}}));
        let changed = |change: &dyn Fn(&mut Object)| {
            let mut new = object(json!({"apiVersion": "a/v2", "kind": "K", "spec": 2, "metadata": {
                "name": "n", "uid": "u", "generation": 9, "annotations": {"c": "d"}}}));
            change(&mut new);
            accept(&original, new.into_value(), "a/v2")
        };
        let accepted = changed(&|_| ()).unwrap();
        assert_eq!(
            accepted.into_value(),
            json!({"apiVersion": "a/v2", "kind": "K", "spec": 2, "metadata": {
                "name": "n", "uid": "u", "generation": 2, "annotations": {"c": "d"}}})
        );
        let refusals: [(&str, &str, &str); 4] = [
            (
                "apiVersion",
                "a/v3",
                "invalid groupVersion (expected a/v2, received a/v3)",
            ),
            ("kind", "L", "invalid kind (expected K, received L)"),
            ("metadata.name", "m", "must have the same name: n != m"),
            ("metadata.uid", "v", "must have the same UID: u != v"),
        ];
        for (path, value, why) in refusals {
            assert_eq!(changed(&|new| new.set(path, value)).unwrap_err(), why);
        }
    }
}
