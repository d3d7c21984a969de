//! Security contexts of pods and containers.

use api::FieldErrors;

use super::super::At;

const MAX_ID: i64 = i32::MAX as i64;

/// `securityContext` of a pod, with the host settings that depend on it.
pub(super) fn pod(spec: &At<'_>, errors: &mut FieldErrors) {
    let at = spec.child("securityContext");
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        at.child(field).within(errors, 0, MAX_ID);
    }
    for group in at.child("supplementalGroups").items() {
        group.within(errors, 0, MAX_ID);
    }
    let share = spec.child("shareProcessNamespace");
    if share.bool() && spec.child("hostPID").bool() {
        errors.push(share.invalid("ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    at.child("fsGroupChangePolicy")
        .one_of(errors, &["Always", "OnRootMismatch"]);
    at.child("supplementalGroupsPolicy")
        .one_of(errors, &["Merge", "Strict"]);
    for sysctl in at.child("sysctls").items() {
        sysctl.child("name").require(errors, sysctl_name);
    }
    profile(&at.child("seccompProfile"), errors);
    profile(&at.child("appArmorProfile"), errors);
}

/// `securityContext` of a container, if set.
pub(super) fn container(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        at.child(field).within(errors, 0, MAX_ID);
    }
    at.child("procMount").one_of(errors, &["Default", "Unmasked"]);
    profile(&at.child("seccompProfile"), errors);
    profile(&at.child("appArmorProfile"), errors);
    let escalation = at.child("allowPrivilegeEscalation");
    if !escalation.is_set() || escalation.bool() {
        return;
    }
    if at.child("privileged").bool() {
        errors.push(at.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
    }
    if at
        .child("capabilities")
        .child("add")
        .items()
        .iter()
        .any(|cap| cap.str() == "CAP_SYS_ADMIN")
    {
        errors.push(at.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"));
    }
}

/// A seccomp or AppArmor profile, if set: a local one is named, the others are not.
fn profile(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    let (kind, local) = (at.child("type"), at.child("localhostProfile"));
    kind.require_one_of(errors, &["Localhost", "RuntimeDefault", "Unconfined"]);
    if kind.str() == "Localhost" {
        if local.is_empty() {
            errors.push(local.required("must be set when type is Localhost"));
        }
    } else if local.is_set() {
        errors.push(local.invalid("can only be set when type is Localhost"));
    }
}

fn sysctl_name(name: &str) -> Vec<String> {
    let part = |p: &str| {
        !p.is_empty()
            && p.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
            && p.starts_with(|c: char| c.is_ascii_alphanumeric())
            && p.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    if name.len() <= 253 && name.split(['.', '/']).all(part) {
        return Vec::new();
    }
    vec![
        "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            .to_owned(),
    ]
}
