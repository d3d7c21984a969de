//! What an aggregated server offers for a group and version, as discovery and OpenAPI show it.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::proxy::ask;
use super::remote::Remote;
use crate::authn::UserInfo;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
const JSON: &str = "application/json";
/// Bytes of a discovery document.
const LIMIT: usize = 8 << 20;

/// What is known of a remote.
#[derive(Debug, PartialEq)]
pub(crate) struct Offer {
    /// As aggregated discovery lists them.
    pub(crate) resources: Value,
    /// It could not be asked the last time.
    pub(crate) stale: bool,
    /// Where this server serves the OpenAPI document of the group and version, if there is one.
    pub(crate) openapi: Option<String>,
    /// Of its OpenAPI v2 document, what is about the group and version.
    pub(crate) openapi_v2: Option<Value>,
}

impl Default for Offer {
    fn default() -> Self {
        Offer {
            resources: json!([]),
            stale: true,
            openapi: None,
            openapi_v2: None,
        }
    }
}

/// Asks a remote what it offers; what cannot be had is stale.
pub(super) async fn fetch(remote: &Remote, user: &UserInfo) -> Offer {
    let Some(resources) = resources(remote, user).await else {
        return Offer::default();
    };
    let (index, v2) = tokio::join!(read(remote, "/openapi/v3", user), read(remote, "/openapi/v2", user));
    Offer {
        resources,
        stale: false,
        openapi_v2: v2.and_then(|document| schema::openapi::relevant(&document, &remote.discovery_path())),
        openapi: index.and_then(|index| document(&index, remote.discovery_path().trim_start_matches('/'))),
    }
}

/// A JSON document of a remote, if it has one there.
async fn read(remote: &Remote, path: &str, user: &UserInfo) -> Option<Value> {
    let (code, _, body) = ask(remote, path, JSON, user, LIMIT).await.ok()?;
    (code == StatusCode::OK).then(|| serde_json::from_slice(&body).ok())?
}

/// The document's address, if it is one of the group and version and nothing else.
fn document(index: &Value, path: &str) -> Option<String> {
    let url = index.get("paths")?.get(path)?.get("serverRelativeURL")?.as_str()?;
    let own = url.strip_prefix("/openapi/v3/")?.strip_prefix(path)?;
    (own.is_empty() || own.starts_with('?')).then(|| url.to_owned())
}

async fn resources(remote: &Remote, user: &UserInfo) -> Option<Value> {
    let (code, media, body) = ask(remote, "/apis", AGGREGATED, user, LIMIT).await.ok()?;
    let media = media.as_ref().and_then(|media| media.to_str().ok()).unwrap_or_default();
    if code == StatusCode::OK && media.contains("as=APIGroupDiscoveryList") && media.contains("v=v2") {
        let list: Value = serde_json::from_slice(&body).ok()?;
        return Some(named(&list, &remote.group, &remote.version));
    }
    if code == StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let (code, _, body) = ask(remote, &remote.discovery_path(), JSON, user, LIMIT).await.ok()?;
    let list: Value = serde_json::from_slice(&body).ok()?;
    (code == StatusCode::OK).then(|| from_legacy(&list))
}

/// The resources of one group and version in an aggregated document; none where it is not in it.
fn named(list: &Value, group: &str, version: &str) -> Value {
    let items = |value: &Value, field: &str| value.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let groups = items(list, "items").into_iter();
    let of_group = groups.filter(|item| {
        item.pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            == group
    });
    let mut versions = of_group.flat_map(|item| items(&item, "versions"));
    let found = versions.find(|item| item.get("version").and_then(Value::as_str) == Some(version));
    let mut resources = found.map(|found| items(&found, "resources")).unwrap_or_default();
    for resource in &mut resources {
        respond_with_kind(resource);
        let parts = resource.get_mut("subresources").and_then(Value::as_array_mut);
        parts.into_iter().flatten().for_each(respond_with_kind);
    }
    resources.into()
}

