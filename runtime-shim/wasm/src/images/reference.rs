//! Image references, as Docker and containerd read them: `hello:1` is `docker.io/library/hello:1`. Pure.
//!
//! The grammar is that of the distribution project's `reference` package: an optional registry, a lower-case path, and a
//! tag, a digest or both. With both, the digest decides.

use std::fmt;

/// The registry of names without one.
const DEFAULT_DOMAIN: &str = "docker.io";
/// What Docker Hub calls itself in old references.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// The part of Docker Hub for names without a path.
const OFFICIAL_PATH: &str = "library/";
/// The longest name, registry and path together.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// A reference with its defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// Registry and path: `docker.io/library/hello`.
    pub(crate) name: String,
    pub(crate) target: Target,
}

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Tag(String),
    /// `sha256:…`
    Digest(String),
}

/// Why a reference does not parse, worded as Docker words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({path}) must be lowercase")]
    Uppercase { path: String },
    #[error("repository name must not be more than {MAX_NAME} characters")]
    NameTooLong,
    #[error("invalid checksum digest length")]
    DigestLength,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Tag(tag) => write!(f, "{}:{tag}", self.name),
            Target::Digest(digest) => write!(f, "{}@{digest}", self.name),
        }
    }
}

impl std::str::FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let (domain, path) = split_domain(name);
        check_path(&path)?;
        if !is_domain(domain) || tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let name = format!("{domain}/{path}");
        if name.len() > MAX_NAME {
            return Err(ReferenceError::NameTooLong);
        }
        let target = match digest {
            Some(digest) => Target::Digest(digest.to_owned()),
            None => Target::Tag(tag.unwrap_or("latest").to_owned()),
        };
        Ok(Self { name, target })
    }
}

impl Reference {
    /// The registry, and the path in it: `docker.io` and `library/hello`.
    pub(crate) fn parts(&self) -> (&str, &str) {
        self.name.split_once('/').unwrap_or((DEFAULT_DOMAIN, &self.name))
    }

    /// The last part of the path: what people call the image.
    pub(crate) fn short_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }
}

/// The tag stands after the last colon, unless a slash follows: then the colon began a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

/// The first part is a registry if it could not be a part of a Docker Hub path.
fn split_domain(name: &str) -> (&str, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, rest)) if looks_like_domain(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    let official = domain == DEFAULT_DOMAIN && !path.contains('/');
    (
        domain,
        if official {
            format!("{OFFICIAL_PATH}{path}")
        } else {
            path.to_owned()
        },
    )
}

fn looks_like_domain(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn check_path(path: &str) -> Result<(), ReferenceError> {
    if path.split('/').all(is_path_component) {
        return Ok(());
    }
    let lower = path.to_ascii_lowercase();
    if lower != path && lower.split('/').all(is_path_component) {
        return Err(ReferenceError::Uppercase { path: path.to_owned() });
    }
    Err(ReferenceError::Format)
}

/// Lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separators = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .filter(|s| !s.is_empty());
    part.bytes().next().is_some_and(alphanumeric)
        && part.bytes().next_back().is_some_and(alphanumeric)
        && separators
            .into_iter()
            .all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let port_ok = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    port_ok && (is_ipv6(host) || host.split('.').all(is_domain_component))
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'))
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Only sha256: we compute no other.
fn check_digest(digest: &str) -> Result<&str, ReferenceError> {
    let (algorithm, hex) = digest.split_once(':').ok_or(ReferenceError::Format)?;
    let hexadecimal = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    match (algorithm, hex.len()) {
        _ if !hexadecimal => Err(ReferenceError::Format),
        ("sha256", 64) => Ok(digest),
        ("sha256", _) => Err(ReferenceError::DigestLength),
        _ => Err(ReferenceError::DigestAlgorithm),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn fills_in_what_docker_fills_in() {
        for (text, full) in [
            ("hello", "docker.io/library/hello:latest"),
            ("hello:1", "docker.io/library/hello:1"),
            ("me/hello:1", "docker.io/me/hello:1"),
            ("index.docker.io/hello", "docker.io/library/hello:latest"),
            ("docker.io/hello", "docker.io/library/hello:latest"),
            ("localhost/hello", "localhost/hello:latest"),
            ("localhost:5000/a/b:v1", "localhost:5000/a/b:v1"),
            ("ghcr.io/a/b__c-d.e:x", "ghcr.io/a/b__c-d.e:x"),
            ("[::1]:5000/a:1", "[::1]:5000/a:1"),
            ("HOST/a", "HOST/a:latest"),
        ] {
            assert_eq!(
                text.parse::<Reference>().map(|r| r.to_string()),
                Ok(full.to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_digest_beats_a_tag() {
        let parsed: Reference = format!("hello:1@{DIGEST}").parse().unwrap();
        assert_eq!(parsed.to_string(), format!("docker.io/library/hello@{DIGEST}"));
    }

    #[test]
    fn refuses_in_dockers_words() {
        for (text, message) in [
            ("", "invalid reference format"),
            (":1", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("hello:", "invalid reference format"),
            ("hello:-x", "invalid reference format"),
            ("-hello", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("../../etc/passwd", "invalid reference format"),
            ("https://host/a", "invalid reference format"),
            (
                "Hello:1",
                "invalid reference format: repository name (library/Hello) must be lowercase",
            ),
            ("hello@sha256:abc", "invalid checksum digest length"),
            ("hello@md5:0123456789abcdef", "unsupported digest algorithm"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap_err().to_string(), message, "{text}");
        }
        let long = format!("{}/x", "a".repeat(300));
        assert_eq!(long.parse::<Reference>(), Err(ReferenceError::NameTooLong));
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_itself(text in "[a-zA-Z0-9.:/@_-]{0,40}") {
            if let Ok(parsed) = text.parse::<Reference>() {
                prop_assert_eq!(parsed.to_string().parse::<Reference>(), Ok(parsed));
            }
        }

        #[test]
        fn every_plain_name_parses(name in "[a-z0-9]{1,10}(/[a-z0-9]{1,10}){0,3}", tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}") {
            let text = format!("{name}:{tag}");
            prop_assert!(text.parse::<Reference>().is_ok());
        }
    }
}
