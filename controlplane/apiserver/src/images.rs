//! The cluster's own image registry on the request path: what a request of the OCI distribution specification (`/v2/...`)
//! is about in the terms of RBAC, who may make one, and how it is refused. What is kept, and where, is not known here: a
//! virtual route of this group answers, where there is one.
//!
//! An image is called `NAMESPACE/NAME:TAG`. Pulling it is the verb `get` on `images` in that namespace, pushing is `create`.
//! Nobody pulls unknown: who shows no credentials is asked for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use api::Status;

use crate::http::body::Body;

pub const GROUP: &str = "registry.wherry.dev";
pub const VERSION: &str = "v1";
pub const RESOURCE: &str = "images";
/// The registry that stands first in the names of these images. `.internal` is nobody's on the internet.
pub const DOMAIN: &str = "wherry.internal";

/// Where registries are, by the specification.
const ROOT: &str = "/v2/";
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const ANYBODY: &str = "system:anonymous";

/// What of a repository a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// By its tag or its digest.
    Manifest(&'a str),
    Blob(&'a str),
    /// Where uploads begin.
    Uploads,
    Upload(&'a str),
    Tags,
    /// Of a digest.
    Referrers(&'a str),
}

/// A path of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    pub namespace: &'a str,
    /// May be no name that is taken.
    pub name: &'a str,
    pub part: Part<'a>,
}

impl<'a> Place<'a> {
    /// Reads a path below `/v2/`; `None` for one that names no part of a repository in a namespace.
    pub fn parse(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix(ROOT)?;
        let (repository, part) = part(rest)?;
        let (namespace, name) = repository.split_once('/')?;
        (!namespace.is_empty() && !name.is_empty()).then_some(Place { namespace, name, part })
    }

    /// The RBAC verb of a request.
    pub(crate) fn verb(&self, method: &Method) -> &'static str {
        match (method.as_str(), self.part) {
            (_, Part::Uploads | Part::Upload(_)) => "create",
            ("GET" | "HEAD", Part::Tags) => "list",
            ("GET" | "HEAD", _) => "get",
            ("PUT", Part::Manifest(_)) => "create",
            ("DELETE", _) => "delete",
            _ => "",
        }
    }

    /// The name of the image that it is about: of a repository's, where it is not of one.
    pub(crate) fn image(&self) -> String {
        match self.part {
            Part::Manifest(digest) if digest.contains(':') => format!("{}@{digest}", self.name),
            Part::Manifest(tag) => format!("{}:{tag}", self.name),
            Part::Tags => String::new(),
            _ => self.name.to_owned(),
        }
    }
}

fn part<'a>(rest: &'a str) -> Option<(&'a str, Part<'a>)> {
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return Some((repository, Part::Tags));
    }
    if let Some(repository) = rest
        .strip_suffix("/blobs/uploads")
        .or(rest.strip_suffix("/blobs/uploads/"))
    {
        return Some((repository, Part::Uploads));
    }
    let (before, last) = rest.rsplit_once('/')?;
    if last.is_empty() {
        return None;
    }
    let parts = [
        ("/manifests", Part::Manifest(last)),
        ("/blobs/uploads", Part::Upload(last)),
        ("/blobs", Part::Blob(last)),
        ("/referrers", Part::Referrers(last)),
    ];
    parts
        .into_iter()
        .find_map(|(word, part)| Some((before.strip_suffix(word)?, part)))
}

/// The namespace and the repository that an image's name says, if it is of this registry.
pub fn repository(image: &str) -> Option<(&str, &str)> {
    let (namespace, rest) = image.strip_prefix(DOMAIN)?.strip_prefix('/')?.split_once('/')?;
    let name = rest.split_once('@').map_or(rest, |(name, _)| name);
    Some((namespace, name.split_once(':').map_or(name, |(name, _)| name)))
}

/// Undoes the percent-encoding of a query's value.
pub fn decoded(text: &str) -> String {
    crate::http::query::decode(text, true).into_owned()
}

