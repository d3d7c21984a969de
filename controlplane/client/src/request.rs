//! Requests: paths, JSON bodies, and the one place where an answer becomes a value or an [`Error`].
//!
//! Every request but a watch has a deadline. Nothing is retried here: a caller that wants a retry is a loop.

use std::{path::Path, time::Duration};

use api::{Object, names::NamespacedName, status::Status};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Kind,
    error::OptionalExt,
    options::{DeleteOptions, List, ListOptions, Patch},
};

/// Longest wait for an answer that is not a watch. The API server's own limit is a minute.
const DEADLINE: Duration = Duration::from_secs(65);

/// Reads and replacements that an update may take.
const UPDATE_TRIES: u32 = 5;

/// A connection to the API as one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    inner: kube::Client,
    /// The component's name, by which the API server knows who changed a field.
    agent: Option<HeaderValue>,
}

impl Client {
    /// Wraps a connection, in process or over TLS.
    pub fn new(inner: kube::Client) -> Self {
        Self { inner, agent: None }
    }

    /// The same connection for a component of this name, which is ASCII.
    #[must_use]
    pub fn named(self, component: &'static str) -> Self {
        Self {
            agent: Some(HeaderValue::from_static(component)),
            ..self
        }
    }

    /// Connects as the current context of a kubeconfig file.
    ///
    /// # Errors
    /// [`Error::Kubeconfig`] if the file cannot be read or holds no usable context.
    pub async fn from_kubeconfig(path: &Path) -> Result<Self, Error> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| Error::Kubeconfig {
            path: path.into(),
            source,
        };
        let file = kube::config::Kubeconfig::read_from(path).map_err(|error| unusable(error.into()))?;
        let mut config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(error.into()))?;
        config.connect_timeout = Some(Duration::from_secs(5));
        config.read_timeout = None; // a watch may be silent for minutes; the other requests have DEADLINE
        config.write_timeout = Some(DEADLINE);
        config.default_retry = false; // a refusal such as 429 is the caller's to answer
        Ok(Self::new(
            kube::Client::try_from(config).map_err(|error| unusable(error.into()))?,
        ))
    }

    /// The connection itself, for what this type does not cover (upgrades).
    pub fn kube(&self) -> &kube::Client {
        &self.inner
    }

    /// Reads one object.
    ///
    /// # Errors
    /// [`Error::is_not_found`] if it does not exist; any other [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, kind: &Kind, at: &NamespacedName) -> Result<T, Error> {
        let path = object_path(kind, at, None);
        let body = self.raw(request(Method::GET, &path, None, Bytes::new())?).await?;
        decode(&path, "object", &body)
    }

    /// Reads one object, `None` if it does not exist.
    ///
    /// # Errors
    /// Any [`Error`] but "not found".
    pub async fn get_opt<T: DeserializeOwned>(&self, kind: &Kind, at: &NamespacedName) -> Result<Option<T>, Error> {
        self.get(kind, at).await.optional()
    }

    /// Lists a namespace, or all of them for `None`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn list<T: DeserializeOwned>(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List<T>, Error> {
        let path = format!("{}{}", kind.collection_path(namespace), list_query(options, &[]));
        let body = self.raw(request(Method::GET, &path, None, Bytes::new())?).await?;
        decode(&path, "list", &body)
    }

    /// Creates an object; the answer is as stored.
    ///
    /// # Errors
    /// Any [`Error`], often [`Error::is_already_exists`].
    pub async fn create(&self, kind: &Kind, namespace: Option<&str>, body: &impl Serialize) -> Result<Object, Error> {
        let path = kind.collection_path(namespace);
        self.send_json(Method::POST, path, "application/json", body).await
    }

    /// Posts to a subresource, as `pods/binding` is.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn create_sub(
        &self,
        kind: &Kind,
        at: &NamespacedName,
        subresource: &str,
        body: &impl Serialize,
    ) -> Result<Object, Error> {
        self.send_json(
            Method::POST,
            object_path(kind, at, Some(subresource)),
            "application/json",
            body,
        )
        .await
    }

    /// Replaces an object by a whole tree read before: only for trees, never for typed structs.
    ///
    /// # Errors
    /// Any [`Error`], often [`Error::is_conflict`].
    pub async fn replace(&self, kind: &Kind, object: &Object, subresource: Option<&str>) -> Result<Object, Error> {
        let at = NamespacedName::of(object);
        self.send_json(
            Method::PUT,
            object_path(kind, &at, subresource),
            "application/json",
            object,
        )
        .await
    }

    /// Patches an object or one of its subresources; the answer is as stored.
    ///
    /// # Errors
    /// Any [`Error`], often [`Error::is_conflict`] or [`Error::is_not_found`].
    pub async fn patch(
        &self,
        kind: &Kind,
        at: &NamespacedName,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<Object, Error> {
        let path = object_path(kind, at, subresource);
        self.send_json(Method::PATCH, path, patch.content_type(), patch.body())
            .await
    }

    /// Reads an object, changes its tree by an RFC 7386 merge and replaces it or its subresource: for identities that may
    /// update but not patch. `None` if it is gone, or is another object (by uid) of that name.
    ///
    /// # Errors
    /// Any [`Error`]; [`Error::is_conflict`] only if others kept changing the object in between.
    pub async fn update(
        &self,
        kind: &Kind,
        at: &NamespacedName,
        subresource: Option<&str>,
        uid: &str,
        change: &Value,
    ) -> Result<Option<Object>, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            let live: Option<Object> = self.get_opt(kind, at).await?;
            let Some(live) = live.filter(|live| live.uid() == uid) else {
                return Ok(None);
            };
            let mut tree = live.into_value();
            merge(&mut tree, change);
            let path = object_path(kind, at, subresource);
            match self.send_json(Method::PUT, path, "application/json", &tree).await {
                Err(error) if error.is_conflict() && tries < UPDATE_TRIES => {}
                result => return result.optional(),
            }
        }
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// Any [`Error`], often [`Error::is_not_found`]; a failed precondition is [`Error::is_conflict`].
    pub async fn delete(&self, kind: &Kind, at: &NamespacedName, options: &DeleteOptions) -> Result<(), Error> {
        let path = object_path(kind, at, None);
        let body = encode(&path, &options.body())?;
        self.raw(request(Method::DELETE, &path, Some("application/json"), body)?)
            .await
            .map(drop)
    }

    /// Deletes every object of a namespace that the options select.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn delete_collection(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        select: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Error> {
        let path = format!("{}{}", kind.collection_path(namespace), list_query(select, &[]));
        let body = encode(&path, &options.body())?;
        self.raw(request(Method::DELETE, &path, Some("application/json"), body)?)
            .await
            .map(drop)
    }

    /// Reads any path as JSON: discovery, `/version`.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn get_path<T: DeserializeOwned>(&self, path: &str, accept: &str) -> Result<T, Error> {
        let mut request = request(Method::GET, path, None, Bytes::new())?;
        if let Ok(accept) = HeaderValue::from_str(accept) {
            request.headers_mut().insert(header::ACCEPT, accept);
        }
        decode(path, "document", &self.raw(request).await?)
    }

    /// Sends a request and gives the body of its answer.
    ///
    /// # Errors
    /// [`Error::Api`] for any answer that is not a success; [`Error::Transport`] or [`Error::Timeout`] for none.
    pub async fn raw(&self, request: Request<Bytes>) -> Result<Bytes, Error> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let exchange = async {
            let response = self.open(request).await?;
            collect(&method, &path, response.into_body()).await
        };
        match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::Timeout {
                method,
                path,
                after: DEADLINE,
            }),
        }
    }

    /// Sends a request and gives the answer's head with its body still to be read: for watches. No deadline.
    ///
    /// # Errors
    /// As [`Client::raw`].
    pub async fn open(&self, request: Request<Bytes>) -> Result<http::Response<Body>, Error> {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let transport = |source| Error::Transport {
            method: method.clone(),
            path: path.clone(),
            source: Box::new(source),
        };
        let mut request = request;
        if let Some(agent) = &self.agent {
            request.headers_mut().insert(header::USER_AGENT, agent.clone());
        }
        let request = request.map(|body| {
            if body.is_empty() {
                Body::empty()
            } else {
                Body::from(body.to_vec())
            }
        });
        let response = self.inner.send(request).await.map_err(transport)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = collect(&method, &path, response.into_body()).await?;
        Err(Error::Api(Box::new(status_of(code, &body))))
    }

    async fn send_json(
        &self,
        method: Method,
        path: String,
        content_type: &'static str,
        body: &impl Serialize,
    ) -> Result<Object, Error> {
        let body = encode(&path, body)?;
        let answer = self.raw(request(method, &path, Some(content_type), body)?).await?;
        decode(&path, "object", &answer)
    }
}

