//! Secret: encrypted at rest; a type says which keys it must have.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldError, FieldErrors, Object};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
#[cfg(test)]
use serde_json::json;

use super::config_map::{MAX_SIZE, decoded_len, frozen};
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::defaults::set_default;
use crate::resources::print::columns;
use crate::resources::validation::names::{is_config_map_key, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

pub(crate) fn resource() -> Resource {
    Resource::of::<Secret>()
        .strategy(Secrets)
        .printer(definitions(), cells)
        .field("type")
        .encrypted()
        .build()
}

struct Secrets;

impl Strategy for Secrets {
    fn prepare(&self, _cx: &Context<'_>, _op: &Operation<'_>, new: &mut Object) {
        set_default(new.map_mut(), "type", "Opaque");
        merge_string_data(new);
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        let data = At::root(new, "data");
        let mut size = 0;
        for (key, value) in data.entries() {
            errors.extend(is_config_map_key(key).into_iter().map(|m| value.invalid_as(key, m)));
            size += decoded_len(value.str());
        }
        if size > MAX_SIZE {
            errors.push(FieldError::too_long(data.path(), MAX_SIZE));
        }
        required_keys(new, &data, &mut errors);
        if let Operation::Update { old } = op {
            At::root(new, "type").immutable(&mut errors, &At::root(old, "type"));
            frozen(old, new, &["data"], &mut errors);
        }
        errors
    }
}

/// `stringData` is for writing only: it wins over `data` and is never stored.
fn merge_string_data(secret: &mut Object) {
    let Some(Value::Object(plain)) = secret.remove("stringData") else {
        return;
    };
    for (key, value) in plain {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        // Keys may hold dots, so the entry cannot be set by path.
        if secret.map_at("data").is_none() {
            secret.set("data", serde_json::Map::new());
        }
        if let Some(Value::Object(data)) = secret.at_mut("data") {
            data.insert(key, encoded.into());
        }
    }
}

fn required_keys(secret: &Object, data: &At<'_>, errors: &mut FieldErrors) {
    let has = |key: &str| data.map().is_some_and(|map| map.contains_key(key));
    let mut require = |key: &str| {
        if !has(key) {
            errors.push(FieldError::required(&data.path().key(key), ""));
        }
    };
    match secret.str_at("type").unwrap_or_default() {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(require),
        "kubernetes.io/ssh-auth" => require("ssh-privatekey"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            ["username", "password"].into_iter().for_each(require);
        }
        "kubernetes.io/dockercfg" => docker_config(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => docker_config(data, ".dockerconfigjson", errors),
        "kubernetes.io/service-account-token"
            if secret.annotation(SERVICE_ACCOUNT_NAME).unwrap_or_default().is_empty() =>
        {
            let annotations = At::root(secret, "metadata").child("annotations");
            errors.push(FieldError::required(&annotations.path().key(SERVICE_ACCOUNT_NAME), ""));
        }
        _ => {}
    }
}

fn docker_config(data: &At<'_>, key: &str, errors: &mut FieldErrors) {
    let path = data.path().key(key);
    let Some(text) = data.map().and_then(|map| map.get(key)).and_then(Value::as_str) else {
        return errors.push(FieldError::required(&path, ""));
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Err(why) = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes) {
        errors.push(FieldError::invalid(
            &path,
            "<secret contents redacted>",
            why.to_string(),
        ));
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Type|string||What kind of secret it is.",
        "Data|string||How many keys there are.",
        "Age|string",
    ])
}

fn cells(secret: &Object, now: Timestamp) -> Vec<Value> {
    let count = secret.map_at("data").map(|m| m.len()).unwrap_or_default();
    let kind = secret.str_at("type").unwrap_or_default();
    vec![
        secret.name().into(),
        kind.into(),
        count.into(),
        age(secret.creation_timestamp(), now),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let secret = |kind: Option<&str>, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "ns"}, "type": kind, "data": data});
    crate::resources::testing::Cases {
        valid: vec![
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "namespace": "ns"}, "data": {"a.b": "MQ=="},
                "stringData": {"a.b": "2", "c": "3"}}),
            secret(Some("kubernetes.io/tls"), json!({"tls.crt": "", "tls.key": ""})),
        ],
        invalid: vec![
            (
                secret(Some("kubernetes.io/tls"), json!({"tls.crt": ""})),
                vec!["data[tls.key]: Required value"],
            ),
            (
                secret(Some("kubernetes.io/basic-auth"), json!({})),
                vec!["data[username]: Required value", "data[password]: Required value"],
            ),
            (
                secret(Some("kubernetes.io/dockercfg"), json!({})),
                vec!["data[.dockercfg]: Required value"],
            ),
            (
                secret(Some("kubernetes.io/service-account-token"), json!({})),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
            ),
        ],
        table: vec![
            json!({"metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}, "type": "Opaque",
            "data": {"a": ""}}),
        ],
    }
}
