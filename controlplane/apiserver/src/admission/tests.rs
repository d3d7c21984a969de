use std::sync::Arc;

use api::{Object, Status};
use serde_json::{Value, json};

use super::{Admission, AdmissionRequest, plugins};
use crate::authn::UserInfo;
use crate::registry::Deps;
use crate::registry::resource::{Operation, Resource};
use crate::resources::testing::{deps, object};

fn world() -> Vec<(&'static str, Value)> {
    let dying = json!({"metadata": {"name": "dying", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let account = |name: &str, extra: Value| {
        let mut account = json!({"metadata": {"name": name, "namespace": "ns"}});
        if let (Some(map), Value::Object(extra)) = (account.as_object_mut(), extra) {
            map.extend(extra);
        }
        account
    };
    let class = |name: &str, extra: Value| {
        let mut class = json!({"metadata": {"name": name}, "handler": name});
        if let (Some(map), Value::Object(extra)) = (class.as_object_mut(), extra) {
            map.extend(extra);
        }
        class
    };
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    vec![
        ("namespaces", json!({"metadata": {"name": "ns"}})),
        ("namespaces", dying),
        (
            "serviceaccounts",
            account("default", json!({"imagePullSecrets": [{"name": "pull"}]})),
        ),
        (
            "serviceaccounts",
            account("quiet", json!({"automountServiceAccountToken": false})),
        ),
        (
            "priorityclasses",
            json!({"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}),
        ),
        ("runtimeclasses", class("plain", json!({}))),
        (
            "namespaces",
            json!({"metadata": {"name": "strict",
            "labels": {"pod-security.kubernetes.io/enforce": "baseline", "pod-security.kubernetes.io/warn": "restricted"}}}),
        ),
        (
            "serviceaccounts",
            json!({"metadata": {"name": "default", "namespace": "strict"}}),
        ),
        (
            "limitranges",
            json!({"metadata": {"name": "small", "namespace": "strict"}, "spec": {"limits": [
            {"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "500m"}, "max": {"cpu": "2"}}]}}),
        ),
        ("nodes", json!({"metadata": {"name": "n1", "uid": "u1"}})),
        (
            "resourcequotas",
            json!({"metadata": {"name": "q", "namespace": "strict", "resourceVersion": "1"},
            "spec": {"hard": {"count/leases.coordination.k8s.io": "1"}},
            "status": {"hard": {"count/leases.coordination.k8s.io": "1"},
                "used": {"count/leases.coordination.k8s.io": "1"}}}),
        ),
        (
            "priorityclasses",
            json!({"metadata": {"name": "meek"}, "value": 7, "preemptionPolicy": "Never"}),
        ),
        (
            "clusterroles",
            json!({"metadata": {"name": "approver"}, "rules": [{"verbs": ["approve"],
            "apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "resourceNames": ["example.com/*"]}]}),
        ),
        (
            "clusterrolebindings",
            json!({"metadata": {"name": "anna"}, "roleRef": {"kind": "ClusterRole", "name": "approver"},
            "subjects": [{"kind": "User", "name": "anna"}]}),
        ),
        (
            "runtimeclasses",
            class(
                "heavy",
                json!({"overhead": {"podFixed": {"cpu": "1m"}},
            "scheduling": {"nodeSelector": {"wasm": "yes"}, "tolerations": [{"key": "wasm", "operator": "Exists"}]}}),
            ),
        ),
        ("clusterroles", json!({"metadata": {"name": "reader"}, "rules": rules})),
        (
            "clusterroles",
            json!({"metadata": {"name": "secrets"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]}),
        ),
        (
            "clusterroles",
            json!({"metadata": {"name": "binder"}, "rules": [{"verbs": ["bind"],
            "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["secrets"]}]}),
        ),
        (
            "clusterrolebindings",
            json!({"metadata": {"name": "jane"}, "roleRef": {"kind": "ClusterRole", "name": "reader"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "User", "name": "joe"}]}),
        ),
        (
            "clusterrolebindings",
            json!({"metadata": {"name": "joe"}, "roleRef": {"kind": "ClusterRole", "name": "binder"},
            "subjects": [{"kind": "User", "name": "joe"}]}),
        ),
    ]
}

fn find(deps: &Deps, plural: &str) -> Resource {
    let all = crate::resources::catalogue(deps);
    all.into_iter()
        .find(|r| r.plural == plural)
        .expect("a kind of the catalogue")
}

/// Runs all plugins over one write, first `admit`, then `validate`.
async fn admit(
    user: &UserInfo,
    plural: &str,
    namespace: Option<&str>,
    operation: Operation<'_>,
    object: Option<&mut Object>,
) -> Result<(), Status> {
    let part = None;
    admit_part(user, plural, part, namespace, operation, object)
        .await
        .map(drop)
}

/// The same for a subresource; gives what callers are warned of.
async fn admit_part(
    user: &UserInfo,
    plural: &str,
    subresource: Option<&str>,
    namespace: Option<&str>,
    operation: Operation<'_>,
    object: Option<&mut Object>,
) -> Result<Vec<String>, Status> {
    let deps = deps(world());
    let resource = find(&deps, plural);
    let name = object
        .as_deref()
        .or(operation.old())
        .map(|o| o.name().to_owned())
        .unwrap_or_default();
    let mut request = AdmissionRequest {
        user,
        operation,
        resource: &resource,
        subresource,
        namespace,
        name: &name,
        object,
        old: operation.old(),
        dry_run: false,
        reader: deps.reader.as_ref(),
        warnings: parking_lot::Mutex::default(),
    };
    let all: Vec<Arc<_>> = plugins(
        &deps,
        Arc::new(crate::authz::Configured::new(&deps, &Default::default())),
    )
    .into_iter()
    .filter(|p| p.handles(&operation, &resource, subresource))
    .collect();
    for plugin in &all {
        plugin.admit(&mut request).await?;
    }
    for plugin in &all {
        plugin.validate(&request).await?;
    }
    Ok(request.warnings.into_inner())
}

fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        username: name.to_owned(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        ..UserInfo::default()
    }
}

async fn create_pod(namespace: &str, spec: Value) -> Result<Object, String> {
    let mut pod = object(json!({"metadata": {"name": "p", "namespace": namespace}, "spec": spec}));
    let nobody = UserInfo::default();
    let done = admit(&nobody, "pods", Some(namespace), Operation::Create, Some(&mut pod)).await;
    done.map(|()| pod).map_err(|status| status.message)
}

#[tokio::test]
async fn a_plain_pod_gets_account_token_priority_and_tolerations() {
    let mut pod = create_pod("ns", json!({"containers": [{"name": "c"}]}))
        .await
        .expect("admitted");
    // The volume's name is random.
    let volume = pod.at_mut("spec.volumes").expect("volumes");
    let name = volume[0]["name"].as_str().expect("a name").to_owned();
    assert!(name.len() == 21 && name.starts_with("kube-api-access-"), "{name}");
    volume[0]["name"] = json!("kube-api-access-xxxxx");
    let mount = &mut pod.at_mut("spec.containers").expect("containers")[0]["volumeMounts"][0];
    assert_eq!(mount["name"], json!(name));
    mount["name"] = json!("kube-api-access-xxxxx");
    insta::assert_json_snapshot!(pod);
}

#[tokio::test]
async fn a_token_is_mounted_once_and_only_where_wanted() {
    let mounts = |pod: &Object| {
        pod.list_at("spec.containers")[0]
            .get("volumeMounts")
            .and_then(Value::as_array)
            .map_or(0, Vec::len)
    };
    let own = json!({"containers": [{"name": "c", "volumeMounts": [{"name": "v",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]});
    let pod = create_pod("ns", own).await.expect("admitted");
    assert_eq!((mounts(&pod), pod.list_at("spec.volumes").len()), (1, 0));
    for declined in [
        json!({"automountServiceAccountToken": false, "containers": [{"name": "c"}]}),
        json!({"serviceAccountName": "quiet", "containers": [{"name": "c"}]}),
    ] {
        let pod = create_pod("ns", declined).await.expect("admitted");
        assert_eq!((mounts(&pod), pod.list_at("spec.volumes").len()), (0, 0));
    }
    let wanted =
        json!({"serviceAccount": "quiet", "automountServiceAccountToken": true, "containers": [{"name": "c"}]});
    let pod = create_pod("ns", wanted).await.expect("admitted");
    assert_eq!(pod.str_at("spec.serviceAccountName"), Some("quiet"));
    assert_eq!(mounts(&pod), 1);
}

#[tokio::test]
async fn nothing_changes_in_a_namespace_that_is_not_there() {
    let missing = "namespaces \"nowhere\" not found";
    for (namespace, expected) in [("ns", None), ("dying", None), ("nowhere", Some(missing))] {
        let old = object(json!({"metadata": {"name": "m", "namespace": namespace}}));
        for operation in [Operation::Update { old: &old }, Operation::UpdateStatus { old: &old }] {
            let (nobody, mut new) = (UserInfo::default(), old.clone());
            let done = admit(&nobody, "configmaps", Some(namespace), operation, Some(&mut new)).await;
            let said = done.err().map(|status| status.message);
            assert_eq!(said.as_deref(), expected);
        }
    }
}

#[tokio::test]
async fn says_why_a_pod_is_not_admitted() {
    let containers = json!([{"name": "c"}]);
    let cases = [
        (
            "nowhere",
            json!({"containers": containers}),
            "namespaces \"nowhere\" not found",
        ),
        (
            "dying",
            json!({"containers": containers}),
            "pods \"p\" is forbidden: unable to create new content in namespace dying because it is being terminated",
        ),
        (
            "ns",
            json!({"serviceAccountName": "x", "containers": containers}),
            "pods \"p\" is forbidden: error looking up service account ns/x: serviceaccount \"x\" not found",
        ),
        (
            "ns",
            json!({"runtimeClassName": "x", "containers": containers}),
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"x\" not found",
        ),
        (
            "ns",
            json!({"runtimeClassName": "plain", "overhead": {"cpu": "1"}, "containers": containers}),
            "pods \"p\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            "ns",
            json!({"runtimeClassName": "heavy", "nodeSelector": {"wasm": "no"}, "containers": containers}),
            "pods \"p\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[wasm] = yes; pod.spec.nodeSelector[wasm] = no",
        ),
        (
            "ns",
            json!({"priorityClassName": "x", "containers": containers}),
            "pods \"p\" is forbidden: no PriorityClass with name x was found",
        ),
        (
            "ns",
            json!({"priorityClassName": "high", "priority": 7, "containers": containers}),
            "pods \"p\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission \
             controller computed 1000 from the given PriorityClass name",
        ),
        (
            "ns",
            json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority", "containers": containers}),
            "pods \"p\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod \
             spec; priority admission controller computed Never from the given PriorityClass name",
        ),
    ];
    for (namespace, spec, expected) in cases {
        assert_eq!(create_pod(namespace, spec).await.expect_err("refused"), expected);
    }
}

#[tokio::test]
async fn a_runtime_class_brings_overhead_and_conditions() {
    let pod = create_pod(
        "ns",
        json!({"runtimeClassName": "heavy", "containers": [{"name": "c"}]}),
    )
    .await
    .expect("admitted");
    assert_eq!(pod.at("spec.overhead"), Some(&json!({"cpu": "1m"})));
    assert_eq!(pod.at("spec.nodeSelector"), Some(&json!({"wasm": "yes"})));
    assert!(
        pod.list_at("spec.tolerations")
            .contains(&json!({"key": "wasm", "operator": "Exists"}))
    );
}

#[tokio::test]
async fn some_namespaces_never_go() {
    let delete = async |name: &str| {
        let old = object(json!({"metadata": {"name": name}}));
        let root = user("admin", &["system:masters"]);
        let done = admit(&root, "namespaces", None, Operation::Delete { old: &old }, None).await;
        done.map_err(|status| status.message)
    };
    assert_eq!(
        delete("kube-system").await,
        Err("namespaces \"kube-system\" is forbidden: this namespace may not be deleted".to_owned())
    );
    assert_eq!(delete("ns").await, Ok(()));
}

#[tokio::test]
async fn a_new_node_is_tainted_once() {
    let mut node = object(json!({"metadata": {"name": "n1"}, "spec": {}}));
    for _ in 0..2 {
        admit(&UserInfo::default(), "nodes", None, Operation::Create, Some(&mut node))
            .await
            .expect("admitted");
    }
    assert_eq!(
        node.list_at("spec.taints"),
        [json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})]
    );
}

#[tokio::test]
async fn a_node_writes_its_own_objects_only() {
    let agent = user("system:node:n1", &["system:nodes"]);
    let of = |plural: &'static str, old: Value, new: Option<Value>| {
        let agent = agent.clone();
        async move {
            let old = object(old);
            let mut new = new.map(object);
            let operation = match new {
                Some(_) => Operation::UpdateStatus { old: &old },
                None => Operation::Delete { old: &old },
            };
            let done = admit(&agent, plural, Some("ns"), operation, new.as_mut()).await;
            done.map_err(|status| status.message)
        }
    };
    let pod = |node: &str| json!({"metadata": {"name": "p"}, "spec": {"nodeName": node}});
    assert_eq!(of("pods", pod("n1"), Some(pod("n1"))).await, Ok(()));
    assert_eq!(of("pods", pod("n1"), None).await, Ok(()));
    assert_eq!(
        of("pods", pod("n2"), None).await,
        Err("pods \"p\" is forbidden: node \"n1\" can only delete pods with spec.nodeName set to itself".to_owned())
    );
    assert_eq!(
        of("pods", pod("n2"), Some(pod("n2"))).await,
        Err(
            "pods \"p\" is forbidden: node \"n1\" can only update pod status for pods with spec.nodeName set to itself"
                .to_owned()
        )
    );
    let node = |name: &str| json!({"metadata": {"name": name}});
    assert_eq!(of("nodes", node("n1"), Some(node("n1"))).await, Ok(()));
    assert_eq!(
        of("nodes", node("n2"), Some(node("n2"))).await,
        Err("nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\"".to_owned())
    );
    let labelled = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}});
    let own = json!({"disk": "ssd", "kubernetes.io/arch": "wasm", "x.node.kubernetes.io/y": "z"});
    assert_eq!(of("nodes", node("n1"), Some(labelled(own))).await, Ok(()));
    let steering = json!({"node-role.kubernetes.io/x": "", "a.node-restriction.kubernetes.io/b": "", "k8s.io/c": ""});
    assert_eq!(
        of("nodes", node("n1"), Some(labelled(steering))).await,
        Err(
            "nodes \"n1\" is forbidden: is not allowed to modify labels: a.node-restriction.kubernetes.io/b, k8s.io/c, \
             node-role.kubernetes.io/x"
                .to_owned()
        )
    );
    let slice = |node: &str| json!({"metadata": {"name": "s"}, "spec": {"nodeName": node}});
    assert_eq!(of("resourceslices", slice("n1"), None).await, Ok(()));
    assert_eq!(
        of("resourceslices", slice("n2"), None).await,
        Err(
            "resourceslices.resource.k8s.io \"s\" is forbidden: can only delete ResourceSlice with the same NodeName as the \
             requesting node"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn a_node_s_own_pods_name_it_and_refer_to_nothing() {
    let agent = user("system:node:n1", &["system:nodes"]);
    let mirror = |owner: Value, more: Value| {
        let mut pod = json!({"metadata": {"name": "p", "namespace": "ns", "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [owner]}, "spec": {"nodeName": "n1", "containers": [{"name": "c"}]}});
        for (key, value) in more.as_object().cloned().unwrap_or_default() {
            pod["spec"][key] = value;
        }
        object(pod)
    };
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true});
    let cases = [
        (owner("u1"), json!({}), None),
        (owner("u2"), json!({}), Some("node n1 UID mismatch: expected u2 got u1")),
        (
            owner("u1"),
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}]}),
            Some("node \"n1\" can not create pods that reference secrets (via projected volumes)"),
        ),
        (
            json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "u"}),
            json!({}),
            Some("node \"n1\" can only create pods with an owner reference set to itself"),
        ),
    ];
    for (owner, more, expected) in cases {
        let mut pod = mirror(owner, more);
        let done = admit(&agent, "pods", Some("ns"), Operation::Create, Some(&mut pod)).await;
        let why = done.err().map(|status| status.message);
        assert_eq!(why, expected.map(|why| format!("pods \"p\" is forbidden: {why}")));
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let write = async |who: &UserInfo, plural: &str, value: Value| {
        let mut new = object(value);
        let done = admit(who, plural, None, Operation::Create, Some(&mut new)).await;
        done.map_err(|status| status.message)
    };
    let role = |resource: &str| json!({"metadata": {"name": "r"}, "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
    let binding = |role: &str| json!({"metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": []});
    let (jane, joe, root) = (
        user("jane", &["dev"]),
        user("joe", &[]),
        user("root", &["system:masters"]),
    );
    assert_eq!(write(&jane, "clusterroles", role("pods")).await, Ok(()));
    assert_eq!(
        write(&jane, "clusterroles", role("secrets")).await,
        Err("clusterroles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"dev\"]) is attempting to grant RBAC \
             permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}"
            .to_owned())
    );
    assert_eq!(write(&jane, "clusterrolebindings", binding("reader")).await, Ok(()));
    assert!(write(&jane, "clusterrolebindings", binding("secrets")).await.is_err());
    assert_eq!(write(&joe, "clusterrolebindings", binding("secrets")).await, Ok(()));
    assert_eq!(write(&root, "clusterrolebindings", binding("secrets")).await, Ok(()));
    assert_eq!(
        write(&jane, "clusterrolebindings", binding("missing")).await,
        Err("clusterroles.rbac.authorization.k8s.io \"missing\" not found".to_owned())
    );
}

#[tokio::test]
async fn a_pod_matters_as_much_as_its_class_says() {
    for (spec, priority, policy) in [
        (json!({}), 0, "PreemptLowerPriority"),
        (json!({"priorityClassName": "high"}), 1000, "Never"),
        (
            json!({"priorityClassName": "system-node-critical"}),
            2_000_001_000,
            "PreemptLowerPriority",
        ),
    ] {
        let mut pod = spec.clone();
        pod["containers"] = json!([{"name": "c"}]);
        let pod = create_pod("ns", pod).await.expect("admitted");
        assert_eq!(pod.i64_at("spec.priority"), Some(priority), "{spec}");
        assert_eq!(pod.str_at("spec.preemptionPolicy"), Some(policy), "{spec}");
    }
}

/// What the plugin alone makes of a write in a world with these classes.
async fn with_classes(classes: &[Value], plural: &str, object: &mut Object) -> Result<(), String> {
    let deps = deps(classes.iter().map(|class| ("priorityclasses", class.clone())).collect());
    let resource = find(&deps, plural);
    let user = UserInfo::default();
    let name = object.name().to_owned();
    let mut request = AdmissionRequest {
        user: &user,
        operation: Operation::Create,
        resource: &resource,
        subresource: None,
        namespace: None,
        name: &name,
        object: Some(object),
        old: None,
        dry_run: false,
        reader: deps.reader.as_ref(),
        warnings: Vec::new().into(),
    };
    let plugin = super::pod_priority::Priority;
    assert!(plugin.handles(&Operation::Create, &resource, None));
    plugin.admit(&mut request).await.map_err(|status| status.message)?;
    plugin.validate(&request).await.map_err(|status| status.message)
}

#[tokio::test]
async fn one_class_is_that_of_pods_that_name_none() {
    let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value, "globalDefault": true});
    let mut pod = object(json!({"metadata": {"name": "p"}, "spec": {}}));
    with_classes(&[class("much", 9), class("little", 5)], "pods", &mut pod)
        .await
        .expect("admitted");
    assert_eq!(
        pod.at("spec"),
        Some(&json!({"priorityClassName": "little", "priority": 5}))
    );
    let mut second = object(class("second", 1));
    assert_eq!(with_classes(&[], "priorityclasses", &mut second).await, Ok(()));
    assert_eq!(
        with_classes(&[class("first", 1)], "priorityclasses", &mut second).await,
        Err(
            "priorityclasses.scheduling.k8s.io \"second\" is forbidden: PriorityClass first is already marked as default. Only \
             one default can exist"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn a_class_gives_priority_and_policy() {
    let containers = json!([{"name": "c"}]);
    let pod = create_pod("ns", json!({"priorityClassName": "meek", "containers": containers}))
        .await
        .expect("admitted");
    assert_eq!(pod.i64_at("spec.priority"), Some(7));
    assert_eq!(pod.str_at("spec.preemptionPolicy"), Some("Never"));
    let bold =
        json!({"priorityClassName": "meek", "preemptionPolicy": "PreemptLowerPriority", "containers": containers});
    assert_eq!(
        create_pod("ns", bold).await,
        Err("pods \"p\" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod \
             spec; priority admission controller computed Never from the given PriorityClass name"
            .to_owned())
    );
}

#[tokio::test]
async fn a_namespace_bounds_what_its_pods_ask_for_and_are() {
    let plain = json!({"containers": [{"name": "c"}]});
    let pod = create_pod("strict", plain).await.expect("admitted");
    let resources = json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "1"}});
    assert_eq!(pod.list_at("spec.containers")[0].get("resources"), Some(&resources));
    let greedy = json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "3"}}}]});
    assert_eq!(
        create_pod("strict", greedy).await,
        Err("pods \"p\" is forbidden: maximum cpu usage per Container is 2, but limit is 3".to_owned())
    );
    let rooted = json!({"hostPID": true, "containers": [{"name": "c"}]});
    assert_eq!(
        create_pod("strict", rooted).await,
        Err(
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
                .to_owned()
        )
    );
}

#[tokio::test]
async fn whoever_makes_pods_is_warned_of_what_they_will_be() {
    let nobody = UserInfo::default();
    let mut deployment = object(json!({"metadata": {"name": "d", "namespace": "strict"},
        "spec": {"template": {"spec": {"hostPID": true, "containers": [{"name": "c", "securityContext": {"runAsNonRoot": true,
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "Localhost"}}}]}}}}));
    let op = Operation::Create;
    let warned = admit_part(&nobody, "deployments", None, Some("strict"), op, Some(&mut deployment)).await;
    assert_eq!(
        warned.expect("admitted"),
        ["would violate PodSecurity \"restricted:latest\": host namespaces (hostPID=true)"]
    );
    let mut wrong = object(json!({"metadata": {"name": "n", "labels": {"pod-security.kubernetes.io/enforce": "x"}}}));
    let refused = admit(&nobody, "namespaces", None, op, Some(&mut wrong))
        .await
        .expect_err("refused");
    assert!(refused.is("Invalid"), "{}", refused.message);
}

#[tokio::test]
async fn certificates_are_approved_and_signed_by_those_who_may() {
    let request = |signer: &str, status: Value| {
        object(json!({"metadata": {"name": "r"}, "spec": {"signerName": signer}, "status": status}))
    };
    let anna = user("anna", &[]);
    let approved = json!({"conditions": [{"type": "Approved", "status": "True"}]});
    for (signer, part, expected) in [
        ("example.com/web", "approval", None),
        (
            "example.org/web",
            "approval",
            Some("user not permitted to approve requests with signerName \"example.org/web\""),
        ),
        (
            "example.com/web",
            "status",
            Some("user not permitted to sign requests with signerName \"example.com/web\""),
        ),
    ] {
        let old = request(signer, json!({}));
        let mut new = request(signer, approved.clone());
        let op = Operation::UpdateStatus { old: &old };
        let kind = "certificatesigningrequests";
        let done = admit_part(&anna, kind, Some(part), None, op, Some(&mut new)).await;
        let why = done.err().map(|status| status.message);
        let expected =
            expected.map(|why| format!("certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: {why}"));
        assert_eq!(why, expected, "{signer} {part}");
    }
}

#[tokio::test]
async fn nobody_becomes_an_administrator_by_certificate() {
    let asked = |groups: &[&str]| {
        let field = crate::resources::certificate_request_field("jane", groups);
        object(
            json!({"metadata": {"name": "r"}, "spec": {"request": field, "signerName": "kubernetes.io/kube-apiserver-client"}}),
        )
    };
    let nobody = UserInfo::default();
    let kind = "certificatesigningrequests";
    let mut fine = asked(&["readers"]);
    assert!(
        admit(&nobody, kind, None, Operation::Create, Some(&mut fine))
            .await
            .is_ok()
    );
    let mut bold = asked(&["readers", "system:masters"]);
    let refused = admit(&nobody, kind, None, Operation::Create, Some(&mut bold))
        .await
        .expect_err("refused");
    assert_eq!(
        refused.message,
        "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: use of kubernetes.io/kube-apiserver-client signer with \
         system:masters group is not allowed"
    );
}

#[tokio::test]
async fn volume_attributes_are_held_while_they_are_used() {
    let mut class = object(json!({"metadata": {"name": "gold"}, "driverName": "d", "parameters": {"a": "b"}}));
    let nobody = UserInfo::default();
    let kind = "volumeattributesclasses";
    assert!(
        admit(&nobody, kind, None, Operation::Create, Some(&mut class))
            .await
            .is_ok()
    );
    assert_eq!(class.finalizers(), ["kubernetes.io/vac-protection"]);
}

#[tokio::test]
async fn what_a_namespace_may_have_is_bounded() {
    let mut lease = object(json!({"metadata": {"name": "l", "namespace": "strict"}}));
    let refused = admit(
        &UserInfo::default(),
        "leases",
        Some("strict"),
        Operation::Create,
        Some(&mut lease),
    )
    .await;
    assert_eq!(
        refused.expect_err("refused").message,
        "leases.coordination.k8s.io \"l\" is forbidden: exceeded quota: q, requested: count/leases.coordination.k8s.io=1, used: \
         count/leases.coordination.k8s.io=1, limited: count/leases.coordination.k8s.io=1"
    );
}
