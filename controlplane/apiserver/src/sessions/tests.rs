use http::HeaderMap;
use http::header::{COOKIE, HOST, HeaderName, ORIGIN};

use super::*;

const MASTERS: &[&str] = &["system:masters"];

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn noon() -> Timestamp {
    at("2026-01-01T12:00:00Z")
}

fn ann() -> Holder {
    Holder::User(Person {
        name: "ann".to_owned(),
        groups: vec!["ops".to_owned()],
    })
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), value.parse().expect("a header")))
        .collect()
}

#[test]
fn a_link_signs_in_once_and_soon() {
    let sessions = Sessions::new(b"secret");
    let code = sessions.link("admin", MASTERS, noon());
    assert!(sessions.redeem("another", noon()).is_none());
    assert!(matches!(sessions.redeem(&code, noon()), Some(Holder::User(person)) if person.name == "admin"));
    assert!(sessions.redeem(&code, noon()).is_none(), "it was used");
    let late = sessions.link("admin", MASTERS, noon());
    assert!(sessions.redeem(&late, at("2026-01-01T12:15:00Z")).is_none());
}

#[test]
fn links_are_bounded() {
    let sessions = Sessions::new(b"secret");
    let first = sessions.link("admin", MASTERS, at("2026-01-01T11:59:59Z"));
    let last: Vec<String> = (0..LINKS).map(|_| sessions.link("admin", MASTERS, noon())).collect();
    assert!(sessions.redeem(&first, noon()).is_none(), "it gave way");
    assert!(last.iter().all(|code| sessions.redeem(code, noon()).is_some()));
}

#[test]
fn a_session_outlives_restarts_and_ends_in_time() {
    let ends = after(noon(), LASTS);
    let value = Sessions::new(b"secret").open(ann(), ends).expect("a session");
    let restarted = Sessions::new(b"secret");
    assert_eq!(
        restarted.find(&value, noon()).map(|session| session.holder),
        Some(ann())
    );
    assert!(restarted.find(&value, ends).is_none());
    assert!(
        Sessions::new(b"other").find(&value, noon()).is_none(),
        "another cluster's"
    );
}

#[test]
fn what_was_changed_is_not_believed() {
    let sessions = Sessions::new(b"secret");
    let value = sessions.open(ann(), after(noon(), LASTS)).expect("a session");
    for at in [0, 20, value.len() - 1] {
        let mut changed: Vec<char> = value.chars().collect();
        if let Some(letter) = changed.get_mut(at) {
            *letter = if *letter == 'A' { 'B' } else { 'A' };
        }
        let changed: String = changed.into_iter().collect();
        assert!(sessions.find(&changed, noon()).is_none(), "at {at}");
    }
    for garbage in ["", "A", "not base64!", &"A".repeat(5000)] {
        assert!(sessions.find(garbage, noon()).is_none());
    }
}

#[test]
fn a_session_that_was_ended_is_over() {
    let sessions = Sessions::new(b"secret");
    let value = sessions.open(ann(), after(noon(), LASTS)).expect("a session");
    let session = sessions.find(&value, noon()).expect("it is there");
    sessions.end(session, noon());
    assert!(sessions.find(&value, noon()).is_none());
}

#[test]
fn the_cookie_is_for_this_host_alone_and_no_script_reads_it() {
    let set = cookie::set(Held::Session, "abc", 60);
    assert_eq!(
        set,
        "__Host-wherry-session=abc; Path=/; Max-Age=60; Secure; HttpOnly; SameSite=Strict"
    );
    let sent = headers(&[(COOKIE, "a=b; __Host-wherry-session=abc; c=d")]);
    assert_eq!(cookie::value(&sent, Held::Session), Some("abc"));
    assert_eq!(
        cookie::value(&headers(&[(COOKIE, "wherry-session=abc")]), Held::Session),
        None
    );
}

#[test]
fn a_cookie_counts_only_of_the_servers_own_page() {
    let site = HeaderName::from_static("sec-fetch-site");
    let here = "https://127.0.0.1:6443";
    let host = (HOST, "127.0.0.1:6443");
    let cases: [(&[(HeaderName, &str)], bool); 9] = [
        (&[(site.clone(), "same-origin")], true),
        (&[(site.clone(), "same-site")], false),
        (&[(site.clone(), "cross-site"), (ORIGIN, here), host.clone()], false),
        (&[(site, "none")], false),
        (&[(ORIGIN, here), host.clone()], true),
        (&[(ORIGIN, "https://evil.example"), host.clone()], false),
        (&[(ORIGIN, "http://127.0.0.1:6443"), host.clone()], false),
        (&[(ORIGIN, "null"), host.clone()], false),
        (&[host], false),
    ];
    let uri = http::Uri::from_static("/api/v1/pods");
    for (pairs, expected) in cases {
        assert_eq!(cookie::of_own_page(&headers(pairs), &uri), expected, "{pairs:?}");
    }
    let whole = http::Uri::from_static("https://127.0.0.1:6443/api");
    assert!(
        cookie::of_own_page(&headers(&[(ORIGIN, here)]), &whole),
        "HTTP/2 has no host header"
    );
}
