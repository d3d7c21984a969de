//! On whose behalf an aggregated server is asked: the request headers in which the authenticating proxy says so, and which
//! of a client's own headers go no further.

use http::HeaderMap;
use http::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    SEC_WEBSOCKET_PROTOCOL, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use crate::authn::UserInfo;

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// Of a browser's bearer token among the subprotocols of a WebSocket.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";
/// What concerns one connection and not the next (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The headers for the next server: the client's less its credentials and whatever it claims to be, and who it is.
pub(super) fn outgoing(headers: &HeaderMap, user: &UserInfo, upgrade: bool) -> HeaderMap {
    let mut out = headers.clone();
    strip(&mut out, upgrade);
    let claims = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-remote-") || name.starts_with("impersonate-")
    };
    let claimed: Vec<HeaderName> = out.keys().filter(|name| claims(name)).cloned().collect();
    for name in claimed.iter().chain([&AUTHORIZATION, &HOST]) {
        out.remove(name);
    }
    without_bearer(&mut out);
    identify(&mut out, user);
    out
}

/// Takes away what is between two neighbours only; an upgrade is agreed on with the last one.
pub(crate) fn strip(headers: &mut HeaderMap, upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        if !(upgrade && (name == CONNECTION || name == UPGRADE)) {
            headers.remove(name);
        }
    }
}

/// Says who the user is.
pub(super) fn identify(headers: &mut HeaderMap, user: &UserInfo) {
    let value = |text: &str| HeaderValue::from_str(text).ok();
    headers.extend(value(&user.username).map(|name| (USER, name)));
    if !user.uid.is_empty() {
        headers.extend(value(&user.uid).map(|uid| (UID, uid)));
    }
    for group in user.groups.iter().filter_map(|group| value(group)) {
        headers.append(GROUP, group);
    }
    for (key, values) in &user.extra {
        let Ok(name) = format!("x-remote-extra-{}", escaped(key)).parse::<HeaderName>() else {
            continue;
        };
        for value in values.iter().filter_map(|text| value(text)) {
            headers.append(name.clone(), value);
        }
    }
}

/// A key as a part of a header's name: what a name may not have is percent-encoded, and so is the percent sign.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.to_lowercase().bytes() {
        match byte {
            b'a'..=b'z'
            | b'0'..=b'9'
            | b'!'
            | b'#'
            | b'$'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

pub(crate) fn without_bearer(headers: &mut HeaderMap) {
    let values = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let words: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
    if !words.iter().any(|word| word.starts_with(BEARER)) {
        return;
    }
    let kept: Vec<&str> = words.into_iter().filter(|word| !word.starts_with(BEARER)).collect();
    let kept = HeaderValue::from_str(&kept.join(", "));
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_nothing_of_who_it_is() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("x-remote-user", "admin"),
            ("x-remote-group", "system:masters"),
            ("x-remote-extra-scopes", "all"),
            ("impersonate-user", "admin"),
            ("connection", "upgrade, x-own"),
            ("x-own", "hop"),
            ("upgrade", "websocket"),
            (
                "sec-websocket-protocol",
                "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2VjcmV0",
            ),
            ("accept", "application/json"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let user = UserInfo {
            username: "jane".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["a".to_owned(), "b".to_owned()],
            extra: [("Example.com/Scope%".to_owned(), vec!["x".to_owned()])].into(),
        };
        let out = outgoing(&headers, &user, false);
        let mut lines: Vec<String> = out
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "accept: application/json",
                "sec-websocket-protocol: v5.channel.k8s.io",
                "x-remote-extra-example.com%2fscope%25: x",
                "x-remote-group: a",
                "x-remote-group: b",
                "x-remote-uid: 7",
                "x-remote-user: jane",
            ]
        );
        let upgraded = outgoing(&headers, &user, true);
        assert_eq!(upgraded.get("upgrade").expect("kept"), "websocket");
    }
}