/// Older clients do not take a resource without a kind.
fn respond_with_kind(resource: &mut Value) {
    if let Some(fields) = resource.as_object_mut() {
        let kind = fields.entry("responseKind").or_insert(Value::Null);
        if kind.is_null() {
            *kind = json!({"group": "", "version": "", "kind": ""});
        }
    }
}

/// An `APIResourceList` as aggregated discovery has it.
fn from_legacy(list: &Value) -> Value {
    let listed = list
        .get("resources")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let name = |resource: &Value| text(resource, "name").to_owned();
    let wholes: BTreeSet<String> = listed
        .iter()
        .map(|resource| name(resource).split('/').next().unwrap_or_default().to_owned())
        .collect();
    let of = |whole: &str| {
        let own = listed.iter().find(|resource| name(resource) == whole);
        let parts: Vec<Value> = listed
            .iter()
            .filter_map(|part| {
                let subresource = text(part, "name").strip_prefix(whole)?.strip_prefix('/')?;
                Some(json!({"subresource": subresource, "responseKind": kind(part), "verbs": verbs(part)}))
            })
            .collect();
        let namespaced = own.is_some_and(|own| own.get("namespaced").and_then(Value::as_bool) == Some(true));
        let mut entry = json!({
            "resource": whole,
            "responseKind": own.map_or_else(|| kind(&Value::Null), kind),
            "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": own.map(|own| text(own, "singularName")).unwrap_or_default(),
            "verbs": own.map_or_else(|| json!([]), verbs),
        });
        if let Some(fields) = entry.as_object_mut() {
            optional(fields, own, "shortNames");
            optional(fields, own, "categories");
            if !parts.is_empty() {
                fields.insert("subresources".to_owned(), parts.into());
            }
        }
        entry
    };
    wholes.iter().map(|whole| of(whole)).collect()
}

fn optional(fields: &mut Map<String, Value>, of: Option<&Value>, field: &str) {
    let given = of.and_then(|of| of.get(field)).filter(|value| !value.is_null());
    fields.extend(given.map(|value| (field.to_owned(), value.clone())));
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn kind(of: &Value) -> Value {
    json!({"group": text(of, "group"), "version": text(of, "version"), "kind": text(of, "kind")})
}

fn verbs(of: &Value) -> Value {
    of.get("verbs").cloned().unwrap_or_else(|| json!([]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_discovery_is_told_as_the_newer() {
        let list = json!({"resources": [
            {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"],
                "shortNames": ["fl"]},
            {"name": "flunders/status", "singularName": "", "namespaced": true, "kind": "Flunder", "verbs": ["update"]}]});
        let kind = json!({"group": "", "version": "", "kind": "Flunder"});
        assert_eq!(
            from_legacy(&list),
            json!([{"resource": "flunders", "responseKind": kind, "scope": "Namespaced", "singularResource": "flunder",
                "verbs": ["get", "list"], "shortNames": ["fl"],
                "subresources": [{"subresource": "status", "responseKind": kind, "verbs": ["update"]}]}])
        );
    }

    #[test]
    fn only_the_group_and_version_asked_for_is_taken() {
        let list = json!({"items": [{"metadata": {"name": "a"}, "versions": [{"version": "v1", "resources": [
            {"resource": "xs"}]}, {"version": "v2", "resources": [{"resource": "ys"}]}]}]});
        assert_eq!(named(&list, "a", "v2")[0]["resource"], "ys");
        assert_eq!(named(&list, "b", "v2"), json!([]));
    }

    #[test]
    fn an_index_leads_to_no_other_path() {
        let index = |url: &str| json!({"paths": {"apis/a/v1": {"serverRelativeURL": url}}});
        let taken = |url: &str| document(&index(url), "apis/a/v1");
        assert!(taken("/openapi/v3/apis/a/v1?hash=1").is_some());
        for url in [
            "/openapi/v3/apis/b/v1",
            "/openapi/v3/apis/a/v1beta1",
            "https://elsewhere/",
            "",
        ] {
            assert_eq!(taken(url), None, "{url}");
        }
    }
}
