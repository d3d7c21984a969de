//! The spec of a CustomResourceDefinition, worded as Kubernetes words it.

use api::names::{is_dns1035_label, is_dns1123_subdomain};
use api::{FieldErrors, Object, Path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::custom_resource_definition::is_true;
use super::{names, versions};
use crate::resources::validation::At;
use crate::resources::validation::names::descending_path;
use crate::webhook::check_ca_bundle;

pub(super) fn validate(old: Option<&Object>, new: &Object, errors: &mut FieldErrors) {
    let spec = At::root(new, "spec");
    group(&spec.child("group"), errors);
    let scope = spec.child("scope");
    scope.require_one_of(errors, &["Cluster", "Namespaced"]);
    versions::validate(&spec.child("versions"), old, errors);
    names::required(&spec.child("names"), errors);
    names::form(&spec.child("names"), errors);
    conversion(&spec.child("conversion"), old, errors);
    let preserve = spec.child("preserveUnknownFields");
    let did = |old: &Object| old.bool_at("spec.preserveUnknownFields") == Some(true);
    if preserve.bool() && old.is_none_or(|old| !did(old)) {
        errors.push(preserve.invalid(
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        ));
    }
    if let Some(old) = old {
        immutable(&At::root(old, "spec"), &spec, is_true(old, "Established"), errors);
    }
}

fn group(at: &At<'_>, errors: &mut FieldErrors) {
    let problems = is_dns1123_subdomain(at.str());
    if at.is_empty() {
        errors.push(at.required(""));
    } else if !problems.is_empty() {
        errors.push(at.invalid(problems.join(",")));
    } else if !at.str().contains('.') {
        errors.push(at.invalid("should be a domain with at least one dot"));
    }
}

/// Where objects are stored, and what they are, cannot change once there may be some.
fn immutable(old: &At<'_>, new: &At<'_>, established: bool, errors: &mut FieldErrors) {
    if established {
        new.child("scope").immutable(errors, &old.child("scope"));
        new.child("names")
            .child("kind")
            .immutable(errors, &old.child("names").child("kind"));
    }
    new.child("group").immutable(errors, &old.child("group"));
    new.child("names")
        .child("plural")
        .immutable(errors, &old.child("names").child("plural"));
}

fn conversion(at: &At<'_>, old: Option<&Object>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let strategy = at.child("strategy");
    strategy.require_one_of(errors, &["None", "Webhook"]);
    let hook = at.child("webhook");
    // Kubernetes names these fields as its older versions had them.
    let config = hook.child("clientConfig");
    let (config_path, review_path) = (
        at.path().child("webhookClientConfig"),
        at.path().child("conversionReviewVersions"),
    );
    let reviews = hook.child("conversionReviewVersions");
    if strategy.str() != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if config.is_set() {
            errors.push(api::FieldError::forbidden(&config_path, why));
        }
        if !reviews.items().is_empty() {
            errors.push(api::FieldError::forbidden(&review_path, why));
        }
        return;
    }
    match config.is_set() {
        false => errors.push(api::FieldError::required(
            &config_path,
            "required when strategy is set to Webhook",
        )),
        true => client_config(&config, &config_path, old, errors),
    }
    review_versions(&reviews, &review_path, errors);
}

fn client_config(config: &At<'_>, path: &Path, old: Option<&Object>, errors: &mut FieldErrors) {
    let (url, service) = (config.child("url"), config.child("service"));
    if url.is_set() == service.is_set() {
        errors.push(api::FieldError::required(
            path,
            "exactly one of url or service is required",
        ));
    } else if url.is_set() {
        webhook_url(url.str(), &path.child("url"), errors);
    } else {
        webhook_service(&service, &path.child("service"), errors);
    }
    let bundle = STANDARD.decode(config.child("caBundle").str()).unwrap_or_default();
    let settled = old.is_some_and(|old| is_true(old, "Established") && bundle_is_sound(old));
    if settled
        && !bundle.is_empty()
        && let Some(why) = check_ca_bundle(&bundle)
    {
        errors.push(api::FieldError::invalid(&path.child("caBundle"), "", why));
    }
}

/// Whether a definition's bundle, if it has one, holds certificates.
pub(crate) fn bundle_is_sound(definition: &Object) -> bool {
    let bundle = definition
        .str_at("spec.conversion.webhook.clientConfig.caBundle")
        .unwrap_or_default();
    let bundle = STANDARD.decode(bundle).unwrap_or_default();
    bundle.trim_ascii().is_empty() || check_ca_bundle(&bundle).is_none()
}

