//! The restricted level: what hardening asks for beyond the baseline. In the order of the checks' names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{is_seccomp, proc_mount};
use super::checks::{Bad, Check, Pod, Violation, containers, name, plural, quoted, security, setters, texts};

const fn check(
    id: &'static str,
    since: u32,
    instead_of: &'static str,
    run: fn(&Pod<'_>, u32) -> Option<Violation>,
) -> Check {
    Check {
        id,
        since,
        instead_of,
        run,
    }
}

pub(super) const CHECKS: [Check; 7] = [
    check("allowPrivilegeEscalation", 8, "", privilege_escalation),
    check("capabilities_restricted", 22, "capabilities_baseline", capabilities),
    check("procMount_restricted", 35, "procMount", proc_mount),
    check("restrictedVolumes", 0, "hostPathVolumes", volumes),
    check("runAsNonRoot", 0, "", non_root),
    check("runAsUser", 23, "", user),
    check("seccompProfile_restricted", 19, "seccompProfile_baseline", seccomp),
];

/// Volumes of the pod's own, or of the cluster's.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// From this version on, pods for Windows are not asked for what they cannot have.
const WINDOWS: u32 = 25;
/// From this version on, root among a pod's own users is nobody to the node.
const OWN_USERS: u32 = 35;

fn privilege_escalation(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= WINDOWS && pod.is_windows() {
        return None;
    }
    let names = pod.names(|c| security(c, "/allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    match names.is_empty() {
        true => None,
        false => Violation::new(
            "allowPrivilegeEscalation != false",
            format!(
                "{} must set securityContext.allowPrivilegeEscalation=false",
                containers(&names)
            ),
        ),
    }
}

fn capabilities(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= WINDOWS && pod.is_windows() {
        return None;
    }
    let keeping = pod.names(|c| !texts(security(c, "/capabilities/drop")).any(|dropped| dropped == "ALL"));
    let mut added = BTreeSet::new();
    let adding = pod.names(|c| {
        let bad: Vec<&str> = texts(security(c, "/capabilities/add"))
            .filter(|cap| *cap != "NET_BIND_SERVICE")
            .collect();
        added.extend(bad.iter().copied());
        !bad.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = containers(&keeping);
        details.push(format!("{who} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    if !adding.is_empty() {
        let (who, what) = (containers(&adding), quoted(added));
        details.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    match details.is_empty() {
        true => None,
        false => Violation::new("unrestricted capabilities", details.join("; ")),
    }
}

fn volumes(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let set = |volume: &Value, field: &str| volume.get(field).is_some_and(|source| !source.is_null());
    let bad: Vec<&Value> = pod
        .volumes()
        .filter(|volume| !VOLUMES.iter().any(|kind| set(volume, kind)))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let kind = |volume: &&Value| {
        let fields = volume.as_object().into_iter().flatten();
        let mut sources = fields.filter(|(field, source)| *field != "name" && !source.is_null());
        sources
            .next()
            .map_or_else(|| "unknown".to_owned(), |(field, _)| field.clone())
    };
    let kinds: BTreeSet<String> = bad.iter().map(kind).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|volume| name(volume))),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds)
    );
    Violation::new("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if minor >= OWN_USERS && pod.has_own_users() {
        return None;
    }
    let of_pod = pod.security("/runAsNonRoot").and_then(Value::as_bool);
    let of = |c: &Value| security(c, "/runAsNonRoot").and_then(Value::as_bool);
    let who = setters(of_pod == Some(false), &pod.names(|c| of(c) == Some(false)));
    if !who.is_empty() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Violation::new(REASON, detail);
    }
    let silent = pod.names(|c| of(c).is_none() && of_pod != Some(true));
    match silent.is_empty() {
        true => None,
        false => Violation::new(
            REASON,
            format!(
                "pod or {} must set securityContext.runAsNonRoot=true",
                containers(&silent)
            ),
        ),
    }
}

fn user(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= OWN_USERS && pod.has_own_users() {
        return None;
    }
    let root = |value: Option<&Value>| value.and_then(Value::as_i64) == Some(0);
    let names = pod.names(|c| root(security(c, "/runAsUser")));
    let who = setters(root(pod.security("/runAsUser")), &names);
    match who.is_empty() {
        true => None,
        false => Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0")),
    }
}

fn seccomp(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    const REASON: &str = "seccompProfile";
    const AT: &str = "/seccompProfile/type";
    if minor >= WINDOWS && pod.is_windows() {
        return None;
    }
    let bad = Bad::find(pod, AT, is_seccomp);
    let who = setters(bad.pod, &bad.names);
    if !who.is_empty() {
        let detail = format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(bad.values)
        );
        return Violation::new(REASON, detail);
    }
    let by_pod = pod.security(AT).is_some();
    let silent = pod.names(|c| security(c, AT).is_none() && !by_pod);
    match silent.is_empty() {
        true => None,
        false => Violation::new(
            REASON,
            format!(
                "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
                containers(&silent)
            ),
        ),
    }
}
