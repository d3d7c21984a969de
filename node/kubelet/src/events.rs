//! What users are told about a pod: the kubelet's reasons and wordings.

use client::events::{ObjectRef, Recorder, Type};

use crate::{
    pod::{Pod, Role},
    status::{ContainerStatus, PodStatus},
};

/// Tells about one pod.
pub(crate) struct PodEvents<'a> {
    pub(crate) recorder: &'a Recorder,
    pub(crate) pod: &'a Pod,
}

/// An event to record: type, reason, note.
pub(crate) type Event = (Type, &'static str, String);

impl PodEvents<'_> {
    pub(crate) fn normal(&self, container: Option<&str>, reason: &str, note: impl Into<String>) {
        self.record(container, Type::Normal, reason, note.into());
    }

    pub(crate) fn warning(&self, container: Option<&str>, reason: &str, note: impl Into<String>) {
        self.record(container, Type::Warning, reason, note.into());
    }

    pub(crate) fn record(&self, container: Option<&str>, type_: Type, reason: &str, note: String) {
        let meta = &self.pod.metadata;
        let regarding = ObjectRef {
            kind: "Pod".into(),
            namespace: meta.namespace.to_string(),
            name: meta.name.to_string(),
            uid: meta.uid.to_string(),
            api_version: "v1".into(),
            resource_version: meta.resource_version.clone(),
            field_path: container.map(|name| field_path(self.pod, name)).unwrap_or_default(),
        };
        self.recorder.event(&regarding, type_, reason, "", note);
    }
}

/// `spec.containers{web}` or `spec.initContainers{setup}`.
fn field_path(pod: &Pod, container: &str) -> String {
    let list = match pod.container(container) {
        Some((Role::App, _)) | None => "containers",
        Some((Role::Init | Role::Sidecar, _)) => "initContainers",
        Some((Role::Ephemeral, _)) => "ephemeralContainers",
    };
    format!("spec.{list}{{{container}}}")
}

/// The events that a change of a container's waiting reason calls for.
pub(crate) fn of_change(pod: &Pod, old: &PodStatus, new: &PodStatus) -> Vec<(String, Event)> {
    let reason = |c: &ContainerStatus| c.state.waiting.as_ref().map(|w| w.reason.clone()).unwrap_or_default();
    let mut out = Vec::new();
    for container in new.all_containers() {
        let now = reason(container);
        if old.container(&container.name).is_some_and(|was| reason(was) == now) {
            continue;
        }
        let name = &container.name;
        let mut tell = |type_, reason, note: String| out.push((name.clone(), (type_, reason, note)));
        match &*now {
            "CrashLoopBackOff" => {
                let note = format!("Back-off restarting failed container {name} in pod {}", pod.full_name());
                tell(Type::Warning, "BackOff", note);
            }
            "ImagePullBackOff" => {
                tell(
                    Type::Normal,
                    "BackOff",
                    format!("Back-off pulling image \"{}\"", container.image),
                );
                tell(Type::Warning, "Failed", "Error: ImagePullBackOff".into());
            }
            _ => {}
        }
    }
    out
}