fn webhook_url(text: &str, at: &Path, errors: &mut FieldErrors) {
    let form = "; desired format: https://host[:port]/path";
    let mut refuse = |why: &str| errors.push(api::FieldError::invalid(at, text, format!("{why}{form}")));
    let Ok(url) = text.parse::<http::Uri>() else {
        return refuse("url must be a valid URL");
    };
    if url.scheme_str() != Some("https") {
        refuse("'https' is the only allowed URL scheme");
    }
    if url.host().unwrap_or_default().is_empty() {
        refuse("host must be specified");
    }
    if url
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        refuse("user information is not permitted in the URL");
    }
    if text.contains('#') {
        refuse("fragments are not permitted in the URL");
    }
    if url.query().is_some() {
        refuse("query parameters are not permitted in the URL");
    }
}

fn webhook_service(service: &At<'_>, at: &Path, errors: &mut FieldErrors) {
    for (field, words) in [
        ("name", "service name is required"),
        ("namespace", "service namespace is required"),
    ] {
        if service.child(field).is_empty() {
            errors.push(api::FieldError::required(&at.child(field), words));
        }
    }
    let port = service.child("port");
    if let Some(number) = port.i64().filter(|number| !(1..=65535).contains(number)) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.push(api::FieldError::invalid(&at.child("port"), number, why));
    }
    let path = service.child("path");
    if path.is_set() {
        service_path(path.str(), &at.child("path"), errors);
    }
}

fn service_path(path: &str, at: &Path, errors: &mut FieldErrors) {
    let mut refuse = |why: &str| errors.push(api::FieldError::invalid(at, path, why));
    if path == "/" || path.is_empty() {
        return;
    }
    if path == "//" {
        return refuse("segment[0] may not be empty");
    }
    if !path.starts_with('/') {
        refuse("must start with a '/'");
    }
    if !descending_path(path).is_empty() {
        refuse("must not contain '..'");
    }
    let trimmed = path.trim_start_matches('/').trim_end_matches('/');
    for (nth, segment) in trimmed.split('/').enumerate() {
        if segment.is_empty() {
            refuse(&format!("segment[{nth}] may not be empty"));
            continue;
        }
        for why in is_dns1123_subdomain(segment) {
            refuse(&format!("segment[{nth}]: {why}"));
        }
    }
}

fn review_versions(reviews: &At<'_>, at: &Path, errors: &mut FieldErrors) {
    let items = reviews.items();
    let texts: Vec<&str> = items.iter().map(At::str).collect();
    if texts.is_empty() {
        errors.push(api::FieldError::required(at, ""));
        return;
    }
    for (nth, text) in texts.iter().enumerate() {
        if texts.iter().take(nth).any(|earlier| earlier == text) {
            errors.push(api::FieldError::invalid(&at.index(nth), *text, "duplicate version"));
            continue;
        }
        for why in is_dns1035_label(text) {
            errors.push(api::FieldError::invalid(&at.index(nth), *text, why));
        }
    }
    if !texts.iter().any(|text| matches!(*text, "v1" | "v1beta1")) {
        let why = "must include at least one of v1, v1beta1";
        errors.push(api::FieldError::invalid(at, texts, why));
    }
}

/// What is told of schemas that are valid, but perhaps not meant.
pub(super) fn warnings(definition: &Object) -> Vec<String> {
    let mut found = Vec::new();
    for version in definition.list_at("spec.versions") {
        if let Some(schema) = version.pointer("/schema/openAPIV3Schema") {
            doubts(schema, &mut found);
        }
    }
    found
}

fn doubts(schema: &Value, found: &mut Vec<String>) {
    let text = |name: &str| schema.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut say = |words: String| {
        if !found.contains(&words) {
            found.push(words);
        }
    };
    let format = text("format");
    if !format.is_empty() && !schema::structural::is_known_format(format) {
        say(format!("unrecognized format {format:?}"));
    }
    let item = schema
        .pointer("/items/type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if text("x-kubernetes-list-type") == "set" && matches!(item, "object" | "array") {
        say(format!(
            "x-kubernetes-list-type: set for items of type {item:?} is not supported by server-side apply or CEL \
             validation rules"
        ));
    }
    let lists = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .filter_map(|word| schema.get(word)?.as_array())
        .flatten();
    let singles = ["items", "additionalProperties", "not"]
        .into_iter()
        .filter_map(|word| schema.get(word));
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    for inner in lists.chain(singles).chain(properties.map(|(_, inner)| inner)) {
        doubts(inner, found);
    }
}

