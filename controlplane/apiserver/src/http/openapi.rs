//! `/openapi/v3`: the index, and one document per group and version; and `/openapi/v2` ([`v2`]).
//!
//! Documents are large and asked for seldom, since clients keep them by their hash: only the hashes are remembered, until
//! what is served changes; then those of the groups that changed are made anew.

pub(super) mod v2;

use std::sync::Arc;

use api::{GroupVersion, Status};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, ETAG, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use schema::openapi::{Described, Source, Subresource, V2Document, V2Format, document_path, v3_document, v3_index};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::body::Body;
use super::query::Query;
use super::respond;
use crate::aggregation::Offer;
use crate::registry::catalog::{Endpoint, Registry};
use crate::registry::virtuals::VirtualRoute;
use crate::server::Shared;

/// The hash of each document, and what it was made of.
#[derive(Default)]
struct Hashes {
    /// Of the registry; `None` before the first.
    version: Option<u64>,
    known: Vec<Hashed>,
}

#[derive(Clone)]
struct Hashed {
    version: GroupVersion,
    /// Differs when the document does.
    made_of: u64,
    hash: String,
}

/// What the documents are made from.
pub(crate) struct OpenApi {
    registry: Arc<Registry>,
    virtuals: Vec<VirtualRoute>,
    hashes: Mutex<Hashes>,
    v2: v2::Documents,
}

impl OpenApi {
    pub(crate) fn new(registry: &Arc<Registry>, virtuals: &[VirtualRoute]) -> Self {
        OpenApi {
            registry: registry.clone(),
            virtuals: virtuals.to_vec(),
            hashes: Mutex::default(),
            v2: v2::Documents::default(),
        }
    }

    /// Every group and version with the hash of its document; makes the documents that are new.
    fn hashes(&self) -> Vec<(GroupVersion, String)> {
        let mut hashes = self.hashes.lock();
        let now = self.registry.version();
        if hashes.version != Some(now) {
            let versions = self.versions().into_iter();
            hashes.known = versions.map(|version| self.hashed(version, &hashes.known)).collect();
            hashes.version = Some(now);
        }
        hashes
            .known
            .iter()
            .map(|known| (known.version.clone(), known.hash.clone()))
            .collect()
    }

    fn hashed(&self, version: GroupVersion, known: &[Hashed]) -> Hashed {
        let made_of = self.made_of(&version);
        let same = |known: &&Hashed| known.version == version && known.made_of == made_of;
        if let Some(known) = known.iter().find(same) {
            return known.clone();
        }
        let hash = hash(&self.document(&version));
        Hashed { version, made_of, hash }
    }

    /// Built-in kinds are always the same; custom ones differ with their definitions.
    fn made_of(&self, version: &GroupVersion) -> u64 {
        let endpoints = self.registry.endpoints().filter(|e| is_of(e, version));
        let fingerprint = |e: Endpoint| e.kind.custom.as_ref().map_or(0, |custom| custom.fingerprint);
        endpoints.map(fingerprint).fold(0, |all, one| all.rotate_left(1) ^ one)
    }

    fn versions(&self) -> Vec<GroupVersion> {
        let stored = self
            .registry
            .endpoints()
            .map(|e| GroupVersion::new(&e.served().group, &e.served().version));
        let virtuals = self
            .virtuals
            .iter()
            .map(|route| GroupVersion::new(route.group, route.version));
        let mut versions: Vec<GroupVersion> = Vec::new();
        for version in stored.chain(virtuals) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }

    fn document(&self, version: &GroupVersion) -> Bytes {
        self.described(version, |described| v3_document(version, described).to_string().into())
    }

    /// `others` are what other servers' documents say of their groups.
    fn v2_document(&self, format: V2Format, version: &str, others: &[Arc<Offer>]) -> Bytes {
        let mut document = V2Document::new(format);
        for version in self.versions() {
            self.described(&version, |described| document.add(&version, described));
        }
        for offer in others {
            offer.openapi_v2.iter().for_each(|other| document.merge(other));
        }
        document.finish(version).into()
    }

