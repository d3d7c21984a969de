//! PodSecurity (the Pod Security Standards): pods keep to the level that their namespace's labels name. What breaks the
//! enforced level is refused; what breaks the level to warn of is said so, of pods and of what makes pods.
//! What breaks the level to audit is said to the audit log.

mod baseline;
mod checks;
mod policy;
mod restricted;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::{GroupKind, GroupResource, Object, Status};
use async_trait::async_trait;
use serde_json::Value;

use self::checks::{Pod, evaluate};
use self::policy::{At, Level, Policy};
use super::{Admission, AdmissionRequest, is_core};
use crate::audit::annotations;
use crate::registry::resource::{Operation, Resource};

/// Of how many pods a namespace's new level is tried at most.
const MAX_PODS: usize = 3000;

pub(super) struct PodSecurity;

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, subresource: Option<&str>) -> bool {
        let writes = matches!(operation, Operation::Create | Operation::Update { .. });
        let part = match subresource {
            None => is_core(resource, "pods") || is_core(resource, "namespaces") || template(resource).is_some(),
            Some(part) => is_core(resource, "pods") && matches!(part, "ephemeralcontainers" | "resize"),
        };
        writes && part
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        let Some(object) = request.object.as_deref() else {
            return Ok(());
        };
        if is_core(request.resource, "namespaces") {
            return namespace(request, object);
        }
        let name = request.namespace.unwrap_or_default();
        let Some(namespace) = request.reader.get(&GroupResource::new("", "namespaces"), None, name) else {
            return Err(Status::internal(&format!("failed to lookup namespace {name:?}")));
        };
        let policy = Policy::of(&namespace).0;
        match template(request.resource) {
            None => pod(request, &policy, object),
            Some(path) => {
                if let Some(spec) = object.map_at(&format!("{path}.spec")) {
                    let annotations = object.map_at(&format!("{path}.metadata.annotations"));
                    let pod = Pod { annotations, spec };
                    audit(policy.audit, &pod);
                    warn(request, policy.warn, &pod);
                }
                Ok(())
            }
        }
    }
}

/// Where a kind that makes pods has their template.
fn template(resource: &Resource) -> Option<&'static str> {
    match (&*resource.group, &*resource.plural) {
        ("", "podtemplates") => Some("template"),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "daemonsets" | "statefulsets")
        | ("batch", "jobs") => Some("spec.template"),
        ("batch", "cronjobs") => Some("spec.jobTemplate.spec.template"),
        _ => None,
    }
}

fn pod(request: &AdmissionRequest<'_>, policy: &Policy, new: &Object) -> Result<(), Status> {
    if request.old.is_some_and(|old| !matters(old, new)) {
        return Ok(());
    }
    let Some(pod) = Pod::of(new) else { return Ok(()) };
    annotations::add("pod-security.kubernetes.io/enforce-policy", || {
        policy.enforce.to_string()
    });
    audit(policy.audit, &pod);
    let found = evaluate(policy.enforce, &pod);
    if !found.is_empty() {
        let (level, why) = (policy.enforce, checks::details(&found));
        return Err(request.forbidden(&format!("violates PodSecurity \"{level}\": {why}")));
    }
    warn(request, policy.warn, &pod);
    Ok(())
}

/// Says to the audit log what a level would not have let in.
fn audit(level: At, pod: &Pod<'_>) {
    if !annotations::wanted() {
        return;
    }
    let found = evaluate(level, pod);
    if !found.is_empty() {
        let why = checks::details(&found);
        annotations::add("pod-security.kubernetes.io/audit-violations", || {
            format!("would violate PodSecurity \"{level}\": {why}")
        });
    }
}

fn warn(request: &AdmissionRequest<'_>, level: At, pod: &Pod<'_>) {
    let found = evaluate(level, pod);
    if !found.is_empty() {
        let why = checks::details(&found);
        request.warn(format!("would violate PodSecurity \"{level}\": {why}"));
    }
}

/// Whether an update of a pod could change the verdict: other images, or more containers.
fn matters(old: &Object, new: &Object) -> bool {
    let text = |container: &Value, field: &str| container.get(field).and_then(Value::as_str).map(str::to_owned);
    let images = |pod: &Object, list: &str| -> Vec<_> {
        pod.list_at(list)
            .iter()
            .map(|container| text(container, "image"))
            .collect()
    };
    let fixed = ["spec.containers", "spec.initContainers"];
    let ephemeral = |pod: &Object| -> BTreeMap<_, _> {
        let list = pod.list_at("spec.ephemeralContainers").iter();
        list.map(|container| (text(container, "name"), text(container, "image")))
            .collect()
    };
    let known = ephemeral(old);
    fixed.iter().any(|list| images(old, list) != images(new, list))
        || ephemeral(new)
            .iter()
            .any(|(name, image)| known.get(name) != Some(image))
}

/// Labels must be understood; and who raises the level hears of the pods that are there.
fn namespace(request: &AdmissionRequest<'_>, new: &Object) -> Result<(), Status> {
    let (policy, errors) = Policy::of(new);
    let (before, old_errors) = match request.old {
        Some(old) => Policy::of(old),
        None => (policy, Vec::new()),
    };
    let unchanged = request.old.is_some() && errors == old_errors;
    if !errors.is_empty() && !unchanged {
        return Err(Status::invalid(&GroupKind::new("", "Namespace"), new.name(), errors));
    }
    let (was, is) = (before.enforce, policy.enforce);
    let relaxed = was.version == is.version && is.level <= was.level;
    if is == was || is.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let pods = request.reader.list(&GroupResource::new("", "pods"), Some(new.name()));
    try_on(request, new.name(), is, pods);
    Ok(())
}

/// Warns of the pods that a level would not have let in.
fn try_on(request: &AdmissionRequest<'_>, namespace: &str, level: At, pods: Vec<Arc<Object>>) {
    let all = pods.len();
    let mut violations: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for object in distinct_first(pods).into_iter().take(MAX_PODS) {
        let found = Pod::of(&object).map(|pod| evaluate(level, &pod)).unwrap_or_default();
        if !found.is_empty() {
            violations
                .entry(checks::reasons(&found))
                .or_default()
                .push(object.name().to_owned());
        }
    }
    if all > MAX_PODS {
        request.warn(format!(
            "new PodSecurity enforce level only checked against the first {MAX_PODS} of {all} existing pods"
        ));
    }
    if violations.is_empty() {
        return;
    }
    request.warn(format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{level}\""
    ));
    let mut lines: Vec<String> = violations.into_iter().map(|(why, pods)| line(&why, pods)).collect();
    lines.sort_unstable();
    lines.into_iter().for_each(|line| request.warn(line));
}

fn line(why: &str, mut pods: Vec<String>) -> String {
    pods.sort_unstable();
    let first = pods.first().map(String::as_str).unwrap_or_default();
    match pods.len() {
        0 | 1 => format!("{first}: {why}"),
        2 => format!("{first} (and 1 other pod): {why}"),
        count => format!("{first} (and {} other pods): {why}", count - 1),
    }
}

/// One pod of each controller, then the others.
fn distinct_first(pods: Vec<Arc<Object>>) -> Vec<Arc<Object>> {
    let mut controllers = std::collections::HashSet::new();
    let new = |pod: &Arc<Object>| {
        pod.controller()
            .is_none_or(|owner| controllers.insert(owner.uid.to_string()))
    };
    let (mut first, rest): (Vec<_>, Vec<_>) = pods.into_iter().partition(new);
    first.extend(rest);
    first
}