/// An RFC 7386 merge: maps are merged, nulls remove, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Path of an object or subresource.
pub(crate) fn object_path(kind: &Kind, at: &NamespacedName, subresource: Option<&str>) -> String {
    let collection = kind.collection_path(at.namespace.as_deref());
    match subresource {
        Some(subresource) => format!("{collection}/{}/{subresource}", at.name),
        None => format!("{collection}/{}", at.name),
    }
}

/// `?…` for the options and further pairs; empty if there are none.
pub(crate) fn list_query(options: &ListOptions, more: &[(&str, &str)]) -> String {
    let limit = options.limit.to_string();
    let own = [
        ("labelSelector", options.labels.as_str()),
        ("fieldSelector", options.fields.as_str()),
        ("limit", if options.limit == 0 { "" } else { limit.as_str() }),
        ("continue", options.continue_token.as_str()),
    ];
    let mut query = String::new();
    for (key, value) in own.iter().chain(more).filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(key);
        query.push('=');
        percent_encode(value, &mut query);
    }
    query
}

fn percent_encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => {
                use std::fmt::Write;
                let _ = write!(out, "%{byte:02X}"); // writing to a String cannot fail
            }
        }
    }
}

/// A request with JSON headers.
pub(crate) fn request(
    method: Method,
    path: &str,
    content_type: Option<&str>,
    body: Bytes,
) -> Result<Request<Bytes>, Error> {
    let mut builder = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, "application/json");
    if let Some(content_type) = content_type {
        builder = builder.header(header::CONTENT_TYPE, content_type);
    }
    builder.body(body).map_err(|source| Error::Request {
        path: path.to_owned(),
        source,
    })
}

