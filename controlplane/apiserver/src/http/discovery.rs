//! Discovery: which groups, versions and kinds there are, legacy and aggregated. Made when asked for after something has
//! changed, served as bytes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use api::names::version_priority;
use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::accept::{Accepted, Encoding, aggregated_discovery, negotiate_plain};
use super::body::Body;
use super::respond;
use crate::aggregation::{Aggregator, Offer, priority};
use crate::registry::catalog::{Endpoint, Registry};
use crate::registry::virtuals::VirtualRoute;

const AGGREGATED: &str = ";g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Discovery as it is now.
pub(crate) struct Discovery {
    registry: Arc<Registry>,
    virtuals: Vec<VirtualRoute>,
    aggregator: Arc<Aggregator>,
    paths: Vec<String>,
    made: ArcSwapOption<Documents>,
}

/// All discovery documents by their paths.
struct Documents {
    /// Of the registry that they describe.
    version: u64,
    legacy: HashMap<String, Document>,
    aggregated: HashMap<&'static str, Document>,
}

struct Document {
    bytes: Bytes,
    /// As protobuf, once somebody has asked for it.
    protobuf: OnceLock<Bytes>,
    etag: HeaderValue,
}

impl Document {
    fn new(value: &Value) -> Self {
        let bytes = Bytes::from(value.to_string());
        let digest: String = Sha256::digest(&bytes).iter().map(|b| format!("{b:02X}")).collect();
        let etag = HeaderValue::from_str(&format!("\"{digest}\"")).expect("hexadecimal is ASCII");
        Document {
            bytes,
            protobuf: OnceLock::new(),
            etag,
        }
    }

    fn answer(&self, encoding: Encoding) -> Response<Body> {
        if let Some(known) = self.protobuf.get().filter(|_| encoding == Encoding::Protobuf) {
            return respond::with_type(StatusCode::OK, respond::PROTOBUF_TYPE, Body::from(known.clone()));
        }
        let response = respond::document(StatusCode::OK, self.bytes.clone(), encoding, false);
        if let Some(made) = response.body().as_full().filter(|_| encoding == Encoding::Protobuf) {
            self.protobuf.get_or_init(|| made.clone());
        }
        response
    }
}

/// One group in one version, and what it offers.
pub(crate) struct GroupVersion {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resources: Vec<Offered>,
    /// Its place among groups, and within its group.
    priority: (i64, i64),
    /// What another server offers; then nothing else is known of it.
    remote: Option<Arc<Offer>>,
}

impl GroupVersion {
    fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// One resource, stored or virtual, with its parts.
#[derive(Default)]
pub(crate) struct Offered {
    plural: String,
    singular: String,
    namespaced: bool,
    kind: KindName,
    verbs: Vec<&'static str>,
    short_names: Vec<String>,
    categories: Vec<String>,
    storage_hash: Option<String>,
    parts: Vec<Part>,
    /// False for a path that only has parts.
    whole: bool,
}

struct Part {
    name: String,
    kind: KindName,
    verbs: Vec<&'static str>,
}

/// A kind, with its group and version where those are not the resource's own.
#[derive(Clone, Default)]
struct KindName {
    group_version: Option<(String, String)>,
    kind: String,
}

impl Discovery {
    /// `paths` are those of documents beside discovery, which the root lists too.
    pub(crate) fn new(
        registry: &Arc<Registry>,
        virtuals: &[VirtualRoute],
        aggregator: &Arc<Aggregator>,
        paths: Vec<String>,
    ) -> Self {
        Discovery {
            paths,
            registry: registry.clone(),
            virtuals: virtuals.to_vec(),
            aggregator: aggregator.clone(),
            made: ArcSwapOption::empty(),
        }
    }

    /// The document at a path, if there is one.
    pub(crate) fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        self.current().answer(path, headers)
    }

    fn current(&self) -> Arc<Documents> {
        let version = self.registry.version();
        if let Some(made) = self.made.load_full().filter(|made| made.version == version) {
            return made;
        }
        let made = Arc::new(Documents::new(
            version,
            &self.registry,
            &self.virtuals,
            &self.aggregator,
            &self.paths,
        ));
        self.made.store(Some(made.clone()));
        made
    }
}

