//! What a namespace's labels say: which level is enforced, of which is warned, and which is audited. Pure.

use std::fmt;

use api::{FieldError, FieldErrors, Object, Path};

const PREFIX: &str = "pod-security.kubernetes.io/";
const LEVELS: &str = "must be one of privileged, baseline, restricted";
const VERSIONS: &str = "must be \"latest\" or \"v1.x\"";

/// How strict; in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// Of which version of Kubernetes the checks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Minor(u32),
    Latest,
}

/// A level as it was in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) level: Level,
    pub(super) version: Version,
}

/// What holds in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: At,
    pub(super) warn: At,
    pub(super) audit: At,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            Version::Latest => f.write_str(":latest"),
            Version::Minor(minor) => write!(f, ":v1.{minor}"),
        }
    }
}

impl Policy {
    /// Reads the labels of a namespace. What is enforced and cannot be read is the strictest, what is only said nothing.
    pub(super) fn of(namespace: &Object) -> (Self, FieldErrors) {
        let mut errors = FieldErrors::new();
        let mut mode = |name: &str, instead: Level| -> (Option<Level>, bool, Option<Version>) {
            let (mut level, mut understood, mut version) = (None, false, None);
            let key = format!("{PREFIX}{name}");
            if let Some(text) = namespace.label(&key) {
                understood = Level::parse(text).is_some();
                level = Some(Level::parse(text).unwrap_or(instead));
                complain(&mut errors, understood, &key, text, LEVELS);
            }
            let key = format!("{key}-version");
            if let Some(text) = namespace.label(&key) {
                version = Some(Version::parse(text).unwrap_or(Version::Latest));
                complain(&mut errors, Version::parse(text).is_some(), &key, text, VERSIONS);
            }
            (level, understood, version)
        };
        let (enforce, understood, enforce_version) = mode("enforce", Level::Restricted);
        let (audit, _, audit_version) = mode("audit", Level::Privileged);
        let (warn, _, warn_version) = mode("warn", Level::Privileged);
        let at = |level: Option<Level>, version: Option<Version>| At {
            level: level.unwrap_or(Level::Privileged),
            version: version.unwrap_or(Version::Latest),
        };
        let enforced = at(enforce, enforce_version);
        let mut warned = at(warn, warn_version);
        // Who enforces a level explicitly hears of what makes pods, too.
        if warn.is_none() && understood && enforced.level > warned.level {
            warned.level = enforced.level;
            if warn_version.is_none() {
                warned.version = enforced.version;
            }
        }
        let policy = Policy {
            enforce: enforced,
            warn: warned,
            audit: at(audit, audit_version),
        };
        (policy, errors)
    }
}

fn complain(errors: &mut FieldErrors, understood: bool, key: &str, text: &str, detail: &str) {
    if !understood {
        let path = Path::root("metadata").child("labels").key(key);
        errors.push(FieldError::invalid(&path, text, detail));
    }
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        if text == "latest" {
            return Some(Version::Latest);
        }
        let minor = text.strip_prefix("v1.")?;
        let plain = minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'));
        minor.parse().ok().filter(|_| plain).map(Version::Minor)
    }

    /// The minor version whose checks apply, given the last one that has any of its own.
    pub(super) fn minor(self, last: u32) -> u32 {
        match self {
            Version::Latest => last,
            Version::Minor(minor) => minor.min(last),
        }
    }
}
