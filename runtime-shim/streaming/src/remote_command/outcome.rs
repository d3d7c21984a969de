//! How a command ended, as the error stream tells it: from version 4 on a `Status` of Kubernetes, text before.

use cri::Error;
use serde::{Deserialize, Serialize};

use super::{Kind, Version};

/// Of Kubernetes' `Status`, what the error stream carries.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Status {
    metadata: Empty,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Empty {}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Details {
    causes: Vec<Cause>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    reason: String,
    message: String,
}

/// What is written on the error stream.
pub(super) fn text(version: Version, kind: Kind, outcome: &Result<i32, Error>) -> Vec<u8> {
    let status = status(kind, outcome);
    if version >= Version::V4 {
        return serde_json::to_vec(&status).unwrap_or_default();
    }
    status.message.into_bytes()
}

fn status(kind: Kind, outcome: &Result<i32, Error>) -> Status {
    match (kind, outcome) {
        // How the program ended that was attached to is not the client's outcome.
        (_, Ok(0)) | (Kind::Attach, Ok(_)) => Status {
            status: "Success".to_owned(),
            ..Status::default()
        },
        (Kind::Exec, Ok(code)) => Status {
            status: "Failure".to_owned(),
            message: format!("command terminated with non-zero exit code: exit status {code}"),
            reason: "NonZeroExitCode".to_owned(),
            details: Some(cause("ExitCode", code.to_string())),
            ..Status::default()
        },
        (_, Err(error)) => {
            let doing = match kind {
                Kind::Exec => "executing command in container",
                Kind::Attach => "attaching to container",
            };
            let why = format!("error {doing}: {}", error.chain());
            Status {
                status: "Failure".to_owned(),
                message: format!("Internal error occurred: {why}"),
                reason: "InternalError".to_owned(),
                details: Some(cause("", why)),
                code: Some(500),
                ..Status::default()
            }
        }
    }
}

fn cause(reason: &str, message: String) -> Details {
    Details {
        causes: vec![Cause {
            reason: reason.to_owned(),
            message,
        }],
    }
}

/// Whether a text may be a Status at all.
pub(crate) fn is_status(text: &[u8]) -> bool {
    text.trim_ascii_start().starts_with(b"{")
}

/// The exit code that an error stream of version 4 tells.
///
/// # Errors
/// What went wrong, in the server's words.
pub(crate) fn exit_code(text: &[u8]) -> Result<i32, String> {
    if text.trim_ascii().is_empty() {
        return Err("the connection ended before the command did".to_owned());
    }
    let said = || String::from_utf8_lossy(text).into_owned();
    let status: Status = serde_json::from_slice(text).map_err(|_| said())?;
    if status.status == "Success" {
        return Ok(0);
    }
    let causes = status.details.map(|details| details.causes).unwrap_or_default();
    let code = causes.iter().find(|cause| cause.reason == "ExitCode");
    match code.and_then(|cause| cause.message.parse().ok()) {
        Some(code) if status.reason == "NonZeroExitCode" => Ok(code),
        _ => Err(status.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_outcome_by_version() {
        let failed = || {
            Err(Error::Unsupported {
                what: "exec",
                reason: "no such thing".to_owned(),
            })
        };
        let cases: [(Version, Kind, Result<i32, Error>, &str); 6] = [
            (Version::V4, Kind::Exec, Ok(0), r#"{"metadata":{},"status":"Success"}"#),
            (
                Version::V5,
                Kind::Exec,
                Ok(3),
                r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 3","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"3"}]}}"#,
            ),
            (
                Version::V4,
                Kind::Exec,
                failed(),
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: error executing command in container: exec is not supported: no such thing","reason":"InternalError","details":{"causes":[{"reason":"","message":"error executing command in container: exec is not supported: no such thing"}]},"code":500}"#,
            ),
            (
                Version::V4,
                Kind::Attach,
                Ok(3),
                r#"{"metadata":{},"status":"Success"}"#,
            ),
            (Version::V1, Kind::Exec, Ok(0), ""),
            (
                Version::V2,
                Kind::Exec,
                Ok(3),
                "command terminated with non-zero exit code: exit status 3",
            ),
        ];
        for (version, kind, outcome, expected) in cases {
            let text = text(version, kind, &outcome);
            assert_eq!(String::from_utf8_lossy(&text), expected, "{version:?} {kind:?}");
        }
    }

    #[test]
    fn understands_what_it_tells() {
        for code in [0, 1, 3, 137] {
            assert_eq!(exit_code(&text(Version::V4, Kind::Exec, &Ok(code))), Ok(code));
        }
        let failed = Err(Error::InvalidConfig {
            message: "bad".to_owned(),
        });
        let told = exit_code(&text(Version::V4, Kind::Exec, &failed));
        assert_eq!(
            told,
            Err("Internal error occurred: error executing command in container: bad".to_owned())
        );
        assert!(exit_code(b"").is_err());
        assert_eq!(exit_code(b"no json"), Err("no json".to_owned()));
    }
}
