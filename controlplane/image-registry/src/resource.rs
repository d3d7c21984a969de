//! `images` of the Kubernetes API. Creating one takes the program itself as the body, as `application/wasm`, and its name from
//! the query: it is looked into while nothing is stored yet, and refused with the names of what it lacks.

use std::sync::Arc;
use std::time::Duration;

use api::{FieldSelector, LabelSelector, Object, Status};
use apiserver::http::body::Body;
use apiserver::images::Place;
use apiserver::registry::virtuals::{Request, Response, Shape, Virtual, VirtualContext, reply, shape};
use async_trait::async_trait;
use futures::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use crate::arrive::Upload;
use crate::catalogue::Named;
use crate::digest::Digest;
use crate::manifest::{self, OCI_MANIFEST};
use crate::name::{Image, Repository, Target};
use crate::{Inner, Made, distribution, objects, status};

/// What a program may be sent as.
const WASM: [&str; 2] = ["application/wasm", "application/octet-stream"];
/// How long a watch lasts that does not say.
const WATCH: Duration = Duration::from_secs(1800);

pub(crate) struct Endpoint(pub(crate) Arc<Inner>);

#[async_trait]
impl Virtual for Endpoint {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let path = request.uri().path().to_owned();
        if let Some(place) = Place::parse(&path) {
            return distribution::answer(&self.0, &cx, place, request).await;
        }
        let asked = Asked::of(&request)?;
        self.0.fresh().await?;
        match cx.verb {
            "get" => {
                let (repository, target) = image(&cx)?;
                let found = self.0.named(&repository, &target)?;
                answer(
                    StatusCode::OK,
                    objects::one(&found, asked.shape, cx.now, asked.with_object),
                )
            }
            "list" => {
                let (found, revision) = self.0.store.list(cx.namespace.as_deref());
                let found: Vec<Named> = found.into_iter().filter(|image| asked.selects(image)).collect();
                answer(
                    StatusCode::OK,
                    objects::list(&found, revision, asked.shape, cx.now, asked.with_object),
                )
            }
            "watch" => self.watch(&cx, asked),
            "create" => self.create(&cx, &asked, request).await,
            "delete" => {
                let (repository, target) = image(&cx)?;
                let found = self.0.named(&repository, &target)?;
                if !cx.dry_run {
                    self.0.remove(&repository, &target, cx.now).await?;
                }
                answer(StatusCode::OK, objects::whole(&found))
            }
            _ => self.delete_all(&cx, &asked).await,
        }
    }

    fn short_names(&self) -> &'static [&'static str] {
        &["img"]
    }
}

impl Endpoint {
    async fn create(&self, cx: &VirtualContext, asked: &Asked, request: Request) -> Result<Response, Status> {
        let named = asked.name.as_deref().ok_or_else(|| {
            Status::bad_request("the image wants a name: POST .../images?name=NAME:TAG, with the program as the body")
        })?;
        let named: Image = named.parse().map_err(bad)?;
        let Target::Tag(_) = &named.target else {
            return Err(Status::bad_request(
                "the image wants a tag; its digest follows from its content",
            ));
        };
        let namespace = namespace(cx).await?;
        let repository = Repository::new(&namespace, &named.name).map_err(bad)?;
        let media = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        if !media.is_some_and(|media| WASM.contains(&media)) {
            return Err(Status::unsupported_media_type(&WASM));
        }
        let _place = self.0.place()?;
        let mut upload = Upload::begin(&self.0.store, self.0.limits.image).await?;
        let announced = length(request.headers());
        upload.append(&self.0.store, announced, request.into_body()).await?;
        let title = format!("{}.wasm", named.name);
        let looked = self
            .0
            .look(upload.content().await?, &named.to_string(), &title, cx.now)
            .await?;
        if !cx.dry_run {
            let mut brought = Vec::new();
            let kept = self
                .keep(cx, &repository, &named.target, upload, &looked, &mut brought)
                .await;
            if kept.is_err() {
                self.0.store.give_up(&repository, &brought);
            }
            kept?;
            let made = self.0.named(&repository, &named.target)?;
            return answer(StatusCode::CREATED, objects::whole(&made));
        }
        answer(StatusCode::CREATED, seen(&named, &namespace, &looked.program))
    }

