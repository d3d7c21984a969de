use serde_json::json;

use super::*;

fn pod(container: serde_json::Value) -> Pod {
    let mut container = container;
    container["name"] = "web".into();
    let pod = json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "hello", "b": "q\"x"}},
        "spec": {"nodeName": "n1", "containers": [container]},
    });
    serde_json::from_value(pod).expect("pod")
}

fn objects() -> Objects {
    let content = |pairs: &[(&str, &str)]| {
        Some(Arc::new(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
                .collect::<Content>(),
        ))
    };
    HashMap::from([
        (
            Id::new(Source::ConfigMap, "ns", "cm"),
            content(&[("GREETING", "hi"), ("no=name", "x")]),
        ),
        (Id::new(Source::Secret, "ns", "s"), content(&[("token", "t0")])),
        (Id::new(Source::Secret, "ns", "gone"), None),
    ])
}

fn env_of(container: serde_json::Value) -> Result<HashMap<String, String>, String> {
    let pod = pod(container);
    let facts = Facts {
        hostname: "p".into(),
        pod_ips: vec!["10.0.0.9".parse().expect("ip")],
        ..Facts::default()
    };
    let services = [("DB_SERVICE_HOST".to_owned(), "10.96.0.7".to_owned())];
    let made = make(&pod, &pod.spec.containers[0], &objects(), &services, &facts);
    made.map(|pairs| pairs.into_iter().collect()).map_err(|e| e.to_string())
}

#[test]
fn values_come_from_all_sources_and_expand() {
    let env = env_of(json!({
        "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "gone", "optional": true}}],
        "env": [
            {"name": "A", "value": "$(P_GREETING)-$(DB_SERVICE_HOST)-$(LATER)"},
            {"name": "LATER", "value": "x"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "none", "optional": true}}},
        ],
    }))
    .expect("resolves");
    let want = [
        ("HOSTNAME", "p"),
        ("P_GREETING", "hi"),
        ("A", "hi-10.96.0.7-$(LATER)"),
        ("LATER", "x"),
        ("TOKEN", "t0"),
        ("IP", "10.0.0.9"),
        ("APP", "hello"),
        ("NODE", "n1"),
        ("DB_SERVICE_HOST", "10.96.0.7"),
    ];
    assert_eq!(
        env,
        want.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    );
}

#[test]
fn missing_references_are_named_as_kubernetes_names_them() {
    let from = |source: serde_json::Value| json!({"env": [{"name": "A", "valueFrom": source}]});
    let cases = [
        (
            from(json!({"configMapKeyRef": {"name": "x", "key": "k"}})),
            "configmap \"x\" not found",
        ),
        (
            from(json!({"secretKeyRef": {"name": "gone", "key": "k"}})),
            "secret \"gone\" not found",
        ),
        (
            from(json!({"configMapKeyRef": {"name": "cm", "key": "k"}})),
            "couldn't find key k in ConfigMap ns/cm",
        ),
        (
            from(json!({"secretKeyRef": {"name": "s", "key": "k"}})),
            "couldn't find key k in Secret ns/s",
        ),
        (
            json!({"envFrom": [{"secretRef": {"name": "gone"}}]}),
            "secret \"gone\" not found",
        ),
        (
            from(json!({"fieldRef": {"fieldPath": "spec.colour"}})),
            "unsupported fieldPath: spec.colour",
        ),
    ];
    for (container, want) in cases {
        assert_eq!(env_of(container), Err(want.to_owned()));
    }
}

#[test]
fn own_variables_win_over_services() {
    let env = env_of(json!({"env": [{"name": "DB_SERVICE_HOST", "value": "mine"}]})).expect("resolves");
    assert_eq!(env["DB_SERVICE_HOST"], "mine");
}

#[test]
fn all_labels_are_lines_of_quoted_values() {
    let pod = pod(json!({}));
    assert_eq!(
        field(&pod, "metadata.labels", &Facts::default()),
        Ok("app=\"hello\"\nb=\"q\\\"x\"".into())
    );
}
