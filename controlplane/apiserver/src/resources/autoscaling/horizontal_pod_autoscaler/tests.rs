use api::Object;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{convert, metrics, resource};
use crate::registry::resource::Operation;
use crate::resources::testing::{Cases, context, messages, object};

fn autoscaler(spec: &Value) -> Value {
    let mut autoscaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    if let (Some(map), Value::Object(spec)) = (autoscaler["spec"].as_object_mut(), spec) {
        map.extend(spec.clone());
    }
    autoscaler
}

fn reference() -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": "web"})
}

fn every_metric() -> Value {
    json!([
        {"type": "Object", "object": {"describedObject": reference(), "metric": {"name": "hits"},
            "target": {"type": "AverageValue", "averageValue": "10"}}},
        {"type": "Pods", "pods": {"metric": {"name": "packets", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "1k"}}},
        {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}},
        {"type": "ContainerResource", "containerResource": {"name": "memory", "container": "c",
            "target": {"type": "Utilization", "averageUtilization": 60}}},
        {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
    ])
}

pub(crate) fn cases() -> Cases {
    let core = json!({"kind": "ReplicationController", "name": "web"});
    Cases {
        valid: vec![
            autoscaler(&json!({})),
            autoscaler(&json!({"minReplicas": 2, "metrics": every_metric()})),
            autoscaler(
                &json!({"scaleTargetRef": core, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60, "tolerance": "0.05"}}}),
            ),
        ],
        invalid: [wrong_numbers(), wrong_metrics(), wrong_targets(), wrong_behavior()].concat(),
        table: shown(),
    }
}

fn wrong_numbers() -> Vec<(Value, Vec<&'static str>)> {
    let group = "spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group";
    vec![
        (
            autoscaler(&json!({"minReplicas": 0, "maxReplicas": 0, "scaleTargetRef": {}})),
            vec![
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1",
                "spec.maxReplicas: Required value: must be set and greater than 0",
                "spec.scaleTargetRef.kind: Required value",
                "spec.scaleTargetRef.name: Required value",
                group,
                "spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas",
            ],
        ),
        (
            autoscaler(
                &json!({"minReplicas": 6, "scaleTargetRef": {"apiVersion": "a/b/c", "kind": "A/B", "name": "a%b"}}),
            ),
            vec![
                "spec.maxReplicas: Invalid value: 5: must be greater than or equal to `minReplicas`",
                r#"spec.scaleTargetRef.kind: Invalid value: "A/B": may not contain '/'"#,
                r#"spec.scaleTargetRef.name: Invalid value: "a%b": may not contain '%'"#,
                r#"spec.scaleTargetRef.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c"#,
            ],
        ),
        (
            autoscaler(&json!({"maxReplicas": -1, "minReplicas": null})),
            vec![
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1",
                "spec.maxReplicas: Invalid value: -1: must be greater than or equal to `minReplicas`",
            ],
        ),
    ]
}

fn wrong_metrics() -> Vec<(Value, Vec<&'static str>)> {
    let target = json!({"type": "AverageValue", "averageValue": "1"});
    let metrics = json!([
        {"type": ""},
        {"type": "Pods", "resource": {"name": "", "target": target}},
        {"type": "Pods", "pods": {"metric": {"name": ""}, "target": target}, "external": {"metric": {"name": "a"}, "target": target}},
        {"type": "ContainerResource", "containerResource": {"name": "x", "container": "C", "target": target}},
    ]);
    let found = vec![
        "spec.metrics[0].type: Required value: must specify a metric source type",
        r#"spec.metrics[0].type: Unsupported value: "": supported values: "ContainerResource", "External", "Object", "Pods", "Resource""#,
        "spec.metrics[1].resource.name: Required value: must specify a resource name",
        "spec.metrics[1].pods: Required value: must populate information for the given metric source",
        "spec.metrics[2].external: Forbidden: must populate the given metric source only",
        r#"spec.metrics[3].containerResource.name: Invalid value: "x": must be a standard resource type or fully qualified"#,
        r#"spec.metrics[3].containerResource.name: Invalid value: "x": must be a standard resource for containers"#,
        r#"spec.metrics[3].containerResource.container: Invalid value: "C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"#,
        "spec.metrics[2].pods.metric.name: Required value",
    ];
    vec![(autoscaler(&json!({"metrics": metrics})), found)]
}

