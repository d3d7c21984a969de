//! The session's cookies: how they are named, set, found, and of which requests they are believed.

use http::header::{COOKIE, HOST, HeaderName, ORIGIN};
use http::{HeaderMap, Uri};

/// What is held by a cookie. The prefix has browsers refuse it from other hosts, other paths and without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Session,
    /// A sign-in that has begun and waits for the issuer.
    Pending,
    /// By what a session is renewed.
    Refresh,
}

impl Held {
    fn name(self) -> &'static str {
        match self {
            Held::Session => "__Host-wherry-session",
            Held::Pending => "__Host-wherry-pending",
            Held::Refresh => "__Host-wherry-refresh",
        }
    }
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A cookie that a script cannot read and that other sites' requests do not carry.
pub(super) fn set(held: Held, value: &str, seconds: i64) -> String {
    let name = held.name();
    format!("{name}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict")
}

/// A cookie of a request.
pub(super) fn value(headers: &HeaderMap, held: Held) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == held.name()).map(|(_, value)| value)
}

/// Whether a page of this very server made a request. Browsers say where a request comes from, by one header or the other,
/// and let no script change what they say; what says neither is no page, and has no use for a cookie.
pub(super) fn of_own_page(headers: &HeaderMap, uri: &Uri) -> bool {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text(&FETCH_SITE) {
        return site == "same-origin";
    }
    let host = uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| text(&HOST));
    match (text(&ORIGIN), host) {
        (Some(origin), Some(host)) => origin.strip_prefix("https://") == Some(host),
        _ => false,
    }
}
