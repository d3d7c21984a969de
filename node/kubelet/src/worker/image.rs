//! Bringing a container's image onto the node, with the events and credentials Kubernetes users know.

use std::sync::Arc;

use cri::{Image, PullImage, RegistryAuth};
use serde::Deserialize;

use super::{failed::Failed, progress};
use crate::{
    events::PodEvents,
    objects::{Held, Id, Source},
    plan::Reason,
    pod::{Container, Pod, PullPolicy},
    shared::Shared,
};

/// The image a container names, pulled if its policy says so.
pub(super) async fn ensure(shared: &Shared, pod: &Pod, container: &Container) -> Result<Image, Failed> {
    let events = PodEvents {
        recorder: &shared.recorder,
        pod,
    };
    let (name, image) = (Some(&*container.name), &container.image);
    if container.image_pull_policy != PullPolicy::Always {
        if let Some(found) = shared.runtime.image(image).await.map_err(|e| Failed::image(&e))? {
            events.normal(
                name,
                "Pulled",
                format!("Container image \"{image}\" already present on machine"),
            );
            return Ok(found);
        }
        if container.image_pull_policy == PullPolicy::Never {
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            events.warning(name, "ErrImageNeverPull", message.clone());
            return Err(Failed::new(Reason::ErrImageNeverPull, message));
        }
    }
    events.normal(name, "Pulling", format!("Pulling image \"{image}\""));
    let begun = shared.clock.now();
    match pull(shared, pod, container, &events).await {
        Ok(pulled) => {
            let took = shared.clock.now().duration_since(begun).as_secs_f64();
            let note = format!(
                "Successfully pulled image \"{image}\" in {took:.3}s. Image size: {} bytes.",
                pulled.size
            );
            events.normal(name, "Pulled", note);
            Ok(pulled)
        }
        Err(error) => {
            events.warning(
                name,
                "Failed",
                format!("Failed to pull image \"{image}\": {}", error.chain()),
            );
            Err(Failed::image(&error))
        }
    }
}

/// Pulls with each credential that fits until one works, and passes on what the runtime tells meanwhile.
async fn pull(shared: &Shared, pod: &Pod, container: &Container, events: &PodEvents<'_>) -> Result<Image, cri::Error> {
    let attempts = async {
        let credentials = credentials(shared, pod, &container.image).await;
        let mut last = None;
        for auth in credentials.into_iter().map(Some).chain([None]) {
            let (reference, pod_uid) = (container.image.clone(), pod.metadata.uid.to_string());
            match shared
                .runtime
                .pull_image(PullImage {
                    reference,
                    auth,
                    pod_uid,
                })
                .await
            {
                Ok(image) => return Ok(image),
                Err(error) => last = last.or(Some(error)),
            }
        }
        Err(last.unwrap_or(cri::Error::NotFound {
            what: "image",
            id: container.image.clone(),
        }))
    };
    progress::told(shared, events, container, "Pulling", attempts).await
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: std::collections::BTreeMap<String, DockerAuth>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DockerAuth {
    username: String,
    password: String,
    auth: String,
}

/// Credentials of the pod's pull secrets for the registry of an image.
async fn credentials(shared: &Shared, pod: &Pod, image: &str) -> Vec<RegistryAuth> {
    let mut out = Vec::new();
    for secret in &pod.spec.image_pull_secrets {
        let held = Held::new(
            &shared.informers,
            &Id::new(Source::Secret, &pod.metadata.namespace, &secret.name),
        );
        let content: Option<Arc<_>> = held.read().await;
        if let Some(json) = content.as_deref().and_then(|c| c.get(".dockerconfigjson")) {
            out.extend(matching(json, image));
        }
    }
    out
}

/// The entries of a docker configuration that are for the registry of `image`.
fn matching(json: &[u8], image: &str) -> Vec<RegistryAuth> {
    let config: DockerConfig = serde_json::from_slice(json).unwrap_or_default();
    let registry = registry(image);
    let wanted = |key: &str| {
        let host = key.trim_start_matches("https://").trim_start_matches("http://");
        let host = host.split('/').next().unwrap_or(host);
        host == registry || (registry == "docker.io" && host == "index.docker.io")
    };
    config
        .auths
        .into_iter()
        .filter(|(key, _)| wanted(key))
        .filter_map(|(_, entry)| decode(entry))
        .collect()
}

fn decode(entry: DockerAuth) -> Option<RegistryAuth> {
    use base64::Engine;
    let auth = |username: String, password: String| RegistryAuth {
        username,
        password,
        ..RegistryAuth::default()
    };
    if !entry.username.is_empty() {
        return Some(auth(entry.username, entry.password));
    }
    let joined = base64::engine::general_purpose::STANDARD.decode(entry.auth).ok()?;
    let joined = String::from_utf8(joined).ok()?;
    let (username, password) = joined.split_once(':')?;
    Some(auth(username.to_owned(), password.to_owned()))
}

/// The registry part of a reference: the first component if it looks like a host, else Docker Hub.
fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_their_registry_only() {
        let json = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "dTpw"},
            "reg.example:5000": {"username": "a", "password": "b"}}}"#;
        let users = |image: &str| {
            matching(json, image)
                .into_iter()
                .map(|a| a.username)
                .collect::<Vec<_>>()
        };
        assert_eq!(users("busybox"), ["u"]);
        assert_eq!(users("library/busybox:1"), ["u"]);
        assert_eq!(users("reg.example:5000/x/y:1"), ["a"]);
        assert!(users("evil.example/x").is_empty());
    }
}
