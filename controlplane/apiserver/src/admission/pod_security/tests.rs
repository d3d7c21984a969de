use serde_json::{Value, json};

use super::checks::{Pod, details, evaluate};
use super::policy::{At, Level, Policy, Version};
use crate::resources::testing::{messages, object};

fn at(level: Level, version: Version) -> At {
    At { level, version }
}

/// What a level says of a pod with one container.
fn judge(level: At, spec: Value, container: Value) -> String {
    let mut container = container;
    container["name"] = json!("c");
    let mut spec = spec;
    spec["containers"] = json!([container]);
    let pod = object(json!({"metadata": {"name": "p"}, "spec": spec}));
    details(&evaluate(level, &Pod::of(&pod).expect("a spec")))
}

#[test]
fn the_baseline_refuses_known_ways_to_privileges() {
    let cases = [
        (json!({}), json!({}), ""),
        (
            json!({"hostNetwork": true, "hostIPC": true}),
            json!({}),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
            json!({}),
            "hostPath volumes (volume \"v\")",
        ),
        (
            json!({}),
            json!({"ports": [{"hostPort": 80}, {"hostPort": 443}]}),
            "hostPort (container \"c\" uses hostPorts 443, 80)",
        ),
        (
            json!({}),
            json!({"securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}}),
            "non-default capabilities (container \"c\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), \
             privileged (container \"c\" must not set securityContext.privileged=true)",
        ),
        (
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}, "sysctls": [{"name": "kernel.msgmax"}]}}),
            json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}, "procMount": "Unmasked"}}),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\"), seccompProfile (pod and \
             container \"c\" must not set securityContext.seccompProfile.type to \"Unconfined\"), forbidden sysctls \
             (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "spc_t", "user": "u"}, "windowsOptions": {"hostProcess": true}}}),
            json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\"), seLinuxOptions \
             (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set), hostProcess (pod must not \
             set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            json!({}),
            json!({"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
    ];
    for (spec, container, expected) in cases {
        assert_eq!(judge(at(Level::Baseline, Version::Latest), spec, container), expected);
        assert_eq!(
            judge(
                at(Level::Privileged, Version::Latest),
                json!({"hostPID": true}),
                json!({})
            ),
            ""
        );
    }
}

#[test]
fn the_restricted_level_asks_for_hardening() {
    let restricted = at(Level::Restricted, Version::Latest);
    assert_eq!(
        judge(restricted, json!({}), json!({})),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true \
         (pod or container \"c\" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    let hardened = json!({"securityContext": {"allowPrivilegeEscalation": false, "runAsNonRoot": true,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "seccompProfile": {"type": "RuntimeDefault"}}});
    assert_eq!(judge(restricted, json!({}), hardened.clone()), "");
    let volumes = json!({"volumes": [{"name": "a", "nfs": {}}, {"name": "b", "hostPath": {}}, {"name": "c", "emptyDir": {}}],
        "securityContext": {"runAsUser": 0, "runAsNonRoot": false}});
    assert_eq!(
        judge(restricted, volumes, hardened),
        "restricted volume types (volumes \"a\", \"b\" use restricted volume types \"hostPath\", \"nfs\"), runAsNonRoot != true \
         (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)"
    );
}

#[test]
fn a_version_has_its_own_checks() {
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    let baseline = |minor| at(Level::Baseline, Version::Minor(minor));
    assert_eq!(
        judge(baseline(31), sysctl.clone(), json!({})),
        "forbidden sysctls (net.ipv4.tcp_rmem)"
    );
    assert_eq!(judge(baseline(32), sysctl, json!({})), "");
    let users = json!({"hostUsers": false, "securityContext": {"runAsUser": 0}});
    let unmasked = json!({"securityContext": {"procMount": "Unmasked"}});
    assert_eq!(judge(baseline(99), users.clone(), unmasked.clone()), "");
    assert!(judge(baseline(34), users.clone(), unmasked.clone()).starts_with("procMount"));
    let restricted = |minor| {
        judge(
            at(Level::Restricted, Version::Minor(minor)),
            users.clone(),
            unmasked.clone(),
        )
    };
    assert!(restricted(35).contains("procMount") && !restricted(35).contains("runAsUser=0"));
    assert!(restricted(34).contains("runAsUser=0") && restricted(23).contains("runAsUser=0"));
    assert!(!restricted(22).contains("runAsUser=0"));
}

#[test]
fn labels_say_which_level_holds() {
    let policy = |labels: Value| Policy::of(&object(json!({"metadata": {"name": "ns", "labels": labels}})));
    let (none, errors) = policy(json!({"app": "x"}));
    assert!(errors.is_empty());
    assert_eq!(
        (none.enforce.level, none.warn.level),
        (Level::Privileged, Level::Privileged)
    );
    let (enforced, _) = policy(json!({"pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "v1.30"}));
    assert_eq!(enforced.enforce, at(Level::Baseline, Version::Minor(30)));
    assert_eq!(enforced.warn, enforced.enforce);
    let (wrong, errors) = policy(json!({"pod-security.kubernetes.io/enforce": "strict",
        "pod-security.kubernetes.io/warn-version": "v1.05"}));
    assert_eq!(
        (wrong.enforce.level, wrong.warn.level),
        (Level::Restricted, Level::Privileged)
    );
    assert_eq!(
        messages(errors),
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, \
             baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.05\": must be \"latest\" or \"v1.x\""
        ]
    );
}