    async fn keep(
        &self,
        cx: &VirtualContext,
        repository: &Repository,
        target: &Target,
        upload: Upload,
        looked: &crate::Looked,
        brought: &mut Vec<Digest>,
    ) -> Result<(), Status> {
        let artifact = manifest::read(looked.manifest.as_bytes(), OCI_MANIFEST);
        let artifact = artifact.map_err(|error| Status::internal(&error.to_string()))?;
        let (layer, _) = self.0.keep(repository, upload).await?;
        brought.push(layer.clone());
        let (config, _) = self.0.put(repository, looked.config.clone().into_bytes()).await?;
        brought.push(config.clone());
        let (document, size) = self.0.put(repository, looked.manifest.clone().into_bytes()).await?;
        brought.push(document.clone());
        if layer != artifact.layer.digest || config != artifact.config.digest {
            return Err(Status::internal("the artifact does not name its own content"));
        }
        let made = Made {
            repository,
            target,
            document,
            size,
            artifact,
            program: looked.program.clone(),
            by: &cx.user.username,
            now: cx.now,
        };
        self.0.commit(made).await
    }

    /// Deletes what is selected, in one namespace.
    async fn delete_all(&self, cx: &VirtualContext, asked: &Asked) -> Result<Response, Status> {
        let (found, revision) = self.0.store.list(cx.namespace.as_deref());
        let found: Vec<Named> = found.into_iter().filter(|image| asked.selects(image)).collect();
        for image in found.iter().filter(|_| !cx.dry_run) {
            let name: Image = image.name.parse().map_err(bad)?;
            let repository = Repository::new(&image.namespace, &name.name).map_err(bad)?;
            match self.0.remove(&repository, &name.target, cx.now).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
        answer(
            StatusCode::OK,
            objects::list(&found, revision, Shape::Whole, cx.now, false),
        )
    }

    /// Tells of changes after a revision; without one, of all there is first.
    fn watch(&self, cx: &VirtualContext, asked: Asked) -> Result<Response, Status> {
        let (found, revision) = self.0.store.list(cx.namespace.as_deref());
        let (first, from) = match asked.revision {
            None | Some(0) => {
                let found = found.into_iter().filter(|image| asked.selects(image));
                let added = found.map(|named| crate::catalogue::Change {
                    kind: crate::catalogue::Kind::Added,
                    revision: named.entry.revision,
                    named,
                });
                (added.collect(), revision)
            }
            Some(from) => (self.0.store.changes(from).ok_or_else(expired)?, from),
        };
        let watching = Watching {
            registry: self.0.clone(),
            follow: self.0.store.follow(),
            namespace: cx.namespace.clone(),
            from: first
                .iter()
                .map(|change| change.revision)
                .max()
                .unwrap_or(from)
                .max(from),
            over: false,
            now: cx.now,
            until: Instant::now() + asked.timeout.unwrap_or(WATCH),
            ending: cx.ending.clone(),
            asked,
        };
        let first = watching.lines(&first);
        let events = stream::unfold((watching, Some(first)), |(mut watching, first)| async move {
            let lines = match first.filter(|lines| !lines.is_empty()) {
                Some(lines) => lines,
                None => watching.next().await?,
            };
            Some((Ok(lines.into_bytes().into()), (watching, None)))
        });
        let mut response = Response::new(Body::stream(events));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        Ok(response)
    }
}

/// Somebody who watches.
struct Watching {
    registry: Arc<Inner>,
    follow: tokio::sync::watch::Receiver<u64>,
    namespace: Option<String>,
    from: u64,
    /// It fell behind, and has been told.
    over: bool,
    now: api::Timestamp,
    until: Instant,
    ending: tokio_util::sync::CancellationToken,
    asked: Asked,
}

impl Watching {
    fn lines(&self, changes: &[crate::catalogue::Change]) -> String {
        let here = |change: &&crate::catalogue::Change| {
            let named = &change.named;
            self.namespace.as_ref().is_none_or(|wanted| *wanted == named.namespace) && self.asked.selects(named)
        };
        let (shape, with_object) = (self.asked.shape, self.asked.with_object);
        let told = changes.iter().filter(here);
        told.map(|change| objects::event(change, shape, self.now, with_object))
            .collect()
    }

