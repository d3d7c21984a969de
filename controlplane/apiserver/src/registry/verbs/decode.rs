//! From a request body to an object in the storage version.

use api::{Object, Status};
use schema::FieldValidation;
use serde_json::Value;

use super::Call;
use crate::http::decode::{Media, summary};
use crate::registry::catalog::Endpoint;
use crate::registry::custom::convert;

/// Decodes, prunes and defaults an object of the call's kind and version, and converts it to the storage version.
/// Problems that field validation only warns of are added to `warnings`.
pub(super) fn object(
    call: &Call<'_>,
    body: &[u8],
    media: Media,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, Status> {
    let served = call.endpoint.served();
    let decoded = match media {
        Media::Json => schema::decode_json(body, served.schema()),
        Media::Yaml => schema::decode_yaml(body, served.schema()),
    };
    let decoded = decoded.map_err(|error| undecodable(call.endpoint, body, media, &error.to_string()))?;
    let mut object = decoded.object;
    check_kind(call.endpoint, &mut object)?;
    judge(decoded.problems, validation, warnings).map_err(|error| {
        Status::bad_request(cannot_be_handled(
            call.endpoint,
            object.kind(),
            object.api_version(),
            &error,
        ))
    })?;
    schema::default(&mut object, served.schema());
    to_storage(call.endpoint, &mut object);
    Ok(object)
}

/// The same for a tree that a patch made of the object in the served version. The error is what to say of it.
pub(super) fn patched(
    call: &Call<'_>,
    tree: &mut Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, String> {
    let served = call.endpoint.served();
    let problems = schema::check(tree, served.schema()).map_err(|error| error.to_string())?;
    judge(problems, validation, warnings)?;
    let mut object = Object::from_value(std::mem::take(tree)).map_err(|error| error.to_string())?;
    check_kind(call.endpoint, &mut object).map_err(|status| status.message)?;
    schema::default(&mut object, served.schema());
    to_storage(call.endpoint, &mut object);
    Ok(object)
}

/// The same for what a strategic merge patch made, which Kubernetes does not encode again: what does not fit is told in
/// other words, and kind and version, which the path has, are not looked at.
pub(super) fn merged(
    call: &Call<'_>,
    tree: &mut Value,
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<Object, String> {
    let served = call.endpoint.served();
    let mut problems = schema::check_merged(tree, served.schema()).map_err(|error| error.to_string())?;
    problems.sort();
    judge(problems, validation, warnings)?;
    let mut object = Object::from_value(std::mem::take(tree)).map_err(|error| error.to_string())?;
    object.set("apiVersion", served.api_version.as_ref());
    object.set("kind", call.endpoint.resource().kind.as_ref());
    schema::default(&mut object, served.schema());
    to_storage(call.endpoint, &mut object);
    Ok(object)
}

/// What strict decoding found: an error, warnings, or nothing, as the caller wants it.
fn judge(problems: Vec<String>, validation: FieldValidation, warnings: &mut Vec<String>) -> Result<(), String> {
    match validation {
        FieldValidation::Strict if !problems.is_empty() => {
            return Err(format!("strict decoding error: {}", problems.join(", ")));
        }
        FieldValidation::Warn => warnings.extend(problems),
        FieldValidation::Strict | FieldValidation::Ignore => {}
    }
    Ok(())
}

/// Fills in kind and version where they were left out; refuses others.
fn check_kind(endpoint: &Endpoint, object: &mut Object) -> Result<(), Status> {
    let served = endpoint.served();
    let kind = &endpoint.resource().kind;
    if object.api_version().is_empty() {
        object.set("apiVersion", served.api_version.as_ref());
    }
    if object.kind().is_empty() {
        object.set("kind", kind.as_ref());
    }
    if object.api_version() != served.api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            object.api_version(),
            served.api_version
        )));
    }
    if object.kind() != kind.as_ref() {
        let found = object.kind();
        let why = format!(
            "converting ({0}.{found}) to ({0}.{kind}): unknown conversion",
            served.version
        );
        return Err(Status::bad_request(cannot_be_handled(
            endpoint,
            found,
            object.api_version(),
            &why,
        )));
    }
    Ok(())
}

fn cannot_be_handled(endpoint: &Endpoint, kind: &str, api_version: &str, why: &str) -> String {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    format!(
        "{kind} in version {version:?} cannot be handled as a {}: {why}",
        endpoint.resource().kind
    )
}

/// What Kubernetes says of a body that does not decode: by its kind if that can be read, else by its first bytes.
fn undecodable(endpoint: &Endpoint, body: &[u8], media: Media, why: &str) -> Status {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct TypeMeta {
        kind: Option<String>,
        api_version: Option<String>,
    }
    let known = match media {
        Media::Json => serde_json::from_slice::<TypeMeta>(body).ok(),
        Media::Yaml => std::str::from_utf8(body)
            .ok()
            .and_then(|text| serde_saphyr::from_str(text).ok()),
    };
    let served = endpoint.served();
    let message = match known {
        Some(meta) => {
            let kind = meta
                .kind
                .unwrap_or_else(|| endpoint.resource().kind.clone().into_owned());
            let version = meta
                .api_version
                .unwrap_or_else(|| served.api_version.clone().into_owned());
            cannot_be_handled(endpoint, &kind, &version, why)
        }
        None => {
            let kind = &endpoint.resource().kind;
            format!(
                "the object provided is unrecognized (must be of type {kind}): {why} ({})",
                summary(body)
            )
        }
    };
    Status::bad_request(message)
}

/// Rewrites an object from the endpoint's version to the storage version.
pub(crate) fn to_storage(endpoint: &Endpoint, object: &mut Object) {
    // Custom resources are worked on in the version they come in.
    if endpoint.kind.custom.is_some() {
        return;
    }
    (endpoint.served().to_storage)(object);
    if !endpoint.is_storage() {
        object.set("apiVersion", endpoint.resource().storage().api_version.as_ref());
    }
}

/// Rewrites an object from the storage version to the endpoint's.
pub(crate) fn from_storage(endpoint: &Endpoint, object: &mut Object) {
    if endpoint.kind.custom.is_some() {
        return convert::by_name(endpoint, object);
    }
    (endpoint.served().from_storage)(object);
    if !endpoint.is_storage() {
        object.set("apiVersion", endpoint.served().api_version.as_ref());
    }
}
