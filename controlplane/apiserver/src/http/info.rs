//! What a request is about, from its method and path alone: Kubernetes' `RequestInfo`.

use std::borrow::Cow;

use http::Method;

use super::query::{Query, decode};
use crate::images;

/// What a path and method ask for. Parts that are absent are empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RequestInfo<'a> {
    /// The RBAC verb for resources, the lower-case method otherwise.
    pub(crate) verb: &'static str,
    pub(crate) is_resource: bool,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) namespace: Cow<'a, str>,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) name: Cow<'a, str>,
    pub(crate) path: &'a str,
    /// More path segments than any endpoint has.
    pub(crate) trailing: bool,
}

impl<'a> RequestInfo<'a> {
    pub(crate) fn parse(method: &Method, path: &'a str, query: &Query<'_>) -> Self {
        let mut segments = path.split('/').filter(|s| !s.is_empty());
        let count = segments.clone().count();
        let group = match segments.next() {
            Some("api") if count >= 3 => "",
            Some("apis") if count >= 4 => segments.next().unwrap_or_default(),
            Some("v2") => return Self::registry(method, path),
            _ => return Self::other(method, path),
        };
        let version = segments.next().unwrap_or_default();
        let parts: Vec<&'a str> = segments.collect();
        let mut info = RequestInfo {
            is_resource: true,
            group,
            version,
            ..Self::other(method, path)
        };
        info.resource_parts(method, &parts, query);
        info
    }

    /// A request to the image registry, in the terms of its own kind.
    fn registry(method: &Method, path: &'a str) -> Self {
        let Some(place) = images::Place::parse(path) else {
            return Self::other(method, path);
        };
        RequestInfo {
            verb: place.verb(method),
            is_resource: true,
            group: images::GROUP,
            version: images::VERSION,
            namespace: decode(place.namespace, false),
            resource: images::RESOURCE,
            name: Cow::Owned(place.image()),
            ..Self::other(method, path)
        }
    }

    fn other(method: &Method, path: &'a str) -> Self {
        RequestInfo {
            verb: lower(method),
            is_resource: false,
            group: "",
            version: "",
            namespace: Cow::Borrowed(""),
            resource: "",
            subresource: "",
            name: Cow::Borrowed(""),
            path,
            trailing: false,
        }
    }

    fn resource_parts(&mut self, method: &Method, parts: &[&'a str], query: &Query<'_>) {
        // The deprecated /api/v1/watch/pods; a kind is never called `watch`.
        let (legacy_watch, parts) = match parts {
            ["watch", rest @ ..] => (true, rest),
            _ => (false, parts),
        };
        let parts = match parts {
            ["namespaces", namespace, rest @ ..] => {
                self.namespace = decode(namespace, false);
                match rest {
                    [] | ["status" | "finalize", ..] => parts,
                    _ => rest,
                }
            }
            _ => parts,
        };
        let mut parts = parts.iter();
        self.resource = parts.next().copied().unwrap_or_default();
        self.name = parts.next().map_or(Cow::Borrowed(""), |name| decode(name, false));
        self.subresource = parts.next().copied().unwrap_or_default();
        self.trailing = parts.next().is_some();
        self.verb = verb(method, !self.name.is_empty(), legacy_watch || query.flag("watch"));
        self.name_from_selector(query);
    }

    /// A list, watch or deletecollection that selects one name is authorized for that name.
    fn name_from_selector(&mut self, query: &Query<'_>) {
        if !self.name.is_empty() || !matches!(self.verb, "list" | "watch" | "deletecollection") {
            return;
        }
        let Some(selector) = query.get("fieldSelector") else {
            return;
        };
        let name = selector.split(',').find_map(|term| term.strip_prefix("metadata.name="));
        if let Some(name) = name {
            self.name = Cow::Owned(name.trim_start_matches('=').to_owned());
        }
    }

    /// Whether the answer lasts until somebody ends it, so that no request timeout applies.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.subresource, "log" | "exec" | "attach" | "portforward" | "proxy")
            || self.carries_an_image()
    }

    /// Whether a program goes to the image registry, or comes from it, as fast as its client can.
    fn carries_an_image(&self) -> bool {
        let image = self.group == images::GROUP && self.resource == images::RESOURCE;
        image && (self.verb == "create" || images::is_registry(self.path))
    }
}

fn verb(method: &Method, named: bool, watch: bool) -> &'static str {
    match (method.as_str(), named) {
        ("GET" | "HEAD", _) if watch => "watch",
        ("GET" | "HEAD", true) => "get",
        ("GET" | "HEAD", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => "",
    }
}

fn lower(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "HEAD" => "head",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `verb group/version namespace resource name subresource`, with `-` for what is absent.
    fn describe(method: Method, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::parse(query);
        let i = RequestInfo::parse(&method, path, &query);
        let dash = |s: &str| if s.is_empty() { "-".to_owned() } else { s.to_owned() };
        if !i.is_resource {
            return format!("{} {}", i.verb, i.path);
        }
        [
            i.verb,
            i.group,
            i.version,
            &i.namespace,
            i.resource,
            &i.name,
            i.subresource,
        ]
        .map(dash)
        .join(" ")
    }

    #[test]
    fn tells_what_a_request_is_about() {
        let cases = [
            (Method::GET, "/api/v1/pods", "list - v1 - pods - -"),
            (Method::GET, "/api/v1/namespaces/a/pods/b", "get - v1 a pods b -"),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?watch=true",
                "watch - v1 a pods - -",
            ),
            (Method::GET, "/api/v1/watch/namespaces/a/pods", "watch - v1 a pods - -"),
            (Method::GET, "/api/v1/watch/pods", "watch - v1 - pods - -"),
            (Method::GET, "/api/v1/namespaces", "list - v1 - namespaces - -"),
            (Method::DELETE, "/api/v1/namespaces/a", "delete - v1 a namespaces a -"),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update - v1 a namespaces a finalize",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "patch apps v1 a deployments d scale",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/a/pods",
                "deletecollection - v1 a pods - -",
            ),
            (
                Method::GET,
                "/api/v1/pods?fieldSelector=metadata.name%3Db",
                "list - v1 - pods b -",
            ),
            (
                Method::GET,
                "/api/v1/nodes/system%3Anode",
                "get - v1 - nodes system:node -",
            ),
            (
                Method::GET,
                "/v2/a/hello/manifests/1",
                "get registry.wherry.dev v1 a images hello:1 -",
            ),
            (Method::GET, "/v2/", "get /v2/"),
            (Method::GET, "/api/v1", "get /api/v1"),
            (Method::GET, "/apis/apps/v1", "get /apis/apps/v1"),
            (Method::POST, "/healthz", "post /healthz"),
        ];
        for (method, target, expected) in cases {
            assert_eq!(describe(method, target), expected, "{target}");
        }
    }
}
