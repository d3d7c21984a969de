//! Bringing a container's image onto the node, with the events and credentials Kubernetes users know.

use std::time::Duration;

use cri::{Image, PullImage, PulledImage, RegistryAuth};

use super::{
    credentials::{keyring, repository},
    failed::Failed,
    progress,
};
use crate::{
    events::PodEvents,
    objects::{Held, Id, Source},
    plan::Reason,
    pod::{Container, Pod, PullPolicy},
    shared::Shared,
};

/// How long a pull secret may take to be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// An image that a container needs, and when it is pulled.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The container's name.
    pub(super) container: &'a str,
    pub(super) image: &'a str,
    pub(super) policy: PullPolicy,
}

impl<'a> From<&'a Container> for Wanted<'a> {
    fn from(container: &'a Container) -> Self {
        Self {
            container: &container.name,
            image: &container.image,
            policy: container.image_pull_policy,
        }
    }
}

/// The image a container needs, pulled if its policy says so.
pub(super) async fn ensure(shared: &Shared, pod: &Pod, wanted: Wanted<'_>) -> Result<Image, Failed> {
    let events = PodEvents {
        recorder: &shared.recorder,
        pod,
    };
    let (name, image) = (Some(wanted.container), wanted.image);
    let present = match shared.runtime.image(image).await {
        Ok(present) => present,
        Err(error @ cri::Error::InvalidImageName { .. }) => {
            let message = format!("Failed to apply default image tag \"{image}\": {}", error.chain());
            events.warning(name, "InspectFailed", message.clone());
            return Err(Failed::new(Reason::InvalidImageName, message));
        }
        Err(error) => return Err(uninspected(&events, wanted, &error.chain())),
    };
    match (wanted.policy, present) {
        (PullPolicy::IfNotPresent | PullPolicy::Never, Some(found)) => {
            let note = format!("Container image \"{image}\" already present on machine");
            events.normal(name, "Pulled", note);
            Ok(found)
        }
        (PullPolicy::Never, None) => {
            if let Some(why) = away(&shared.runtime.status().await) {
                return Err(uninspected(&events, wanted, &why));
            }
            let message = format!("Container image \"{image}\" is not present with pull policy of Never");
            events.warning(name, "ErrImageNeverPull", message.clone());
            Err(Failed::new(Reason::ErrImageNeverPull, message))
        }
        (PullPolicy::Always, _) | (PullPolicy::IfNotPresent, None) => pull(shared, pod, wanted, &events).await,
    }
}

fn uninspected(events: &PodEvents<'_>, wanted: Wanted<'_>, why: &str) -> Failed {
    let message = format!("Failed to inspect image \"{}\": {why}", wanted.image);
    events.warning(Some(wanted.container), "InspectFailed", message.clone());
    Failed::new(Reason::ImageInspectError, message)
}

/// Why it is not known which images there are: a part of the runtime does not answer.
fn away(conditions: &[cri::Condition]) -> Option<String> {
    let mut failing = conditions.iter().filter(|c| c.kind == "RuntimeReady" && !c.status);
    failing.next().map(|condition| condition.message.clone())
}

/// Pulls, and tells how it went.
async fn pull(shared: &Shared, pod: &Pod, wanted: Wanted<'_>, events: &PodEvents<'_>) -> Result<Image, Failed> {
    let (name, image) = (Some(wanted.container), wanted.image);
    events.normal(name, "Pulling", format!("Pulling image \"{image}\""));
    let begun = shared.clock.now();
    let attempts = attempts(shared, pod, image, events);
    match progress::told(shared, events, wanted.container, image, "Pulling", attempts).await {
        Ok(pulled) => {
            let waited = shared.clock.now().duration_since(begun);
            let waited = Duration::try_from(waited).unwrap_or_default().max(pulled.took);
            let note = format!(
                "Successfully pulled image \"{image}\" in {} ({} including waiting). Image size: {} bytes.",
                go_duration(pulled.took),
                go_duration(waited),
                pulled.image.size
            );
            events.normal(name, "Pulled", note);
            Ok(pulled.image)
        }
        Err(error) => {
            let note = format!("Failed to pull image \"{image}\": {}", error.chain());
            events.warning(name, "Failed", note);
            Err(Failed::image(&error))
        }
    }
}

/// Tries each credential that is for the image until one works; with none, as nobody.
async fn attempts(shared: &Shared, pod: &Pod, image: &str, events: &PodEvents<'_>) -> Result<PulledImage, cri::Error> {
    let known = credentials(shared, pod, image, events).await;
    let tries: Vec<Option<RegistryAuth>> = if known.is_empty() {
        vec![None]
    } else {
        known.into_iter().map(Some).collect()
    };
    let mut refusal = None;
    for auth in tries {
        let pull = PullImage {
            reference: image.to_owned(),
            auth,
            pod_uid: pod.metadata.uid.to_string(),
        };
        match shared.runtime.pull_image(pull).await {
            Ok(pulled) => return Ok(pulled),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or(cri::Error::NotFound {
        what: "image",
        id: image.to_owned(),
    }))
}

/// What the pod's pull secrets hold for an image, in their order. Those that cannot be read are told, and left out.
async fn credentials(shared: &Shared, pod: &Pod, image: &str, events: &PodEvents<'_>) -> Vec<RegistryAuth> {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for secret in &pod.spec.image_pull_secrets {
        let id = Id::new(Source::Secret, &pod.metadata.namespace, &secret.name);
        let held = Held::new(&shared.informers, &id);
        let Ok(Some((type_, content))) = tokio::time::timeout(PATIENCE, held.read_typed()).await else {
            missing.push(secret.name.clone());
            continue;
        };
        match keyring(&secret.name, &type_, &content) {
            Ok(keys) => found.extend(keys.lookup(repository(image))),
            Err(error) => {
                tracing::warn!(
                    pod = %pod.key(),
                    error = &error as &dyn std::error::Error,
                    "a pull secret is of no use"
                );
                missing.push(secret.name.clone());
            }
        }
    }
    if !missing.is_empty() {
        let note = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        events.warning(None, "FailedToRetrieveImagePullSecret", note);
    }
    found
}

/// As Go prints a duration of whole milliseconds: `0s`, `12ms`, `1.2s`, `1m2.5s`.
fn go_duration(duration: Duration) -> String {
    let (seconds, milliseconds) = (duration.as_secs(), duration.subsec_millis());
    if seconds == 0 {
        return match milliseconds {
            0 => "0s".to_owned(),
            some => format!("{some}ms"),
        };
    }
    let fraction = format!(".{milliseconds:03}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_durations_as_go_does() {
        for (milliseconds, text) in [
            (0, "0s"),
            (12, "12ms"),
            (1_000, "1s"),
            (1_200, "1.2s"),
            (1_234, "1.234s"),
            (62_500, "1m2.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), text);
        }
    }
}
