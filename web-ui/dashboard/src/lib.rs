//! The dashboard's files, as `make` has built them into `web-ui/dist`, and how they are served below `/ui/`: from memory,
//! compressed beforehand, to everybody. What a person may see is decided where the page asks the Kubernetes API.
//!
//! A build without Node.js holds no files; then there is a page that says how to add them. Nothing here reads a disk.

mod encoding;

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    LOCATION, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use include_dir::{Dir, File, include_dir};
use sha2::{Digest, Sha256};

use encoding::Encoding;

/// Where the dashboard is.
const ROOT: &str = "/ui/";

/// No script but the dashboard's own, nothing from elsewhere, in no frame, and no markup made of text but by the library that
/// makes the page's own. Styles may be written into the page: the editor and the terminal do so, and styles cannot ask or send
/// anything here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types svelte-trusted-html";
const OPENER: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const HTML: &str = "text/html; charset=utf-8";
/// What a build without the dashboard shows.
const ABSENT: &str = include_str!("absent.html");

/// What this build holds; nothing where there was no Node.js.
static FILES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../dist");
static SITE: LazyLock<Site> = LazyLock::new(|| Site::new(&FILES));

/// Answers what is asked below `/ui/`; `None` for all else.
pub fn answer(parts: &Parts) -> Option<Response<Bytes>> {
    SITE.answer(parts)
}

/// Whether this build holds the dashboard.
pub fn is_built() -> bool {
    SITE.is_built()
}

/// Files, and how each is known to those who have it already.
struct Site {
    files: &'static Dir<'static>,
    tags: HashMap<&'static Path, String>,
}

impl Site {
    fn new(files: &'static Dir<'static>) -> Site {
        let mut tags = HashMap::new();
        note(files, &mut tags);
        Site { files, tags }
    }

    fn is_built(&self) -> bool {
        self.files.get_file("index.html").is_some()
    }

    fn answer(&self, parts: &Parts) -> Option<Response<Bytes>> {
        let path = parts.uri.path();
        if path == ROOT.trim_end_matches('/') {
            return Some(moved());
        }
        let name = path.strip_prefix(ROOT)?;
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Some(not_allowed());
        }
        let mut response = self.file(parts, if name.is_empty() { "index.html" } else { name });
        if parts.method == Method::HEAD {
            *response.body_mut() = Bytes::new();
        }
        Some(response)
    }

    fn file(&self, parts: &Parts, name: &str) -> Response<Bytes> {
        let Some(plain) = self.served(name) else {
            return match name {
                "index.html" => guarded(HTML, Bytes::from_static(ABSENT.as_bytes())),
                _ => text(StatusCode::NOT_FOUND, "there is no such file\n"),
            };
        };
        let (encoding, found) = encoding::best(&parts.headers, |encoding| {
            self.files.get_file(format!("{name}{}", encoding.ending()))
        })
        .unwrap_or((Encoding::None, plain));
        let tag = self.tags.get(found.path()).map(String::as_str).unwrap_or_default();
        let same = parts.headers.get(IF_NONE_MATCH).and_then(|asked| asked.to_str().ok());
        let unchanged =
            same.is_some_and(|asked| asked.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
        let body = match unchanged {
            true => Bytes::new(),
            false => Bytes::from_static(found.contents()),
        };
        let mut response = guarded(media(name), body);
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        // Names of assets have a hash of what they hold.
        let kept = match name.starts_with("assets/") {
            true => "public, max-age=31536000, immutable",
            false => "no-cache",
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if let Some(name) = encoding.name() {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(name));
        }
        if let Ok(tag) = HeaderValue::from_str(tag) {
            headers.insert(ETAG, tag);
        }
        response
    }

    /// A file that has an address of its own: neither a compressed form of another nor a hidden one.
    fn served(&self, name: &str) -> Option<&'static File<'static>> {
        let compressed = Encoding::ALL.iter().any(|encoding| name.ends_with(encoding.ending()));
        let hidden = name.split('/').any(|part| part.starts_with('.'));
        self.files.get_file(name).filter(|_| !compressed && !hidden)
    }
}

fn note(directory: &'static Dir<'static>, tags: &mut HashMap<&'static Path, String>) {
    for file in directory.files() {
        let hash = Sha256::digest(file.contents());
        let digits: String = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        tags.insert(file.path(), format!("\"{digits}\""));
    }
    for inner in directory.dirs() {
        note(inner, tags);
    }
}

fn media(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => HTML,
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("woff2") => "font/woff2",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

/// An answer with what keeps browsers from misusing it.
fn guarded(media: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, media),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (OPENER, "same-origin"),
        (RESOURCE, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn text(code: StatusCode, words: &'static str) -> Response<Bytes> {
    let mut response = guarded("text/plain; charset=utf-8", Bytes::from_static(words.as_bytes()));
    *response.status_mut() = code;
    response
}

fn moved() -> Response<Bytes> {
    let mut response = text(StatusCode::PERMANENT_REDIRECT, "see /ui/\n");
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(ROOT));
    response
}

fn not_allowed() -> Response<Bytes> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "the dashboard's files can be read only\n",
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

#[cfg(test)]
mod tests;