impl Documents {
    fn new(
        version: u64,
        registry: &Registry,
        virtuals: &[VirtualRoute],
        aggregator: &Aggregator,
        paths: &[String],
    ) -> Self {
        let mut all = group_versions(registry, virtuals);
        add_remotes(&mut all, aggregator);
        let (core, groups): (Vec<&GroupVersion>, Vec<&GroupVersion>) = all.iter().partition(|gv| gv.group.is_empty());
        let aggregated = [("/api", &core), ("/apis", &groups)];
        Documents {
            version,
            legacy: legacy(&core, &groups, paths),
            aggregated: aggregated
                .into_iter()
                .map(|(path, of)| (path, Document::new(&aggregate(of))))
                .collect(),
        }
    }

    fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response<Body>> {
        let accept = headers.get(ACCEPT).and_then(|v| v.to_str().ok());
        let aggregated = aggregated_discovery(accept).and_then(|of| Some((self.aggregated.get(path)?, of)));
        let (document, encoding) = match aggregated {
            Some(found) => found,
            None => {
                let document = self.legacy.get(path)?;
                // The list of paths is no object.
                let accepted = if path.is_empty() {
                    Ok(Accepted::JSON)
                } else {
                    negotiate_plain(accept)
                };
                match accepted {
                    Ok(accepted) => (document, accepted.encoding),
                    Err(status) => return Some(respond::status(&status, accept)),
                }
            }
        };
        let mut response = document.answer(encoding);
        if headers.get(IF_NONE_MATCH) == Some(&document.etag) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        if let Some(media) = aggregated.and_then(|_| aggregated_type(response.headers().get(CONTENT_TYPE)?)) {
            response.headers_mut().insert(CONTENT_TYPE, media);
        }
        let headers = response.headers_mut();
        headers.insert(ETAG, document.etag.clone());
        headers.insert(VARY, HeaderValue::from_static("Accept"));
        Some(response)
    }
}

/// The media type of aggregated discovery, which names what the document is.
fn aggregated_type(media: &HeaderValue) -> Option<HeaderValue> {
    let media = media.to_str().ok()?;
    HeaderValue::from_str(&format!("{media}{AGGREGATED}")).ok()
}

/// Everything that is offered, groups in the order in which the catalogue names them.
pub(crate) fn group_versions(registry: &Registry, virtuals: &[VirtualRoute]) -> Vec<GroupVersion> {
    let mut all: Vec<GroupVersion> = Vec::new();
    for endpoint in registry.endpoints() {
        let served = endpoint.served();
        let offered = offered(&endpoint);
        slot(&mut all, &served.group, &served.version).resources.push(offered);
    }
    for route in virtuals {
        let resources = &mut slot(&mut all, route.group, route.version).resources;
        add_virtual(resources, route);
    }
    order(&mut all);
    for group_version in &mut all {
        group_version.resources.sort_by(|a, b| a.plural.cmp(&b.plural));
        for resource in &mut group_version.resources {
            resource.parts.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
    all
}

/// Groups by the highest priority of their versions, then by name; versions by theirs, then as Kubernetes prefers them.
fn order(all: &mut [GroupVersion]) {
    let mut groups: HashMap<String, i64> = HashMap::new();
    for gv in all.iter() {
        let highest = groups.entry(gv.group.clone()).or_default();
        *highest = gv.priority.0.max(*highest);
    }
    all.sort_by_cached_key(|gv| {
        let of_group = groups.get(&gv.group).copied().unwrap_or_default();
        let of_version = (Reverse(gv.priority.1), Reverse(version_priority(&gv.version)));
        (Reverse(of_group), gv.group.clone(), of_version)
    });
}

/// What other servers answer for takes the place of what this one has.
fn add_remotes(all: &mut Vec<GroupVersion>, aggregator: &Aggregator) {
    let remotes = aggregator.remotes();
    for remote in remotes.iter() {
        let own = slot(all, &remote.group, &remote.version);
        own.resources.clear();
        own.priority = (remote.group_priority, remote.version_priority);
        own.remote = Some(aggregator.offer(remote));
    }
    if !remotes.is_empty() {
        order(all);
    }
}

fn slot<'a>(all: &'a mut Vec<GroupVersion>, group: &str, version: &str) -> &'a mut GroupVersion {
    let found = all.iter().position(|gv| gv.group == group && gv.version == version);
    let at = found.unwrap_or_else(|| {
        all.push(GroupVersion {
            group: group.to_owned(),
            version: version.to_owned(),
            resources: Vec::new(),
            priority: priority(group, version),
            remote: None,
        });
        all.len() - 1
    });
    all.get_mut(at).expect("just found or pushed")
}

