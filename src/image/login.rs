//! What `docker login` left on this machine: `~/.docker/config.json`, or the one below `$DOCKER_CONFIG`.
//!
//! Deliberately absent: credential helpers, which are programs of their own.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use cri::RegistryAuth;
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    #[serde(rename = "identitytoken")]
    identity_token: String,
}

/// The credentials for the registry of an image; `None` where nothing is known, or the file cannot be read.
pub(super) fn known(image: &str) -> Option<RegistryAuth> {
    let directory = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = directory("DOCKER_CONFIG").or_else(|| Some(directory("HOME")?.join(".docker")))?;
    of(&std::fs::read(folder.join("config.json")).ok()?, registry(image))
}

/// The first part of a name if it could not be a part of a path at Docker Hub.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "index.docker.io",
    }
}

fn of(file: &[u8], registry: &str) -> Option<RegistryAuth> {
    let config: Config = serde_json::from_slice(file).ok()?;
    let registry = if registry == "docker.io" {
        "index.docker.io"
    } else {
        registry
    };
    let entries = config.auths.into_iter();
    let (_, entry) = entries.into_iter().find(|(key, _)| host(key) == registry)?;
    let identity_token = entry.identity_token;
    let (username, password) = match entry.auth.as_str() {
        "" => (entry.username, entry.password),
        encoded => {
            let joined = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
            let (username, password) = joined.split_once(':')?;
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        }
    };
    Some(RegistryAuth {
        username,
        password,
        identity_token,
        ..RegistryAuth::default()
    })
}

/// A key of the file is a host, or an address of it.
fn host(key: &str) -> &str {
    let bare = key.trim_start_matches("https://").trim_start_matches("http://");
    bare.split('/').next().unwrap_or(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_docker_login_wrote() {
        let file = br#"{"auths": {"https://index.docker.io/v1/": {"auth": "dTpw"},
            "r.example:5000": {"auth": "YTo=", "identitytoken": "t"}, "plain.example": {"username": "x"}}}"#;
        let user = |image: &str| of(file, registry(image)).map(|auth| auth.username);
        assert_eq!(user("hello:1").as_deref(), Some("u"));
        assert_eq!(user("docker.io/team/hello:1").as_deref(), Some("u"));
        assert_eq!(user("plain.example/a").as_deref(), Some("x"));
        assert_eq!(user("other.example/a"), None);
        let token = of(file, registry("r.example:5000/a")).map(|auth| (auth.username, auth.identity_token));
        assert_eq!(token, Some(("a".to_owned(), "t".to_owned())));
        assert_eq!(of(b"{", "r.example"), None);
    }
}
