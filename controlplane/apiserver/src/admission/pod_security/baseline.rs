//! The baseline: nothing by which a pod is known to gain privileges. In the order of the checks' names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::checks::{Bad, Check, Pod, Violation, containers, name, plural, quoted, security, setters, texts};

const fn check(id: &'static str, since: u32, run: fn(&Pod<'_>, u32) -> Option<Violation>) -> Check {
    Check {
        id,
        since,
        instead_of: "",
        run,
    }
}

pub(super) const CHECKS: [Check; 12] = [
    check("appArmorProfile", 0, app_armor),
    check("capabilities_baseline", 0, capabilities),
    check("hostNamespaces", 0, host_namespaces),
    check("hostPathVolumes", 0, host_paths),
    check("hostPorts", 0, host_ports),
    check("hostProbesAndHostLifecycle", 34, host_probes),
    check("privileged", 0, privileged),
    check("procMount", 0, proc_mount_of_node_users),
    check("seLinuxOptions", 0, se_linux),
    check("seccompProfile_baseline", 0, seccomp),
    check("sysctls", 0, sysctls),
    check("windowsHostProcess", 0, host_process),
];

const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Kernel parameters that are a pod's own, with the version since which they are allowed.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

/// SELinux types, likewise.
const SE_LINUX_TYPES: [(&str, u32); 5] = [
    ("", 0),
    ("container_t", 0),
    ("container_init_t", 0),
    ("container_kvm_t", 0),
    ("container_engine_t", 31),
];
const APP_ARMOR_KEY: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD_KEY: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_KEY: &str = "container.seccomp.security.alpha.kubernetes.io/";