fn offered(endpoint: &Endpoint) -> Offered {
    let resource = endpoint.resource();
    let kind = KindName {
        group_version: None,
        kind: resource.kind.to_string(),
    };
    let parts = endpoint.subresources().iter().map(|part| Part {
        name: part.name().to_owned(),
        kind: match part.kind() {
            None => kind.clone(),
            Some((group, version, name)) => named(endpoint, group, version, name),
        },
        verbs: part.verbs().to_vec(),
    });
    let text = |names: &[std::borrow::Cow<'static, str>]| names.iter().map(ToString::to_string).collect();
    let storage = resource.storage();
    Offered {
        plural: resource.plural.to_string(),
        singular: resource.singular.to_string(),
        namespaced: resource.is_namespaced(),
        verbs: endpoint.verbs().to_vec(),
        short_names: text(&resource.short_names),
        categories: text(&resource.categories),
        storage_hash: Some(storage_hash(&storage.group, &storage.version, &resource.kind)),
        parts: parts.collect(),
        kind,
        whole: true,
    }
}

fn named(endpoint: &Endpoint, group: &str, version: &str, kind: &str) -> KindName {
    let own = endpoint.served().group == group && endpoint.served().version == version;
    let group_version = (!own).then(|| (group.to_owned(), version.to_owned()));
    KindName {
        group_version,
        kind: kind.to_owned(),
    }
}

fn add_virtual(resources: &mut Vec<Offered>, route: &VirtualRoute) {
    let kind = KindName {
        group_version: route.kind_group_version.map(|(g, v)| (g.to_owned(), v.to_owned())),
        kind: route.kind.to_owned(),
    };
    let at = resources
        .iter()
        .position(|r| r.plural == route.resource)
        .unwrap_or_else(|| {
            resources.push(Offered {
                plural: route.resource.to_owned(),
                namespaced: route.namespaced,
                ..Offered::default()
            });
            resources.len() - 1
        });
    let Some(resource) = resources.get_mut(at) else { return };
    match route.subresource {
        Some(name) => resource.parts.push(Part {
            name: name.to_owned(),
            kind,
            verbs: route.verbs.to_vec(),
        }),
        None => {
            resource.singular = route.kind.to_ascii_lowercase();
            resource.kind = kind;
            resource.verbs = route.verbs.to_vec();
            resource.short_names = route.handler.short_names().iter().map(ToString::to_string).collect();
            resource.whole = true;
        }
    }
}

/// As `k8s.io/apiserver/pkg/endpoints/discovery.StorageVersionHash`.
fn storage_hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}"));
    STANDARD.encode(digest.iter().copied().take(8).collect::<Vec<u8>>())
}

fn legacy(core: &[&GroupVersion], groups: &[&GroupVersion], beside: &[String]) -> HashMap<String, Document> {
    let mut documents = HashMap::new();
    let versions: Vec<&str> = core.iter().map(|gv| gv.version.as_str()).collect();
    let api = json!({"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": []});
    documents.insert("/api".to_owned(), api);
    let mut named: Vec<Value> = Vec::new();
    for (name, versions) in by_group(groups) {
        let group = group_document(name, &versions);
        let mut alone = group.clone();
        put(&mut alone, "kind", "APIGroup");
        put(&mut alone, "apiVersion", "v1");
        documents.insert(format!("/apis/{name}"), alone);
        named.push(group);
    }
    documents.insert(
        "/apis".to_owned(),
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": named}),
    );
    for (root, versions) in [("/api", core), ("/apis", groups)] {
        // Another server describes its own.
        for gv in versions.iter().filter(|gv| gv.remote.is_none()) {
            documents.insert(format!("{root}/{}", gv.api_version()), resource_list(gv));
        }
    }
    let mut paths: Vec<&str> = documents.keys().map(String::as_str).collect();
    paths.extend([
        "/apis/",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/version",
    ]);
    paths.extend(beside.iter().map(String::as_str));
    paths.sort_unstable();
    let root = json!({"paths": paths});
    documents.insert(String::new(), root);
    documents
        .iter()
        .map(|(path, value)| (path.clone(), Document::new(value)))
        .collect()
}

fn by_group<'a>(groups: &[&'a GroupVersion]) -> Vec<(&'a str, Vec<&'a GroupVersion>)> {
    let mut found: Vec<(&str, Vec<&GroupVersion>)> = Vec::new();
    for gv in groups {
        match found.iter_mut().find(|(name, _)| *name == gv.group) {
            Some((_, versions)) => versions.push(gv),
            None => found.push((&gv.group, vec![gv])),
        }
    }
    found
}