    /// Calls `f` with all that one group and version serve.
    fn described<R>(&self, version: &GroupVersion, f: impl FnOnce(&[Described<'_>]) -> R) -> R {
        let endpoints: Vec<Endpoint> = self.registry.endpoints().filter(|e| is_of(e, version)).collect();
        let routes: Vec<&VirtualRoute> = self
            .virtuals
            .iter()
            .filter(|r| r.group == version.group && r.version == version.version)
            .collect();
        let mut described: Vec<Described<'_>> = endpoints.iter().map(|e| of_endpoint(e, &routes)).collect();
        described.extend(routes.iter().filter_map(|route| of_route(route)));
        f(&described)
    }
}

fn is_of(endpoint: &Endpoint, version: &GroupVersion) -> bool {
    endpoint.served().group == version.group && endpoint.served().version == version.version
}

fn of_endpoint<'a>(endpoint: &'a Endpoint, routes: &[&'a VirtualRoute]) -> Described<'a> {
    let (resource, served) = (endpoint.resource(), endpoint.served());
    let own = (&*served.group, &*served.version, &*resource.kind);
    let part = |part: &'a crate::registry::resource::Subresource| {
        let (group, version, kind) = part.kind().unwrap_or(own);
        Subresource {
            name: part.name(),
            group,
            version,
            kind,
            verbs: part.verbs(),
        }
    };
    let routed = routes
        .iter()
        .filter(|route| route.resource == resource.plural)
        .filter_map(|route| {
            let (group, version) = route.kind_group_version.unwrap_or((route.group, route.version));
            Some(Subresource {
                name: route.subresource?,
                group,
                version,
                kind: route.kind,
                verbs: route.verbs,
            })
        });
    Described {
        group: &served.group,
        version: &served.version,
        kind: &resource.kind,
        plural: &resource.plural,
        namespaced: resource.is_namespaced(),
        definition: &served.definition,
        verbs: resource.verbs,
        subresources: endpoint.subresources().iter().map(part).chain(routed).collect(),
        schema_json: served.schema_json.clone(),
    }
}

fn of_route<'a>(route: &'a VirtualRoute) -> Option<Described<'a>> {
    let (definition, schema_json) = route.definition.filter(|_| route.subresource.is_none())?;
    Some(Described {
        group: route.group,
        version: route.version,
        kind: route.kind,
        plural: route.resource,
        namespaced: route.namespaced,
        definition,
        verbs: route.verbs,
        subresources: Vec::new(),
        schema_json: Source::BuiltIn(schema_json),
    })
}

fn hash(document: &[u8]) -> String {
    Sha256::digest(document).iter().map(|b| format!("{b:02X}")).collect()
}

/// Answers `/openapi/v3/<path>`; an empty path is the index.
pub(super) async fn answer(
    server: &Arc<Shared>,
    path: &str,
    parts: &Parts,
    query: &Query<'_>,
) -> Result<Response<Body>, Status> {
    let made = server.clone();
    // Making the documents takes long enough to keep other requests waiting.
    let hashes = tokio::task::spawn_blocking(move || made.openapi.hashes()).await;
    let hashes = hashes.map_err(|_| Status::internal("the OpenAPI documents could not be made"))?;
    if path.is_empty() {
        let mut index = v3_index(hashes.iter().map(|(version, hash)| (version, hash.as_str())));
        add_remotes(&mut index, server);
        return Ok(respond::json(StatusCode::OK, index.to_string()));
    }
    let found = hashes.into_iter().find(|(version, _)| document_path(version) == path);
    let (version, hash) = found.ok_or_else(Status::no_such_path)?;
    match query.get("hash") {
        Some(asked) if asked != hash => {
            let mut response = respond::with_type(StatusCode::MOVED_PERMANENTLY, respond::JSON, Body::empty());
            let location = format!("/openapi/v3/{path}?hash={hash}");
            response.headers_mut().insert(LOCATION, respond::header_text(&location));
            Ok(response)
        }
        asked => document(server, version, &hash, asked.is_some(), parts).await,
    }
}

/// The documents of other servers, which these are asked for.
fn add_remotes(index: &mut Value, server: &Shared) {
    let Some(paths) = index.get_mut("paths").and_then(Value::as_object_mut) else {
        return;
    };
    for remote in server.aggregator.remotes().iter() {
        let path = document_path(&GroupVersion::new(&remote.group, &remote.version));
        match &server.aggregator.offer(remote).openapi {
            Some(url) => paths.insert(path, json!({"serverRelativeURL": url})),
            None => paths.remove(&path),
        };
    }
}

async fn document(
    server: &Arc<Shared>,
    version: GroupVersion,
    hash: &str,
    named_by_hash: bool,
    parts: &Parts,
) -> Result<Response<Body>, Status> {
    let etag = respond::header_text(&format!("\"{hash}\""));
    let mut response = match parts.headers.get(http::header::IF_NONE_MATCH) == Some(&etag) {
        true => respond::with_type(StatusCode::NOT_MODIFIED, respond::JSON, Body::empty()),
        false => {
            let made = server.clone();
            let bytes = tokio::task::spawn_blocking(move || made.openapi.document(&version)).await;
            respond::json(
                StatusCode::OK,
                bytes.map_err(|_| Status::internal("the document could not be made"))?,
            )
        }
    };
    response.headers_mut().insert(ETAG, etag);
    if named_by_hash {
        let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    Ok(response)
}