fn encode(path: &str, body: &impl Serialize) -> Result<Bytes, Error> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|source| Error::Encode {
            path: path.to_owned(),
            source,
        })
}

fn decode<T: DeserializeOwned>(path: &str, expected: &'static str, body: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(body).map_err(|source| Error::Decode {
        path: path.to_owned(),
        expected,
        source,
    })
}

async fn collect(method: &Method, path: &str, body: Body) -> Result<Bytes, Error> {
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(source) => Err(Error::Transport {
            method: method.clone(),
            path: path.to_owned(),
            source: Box::new(source),
        }),
    }
}

/// The `Status` in an error's body, or one made of what a proxy in between answered.
fn status_of(code: http::StatusCode, body: &[u8]) -> Status {
    match serde_json::from_slice::<Status>(body) {
        Ok(status) if status.code != 0 => status,
        _ => {
            let reason = match code.as_u16() {
                400 => "BadRequest",
                401 => "Unauthorized",
                403 => "Forbidden",
                404 => "NotFound",
                405 => "MethodNotAllowed",
                409 => "Conflict",
                410 => "Gone",
                422 => "Invalid",
                429 => "TooManyRequests",
                503 => "ServiceUnavailable",
                504 => "Timeout",
                500 => "InternalError",
                _ => "Unknown",
            };
            let text = String::from_utf8_lossy(body.get(..body.len().min(1024)).unwrap_or(body)).into_owned();
            let message = if text.is_empty() {
                format!("the server answered {code}")
            } else {
                text
            };
            serde_json::from_value(serde_json::json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "code": code.as_u16(), "reason": reason, "message": message,
            }))
            .unwrap_or_else(|_| Status::internal("the server's answer cannot be read"))
        }
    }
}

#[cfg(test)]
mod tests;
