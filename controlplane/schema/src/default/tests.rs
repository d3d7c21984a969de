use std::sync::LazyLock;

use api::Object;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Pod, Service},
    networking::v1::NetworkPolicy,
    rbac::v1::ClusterRoleBinding,
};
use proptest::prelude::*;
use schemars::JsonSchema;
use serde_json::{Value, json};

use crate::Schema;

fn defaulted<T: JsonSchema>(definition: &'static str, tree: Value) -> Value {
    let mut object = Object::from_value(tree).unwrap();
    super::default(&mut object, &Schema::of::<T>(definition));
    object.into_value()
}

fn pod(spec: Value) -> Value {
    defaulted::<Pod>("io.k8s.api.core.v1.Pod", json!({ "spec": spec }))["spec"].take()
}

fn service(spec: Value) -> Value {
    defaulted::<Service>("io.k8s.api.core.v1.Service", json!({ "spec": spec }))["spec"].take()
}

#[test]
fn a_deployment_gets_what_kubernetes_gives_it() {
    let tree = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "web:1"}]}}}});
    insta::assert_json_snapshot!(defaulted::<Deployment>("io.k8s.api.apps.v1.Deployment", tree));
}

#[test]
fn a_pod_gets_what_kubernetes_gives_it() {
    insta::assert_json_snapshot!(pod(json!({
        "hostNetwork": true,
        "containers": [{
            "name": "a", "image": "web",
            "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "readinessProbe": {"httpGet": {"port": 80}},
            "livenessProbe": {"grpc": {"port": 80}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }],
        "volumes": [
            {"name": "a"}, {"name": "b", "configMap": {"name": "c"}}, {"name": "d", "hostPath": {"path": "/"}},
            {"name": "e", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        ],
    })));
}

#[test]
fn images_are_pulled_by_their_tag() {
    for (image, want) in [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("host:5000/web", "Always"),
        ("host:5000/web:1", "IfNotPresent"),
        ("web@sha256:abc", "IfNotPresent"),
        ("web:latest@sha256:abc", "Always"),
    ] {
        assert_eq!(
            pod(json!({"containers": [{ "image": image }]}))["containers"][0]["imagePullPolicy"],
            want,
            "{image}"
        );
    }
    let given = pod(json!({"containers": [{"image": "web", "imagePullPolicy": "Never"}]}));
    assert_eq!(given["containers"][0]["imagePullPolicy"], "Never");
}

#[test]
fn a_services_defaults_follow_its_type() {
    let port = json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]);
    for (given, want) in [
        (
            json!({"ports": [{"port": 80}]}),
            json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": port}),
        ),
        (
            json!({"type": "NodePort", "sessionAffinity": "ClientIP"}),
            json!({
                "type": "NodePort", "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Cluster",
                "externalTrafficPolicy": "Cluster", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            }),
        ),
        (
            json!({"type": "ExternalName"}),
            json!({"type": "ExternalName", "sessionAffinity": "None"}),
        ),
    ] {
        assert_eq!(service(given), want);
    }
    assert_eq!(
        service(json!({"ports": [{"port": 80, "targetPort": "http"}]}))["ports"][0]["targetPort"],
        "http"
    );
}

#[test]
fn other_kinds_get_theirs() {
    let namespace = defaulted::<Namespace>("io.k8s.api.core.v1.Namespace", json!({"metadata": {"name": "a"}}));
    let labels = json!({"kubernetes.io/metadata.name": "a"});
    assert_eq!(
        namespace,
        json!({"metadata": {"name": "a", "labels": labels}, "spec": {}, "status": {"phase": "Active"}})
    );
    let binding = defaulted::<ClusterRoleBinding>(
        "io.k8s.api.rbac.v1.ClusterRoleBinding",
        json!({"roleRef": {"kind": "ClusterRole", "name": "a"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}])
    );
    let job = defaulted::<Job>("io.k8s.api.batch.v1.Job", json!({"metadata": {}}));
    assert_eq!(
        (&job["spec"]["completions"], &job["spec"]["backoffLimit"]),
        (&json!(1), &json!(6))
    );
    let policy = defaulted::<NetworkPolicy>(
        "io.k8s.api.networking.v1.NetworkPolicy",
        json!({"spec": {"egress": [{}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
}

#[test]
fn an_empty_text_is_no_value_but_zero_and_false_are() {
    let spec = pod(json!({"restartPolicy": "", "terminationGracePeriodSeconds": 0, "enableServiceLinks": false}));
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 0);
    assert_eq!(spec["enableServiceLinks"], false);
}

static DEPLOYMENT: LazyLock<Schema> = LazyLock::new(|| Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment"));

proptest! {
    #[test]
    fn defaulting_twice_is_defaulting_once(
        image in "[a-z]{0,3}(:[a-z0-9]{1,6})?", policy in prop::option::of("(Recreate|RollingUpdate|)"), port in prop::option::of(0..9i32),
    ) {
        let tree = json!({"spec": {
            "strategy": policy.map(|name| json!({"type": name})),
            "template": {"spec": {"containers": [{"image": image, "ports": [{"containerPort": port}]}], "volumes": [{"name": "a"}]}},
        }});
        let mut once = Object::from_value(tree).unwrap();
        super::default(&mut once, &DEPLOYMENT);
        let mut twice = once.clone();
        super::default(&mut twice, &DEPLOYMENT);
        prop_assert_eq!(twice, once);
    }
}