fn wrong_targets() -> Vec<(Value, Vec<&'static str>)> {
    let metrics = json!([
        {"type": "Object", "object": {"describedObject": reference(), "metric": {"name": "a"}, "target": {"type": "Rate"}}},
        {"type": "External", "external": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "0", "averageValue": "-1"}}},
        {"type": "Pods", "pods": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "1"}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 0, "averageValue": "1"}}},
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}},
    ]);
    let found = vec![
        r#"spec.metrics[0].object.target.type: Invalid value: "Rate": must be either Utilization, Value, or AverageValue"#,
        "spec.metrics[0].object.target.averageValue: Required value: must set either a target value or averageValue",
        r#"spec.metrics[1].external.target.value: Invalid value: "0": must be positive"#,
        r#"spec.metrics[1].external.target.averageValue: Invalid value: "-1": must be positive"#,
        "spec.metrics[1].external.target.value: Forbidden: may not set both a target value for metric and a per-pod target",
        "spec.metrics[2].pods.target.averageValue: Required value: must specify a positive target averageValue",
        "spec.metrics[3].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
        "spec.metrics[3].resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization",
        "spec.metrics[4].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
    ];
    vec![(autoscaler(&json!({"metrics": metrics})), found)]
}

fn wrong_behavior() -> Vec<(Value, Vec<&'static str>)> {
    let up = json!({"stabilizationWindowSeconds": -1, "selectPolicy": "Any", "policies": [], "tolerance": "-1"});
    let down = json!({"stabilizationWindowSeconds": 3601, "policies": [
        {"type": "Nodes", "value": 0, "periodSeconds": 0}, {"type": "Pods", "value": 1, "periodSeconds": 1801}]});
    let found = vec![
        "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: -1: must be greater than or equal to zero",
        r#"spec.behavior.scaleUp.selectPolicy: Unsupported value: "Any": supported values: "Disabled", "Max", "Min""#,
        "spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
        r#"spec.behavior.scaleUp.tolerance: Invalid value: "-1": must be greater than or equal to 0"#,
        "spec.behavior.scaleDown.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to 3600",
        r#"spec.behavior.scaleDown.policies[0].type: Unsupported value: "Nodes": supported values: "Percent", "Pods""#,
        "spec.behavior.scaleDown.policies[0].value: Invalid value: 0: must be greater than zero",
        "spec.behavior.scaleDown.policies[0].periodSeconds: Invalid value: 0: must be greater than zero",
        "spec.behavior.scaleDown.policies[1].periodSeconds: Invalid value: 1801: must be less than or equal to 1800",
    ];
    vec![(
        autoscaler(&json!({"behavior": {"scaleUp": up, "scaleDown": down}})),
        found,
    )]
}

fn shown() -> Vec<Value> {
    let mut busy = autoscaler(&json!({"minReplicas": 1, "metrics": [
        {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}));
    busy["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    busy["status"] = json!({"currentReplicas": 3, "desiredReplicas": 4, "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 95, "averageValue": "95m"}}}]});
    vec![
        busy,
        autoscaler(&json!({"metrics": every_metric()})),
        autoscaler(&json!({})),
    ]
}