/// Whether a path is the registry's.
pub(crate) fn is_registry(path: &str) -> bool {
    path.starts_with(ROOT) || path == "/v2"
}

/// Whether a path asks only whether there is a registry.
pub(crate) fn is_root(path: &str) -> bool {
    path == ROOT || path == "/v2"
}

/// Whether a user may not come to the registry, whatever its rights.
pub(crate) fn is_anybody(username: &str) -> bool {
    username == ANYBODY
}

/// Registries' clients send a token as the password of anybody; here it counts as the token that it is.
pub(crate) fn unwrap_password(headers: &mut HeaderMap) {
    let Some(token) = password(headers) else { return };
    if let Ok(mut bearer) = HeaderValue::try_from(format!("Bearer {token}")) {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
}

fn password(headers: &HeaderMap) -> Option<String> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let pair = scheme
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(encoded.trim()).ok())??;
    let (_, token) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some(token.to_owned())
}

/// The answer to whoever asks whether there is a registry, and may come.
pub(crate) fn there() -> Response<Body> {
    spoken(crate::http::respond::json(StatusCode::OK, "{}"))
}

/// A refusal in the words of the specification.
pub(crate) fn refusal(status: &Status, path: &str) -> Response<Body> {
    let place = Place::parse(path);
    let message = match (status.code, place) {
        (404, None) => "images are called NAMESPACE/NAME:TAG in this registry".to_owned(),
        (401, _) => {
            "credentials are needed: a client certificate, or a bearer token as the password of any name".to_owned()
        }
        _ => status.message.clone(),
    };
    let error = json!({"errors": [{"code": code(status.code, place), "message": message}]});
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = spoken(crate::http::respond::json(code, error.to_string().into_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if code == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"wherry\""));
    }
    response
}

