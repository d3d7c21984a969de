//! Requests and answers of the fake.

use std::{convert::Infallible, sync::atomic::Ordering};

use api::Object;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use serde_json::{Value, json};

use super::{Fake, Place, lifecycle};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A path, taken apart.
struct Target {
    place: Place,
    subresource: Option<String>,
}

impl Target {
    fn parse(path: &str) -> Option<Self> {
        let mut parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let group = match *parts.first()? {
            "api" => {
                parts.drain(..1);
                "core"
            }
            "apis" => {
                let group = *parts.get(1)?;
                parts.drain(..2);
                group
            }
            _ => return None,
        };
        let (version, rest) = parts.split_first()?;
        // `namespaces/a/pods` is in a namespace, `namespaces/a` and `namespaces/a/status` are one
        let namespaced = |rest: &[&str]| rest.len() >= 3 && !matches!(rest.get(2), Some(&"status" | &"finalize"));
        let (namespace, rest) = match rest {
            ["namespaces", namespace, tail @ ..] if namespaced(rest) => (*namespace, tail),
            rest => ("", rest),
        };
        let (plural, rest) = rest.split_first()?;
        Some(Self {
            place: Place {
                resource: format!("{group}/{version}/{plural}"),
                namespace: namespace.to_owned(),
                name: rest.first().copied().unwrap_or_default().to_owned(),
            },
            subresource: rest.get(1).map(ToString::to_string),
        })
    }
}