fn group_document(name: &str, versions: &[&GroupVersion]) -> Value {
    let version = |gv: &&GroupVersion| json!({"groupVersion": gv.api_version(), "version": gv.version});
    json!({
        "name": name,
        "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn resource_list(gv: &GroupVersion) -> Value {
    let mut resources: Vec<Value> = Vec::new();
    for offered in &gv.resources {
        if offered.whole {
            resources.push(legacy_resource(offered));
        }
        for part in &offered.parts {
            let mut entry = json!({
                "name": format!("{}/{}", offered.plural, part.name), "singularName": "",
                "namespaced": offered.namespaced, "kind": part.kind.kind, "verbs": part.verbs,
            });
            name_group_version(&mut entry, &part.kind);
            resources.push(entry);
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv.api_version(), "resources": resources})
}

fn legacy_resource(offered: &Offered) -> Value {
    let mut entry = json!({
        "name": offered.plural, "singularName": offered.singular, "namespaced": offered.namespaced,
        "kind": offered.kind.kind, "verbs": offered.verbs,
    });
    name_group_version(&mut entry, &offered.kind);
    if !offered.short_names.is_empty() {
        put(&mut entry, "shortNames", json!(offered.short_names));
    }
    if !offered.categories.is_empty() {
        put(&mut entry, "categories", json!(offered.categories));
    }
    if let Some(hash) = &offered.storage_hash {
        put(&mut entry, "storageVersionHash", json!(hash));
    }
    entry
}

fn name_group_version(entry: &mut Value, kind: &KindName) {
    if let Some((group, version)) = &kind.group_version {
        put(entry, "group", group.as_str());
        put(entry, "version", version.as_str());
    }
}

fn put(entry: &mut Value, key: &str, value: impl Into<Value>) {
    if let Some(fields) = entry.as_object_mut() {
        fields.insert(key.to_owned(), value.into());
    }
}

fn aggregate(groups: &[&GroupVersion]) -> Value {
    let items: Vec<Value> = by_group(groups)
        .into_iter()
        .map(|(name, versions)| {
            let metadata = if name.is_empty() {
                json!({})
            } else {
                json!({"name": name})
            };
            let versions: Vec<Value> = versions.into_iter().map(aggregated_version).collect();
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_version(gv: &GroupVersion) -> Value {
    if let Some(offer) = &gv.remote {
        let freshness = if offer.stale { "Stale" } else { "Current" };
        return json!({"version": gv.version, "freshness": freshness, "resources": offer.resources});
    }
    let resources: Vec<Value> = gv.resources.iter().map(aggregated_resource).collect();
    json!({"version": gv.version, "freshness": "Current", "resources": resources})
}

fn aggregated_resource(offered: &Offered) -> Value {
    let part =
        |part: &Part| json!({"subresource": part.name, "responseKind": response_kind(&part.kind), "verbs": part.verbs});
    let mut entry = json!({
        "resource": offered.plural,
        "responseKind": response_kind(&offered.kind),
        "scope": if offered.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": offered.singular,
        "verbs": offered.verbs,
    });
    if !offered.short_names.is_empty() {
        put(&mut entry, "shortNames", json!(offered.short_names));
    }
    if !offered.categories.is_empty() {
        put(&mut entry, "categories", json!(offered.categories));
    }
    if !offered.parts.is_empty() {
        put(
            &mut entry,
            "subresources",
            offered.parts.iter().map(part).collect::<Value>(),
        );
    }
    entry
}

fn response_kind(kind: &KindName) -> Value {
    let (group, version) = kind.group_version.clone().unwrap_or_default();
    json!({"group": group, "version": version, "kind": kind.kind})
}

/// The answer to `/version`.
pub(crate) fn version(git_version: &str) -> Vec<u8> {
    let mut parts = git_version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let platform = format!("{}/{}", std::env::consts::OS, go_arch(std::env::consts::ARCH));
    json!({
        "major": major, "minor": minor, "gitVersion": git_version, "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "rustc", "platform": platform,
    })
    .to_string()
    .into_bytes()
}

fn go_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_version_hashes_are_kubernetes_own() {
        assert_eq!(storage_hash("apps", "v1", "Deployment"), "8aSe+NMegvE=");
        assert_eq!(storage_hash("apps", "v1", "DaemonSet"), "dd7pWHUlMKQ=");
    }

    #[test]
    fn tells_the_version_kubectl_compares() {
        let version: Value = serde_json::from_slice(&version("v1.36.2+wherry")).expect("JSON");
        assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("36")));
    }
}
