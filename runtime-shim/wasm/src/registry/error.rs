//! Why a registry did not give what was asked of it, in words for a pod's events.

use std::time::Duration;

use http::StatusCode;

use super::hosts::HostsError;

/// The longest part of a registry's own words that is passed on.
const MAX_WORDS: usize = 400;

/// A registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// How the registry is reached is not configured rightly.
    #[error("the registry's configuration cannot be used")]
    Hosts(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No endpoint may be asked this.
    #[error("no endpoint of the registry is configured to {verb}")]
    NoEndpoint { verb: &'static str },
    /// No connection, or one that broke; the registry may be down.
    #[error("cannot reach {url}: {reason}")]
    Unreachable { url: String, reason: String },
    #[error("{url} did not answer within {}s", after.as_secs())]
    Timeout { url: String, after: Duration },
    #[error("{url} sends too slowly: {received} bytes in {}s", window.as_secs())]
    Slow {
        url: String,
        received: u64,
        window: Duration,
    },
    /// The connection ended inside the content.
    #[error("{url} ended after {received} of {expected} bytes")]
    Cut { url: String, received: u64, expected: u64 },
    #[error("not found")]
    NotFound,
    #[error("pull access denied, repository does not exist or may require authorization: {words}")]
    Unauthorized { words: String },
    #[error("access forbidden: {words}")]
    Forbidden { words: String },
    #[error("unexpected status from {url}: {status}{}", after_colon(words))]
    Status {
        url: String,
        status: StatusCode,
        words: String,
        /// When the registry asks to come again.
        retry_after: Option<Duration>,
    },
    /// It answers, but what it says cannot be so.
    #[error("{url} answers wrongly: {what}")]
    Wrong { url: String, what: String },
    /// What arrived is not what was asked for.
    #[error("{url} sent content with the digest {found} in place of {expected}")]
    Digest {
        url: String,
        expected: String,
        found: String,
    },
    /// The node could not keep what arrived.
    #[error("the content cannot be stored")]
    Store(#[source] std::io::Error),
}

impl RegistryError {
    /// Whether the same request may succeed if it is sent again at once.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Slow { .. } | Self::Cut { .. } => true,
            Self::Status { status, .. } => {
                *status == StatusCode::TOO_MANY_REQUESTS
                    || *status == StatusCode::REQUEST_TIMEOUT
                    || status.is_server_error()
            }
            _ => false,
        }
    }
}

impl From<HostsError> for RegistryError {
    fn from(error: HostsError) -> Self {
        Self::Hosts(error.into())
    }
}

/// What an error status means. `body` is the beginning of the answer.
pub(super) fn of_status(url: &str, status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> RegistryError {
    let words = words(body);
    match status {
        StatusCode::NOT_FOUND => RegistryError::NotFound,
        StatusCode::UNAUTHORIZED => RegistryError::Unauthorized {
            words: or(words, "authorization failed"),
        },
        StatusCode::FORBIDDEN => RegistryError::Forbidden {
            words: or(words, "insufficient_scope"),
        },
        status => RegistryError::Status {
            url: url.to_owned(),
            status,
            words,
            retry_after,
        },
    }
}

fn or(words: String, default: &str) -> String {
    if words.is_empty() { default.to_owned() } else { words }
}

/// The messages of the distribution specification's error document; of anything else nothing.
fn words(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Document {
        errors: Vec<Entry>,
    }
    #[derive(serde::Deserialize)]
    struct Entry {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let Ok(document) = serde_json::from_slice::<Document>(body) else {
        return String::new();
    };
    let said = document.errors.into_iter().map(|entry| match entry.message.as_str() {
        "" => entry.code.to_lowercase(),
        _ => entry.message,
    });
    printable(&said.collect::<Vec<_>>().join("; "))
}

/// What strangers wrote, fit for one line of an event.
pub(super) fn printable(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.chars().take(MAX_WORDS).collect()
}

fn after_colon(words: &str) -> String {
    if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    }
}

/// The innermost cause of an error: the kernel's or the TLS library's own words.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    printable(&innermost.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_words_are_passed_on_in_one_line() {
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow\ndown"},{"code":"DENIED"}]}"#;
        let error = of_status("https://r", StatusCode::TOO_MANY_REQUESTS, None, body);
        assert_eq!(
            error.to_string(),
            "unexpected status from https://r: 429 Too Many Requests: slow down; denied"
        );
        assert!(error.is_passing());
        let error = of_status("https://r", StatusCode::BAD_GATEWAY, None, b"<html>");
        assert_eq!(error.to_string(), "unexpected status from https://r: 502 Bad Gateway");
        let error = of_status("https://r", StatusCode::UNAUTHORIZED, None, b"");
        assert!(
            error.to_string().ends_with("authorization: authorization failed"),
            "{error}"
        );
        assert!(!error.is_passing());
    }
}