    /// The next changes that are seen; `None` at the end.
    async fn next(&mut self) -> Option<String> {
        loop {
            self.follow.borrow_and_update();
            let Some(changes) = self.registry.store.changes(self.from) else {
                let error = serde_json::json!({"type": "ERROR", "object": expired()});
                // Nothing follows it.
                return (!std::mem::replace(&mut self.over, true)).then(|| format!("{error}\n"));
            };
            self.from = changes.iter().map(|change| change.revision).max().unwrap_or(self.from);
            let lines = self.lines(&changes);
            if !lines.is_empty() {
                return Some(lines);
            }
            tokio::select! {
                changed = self.follow.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.until) => return None,
                () = self.ending.cancelled() => return None,
            }
        }
    }
}

/// What a request asks for in its query and headers.
struct Asked {
    shape: Shape,
    with_object: bool,
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
    revision: Option<u64>,
    timeout: Option<Duration>,
}

impl Asked {
    fn of(request: &Request) -> Result<Self, Status> {
        let query = Query::of(request.uri().query().unwrap_or_default());
        if query.get("sendInitialEvents").is_some() {
            // Clients list, then, and watch from there.
            let mut status =
                Status::bad_request("sendInitialEvents is not supported for images; list, and watch from there");
            (status.code, status.reason) = (422, "Invalid".to_owned());
            return Err(status);
        }
        let number = |key: &str| match query.get(key) {
            None => Ok(None),
            Some(text) => match text.parse::<u64>() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(Status::bad_request(format!("{key} {text:?} is not a number"))),
            },
        };
        Ok(Self {
            shape: shape(request.headers())?,
            with_object: query.get("includeObject") == Some("Object"),
            name: query.get("name").map(str::to_owned),
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
                .map_err(Status::bad_request)?,
            fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
                .map_err(Status::bad_request)?,
            revision: number("resourceVersion")?,
            timeout: number("timeoutSeconds")?.map(Duration::from_secs),
        })
    }

    fn selects(&self, image: &Named) -> bool {
        let field = |name: &str| match name {
            "metadata.name" => Some(image.name.as_str()),
            "metadata.namespace" => Some(image.namespace.as_str()),
            _ => None,
        };
        self.labels.matches(|_| None) && self.fields.matches(field)
    }
}

/// The pairs of a query, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(raw: &str) -> Self {
        let pairs = raw.split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(key, value)| (decoded(key), decoded(value))).collect())
    }

    /// The value of a key that is there and not empty.
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(k, _)| k == key)?;
        (!value.is_empty()).then_some(value)
    }
}

/// Undoes percent-encoding.
pub(crate) fn decoded(text: &str) -> String {
    apiserver::images::decoded(text)
}

/// The image that a request names.
fn image(cx: &VirtualContext) -> Result<(Repository, Target), Status> {
    let missing = || status::not_found(&cx.name);
    // What cannot be a name is none that is here.
    let image: Image = cx.name.parse().map_err(|_| missing())?;
    let repository = Repository::new(cx.namespace.as_deref().unwrap_or_default(), &image.name);
    Ok((repository.map_err(|_| missing())?, image.target))
}

/// The namespace of a request, which must be there and stay.
pub(crate) async fn namespace(cx: &VirtualContext) -> Result<String, Status> {
    let name = cx.namespace.clone().unwrap_or_default();
    let kind = api::GroupResource::new("", "namespaces");
    let found = match cx.reader.get(&kind, None, &name) {
        Some(found) => Some(found),
        None => cx.reader.get_fresh(&kind, None, &name).await?,
    };
    let found = found.ok_or_else(|| Status::not_found(&kind, &name))?;
    if found.str_at("metadata.deletionTimestamp").is_some() {
        let why = format!("unable to create new content in namespace {name} because it is being terminated");
        return Err(Status::forbidden(&status::resource(), &cx.name, &why));
    }
    Ok(name)
}

pub(crate) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn bad(error: impl std::fmt::Display) -> Status {
    Status::bad_request(error.to_string())
}

/// What would be made of a program.
fn seen(image: &Image, namespace: &str, program: &Value) -> Value {
    serde_json::json!({
        "kind": "Image",
        "apiVersion": format!("{}/{}", apiserver::images::GROUP, apiserver::images::VERSION),
        "metadata": {"name": image.to_string(), "namespace": namespace},
        "status": {"image": format!("{}/{namespace}/{image}", apiserver::images::DOMAIN), "program": program},
    })
}

fn expired() -> Status {
    Status::expired("the changes since that resourceVersion are not kept any more; list again")
}

fn answer(code: StatusCode, object: Value) -> Result<Response, Status> {
    let object = Object::from_value(object).map_err(|_| Status::internal("no object was made"))?;
    Ok(reply(code, &object))
}
