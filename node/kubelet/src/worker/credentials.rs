//! Which credentials of a pod's pull secrets are for an image. Pure.
//!
//! The rules are those of Kubernetes' `credentialprovider`: keys of a docker configuration are hosts or hosts with a path,
//! hosts may hold globs per label, the more specific key comes first, and secrets count in the order of the pod.

use std::{cmp::Reverse, collections::BTreeMap};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD},
};
use cri::RegistryAuth;
use serde::Deserialize;

use crate::objects::Content;

/// The key under which Docker Hub's credentials are kept.
const DOCKER_HUB: &str = "index.docker.io";
/// Types of secrets that hold credentials, with the key they hold them under.
const MODERN: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
const LEGACY: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
}

/// A secret's content cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("pull secret \"{name}\" cannot be read")]
pub(super) struct Unreadable {
    name: String,
    source: serde_json::Error,
}

/// The credentials that a secret of this type holds, by host; of another type none.
pub(super) fn keyring(name: &str, type_: &str, content: &Content) -> Result<Keyring, Unreadable> {
    let unreadable = |source| Unreadable {
        name: name.to_owned(),
        source,
    };
    let auths = match (type_, content.get(MODERN.1), content.get(LEGACY.1)) {
        (kind, Some(json), _) if kind == MODERN.0 => {
            serde_json::from_slice::<DockerConfig>(json).map_err(unreadable)?.auths
        }
        (kind, _, Some(json)) if kind == LEGACY.0 => serde_json::from_slice(json).map_err(unreadable)?,
        _ => BTreeMap::new(),
    };
    let mut entries: Vec<_> = auths
        .into_iter()
        .filter_map(|(key, entry)| Some((normalised(&key), decode(entry)?)))
        .collect();
    entries.sort_by(|(a, _), (b, _)| Reverse(a).cmp(&Reverse(b)));
    Ok(Keyring(entries))
}

/// Credentials by host and path, the more specific first.
#[derive(Default)]
pub(super) struct Keyring(Vec<(String, RegistryAuth)>);

impl Keyring {
    /// What is for a repository, without tag or digest.
    pub(super) fn lookup(&self, repository: &str) -> Vec<RegistryAuth> {
        let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<RegistryAuth> {
            let fitting = self.0.iter().filter(|(key, _)| wanted(key));
            fitting.map(|(_, auth)| auth.clone()).collect()
        };
        let found = of(&|key| matches(key, repository));
        if found.is_empty() && is_docker_hub(repository) {
            return of(&|key| key == DOCKER_HUB);
        }
        found
    }
}

/// The repository that an image's name is about: `registry.example/team/app`.
pub(super) fn repository(image: &str) -> &str {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    }
}

/// A key without scheme, and without the version of the API that Docker's own keys end with.
fn normalised(key: &str) -> String {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let bare = bare.unwrap_or(key);
    let (host, path) = bare.split_at(bare.find('/').unwrap_or(bare.len()));
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => path.get(3..).unwrap_or_default(),
        _ => path,
    };
    if path == "/" {
        host.to_owned()
    } else {
        format!("{host}{path}")
    }
}

/// Whether a key, which may hold globs in the labels of its host, is for a repository.
fn matches(key: &str, repository: &str) -> bool {
    let split = |text: &str| -> (String, Option<String>, String) {
        let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        match host.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port.to_owned()), path.to_owned()),
            None => (host.to_owned(), None, path.to_owned()),
        }
    };
    let ((key_host, key_port, key_path), (host, port, path)) = (split(key), split(repository));
    let labels = key_host
        .split('.')
        .zip(host.split('.'))
        .all(|(key, label)| glob(key, label));
    key_port == port && path.starts_with(&key_path) && key_host.split('.').count() == host.split('.').count() && labels
}

/// Go's `filepath.Match` for a text without slashes: `*`, `?` and `[a-z]`. A star that was tried gives way to the next,
/// so that the work stays bounded by the product of the lengths: patterns are the users'.
fn glob(pattern: &str, text: &str) -> bool {
    let Some(pattern) = parts(pattern) else { return false };
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut read, mut star) = (0, 0, None);
    while let Some(found) = text.get(read) {
        match pattern.get(at) {
            Some(Part::Star) => {
                star = Some((at, read));
                at += 1;
                continue;
            }
            Some(part) if part.is(*found) => {
                (at, read) = (at + 1, read + 1);
                continue;
            }
            _ => {}
        }
        let Some((of, taken)) = star else { return false };
        star = Some((of, taken + 1));
        (at, read) = (of + 1, taken + 1);
    }
    pattern.iter().skip(at).all(|part| matches!(part, Part::Star))
}

/// What a pattern is made of.
enum Part {
    Star,
    Any,
    One(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Part {
    fn is(&self, found: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => true,
            Self::One(wanted) => *wanted == found,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&found)) != *negated
            }
        }
    }
}

fn parts(pattern: &str) -> Option<Vec<Part>> {
    let (mut parts, mut rest) = (Vec::new(), pattern.chars());
    while let Some(next) = rest.next() {
        parts.push(match next {
            '*' => Part::Star,
            '?' => Part::Any,
            '[' => {
                let (inside, after) = rest.as_str().split_once(']')?;
                rest = after.chars();
                class(inside)
            }
            one => Part::One(one),
        });
    }
    Some(parts)
}