/// The code of an error, as near as the specification has one.
fn code(status: u16, place: Option<Place<'_>>) -> &'static str {
    let part = place.map(|place| place.part);
    match (status, part) {
        (401, _) => "UNAUTHORIZED",
        (403, _) => "DENIED",
        (404, None | Some(Part::Tags)) => "NAME_UNKNOWN",
        (404, Some(Part::Manifest(_) | Part::Referrers(_))) => "MANIFEST_UNKNOWN",
        (404, Some(Part::Blob(_))) => "BLOB_UNKNOWN",
        (404, Some(Part::Uploads | Part::Upload(_))) => "BLOB_UPLOAD_UNKNOWN",
        (400 | 422, Some(Part::Manifest(_))) => "MANIFEST_INVALID",
        (400 | 416, Some(Part::Uploads | Part::Upload(_))) => "BLOB_UPLOAD_INVALID",
        (400 | 422, _) => "NAME_INVALID",
        (413, _) => "SIZE_INVALID",
        (429, _) => "TOOMANYREQUESTS",
        (405, _) => "UNSUPPORTED",
        _ => "UNKNOWN",
    }
}

fn spoken(mut response: Response<Body>) -> Response<Body> {
    response
        .headers_mut()
        .insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Option<(&str, &str, Part<'_>)> {
        Place::parse(path).map(|place| (place.namespace, place.name, place.part))
    }

    #[test]
    fn paths_name_parts_of_repositories() {
        let digest = "sha256:00";
        for (path, expected) in [
            (
                "/v2/team/hello/manifests/1",
                Some(("team", "hello", Part::Manifest("1"))),
            ),
            (
                "/v2/team/hello/manifests/sha256:00",
                Some(("team", "hello", Part::Manifest(digest))),
            ),
            (
                "/v2/team/hello/blobs/sha256:00",
                Some(("team", "hello", Part::Blob(digest))),
            ),
            ("/v2/team/hello/blobs/uploads/", Some(("team", "hello", Part::Uploads))),
            ("/v2/team/hello/blobs/uploads", Some(("team", "hello", Part::Uploads))),
            (
                "/v2/team/hello/blobs/uploads/x",
                Some(("team", "hello", Part::Upload("x"))),
            ),
            ("/v2/team/hello/tags/list", Some(("team", "hello", Part::Tags))),
            (
                "/v2/team/hello/referrers/sha256:00",
                Some(("team", "hello", Part::Referrers(digest))),
            ),
            ("/v2/team/a/b/manifests/1", Some(("team", "a/b", Part::Manifest("1")))),
            ("/v2/hello/manifests/1", None),
            ("/v2/team/hello/manifests/", None),
            ("/v2//hello/manifests/1", None),
            ("/v2/_catalog", None),
            ("/v2/", None),
        ] {
            assert_eq!(place(path), expected, "{path}");
        }
    }

    #[test]
    fn requests_are_the_verbs_of_images() {
        let ask = |method: Method, path: &str| {
            let place = Place::parse(path).expect("a place");
            format!("{} {}", place.verb(&method), place.image())
        };
        assert_eq!(ask(Method::GET, "/v2/a/h/manifests/1"), "get h:1");
        assert_eq!(ask(Method::HEAD, "/v2/a/h/manifests/sha256:00"), "get h@sha256:00");
        assert_eq!(ask(Method::GET, "/v2/a/h/blobs/sha256:00"), "get h");
        assert_eq!(ask(Method::GET, "/v2/a/h/tags/list"), "list ");
        assert_eq!(ask(Method::POST, "/v2/a/h/blobs/uploads/"), "create h");
        assert_eq!(
            ask(Method::GET, "/v2/a/h/blobs/uploads/x"),
            "create h",
            "where an upload is"
        );
        assert_eq!(
            ask(Method::DELETE, "/v2/a/h/blobs/uploads/x"),
            "create h",
            "giving it up"
        );
        assert_eq!(ask(Method::PUT, "/v2/a/h/manifests/1"), "create h:1");
        assert_eq!(ask(Method::DELETE, "/v2/a/h/manifests/1"), "delete h:1");
        assert_eq!(
            ask(Method::POST, "/v2/a/h/manifests/1"),
            " h:1",
            "there is no such request"
        );
    }

    #[test]
    fn names_of_images_say_whose_they_are() {
        for (image, expected) in [
            ("wherry.internal/team/hello", Some(("team", "hello"))),
            ("wherry.internal/team/hello:1", Some(("team", "hello"))),
            ("wherry.internal/team/hello@sha256:00", Some(("team", "hello"))),
            ("wherry.internal/team/hello:1@sha256:00", Some(("team", "hello"))),
            ("wherry.internal/hello:1", None),
            ("wherry.internal.example/team/hello:1", None),
            ("docker.io/team/hello:1", None),
        ] {
            assert_eq!(repository(image), expected, "{image}");
        }
    }

    #[test]
    fn a_password_is_a_token() {
        let unwrapped = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a header"));
            unwrap_password(&mut headers);
            headers[AUTHORIZATION].to_str().expect("text").to_owned()
        };
        assert_eq!(unwrapped("Basic bWU6YS5iLmM="), "Bearer a.b.c");
        assert_eq!(unwrapped("Bearer x"), "Bearer x");
        assert_eq!(unwrapped("Basic ?"), "Basic ?");
    }

    #[test]
    fn refusals_ask_for_credentials_and_say_why() {
        let refused = refusal(&Status::unauthorized(), "/v2/");
        assert_eq!(refused.status(), 401);
        assert_eq!(refused.headers()[WWW_AUTHENTICATE], "Basic realm=\"wherry\"");
        let body = |status: &Status, path: &str| {
            let response = refusal(status, path);
            String::from_utf8_lossy(response.body().as_full().expect("it is in memory")).into_owned()
        };
        assert_eq!(
            body(&Status::no_such_path(), "/v2/hello/manifests/1"),
            r#"{"errors":[{"code":"NAME_UNKNOWN","message":"images are called NAMESPACE/NAME:TAG in this registry"}]}"#
        );
        assert!(body(&Status::bad_request("why"), "/v2/a/h/manifests/1").contains("MANIFEST_INVALID"));
    }
}