/// Whether a text is a name that a version may have.
pub(super) fn version_name(at: &At<'_>, errors: &mut FieldErrors) {
    let problems = is_dns1035_label(at.str());
    if !problems.is_empty() {
        errors.push(at.invalid(problems.join(",")));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Object);

    /// Definitions with what is wrong with them.
    pub(in crate::resources::apiextensions) fn invalid(
        definition: &dyn Fn(Change<'_>) -> Value,
    ) -> Vec<(Value, Vec<&'static str>)> {
        let version = |change: &dyn Fn(&mut Value)| {
            definition(&|d| {
                let mut versions = d.list_at("spec.versions").to_vec();
                change(&mut versions[0]);
                d.set("spec.versions", versions);
            })
        };
        vec![
            (
                definition(&|d| d.set("metadata.name", "other")),
                vec!["metadata.name: Invalid value: \"other\": must be spec.names.plural+\".\"+spec.group"],
            ),
            (
                definition(&|d| {
                    d.set("spec.group", "example");
                    d.set("metadata.name", "widgets.example");
                }),
                vec!["spec.group: Invalid value: \"example\": should be a domain with at least one dot"],
            ),
            (
                definition(&|d| d.set("spec.scope", "Everywhere")),
                vec!["spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\""],
            ),
            (
                definition(&|d| d.set("spec.names.listKind", "Widget")),
                vec!["spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same"],
            ),
            (
                version(&|v| v["storage"] = json!(false)),
                vec![
                    "spec.versions: Invalid value: [{\"name\":\"v1\",\"schema\":{\"openAPIV3Schema\":{\"type\":\"object\",\"x-kubernetes-preserve-unknown-fields\":true}},\"served\":true,\"storage\":false}]: must have exactly one version marked as storage version",
                    "status.storedVersions: Invalid value: null: must have at least one stored version",
                ],
            ),
            (
                version(&|v| drop(v.as_object_mut().unwrap().remove("schema"))),
                vec!["spec.versions[0].schema.openAPIV3Schema: Required value"],
            ),
            (
                version(&|v| {
                    v["additionalPrinterColumns"] = json!([{"name": "A", "type": "text", "jsonPath": "spec"}])
                }),
                vec![
                    "spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
                    "spec.versions[0].additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .",
                ],
            ),
            (
                version(&|v| {
                    v["subresources"] =
                        json!({"scale": {"specReplicasPath": ".status.a", "statusReplicasPath": ".status.b"}})
                }),
                vec![
                    "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.a\": should be a json path under .spec",
                ],
            ),
            (
                version(&|v| v["selectableFields"] = json!([{"jsonPath": ".spec.a"}])),
                vec![
                    "spec.versions[0].selectableFields[0].jsonPath: Invalid value: \".spec.a\": is an invalid path: does not refer to a valid field",
                ],
            ),
            (
                version(&|v| v["deprecationWarning"] = json!("old")),
                vec![
                    "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions",
                ],
            ),
            (
                definition(&|d| d.set("spec.conversion", json!({"strategy": "Webhook"}))),
                vec![
                    "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
                    "spec.conversion.conversionReviewVersions: Required value",
                ],
            ),
            (
                definition(&|d| {
                    d.set("spec.group", "widgets.k8s.io");
                    d.set("metadata.name", "widgets.widgets.k8s.io");
                }),
                vec![
                    "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
                ],
            ),
        ]
    }

    #[test]
    fn webhooks_are_reached_by_whole_urls_and_clean_paths() {
        let found = |config: Value| {
            let object = Object::from_value(json!({ "c": config })).unwrap();
            let mut errors = FieldErrors::new();
            client_config(&At::root(&object, "c"), &Path::root("c"), None, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(json!({"url": "https://a.example/b"})), Vec::<String>::new());
        for (config, word) in [
            (json!({}), "exactly one of url or service is required"),
            (
                json!({"url": "http://a.example"}),
                "'https' is the only allowed URL scheme",
            ),
            (
                json!({"url": "https://a@b.example"}),
                "user information is not permitted",
            ),
            (
                json!({"url": "https://b.example?c=d"}),
                "query parameters are not permitted",
            ),
            (json!({"service": {"name": "a"}}), "service namespace is required"),
            (
                json!({"service": {"name": "a", "namespace": "b", "port": 0}}),
                "port is not valid",
            ),
            (
                json!({"service": {"name": "a", "namespace": "b", "path": "x"}}),
                "must start with a '/'",
            ),
            (
                json!({"service": {"name": "a", "namespace": "b", "path": "/x//y"}}),
                "segment[1] may not be empty",
            ),
        ] {
            let errors = found(config.clone());
            assert!(errors.iter().any(|error| error.contains(word)), "{config}: {errors:?}");
        }
    }
}
