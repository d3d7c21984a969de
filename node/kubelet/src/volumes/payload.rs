//! Which files a configMap, secret, downwardAPI or projected volume holds. Pure: objects and tokens are read beforehand.

use std::collections::{BTreeMap, HashMap};

use crate::{
    env::{self, Facts, Objects},
    objects::{Content, Id, Source},
    pod::{ConfigMapSource, DownwardFile, KeyToPath, Pod, ProjectedSource, SecretSource, TokenSource, Volume},
    resources,
};

/// A file to be written, by its path within the volume.
pub(crate) type Files = BTreeMap<String, File>;

/// Content and permission bits of a file. Does not print the content.
#[derive(Clone, PartialEq)]
pub(crate) struct File {
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, mode {:o}", self.data.len(), self.mode)
    }
}

/// Why a volume cannot be filled, as the `FailedMount` event words it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("references non-existent {kind} key: {key}")]
    NoSuchKey { kind: &'static str, key: String },
    #[error("invalid path {path:?}: must be relative and must not contain \"..\"")]
    BadPath { path: String },
    #[error("{0}")]
    Field(String),
    #[error("no service account token for {path:?}")]
    NoToken { path: String },
    #[error("volume type {kind} is not supported")]
    Unsupported { kind: String },
}

/// Identifies a token that a pod mounts: audience, lifetime, which is all that a request depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TokenKey {
    pub(crate) audience: String,
    pub(crate) seconds: i64,
}

impl From<&TokenSource> for TokenKey {
    fn from(source: &TokenSource) -> Self {
        Self {
            audience: source.audience.clone(),
            seconds: source.expiration_seconds.unwrap_or(3600),
        }
    }
}

/// Everything read beforehand.
pub(crate) struct Sources<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) objects: &'a Objects,
    pub(crate) tokens: &'a HashMap<TokenKey, String>,
    pub(crate) facts: &'a Facts,
}

/// Kubernetes' default for files of such volumes.
const DEFAULT_MODE: u32 = 0o644;

