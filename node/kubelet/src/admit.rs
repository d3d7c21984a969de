//! What a kubelet refuses before it begins: pods that this node cannot run as they are described. Pure.
//!
//! A refused pod is Failed for good, with Kubernetes' reasons, and its controller makes another.

use crate::{
    make::Platform,
    node::Pressure,
    pod::{Pod, ProfileKind},
    resources,
};

/// Why a pod is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// CamelCase.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Kernel parameters that a pod may set without harm to others, as Kubernetes lists them ("Using sysctls").
const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Why this node, which is short of something or of nothing, refuses the pod, if it does.
pub(crate) fn check(pod: &Pod, platform: &Platform, short: &[Pressure]) -> Option<Rejection> {
    pressure(pod, short)
        .or_else(|| sysctls(pod))
        .or_else(|| apparmor(pod, platform))
        .or_else(|| user_namespace(pod, platform))
        .or_else(|| strict_groups(pod, platform))
}

/// Pods that come all the same, like those of DaemonSets. Short of memory alone, the node refuses those that ask for nothing
/// and do not tolerate that.
fn pressure(pod: &Pod, short: &[Pressure]) -> Option<Rejection> {
    let is_taken = match short {
        [] => true,
        _ if pod.is_critical() || pod.is_static() => true,
        [Pressure::Memory] => resources::qos_class(pod) != "BestEffort" || pod.spec.tolerates_memory_pressure,
        _ => false,
    };
    let names: Vec<&str> = short.iter().map(|pressure| pressure.condition()).collect();
    (!is_taken).then(|| Rejection {
        reason: "Evicted",
        message: format!("The node had condition: [{}]. ", names.join(" ")),
    })
}

fn sysctls(pod: &Pod) -> Option<Rejection> {
    let context = pod.spec.security_context.as_deref()?;
    let mut names = context.sysctls.iter().map(|s| s.name.replace('/', "."));
    let refused = |name: &String| {
        let of_node = (pod.spec.host_network && name.starts_with("net."))
            || (pod.spec.host_ipc && (name.starts_with("kernel.shm") || name.starts_with("kernel.msg")));
        of_node || !SAFE_SYSCTLS.contains(&&**name)
    };
    let name = names.find(refused)?;
    Some(Rejection {
        reason: "SysctlForbidden",
        message: format!("forbidden sysctl: \"{name}\" not allowlisted"),
    })
}

fn apparmor(pod: &Pod, platform: &Platform) -> Option<Rejection> {
    if platform.apparmor {
        return None;
    }
    let wants = |name: &str, own| {
        let profile = pod.apparmor(name, own);
        profile.is_some_and(|profile| profile.kind != ProfileKind::Unconfined)
    };
    let mut containers = pod.lasting_containers();
    containers
        .any(|(_, c)| wants(&c.name, c.security_context.as_deref()))
        .then(|| Rejection {
            reason: "AppArmor",
            message: "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned(),
        })
}

/// Wasm guests have no users, and what runs OCI containers may be too old.
fn user_namespace(pod: &Pod, platform: &Platform) -> Option<Rejection> {
    (pod.spec.host_users == Some(false) && !platform.user_namespaces).then(|| Rejection {
        reason: "UserNamespacesNotSupported",
        message:
            "the container runtime of this node does not support user namespaces (containerd 2.0 and runc 1.2 do); \
                  remove hostUsers: false"
                .to_owned(),
    })
}

fn strict_groups(pod: &Pod, platform: &Platform) -> Option<Rejection> {
    let context = pod.spec.security_context.as_deref()?;
    (context.supplemental_groups_policy == "Strict" && !platform.strict_groups).then(|| Rejection {
        reason: "SupplementalGroupsPolicyNotSupported",
        message: "SupplementalGroupsPolicy=Strict is not supported in this node".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn refuses_what_the_node_cannot_do() {
        let sysctl = |name: &str| json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
        let armored =
            json!({"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}, "containers": [{"name": "c"}]});
        let mut of_host = sysctl("net.ipv4.tcp_syncookies");
        of_host["hostNetwork"] = true.into();
        let strict = json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}});
        let cases: [(Value, Option<&str>); 8] = [
            (strict, Some("SupplementalGroupsPolicyNotSupported")),
            (json!({}), None),
            (sysctl("net/ipv4/tcp_syncookies"), None),
            (of_host, Some("SysctlForbidden")),
            (sysctl("kernel.msgmax"), Some("SysctlForbidden")),
            (armored, Some("AppArmor")),
            (json!({"hostUsers": false}), Some("UserNamespacesNotSupported")),
            (json!({"hostUsers": true}), None),
        ];
        for (spec, want) in cases {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("pod");
            assert_eq!(check(&pod, &Platform::default(), &[]).map(|r| r.reason), want, "{spec}");
        }
        let able = Platform {
            user_namespaces: true,
            ..Platform::default()
        };
        let mapped = json!({"spec": {"hostUsers": false}});
        assert_eq!(check(&serde_json::from_value(mapped).expect("pod"), &able, &[]), None);
        let pod = json!({"spec": sysctl("kernel.msgmax")});
        let refused = check(&serde_json::from_value(pod).expect("pod"), &Platform::default(), &[]).expect("refused");
        assert_eq!(refused.message, "forbidden sysctl: \"kernel.msgmax\" not allowlisted");
    }

    #[test]
    fn a_node_that_runs_short_takes_whom_it_needs() {
        let requests = json!({"containers": [{"name": "c", "resources": {"requests": {"memory": "1Mi"}}}]});
        let tolerates = |toleration: Value| json!({"containers": [{"name": "c"}], "tolerations": [toleration]});
        let taint = "node.kubernetes.io/memory-pressure";
        let (memory, disk) = ([Pressure::Memory].as_slice(), [Pressure::Disk].as_slice());
        let both = [Pressure::Memory, Pressure::Disk];
        let (of_memory, of_disk) = ("[MemoryPressure]", "[DiskPressure]");
        for (spec, short, refused) in [
            (json!({}), &[][..], None),
            (json!({}), memory, Some(of_memory)),
            (json!({}), disk, Some(of_disk)),
            (json!({}), &both, Some("[MemoryPressure DiskPressure]")),
            (json!({}), &[Pressure::Pids], Some("[PIDPressure]")),
            (requests.clone(), memory, None),
            (requests, disk, Some(of_disk)),
            (tolerates(json!({"operator": "Exists"})), memory, None),
            (tolerates(json!({"operator": "Exists"})), disk, Some(of_disk)),
            (tolerates(json!({"key": taint, "effect": "NoSchedule"})), memory, None),
            (
                tolerates(json!({"key": taint, "effect": "NoExecute"})),
                memory,
                Some(of_memory),
            ),
            (tolerates(json!({"key": taint, "value": "x"})), memory, Some(of_memory)),
            (json!({"priority": 2_000_000_000}), &both, None),
            (
                json!({"priority": 1_999_999_999}),
                &both,
                Some("[MemoryPressure DiskPressure]"),
            ),
        ] {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).expect("pod");
            let told = check(&pod, &Platform::default(), short).map(|rejection| (rejection.reason, rejection.message));
            let want = refused.map(|conditions| ("Evicted", format!("The node had condition: {conditions}. ")));
            assert_eq!(told, want, "{spec} {short:?}");
        }
        let fixed = json!({"metadata": {"annotations": {"kubernetes.io/config.source": "file"}}});
        let fixed: Pod = serde_json::from_value(fixed).expect("pod");
        assert_eq!(check(&fixed, &Platform::default(), &both), None);
    }
}