fn app_armor(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let bad = Bad::find(pod, "/appArmorProfile/type", |kind| {
        matches!(kind, "RuntimeDefault" | "Localhost")
    });
    let good = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotations: BTreeSet<String> = annotations(pod)
        .filter(|(key, value)| key.starts_with(APP_ARMOR_KEY) && !good(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let mut who = setters(bad.pod, &bad.names);
    if !annotations.is_empty() {
        let word = plural("annotation", "annotations", annotations.len());
        who = if who.is_empty() {
            word.to_owned()
        } else {
            format!("{who} and {word}")
        };
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = bad.values.into_iter().chain(annotations).collect();
    let reason = plural(
        "forbidden AppArmor profile",
        "forbidden AppArmor profiles",
        values.len(),
    );
    Violation::new(
        reason,
        format!("{who} must not set AppArmor profile type to {}", quoted(values)),
    )
}

fn annotations<'a>(pod: &Pod<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let map = pod.annotations.into_iter().flatten();
    map.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn capabilities(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let names = pod.names(|container| {
        let bad: Vec<&str> = texts(security(container, "/capabilities/add"))
            .filter(|capability| !CAPABILITIES.contains(capability))
            .collect();
        added.extend(bad.iter().copied());
        !bad.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not include {} in securityContext.capabilities.add",
        containers(&names),
        quoted(added)
    );
    Violation::new("non-default capabilities", detail)
}

fn host_namespaces(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let shared: Vec<String> = shared
        .filter(|field| pod.flag(field) == Some(true))
        .map(|field| format!("{field}=true"))
        .collect();
    match shared.is_empty() {
        true => None,
        false => Violation::new("host namespaces", shared.join(", ")),
    }
}

fn host_paths(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let volumes = pod
        .volumes()
        .filter(|volume| volume.get("hostPath").is_some_and(|path| !path.is_null()));
    let names: Vec<&str> = volumes.map(name).collect();
    match names.len() {
        0 => None,
        count => Violation::new(
            "hostPath volumes",
            format!("{} {}", plural("volume", "volumes", count), quoted(names)),
        ),
    }
}

fn host_ports(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let mut taken = BTreeSet::new();
    let names = pod.names(|container| {
        let ports = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let host = ports
            .filter_map(|port| port.get("hostPort").and_then(Value::as_i64))
            .filter(|port| *port != 0);
        let found: Vec<String> = host.map(|port| port.to_string()).collect();
        taken.extend(found.iter().cloned());
        !found.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural("hostPort", "hostPorts", taken.len()),
        taken.into_iter().collect::<Vec<_>>().join(", ")
    );
    Violation::new("hostPort", detail)
}

/// A probe of another host is asked by the node, which may reach what the pod cannot.
fn host_probes(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    const ASKING: [&str; 5] = [
        "/livenessProbe",
        "/readinessProbe",
        "/startupProbe",
        "/lifecycle/postStart",
        "/lifecycle/preStop",
    ];
    let mut hosts = BTreeSet::new();
    let mut names: Vec<&str> = pod.names(|container| {
        let handlers = ASKING
            .iter()
            .flat_map(|at| ["httpGet", "tcpSocket"].map(|how| format!("{at}/{how}/host")));
        let found = handlers.filter_map(|at| container.pointer(&at).and_then(Value::as_str));
        let found: Vec<&str> = found.filter(|host| !host.is_empty()).collect();
        hosts.extend(found.iter().copied());
        !found.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    names.dedup();
    let detail = format!(
        "{} {} {} {}",
        containers(&names),
        plural("uses", "use", names.len()),
        plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len()),
        quoted(hosts)
    );
    Violation::new("probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let names = pod.names(|container| security(container, "/privileged") == Some(&Value::Bool(true)));
    match names.is_empty() {
        true => None,
        false => Violation::new(
            "privileged",
            format!("{} must not set securityContext.privileged=true", containers(&names)),
        ),
    }
}

/// Since 1.35 a pod with users of its own may see all of its `/proc`.
fn proc_mount_of_node_users(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 35 && pod.has_own_users() {
        return None;
    }
    proc_mount(pod, minor)
}

pub(super) fn proc_mount(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    let bad = Bad::find(pod, "/procMount", |kind| kind == "Default");
    if bad.names.is_empty() {
        return None;
    }
    let detail = format!(
        "{} must not set securityContext.procMount to {}",
        containers(&bad.names),
        quoted(bad.values)
    );
    Violation::new("procMount", detail)
}

fn se_linux(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: Option<&Value>| {
        let Some(options) = options else { return false };
        let text = |field: &str| options.get(field).and_then(Value::as_str).unwrap_or_default();
        let known = SE_LINUX_TYPES
            .iter()
            .any(|(kind, since)| *kind == text("type") && *since <= minor);
        if !known {
            types.insert(text("type").to_owned());
        }
        user |= !text("user").is_empty();
        role |= !text("role").is_empty();
        !known || !text("user").is_empty() || !text("role").is_empty()
    };
    let by_pod = is_bad(pod.security("/seLinuxOptions"));
    let names = pod.names(|container| is_bad(security(container, "/seLinuxOptions")));
    let who = setters(by_pod, &names);
    if who.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    for (set, field) in [(user, "user"), (role, "role")] {
        if set {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    Violation::new("seLinuxOptions", detail)
}

/// Before 1.19 the profile was an annotation.
fn seccomp(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 19 {
        return seccomp_annotations(pod);
    }
    let bad = Bad::find(pod, "/seccompProfile/type", is_seccomp);
    let who = setters(bad.pod, &bad.names);
    match who.is_empty() {
        true => None,
        false => Violation::new(
            "seccompProfile",
            format!(
                "{who} must not set securityContext.seccompProfile.type to {}",
                quoted(bad.values)
            ),
        ),
    }
}

pub(super) fn is_seccomp(kind: &str) -> bool {
    matches!(kind, "Localhost" | "RuntimeDefault")
}

fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let good = |value: &str| matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
    let containers: Vec<String> = pod.containers().map(|c| format!("{SECCOMP_KEY}{}", name(c))).collect();
    let ours = |key: &str| key == SECCOMP_POD_KEY || containers.iter().any(|known| known == key);
    let bad: BTreeSet<String> = annotations(pod)
        .filter(|(key, value)| ours(key) && !good(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", bad.len());
    let list = bad.into_iter().collect::<Vec<_>>().join(", ");
    Violation::new("seccompProfile", format!("forbidden {word} {list}"))
}

fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let list = pod
        .security("/sysctls")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(name);
    let allowed = |sysctl: &str| SYSCTLS.iter().any(|(known, since)| *known == sysctl && *since <= minor);
    let bad: Vec<&str> = list.filter(|sysctl| !allowed(sysctl)).collect();
    match bad.is_empty() {
        true => None,
        false => Violation::new("forbidden sysctls", bad.join(", ")),
    }
}

fn host_process(pod: &Pod<'_>, _minor: u32) -> Option<Violation> {
    const AT: &str = "/windowsOptions/hostProcess";
    let yes = Some(&Value::Bool(true));
    let names = pod.names(|container| security(container, AT) == yes);
    let who = setters(pod.security(AT) == yes, &names);
    match who.is_empty() {
        true => None,
        false => Violation::new(
            "hostProcess",
            format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
        ),
    }
}