#[test]
fn targets_are_shown_as_they_are_and_should_be() {
    let target = |metric: Value, status: Value| {
        let mut autoscaler = autoscaler(&json!({"metrics": [metric]}));
        autoscaler["status"] = json!({"currentMetrics": [status]});
        metrics::shown(&object(autoscaler))
    };
    let all = every_metric();
    for (index, status, expected) in [
        (
            0,
            json!({"object": {"current": {"value": "3", "averageValue": "2"}}}),
            "2/10 (avg)",
        ),
        (1, json!({"pods": {"current": {"averageValue": "900"}}}), "900/1k"),
        (2, json!({"external": {"current": {"value": "7"}}}), "7/30"),
        (2, json!({}), "<unknown>/30"),
        (
            3,
            json!({"containerResource": {"current": {"averageUtilization": 5}}}),
            "memory: 5%/60%",
        ),
        (
            4,
            json!({"resource": {"current": {"averageValue": "1Mi"}}}),
            "memory: 1Mi/1Gi",
        ),
        (
            5,
            json!({"resource": {"current": {"averageValue": "1"}}}),
            "cpu: <unknown>/50%",
        ),
    ] {
        assert_eq!(target(all[index].clone(), status), expected);
    }
    assert_eq!(target(json!({"type": "Other"}), json!({})), "<unknown type>");
}

#[test]
fn what_is_at_zero_may_stay_there() {
    let external =
        json!([{"type": "External", "external": {"metric": {"name": "a"}, "target": {"type": "Value", "value": "1"}}}]);
    let zero = object(autoscaler(&json!({"minReplicas": 0, "metrics": external})));
    let resource = resource();
    context(Some("ns"), |cx| {
        let found = |old: &Object| messages(resource.strategy.validate(cx, &Operation::Update { old }, &zero));
        assert_eq!(found(&zero), Vec::<String>::new());
        let one = object(autoscaler(&json!({"minReplicas": 1})));
        assert_eq!(
            found(&one),
            ["spec.minReplicas: Invalid value: 0: must be greater than or equal to 1"]
        );
    });
}

fn as_v1(mut v2: Value) -> Value {
    v2["apiVersion"] = json!("autoscaling/v1");
    let mut object = object(v2);
    convert::to_v1(&mut object);
    object.into_value()
}

fn as_v2(v1: Value) -> Value {
    let mut object = object(v1);
    convert::to_v2(&mut object);
    let mut value = object.into_value();
    value["apiVersion"] = json!("autoscaling/v2");
    value
}

