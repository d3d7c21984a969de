use std::collections::BTreeSet;
use std::sync::Arc;

use api::Object;
use serde_json::{Value, json};

use super::availability::judge;
use super::local::{Step, Wanted, plan};

fn object(value: Value) -> Arc<Object> {
    Arc::new(Object::from_value(value).expect("an object"))
}

fn stored(name: &str, managed: Option<&str>, priority: i64) -> Arc<Object> {
    let (version, group) = name.split_once('.').expect("a name");
    let labels = managed.map(|managed| json!({"kube-aggregator.kubernetes.io/automanaged": managed}));
    object(
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name, "uid": name,
        "labels": labels.unwrap_or_else(|| json!({}))},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": priority, "versionPriority": 100}}),
    )
}

/// The steps, as `verb name`.
fn steps(wanted: &[(&str, &str, bool)], stored: &[Arc<Object>], first: bool) -> Vec<String> {
    let wanted: BTreeSet<Wanted> = wanted
        .iter()
        .map(|(group, version, custom)| Wanted::new(group, version, *custom))
        .collect();
    let steps = plan(&wanted, stored, first).into_iter().map(|step| match step {
        Step::Create(object) => format!("create {}", object["metadata"]["name"].as_str().expect("a name")),
        Step::Update { name, .. } => format!("update {name}"),
        Step::Delete { name, .. } => format!("delete {name}"),
    });
    steps.collect()
}

#[test]
fn what_is_managed_is_kept_as_it_should_be() {
    let custom = ("a.example", "v1", true);
    let built_in = ("apps", "v1", false);
    let own = stored("v1.a.example", Some("true"), 1000);
    assert_eq!(steps(&[custom], &[], false), ["create v1.a.example"]);
    assert_eq!(
        steps(&[custom], std::slice::from_ref(&own), false),
        Vec::<String>::new()
    );
    assert_eq!(
        steps(&[custom], &[stored("v1.a.example", Some("true"), 5)], false),
        ["update v1.a.example"]
    );
    assert_eq!(steps(&[], &[own], false), ["delete v1.a.example"]);
    // Somebody's own.
    assert_eq!(
        steps(&[custom], &[stored("v1.a.example", None, 5)], true),
        Vec::<String>::new()
    );
    assert_eq!(
        steps(&[], &[stored("v1.b.example", None, 5)], true),
        Vec::<String>::new()
    );
    // Built-in ones are set right at the start, and made again at any time.
    let changed = stored("v1.apps", Some("onstart"), 5);
    assert_eq!(
        steps(&[built_in], std::slice::from_ref(&changed), false),
        Vec::<String>::new()
    );
    assert_eq!(steps(&[built_in], &[changed], true), ["update v1.apps"]);
    assert_eq!(steps(&[built_in], &[], false), ["create v1.apps"]);
}

#[test]
fn a_service_without_endpoints_is_not_there() {
    let service = object(json!({"kind": "Service", "metadata": {"name": "s"},
        "spec": {"type": "ClusterIP", "ports": [{"name": "https", "port": 443}]}}));
    let slice = |ready: bool, port: &str| {
        object(
            json!({"kind": "EndpointSlice", "metadata": {"labels": {"kubernetes.io/service-name": "s"}},
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}],
            "ports": [{"name": port, "port": 8443}]}),
        )
    };
    let of = |port: u16, service: Option<&Arc<Object>>, slices: &[Arc<Object>]| {
        judge(("n", "s", port), service.map(|s| &**s), slices).map(|verdict| (verdict.reason, verdict.message))
    };
    let cases = [
        (
            of(443, None, &[]),
            "ServiceNotFound",
            "service/s in \"n\" is not present",
        ),
        (
            of(8443, Some(&service), &[]),
            "ServicePortError",
            "service/s in \"n\" is not listening on port 8443",
        ),
        (
            of(443, Some(&service), &[]),
            "EndpointsNotFound",
            "cannot find endpointslices for service/s in \"n\"",
        ),
        (
            of(443, Some(&service), &[slice(false, "https"), slice(true, "other")]),
            "MissingEndpoints",
            "endpointslices for service/s in \"n\" have no addresses with port name \"https\"",
        ),
    ];
    for (found, reason, message) in cases {
        assert_eq!(found, Some((reason, message.to_owned())));
    }
    assert_eq!(of(443, Some(&service), &[slice(true, "https")]), None);
}
