use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use serde_json::json;

use super::*;

fn messages(schema: &Schema, tree: Value) -> Vec<String> {
    let mut object = Object::from_value(tree).unwrap();
    crate::default(&mut object, schema);
    validate(&object, schema).iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_deployment_lacks_what_kubernetes_says_it_lacks() {
    let schema = Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment");
    assert_eq!(
        messages(&schema, json!({})),
        [
            "spec.selector: Required value",
            "spec.template.spec.containers: Required value"
        ]
    );
}

#[test]
fn collects_every_error_of_a_pod() {
    let schema = Schema::of::<Pod>("io.k8s.api.core.v1.Pod");
    let tree = json!({"spec": {
        "restartPolicy": "Sometimes",
        "containers": [
            {"name": "", "ports": [{"protocol": "tcp"}]},
            {"name": "a", "volumeMounts": [{"name": "v"}], "imagePullPolicy": "Now"},
            {"name": "a"},
        ],
        "volumes": [{"name": "v"}, {"name": "v"}],
    }, "status": {"containerStatuses": [{}]}});
    assert_eq!(
        messages(&schema, tree),
        [
            "spec.containers[2].name: Duplicate value: \"a\"",
            "spec.containers[0].name: Required value",
            "spec.containers[0].ports[0].containerPort: Required value",
            "spec.containers[0].ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.containers[1].imagePullPolicy: Unsupported value: \"Now\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "spec.containers[1].volumeMounts[0].mountPath: Required value",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            "spec.volumes[1].name: Duplicate value: \"v\"",
        ]
    );
}

#[test]
fn environment_variables_may_repeat() {
    let schema = Schema::of::<Pod>("io.k8s.api.core.v1.Pod");
    let tree = json!({"spec": {"containers": [{"name": "a", "env": [{"name": "A"}, {"name": "A"}]}]}});
    assert_eq!(messages(&schema, tree), [""; 0]);
}

#[test]
fn what_go_cannot_tell_from_empty_is_not_required() {
    use k8s_openapi::api::{discovery::v1::EndpointSlice, rbac::v1::RoleBinding, scheduling::v1::PriorityClass};
    let slice = Schema::of::<EndpointSlice>("io.k8s.api.discovery.v1.EndpointSlice");
    assert_eq!(messages(&slice, json!({"addressType": "IPv4"})), [""; 0]);
    let class = Schema::of::<PriorityClass>("io.k8s.api.scheduling.v1.PriorityClass");
    assert_eq!(messages(&class, json!({})), [""; 0]);
    let binding = Schema::of::<RoleBinding>("io.k8s.api.rbac.v1.RoleBinding");
    assert_eq!(
        messages(&binding, json!({})),
        ["roleRef.kind: Required value", "roleRef.name: Required value"]
    );
}