fn class(inside: &str) -> Part {
    let (negated, inside) = match inside.strip_prefix('^') {
        Some(inside) => (true, inside),
        None => (false, inside),
    };
    let (mut ranges, mut members) = (Vec::new(), inside.chars());
    while let Some(low) = members.next() {
        let high = members
            .as_str()
            .strip_prefix('-')
            .and_then(|after| after.chars().next());
        if high.is_some() {
            members.nth(1);
        }
        ranges.push((low, high.unwrap_or(low)));
    }
    Part::Class { negated, ranges }
}

/// Whether a name means Docker Hub: it has no registry, or that one.
fn is_docker_hub(repository: &str) -> bool {
    match repository.split_once('/') {
        None => !repository.is_empty(),
        Some((host, _)) => ["docker.io", DOCKER_HUB].contains(&host) || !host.contains(['.', ':']),
    }
}

fn decode(entry: Entry) -> Option<RegistryAuth> {
    let auth = |username: &str, password: &str| RegistryAuth {
        username: username.to_owned(),
        password: password.to_owned(),
        ..RegistryAuth::default()
    };
    if entry.auth.is_empty() {
        return Some(auth(&entry.username, &entry.password));
    }
    let encoded = entry.auth.trim();
    let joined = if encoded.ends_with('=') {
        STANDARD.decode(encoded)
    } else {
        STANDARD_NO_PAD.decode(encoded)
    };
    let joined = String::from_utf8(joined.ok()?).ok()?;
    let (username, password) = joined.split_once(':')?;
    Some(auth(username, password))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(type_: &str, key: &str, json: &str) -> Keyring {
        let content = [(key.to_owned(), json.as_bytes().to_vec())].into_iter().collect();
        keyring("s", type_, &content).unwrap_or_default()
    }

    fn users(keyring: &Keyring, image: &str) -> Vec<String> {
        let found = keyring.lookup(repository(image));
        found.into_iter().map(|auth| auth.username).collect()
    }

    #[test]
    fn credentials_go_to_their_registry_only() {
        let keys = secret(
            MODERN.0,
            MODERN.1,
            r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "reg.example:5000": {"username": "a", "password": "b"},
            "https://reg.example:5000/v2/": {"username": "v2", "password": "b"},
            "reg.example:5000/team/": {"auth": "dGVhbTpw"},
            "*.globs.example": {"username": "glob"},
            "r[0-9]?.x-*.example/p": {"username": "class"}}}"#,
        );
        for (image, expected) in [
            ("busybox", vec!["u"]),
            ("library/busybox:1", vec!["u"]),
            ("docker.io/team/app@sha256:0", vec!["u"]),
            ("reg.example:5000/x/y:1", vec!["v2", "a"]),
            ("reg.example:5000/team/y:1", vec!["team", "v2", "a"]),
            ("reg.example/x", vec![]),
            ("evil.example/x", vec![]),
            ("a.globs.example/x", vec!["glob"]),
            ("a.b.globs.example/x", vec![]),
            ("r1b.x-y.example/private", vec!["class"]),
            ("rab.x-y.example/private", vec![]),
            ("r1b.x-y.example/other", vec![]),
        ] {
            let mut found = users(&keys, image);
            found.sort();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(found, expected, "{image}");
        }
        assert_eq!(
            users(&keys, "reg.example:5000/team/y:1").first().map(String::as_str),
            Some("team")
        );
    }

    #[test]
    fn a_secrets_type_says_how_it_is_read() {
        let legacy = r#"{"reg.example": {"username": "old", "password": "p"}}"#;
        assert_eq!(users(&secret(LEGACY.0, LEGACY.1, legacy), "reg.example/x"), ["old"]);
        let modern = format!("{{\"auths\": {legacy}}}");
        assert_eq!(users(&secret(MODERN.0, MODERN.1, &modern), "reg.example/x"), ["old"]);
        assert!(users(&secret("Opaque", MODERN.1, &modern), "reg.example/x").is_empty());
        let content = [(MODERN.1.to_owned(), b"{".to_vec())].into_iter().collect();
        let error = keyring("s", MODERN.0, &content).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("pull secret \"s\" cannot be read"));
    }

    #[test]
    fn the_repository_is_the_name_without_tag_and_digest() {
        for (image, expected) in [
            ("a", "a"),
            ("a:1", "a"),
            ("r:5000/a", "r:5000/a"),
            ("r:5000/a:1@sha256:0", "r:5000/a"),
        ] {
            assert_eq!(repository(image), expected);
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-z0-9-]{0,12}") {
            prop_assert!(glob(&text, &text));
            prop_assert!(glob("*", &text));
            let doubled = format!("{text}*");
            prop_assert!(glob(&doubled, &text));
        }

        #[test]
        fn patterns_end(pattern in "[a-c*?\\[\\]^-]{0,10}", text in "[a-c]{0,10}") {
            let _ = glob(&pattern, &text);
        }
    }
}
