//! What images are called: a repository in a namespace, and a tag or a digest. Pure.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The longest repository; with a digest behind it, it is still the name of an object.
const LONGEST: usize = 128;
const LONGEST_TAG: usize = 128;
/// What a name without a tag means.
const LATEST: &str = "latest";

/// A repository: `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Repository {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// What of a repository is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

/// An image of a namespace: `NAME:TAG` or `NAME@DIGEST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) name: String,
    pub(crate) target: Target,
}

/// Why something is no name; each says what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    #[error(
        "image name {0:?} is not usable: give at most 128 lower case letters and digits, with '-', '_' or '.' between them, \
         and no '/'"
    )]
    Repository(String),
    #[error(
        "tag {0:?} is not usable: give at most 128 letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
    )]
    Tag(String),
    #[error(transparent)]
    Digest(#[from] crate::digest::NotADigest),
}

impl Repository {
    pub(crate) fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        match is_repository(name) {
            true => Ok(Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            }),
            false => Err(NameError::Repository(shown(name))),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for Target {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.contains(':') {
            true => Ok(Target::Digest(text.parse()?)),
            false if is_tag(text) => Ok(Target::Tag(text.to_owned())),
            false => Err(NameError::Tag(shown(text))),
        }
    }
}

impl Target {
    /// With what stands between it and its repository.
    pub(crate) fn suffix(&self) -> String {
        match self {
            Target::Tag(tag) => format!(":{tag}"),
            Target::Digest(digest) => format!("@{digest}"),
        }
    }
}

impl FromStr for Image {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, target) = match text.split_once('@') {
            Some((name, digest)) => (name, Target::Digest(digest.parse()?)),
            None => {
                let (name, tag) = text.split_once(':').unwrap_or((text, LATEST));
                (name, tag.parse()?)
            }
        };
        match is_repository(name) {
            true => Ok(Self {
                name: name.to_owned(),
                target,
            }),
            false => Err(NameError::Repository(shown(name))),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, self.target.suffix())
    }
}

fn shown(text: &str) -> String {
    text.chars().take(160).collect()
}

/// The distribution specification's grammar of a name without a slash.
fn is_repository(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends_well = text.bytes().next().is_some_and(word) && text.bytes().last().is_some_and(word);
    let allowed = |b: u8| word(b) || matches!(b, b'.' | b'_' | b'-');
    // Of separators, only `__` and any number of `-` may stand together.
    let refused = ["..", "._", "_.", "-.", ".-", "-_", "_-", "___"];
    let separated = !refused.iter().any(|pair| text.contains(pair));
    text.len() <= LONGEST && ends_well && separated && text.bytes().all(allowed)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let begins_well = text.bytes().next().is_some_and(word);
    begins_well && text.len() <= LONGEST_TAG && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_specification() {
        for name in ["a", "hello", "hello-1", "a--b", "a__b", "a.b_c-d", "0"] {
            assert!(Repository::new("team", name).is_ok(), "{name}");
        }
        let long = "a".repeat(129);
        for name in [
            "", "A", "-a", "a-", "a/b", "a..b", "a___b", "a_.b", "a:b", "ä", "..", &long,
        ] {
            assert!(Repository::new("team", name).is_err(), "{name}");
        }
    }

    #[test]
    fn images_have_tags_or_digests() {
        let digest = Digest::of(b"x");
        let read = |text: &str| text.parse::<Image>().map(|image| image.to_string());
        assert_eq!(read("hello").as_deref(), Ok("hello:latest"));
        assert_eq!(read("hello:V1.0-rc_1").as_deref(), Ok("hello:V1.0-rc_1"));
        let by_digest = format!("hello@{digest}");
        assert_eq!(read(&by_digest), Ok(by_digest.clone()));
        for text in [
            "hello:",
            "hello:.a",
            "hello:a b",
            "hello@sha256:0",
            "hello:a@b",
            "Hello:1",
            ":1",
            "hello:1:2",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_a_name_is_printed_as_it_was_read(text in "[a-z0-9._:@/-]{0,20}", any in ".{0,40}") {
            for text in [text, any] {
                let Ok(image) = text.parse::<Image>() else { continue };
                let printed = image.to_string();
                let tagged = format!("{text}:latest");
                proptest::prop_assert!(printed == text || printed == tagged);
                let read = printed.parse::<Image>();
                proptest::prop_assert_eq!(read.as_ref(), Ok(&image));
                proptest::prop_assert!(!printed.contains('/'));
            }
        }
    }
}