/// The objects a pod's volumes name.
pub(crate) fn needs(pod: &Pod) -> Vec<Id> {
    let id = |source: Source, name: &str| Id::new(source, &pod.metadata.namespace, name);
    let mut out = Vec::new();
    for volume in &pod.spec.volumes {
        out.extend(volume.config_map.as_ref().map(|s| id(Source::ConfigMap, &s.name)));
        out.extend(volume.secret.as_ref().map(|s| id(Source::Secret, &s.secret_name)));
        for projection in volume.projected.iter().flat_map(|p| &p.sources) {
            out.extend(projection.config_map.as_ref().map(|s| id(Source::ConfigMap, &s.name)));
            out.extend(projection.secret.as_ref().map(|s| id(Source::Secret, &s.secret_name)));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// The tokens a pod's volumes hold.
pub(crate) fn tokens(pod: &Pod) -> Vec<TokenKey> {
    let projections = pod
        .spec
        .volumes
        .iter()
        .filter_map(|v| v.projected.as_ref())
        .flat_map(|p| &p.sources);
    let mut out: Vec<TokenKey> = projections
        .filter_map(|p| p.service_account_token.as_deref())
        .map(TokenKey::from)
        .collect();
    out.sort();
    out.dedup();
    out
}

/// The files of a volume, or `None` for kinds that are not made of files (emptyDir, hostPath).
///
/// # Errors
/// The first source that is absent and not optional, or a path that leaves the volume.
pub(crate) fn files(volume: &Volume, from: &Sources<'_>) -> Result<Option<Files>, Error> {
    let mut files = Files::new();
    if let Some(source) = &volume.config_map {
        from.config_map(source, source.default_mode.unwrap_or(DEFAULT_MODE), &mut files)?;
    } else if let Some(source) = &volume.secret {
        from.secret(source, source.default_mode.unwrap_or(DEFAULT_MODE), &mut files)?;
    } else if let Some(source) = &volume.downward_api {
        from.downward(&source.items, source.default_mode.unwrap_or(DEFAULT_MODE), &mut files)?;
    } else if let Some(source) = &volume.projected {
        from.projected(source, &mut files)?;
    } else {
        return Ok(None);
    }
    match files.keys().find(|path| !stays_inside(path)) {
        Some(path) => Err(Error::BadPath { path: path.clone() }),
        None => Ok(Some(files)),
    }
}

/// A path that cannot lead out of the volume nor collide with the writer's own names, which begin with `..`.
fn stays_inside(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && !path.starts_with("..")
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != ".." && part != ".")
}

impl Sources<'_> {
    fn object(&self, source: Source, name: &str, optional: bool) -> Result<Option<&Content>, Error> {
        let id = Id::new(source, &self.pod.metadata.namespace, name);
        match self.objects.get(&id).and_then(Option::as_ref) {
            Some(content) => Ok(Some(content)),
            None if optional => Ok(None),
            None => Err(Error::NotFound {
                kind: source.word(),
                name: name.to_owned(),
            }),
        }
    }

    fn config_map(&self, source: &ConfigMapSource, mode: u32, files: &mut Files) -> Result<(), Error> {
        let content = self.object(Source::ConfigMap, &source.name, source.optional)?;
        project(content, &source.items, "config", mode, source.optional, files)
    }

    fn secret(&self, source: &SecretSource, mode: u32, files: &mut Files) -> Result<(), Error> {
        let content = self.object(Source::Secret, &source.secret_name, source.optional)?;
        project(content, &source.items, "secret", mode, source.optional, files)
    }

    fn downward(&self, items: &[DownwardFile], mode: u32, files: &mut Files) -> Result<(), Error> {
        for item in items {
            let text = if let Some(reference) = &item.field_ref {
                env::field(self.pod, &reference.field_path, self.facts).map_err(Error::Field)?
            } else if let Some(reference) = &item.resource_field_ref {
                let (_, container) = self
                    .pod
                    .container(&reference.container_name)
                    .ok_or_else(|| Error::Field(format!("container {} not found", reference.container_name)))?;
                resources::field(container, reference, &self.facts.capacity).map_err(Error::Field)?
            } else {
                continue;
            };
            files.insert(
                item.path.clone(),
                File {
                    data: text.into_bytes(),
                    mode: item.mode.unwrap_or(mode),
                },
            );
        }
        Ok(())
    }

    fn projected(&self, source: &ProjectedSource, files: &mut Files) -> Result<(), Error> {
        let mode = source.default_mode.unwrap_or(DEFAULT_MODE);
        for projection in &source.sources {
            if let Some(source) = &projection.config_map {
                self.config_map(source, mode, files)?;
            } else if let Some(source) = &projection.secret {
                self.secret(source, mode, files)?;
            } else if let Some(source) = &projection.downward_api {
                self.downward(&source.items, mode, files)?;
            } else if let Some(source) = &projection.service_account_token {
                let token = self.tokens.get(&TokenKey::from(&**source));
                let token = token.ok_or_else(|| Error::NoToken {
                    path: source.path.clone(),
                })?;
                files.insert(
                    source.path.clone(),
                    File {
                        data: token.clone().into_bytes(),
                        mode,
                    },
                );
            } else if let Some(kind) = projection.other.keys().next() {
                return Err(Error::Unsupported {
                    kind: format!("projected {kind}"),
                });
            }
        }
        Ok(())
    }
}

/// Puts an object's keys into files: all under their own names, or the chosen ones under chosen paths.
fn project(
    content: Option<&Content>,
    items: &[KeyToPath],
    kind: &'static str,
    mode: u32,
    optional: bool,
    files: &mut Files,
) -> Result<(), Error> {
    let Some(content) = content else { return Ok(()) };
    if items.is_empty() {
        files.extend(content.iter().map(|(key, data)| {
            (
                key.to_owned(),
                File {
                    data: data.to_vec(),
                    mode,
                },
            )
        }));
        return Ok(());
    }
    for item in items {
        match content.get(&item.key) {
            Some(data) => {
                files.insert(
                    item.path.clone(),
                    File {
                        data: data.to_vec(),
                        mode: item.mode.unwrap_or(mode),
                    },
                );
            }
            None if optional => {}
            None => {
                return Err(Error::NoSuchKey {
                    kind,
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    fn made(volume: Value) -> Result<Vec<(String, String, u32)>, String> {
        let pod = json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}}});
        let pod: Pod = serde_json::from_value(pod).expect("pod");
        let content: Content = [("k1".to_owned(), b"v1".to_vec()), ("k2".to_owned(), b"v2".to_vec())]
            .into_iter()
            .collect();
        let content = Some(Arc::new(content));
        let objects = Objects::from([
            (Id::new(Source::ConfigMap, "ns", "cm"), content.clone()),
            (Id::new(Source::Secret, "ns", "s"), content),
        ]);
        let tokens = HashMap::from([(
            TokenKey {
                audience: String::new(),
                seconds: 3607,
            },
            "jwt".to_owned(),
        )]);
        let sources = Sources {
            pod: &pod,
            objects: &objects,
            tokens: &tokens,
            facts: &Facts::default(),
        };
        let volume: Volume = serde_json::from_value(volume).expect("volume");
        let files = files(&volume, &sources)
            .map_err(|e| e.to_string())?
            .expect("made of files");
        Ok(files
            .into_iter()
            .map(|(k, f)| (k, String::from_utf8(f.data).expect("text"), f.mode))
            .collect())
    }

    fn file(path: &str, data: &str, mode: u32) -> (String, String, u32) {
        (path.into(), data.into(), mode)
    }

    #[test]
    fn all_keys_or_the_chosen_ones() {
        let all = made(json!({"name": "v", "configMap": {"name": "cm"}}));
        assert_eq!(all, Ok(vec![file("k1", "v1", 0o644), file("k2", "v2", 0o644)]));
        let items = json!([{"key": "k2", "path": "d/x", "mode": 0o400}]);
        let chosen = made(json!({"name": "v", "secret": {"secretName": "s", "items": items, "defaultMode": 0o600}}));
        assert_eq!(chosen, Ok(vec![file("d/x", "v2", 0o400)]));
    }

    #[test]
    fn projected_joins_all_sources() {
        let made = made(json!({"name": "v", "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "cm", "items": [{"key": "k1", "path": "ca.crt"}]}},
            {"secret": {"name": "s", "items": [{"key": "k2", "path": "s/k2"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}}));
        let want = [("ca.crt", "v1"), ("namespace", "ns"), ("s/k2", "v2"), ("token", "jwt")];
        assert_eq!(
            made,
            Ok(want.iter().map(|(path, data)| file(path, data, 0o644)).collect())
        );
    }

    #[test]
    fn says_what_is_missing_and_refuses_to_leave_the_volume() {
        let cm = |items: Value| json!({"name": "v", "configMap": {"name": "cm", "items": items}});
        let cases = [
            (
                json!({"name": "v", "configMap": {"name": "x"}}),
                Err("configmap \"x\" not found"),
            ),
            (
                json!({"name": "v", "secret": {"secretName": "x"}}),
                Err("secret \"x\" not found"),
            ),
            (
                cm(json!([{"key": "no", "path": "p"}])),
                Err("references non-existent config key: no"),
            ),
            (
                cm(json!([{"key": "k1", "path": "../p"}])),
                Err("invalid path \"../p\": must be relative and must not contain \"..\""),
            ),
            (
                cm(json!([{"key": "k1", "path": "a/../../p"}])),
                Err("invalid path \"a/../../p\": must be relative and must not contain \"..\""),
            ),
            (
                json!({"name": "v", "configMap": {"name": "x", "optional": true}}),
                Ok(vec![]),
            ),
        ];
        for (volume, want) in cases {
            assert_eq!(made(volume), want.map_err(str::to_owned));
        }
    }
}