impl Fake {
    pub(super) async fn serve(&self, request: Request<Body>) -> Result<Answer, std::io::Error> {
        if self.down.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("down"));
        }
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let query = parts.uri.query().unwrap_or("");
        if matches!(parts.uri.path(), "/api" | "/apis") {
            return Ok(self.discovery(parts.uri.path() == "/api"));
        }
        let Some(target) = Target::parse(parts.uri.path()) else {
            return Ok(refuse(404, "NotFound"));
        };
        let content_type = parts
            .headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let answer = match parts.method {
            Method::GET if query.contains("watch=true") => self.watch(&target.place, query),
            Method::GET => self.read(&target.place, query),
            Method::POST => self.create(target, &body),
            Method::PUT => self.change_object(&target, &body, None),
            Method::PATCH => self.change_object(&target, &body, content_type),
            Method::DELETE => self.delete(&target.place, &body),
            _ => refuse(405, "MethodNotAllowed"),
        };
        self.announce();
        Ok(answer)
    }

    fn discovery(&self, core: bool) -> Answer {
        let verbs = [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch",
        ];
        let mut groups: Vec<Value> = Vec::new();
        for kind in self.kinds.iter().filter(|kind| kind.group.is_empty() == core) {
            let resource = json!({"resource": kind.plural, "responseKind": {"kind": kind.kind}, "verbs": verbs,
                "scope": if kind.namespaced { "Namespaced" } else { "Cluster" }});
            groups.push(json!({"metadata": {"name": kind.group},
                "versions": [{"version": kind.version, "freshness": "Current", "resources": [resource]}]}));
        }
        answer(200, &json!({"kind": "APIGroupDiscoveryList", "items": groups}))
    }

    fn read(&self, place: &Place, query: &str) -> Answer {
        let state = self.state.lock();
        if !place.name.is_empty() {
            return match state.objects.get(place) {
                Some(object) => answer(200, &json!(object)),
                None => refuse(404, "NotFound"),
            };
        }
        self.lists.fetch_add(1, Ordering::Relaxed);
        let items: Vec<&Object> = state
            .objects
            .iter()
            .filter(|(at, _)| selects(place, query, at))
            .map(|(_, object)| object)
            .collect();
        answer(
            200,
            &json!({"kind": "List", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items}),
        )
    }

    fn create(&self, target: Target, body: &[u8]) -> Answer {
        let Ok(object) = Object::from_slice(body) else {
            return refuse(400, "BadRequest");
        };
        let refused = self
            .refuse_creates
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if refused.is_ok() {
            return refuse(403, "Forbidden");
        }
        if target.subresource.as_deref() == Some("binding") {
            return self.bind(&target.place, &object);
        }
        let mut state = self.state.lock();
        if state.is_ending(&target.place.namespace) {
            return refuse(403, "Forbidden");
        }
        match state.create(target.place, object) {
            Some(created) => answer(201, &json!(created)),
            None => refuse(409, "AlreadyExists"),
        }
    }

    fn bind(&self, pod: &Place, binding: &Object) -> Answer {
        match self.get(&crate::kinds::POD, &pod.namespace, &pod.name) {
            None => refuse(404, "NotFound"),
            Some(pod) if pod.uid() != binding.uid() || pod.str_at("spec.nodeName").is_some() => refuse(409, "Conflict"),
            Some(_) => {
                let node = json!({"spec": {"nodeName": binding.str_at("target.name")}});
                self.change(&crate::kinds::POD, &pod.namespace, &pod.name, &node);
                answer(201, &json!({"kind": "Status", "status": "Success"}))
            }
        }
    }

    /// A replacement, or a patch of the given content type.
    fn change_object(&self, target: &Target, body: &[u8], patch: Option<&str>) -> Answer {
        let mut state = self.state.lock();
        let Some(old) = state.objects.get(&target.place).cloned() else {
            return refuse(404, "NotFound");
        };
        let Ok(sent) = serde_json::from_slice::<Value>(body) else {
            return refuse(400, "BadRequest");
        };
        let text = |path: &str| sent.pointer(path).and_then(Value::as_str);
        let stale = text("/metadata/resourceVersion").is_some_and(|revision| Some(revision) != old.resource_version());
        if stale || text("/metadata/uid").is_some_and(|uid| uid != old.uid()) {
            return refuse(409, "Conflict");
        }
        let mut tree = old.clone().into_value();
        match patch {
            Some(content_type) if content_type.contains("strategic") => lifecycle::strategic(&mut tree, &sent),
            Some(_) => crate::request::merge(&mut tree, &sent),
            None => tree = sent,
        }
        let Ok(new) = Object::from_value(tree) else {
            return refuse(400, "BadRequest");
        };
        let new = lifecycle::part(target.subresource.as_deref(), &old, new);
        state.settle(target.place.clone(), new.clone());
        let now = state.objects.get(&target.place).cloned();
        let revision = state.revision.to_string();
        answer(
            200,
            &json!(now.unwrap_or_else(|| {
                let mut gone = new;
                gone.set_resource_version(Some(&revision));
                gone
            })),
        )
    }

    fn delete(&self, place: &Place, body: &[u8]) -> Answer {
        let options: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut state = self.state.lock();
        if place.name.is_empty() {
            let all: Vec<Place> = state
                .objects
                .keys()
                .filter(|at| selects(place, "", at))
                .cloned()
                .collect();
            all.iter().for_each(|at| state.delete(at, &options));
            return answer(200, &json!({"kind": "Status", "status": "Success"}));
        }
        let Some(object) = state.objects.get(place) else {
            return refuse(404, "NotFound");
        };
        let wanted = options.pointer("/preconditions/uid").and_then(Value::as_str);
        if wanted.is_some_and(|uid| uid != object.uid()) {
            return refuse(409, "Conflict");
        }
        state.delete(place, &options);
        answer(200, &json!({"kind": "Status", "status": "Success"}))
    }

    fn watch(&self, place: &Place, query: &str) -> Answer {
        let from = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok())
            .unwrap_or(0);
        if from < self.state.lock().compacted {
            return refuse(410, "Expired");
        }
        self.watches.fetch_add(1, Ordering::Relaxed);
        let (fake, place, query) = (self.clone(), place.clone(), query.to_owned());
        let (revision, mut epoch) = (self.revision.subscribe(), self.epoch.subscribe());
        epoch.mark_unchanged();
        let lines = stream::unfold((from, revision, epoch), move |(from, mut revision, mut epoch)| {
            let (fake, place, query) = (fake.clone(), place.clone(), query.clone());
            async move {
                tokio::select! {
                    seen = revision.wait_for(|at| *at > from) => drop(seen.ok()?),
                    _ = epoch.changed() => return None,
                }
                let (text, at) = fake.lines(&place, &query, from);
                Some((
                    Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(text))),
                    (at, revision, epoch),
                ))
            }
        });
        Response::new(StreamBody::new(lines.boxed()).boxed_unsync())
    }

    fn lines(&self, place: &Place, query: &str, from: u64) -> (String, u64) {
        let state = self.state.lock();
        let mut text = String::new();
        for (_, at, kind, object) in state.history.iter().filter(|(revision, ..)| *revision > from) {
            if selects(place, query, at) {
                text += &json!({"type": kind, "object": object}).to_string();
                text.push('\n');
            }
        }
        let bookmark = json!({"metadata": {"resourceVersion": state.revision.to_string()}});
        text += &json!({"type": "BOOKMARK", "object": bookmark}).to_string();
        text.push('\n');
        (text, state.revision)
    }
}

/// Whether an object is in a collection, by namespace and by a field selector on its name.
fn selects(collection: &Place, query: &str, at: &Place) -> bool {
    let named = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("fieldSelector=metadata.name%3D"));
    at.resource == collection.resource
        && (collection.namespace.is_empty() || at.namespace == collection.namespace)
        && named.is_none_or(|name| name == at.name)
}

fn answer(code: u16, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn refuse(code: u16, reason: &str) -> Answer {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": reason});
    answer(code, &body)
}