fn carried(v1: &Value, what: &str) -> Value {
    let key = format!("autoscaling.alpha.kubernetes.io/{what}");
    let text = v1["metadata"]["annotations"][&key].as_str().unwrap_or("null");
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn v1_carries_in_annotations_what_it_has_no_fields_for() {
    let mut v2 = autoscaler(&json!({"metrics": every_metric(),
        "behavior": {"scaleUp": {"selectPolicy": "Max", "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}}}));
    v2["status"] = json!({"desiredReplicas": 2, "conditions": [{"type": "AbleToScale", "status": "True"}], "currentMetrics": [
        {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 9, "averageValue": "9m"}}}]});
    let v1 = as_v1(v2);
    assert_eq!(v1["spec"]["targetCPUUtilizationPercentage"], 50);
    assert!(v1["spec"].get("metrics").is_none() && v1["spec"].get("behavior").is_none());
    assert_eq!(
        v1["status"],
        json!({"currentReplicas": 0, "desiredReplicas": 2, "currentCPUUtilizationPercentage": 9})
    );
    insta::assert_json_snapshot!([
        carried(&v1, "metrics"),
        carried(&v1, "behavior"),
        carried(&v1, "current-metrics"),
        carried(&v1, "conditions"),
    ]);
}

#[test]
fn v1_alone_asks_for_a_share_of_the_cpu() {
    let v1 = |spec: Value, annotations: Value| {
        let mut v1 = autoscaler(&spec);
        v1["metadata"]["annotations"] = annotations;
        as_v2(v1)
    };
    let cpu = |share: i64| {
        json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": share}}}])
    };
    let given = v1(json!({"targetCPUUtilizationPercentage": 30}), json!({"a": "b"}));
    assert_eq!(given["spec"]["metrics"], cpu(30));
    assert_eq!(given["metadata"]["annotations"], json!({"a": "b"}));
    for junk in [
        "{",
        "[1]",
        "[{\"type\": 3}]",
        "[{\"type\":\"Pods\",\"pods\":{\"targetAverageValue\":{}}}]",
    ] {
        let found = v1(
            json!({}),
            json!({"autoscaling.alpha.kubernetes.io/metrics": junk,
            "autoscaling.alpha.kubernetes.io/behavior": junk}),
        );
        assert_eq!(found["spec"]["metrics"], cpu(80), "{junk}");
        assert!(found["spec"].get("behavior").is_none() && found["metadata"].get("annotations").is_none());
    }
}

fn quantity() -> impl Strategy<Value = Value> {
    prop_oneof![Just(json!("1")), Just(json!("500m")), Just(json!("2Gi"))]
}

/// A target that `v1` can say too.
fn target(kinds: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (prop::sample::select(kinds), quantity(), 1..200i64).prop_map(|(kind, amount, share)| match kind {
        "Value" => json!({"type": kind, "value": amount}),
        "Utilization" => json!({"type": kind, "averageUtilization": share}),
        _ => json!({"type": kind, "averageValue": amount}),
    })
}

fn identifier() -> impl Strategy<Value = Value> {
    prop::option::of("[a-z]{1,3}").prop_map(|label| match label {
        Some(label) => json!({"name": "m", "selector": {"matchLabels": {"l": label}}}),
        None => json!({"name": "m"}),
    })
}

fn metric() -> impl Strategy<Value = Value> {
    let object = (identifier(), target(&["Value", "AverageValue"])).prop_map(|(metric, target)| {
        json!({"type": "Object", "object": {"describedObject": reference(), "metric": metric, "target": target}})
    });
    let pods = (identifier(), target(&["AverageValue"]))
        .prop_map(|(metric, target)| json!({"type": "Pods", "pods": {"metric": metric, "target": target}}));
    let external = (identifier(), target(&["Value", "AverageValue"]))
        .prop_map(|(metric, target)| json!({"type": "External", "external": {"metric": metric, "target": target}}));
    let resource = target(&["Utilization", "AverageValue"])
        .prop_map(|target| json!({"type": "Resource", "resource": {"name": "memory", "target": target}}));
    let container = target(&["Utilization", "AverageValue"]).prop_map(|target| {
        json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": target}})
    });
    prop_oneof![object, pods, external, resource, container]
}

fn scaling() -> impl Strategy<Value = Value> {
    let policy = (prop::sample::select(vec!["Pods", "Percent"]), 1..9i64, 1..1800i64)
        .prop_map(|(kind, value, period)| json!({"type": kind, "value": value, "periodSeconds": period}));
    let rules = (
        0..3600i64,
        prop::sample::select(vec!["Max", "Min", "Disabled"]),
        prop::collection::vec(policy, 1..3),
        prop::option::of(quantity()),
    );
    rules.prop_map(|(window, select, policies, tolerance)| {
        let mut rules = json!({"stabilizationWindowSeconds": window, "selectPolicy": select, "policies": policies});
        if let Some(tolerance) = tolerance {
            rules["tolerance"] = tolerance;
        }
        rules
    })
}

proptest! {
    #[test]
    fn nothing_is_lost_on_the_way_through_v1(
        others in prop::collection::vec(metric(), 0..4),
        cpu in prop::option::of(1..200i64),
        behavior in prop::option::of((scaling(), scaling())),
        annotated in any::<bool>(),
    ) {
        let mut metrics = others;
        metrics.extend(cpu.map(super::defaults::cpu));
        if metrics.is_empty() {
            metrics.push(super::defaults::cpu(80));
        }
        let mut v2 = autoscaler(&json!({"minReplicas": 1, "metrics": metrics}));
        if let Some((up, down)) = behavior {
            v2["spec"]["behavior"] = json!({"scaleUp": up, "scaleDown": down});
        }
        if annotated {
            v2["metadata"]["annotations"] = json!({"a": "b"});
        }
        v2["status"] = json!({"currentReplicas": 1, "desiredReplicas": 2,
            "conditions": [{"type": "AbleToScale", "status": "True", "reason": "r", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                "current": {"averageUtilization": 3, "averageValue": "3m"}}}]});
        prop_assert_eq!(as_v2(as_v1(v2.clone())), v2);
    }
}
