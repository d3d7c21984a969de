use api::{GroupResource, Object};
use serde_json::{Value, json};

use super::charge::Charge;
use super::recount::used;
use super::to_json;
use crate::admission::amounts::amounts;
use crate::resources::testing::{Fixed, now, object};

fn pod(name: &str, cpu: &str, more: Value) -> Value {
    let mut pod = json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": cpu}}}]}, "status": {"phase": "Running", "qosClass": "Burstable"}});
    for (key, value) in more.as_object().cloned().unwrap_or_default() {
        pod["spec"][key] = value;
    }
    pod
}

fn quota(hard: Value, used: Value, spec: Value) -> Object {
    let mut quota = json!({"metadata": {"name": "q", "namespace": "ns", "resourceVersion": "7"}, "spec": spec,
        "status": {"hard": hard, "used": used}});
    quota["spec"]["hard"] = hard;
    object(quota)
}

fn charge(kind: (&str, &str), quota: &Object, new: Value, old: Option<Value>) -> Result<Option<Value>, String> {
    let (new, old) = (object(new), old.map(object));
    let charge = Charge {
        kind: GroupResource::new(kind.0, kind.1),
        new: &new,
        old: old.as_ref(),
    };
    charge.under(quota).map(|used| used.map(|used| to_json(&used)))
}

#[test]
fn a_pod_is_charged_for_what_it_asks_for() {
    let quota = quota(
        json!({"pods": "2", "requests.cpu": "2", "secrets": "1"}),
        json!({"pods": "1", "requests.cpu": "1500m", "secrets": "0"}),
        json!({}),
    );
    let pods = ("", "pods");
    assert_eq!(
        charge(pods, &quota, pod("a", "500m", json!({})), None),
        Ok(Some(json!({"pods": "2", "requests.cpu": "2", "secrets": "0"})))
    );
    assert_eq!(
        charge(pods, &quota, pod("a", "1", json!({})), None),
        Err(
            "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1500m, limited: requests.cpu=2"
                .to_owned()
        )
    );
    let silent = json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "x"}, {"name": "w"}]}});
    assert_eq!(
        charge(pods, &quota, silent, None),
        Err("failed quota: q: must specify requests.cpu for: w,x".to_owned())
    );
    assert_eq!(
        charge(("", "configmaps"), &quota, json!({"metadata": {"name": "c"}}), None),
        Ok(None)
    );
    let sidecar = json!({"metadata": {"name": "s"}});
    let unknown = self::quota(json!({"count/jobs.batch": "1"}), json!({}), json!({}));
    assert_eq!(
        charge(("batch", "jobs"), &unknown, sidecar, None),
        Err("status unknown for quota: q, resources: count/jobs.batch".to_owned())
    );
}

#[test]
fn scopes_choose_pods() {
    let with = |spec: Value| quota(json!({"pods": "1"}), json!({"pods": "1"}), spec);
    let refused = |spec: Value, more: Value| charge(("", "pods"), &with(spec), pod("a", "1", more), None).is_err();
    let class = |operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": operator, "values": values}]}});
    assert!(refused(
        json!({"scopes": ["NotBestEffort", "NotTerminating"]}),
        json!({})
    ));
    assert!(!refused(json!({"scopes": ["BestEffort"]}), json!({})));
    assert!(refused(
        json!({"scopes": ["Terminating"]}),
        json!({"activeDeadlineSeconds": 5})
    ));
    assert!(refused(
        class("In", json!(["high"])),
        json!({"priorityClassName": "high"})
    ));
    assert!(!refused(
        class("NotIn", json!(["high"])),
        json!({"priorityClassName": "high"})
    ));
    assert!(!refused(class("Exists", json!([])), json!({})));
    let near = json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}});
    assert!(refused(json!({"scopes": ["CrossNamespacePodAffinity"]}), near));
    let service = json!({"metadata": {"name": "s"}, "spec": {}});
    let scoped = quota(
        json!({"services": "0"}),
        json!({"services": "0"}),
        json!({"scopes": ["BestEffort"]}),
    );
    assert_eq!(charge(("", "services"), &scoped, service, None), Ok(None));
}

#[test]
fn a_change_is_charged_for_what_it_adds() {
    let service =
        |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 1}, {"port": 2}]}});
    let nodeports = |limit: &str| {
        let used = json!({"services": "1", "services.nodeports": "0"});
        quota(json!({"services": "1", "services.nodeports": limit}), used, json!({}))
    };
    let (old, new) = (service("ClusterIP"), service("NodePort"));
    assert_eq!(
        charge(("", "services"), &nodeports("2"), new.clone(), Some(old.clone())),
        Ok(Some(json!({"services": "1", "services.nodeports": "2"})))
    );
    assert!(charge(("", "services"), &nodeports("1"), new.clone(), Some(old.clone())).is_err());
    assert_eq!(charge(("", "services"), &nodeports("0"), old, Some(new)), Ok(None));
    let claim = json!({"metadata": {"name": "c"}, "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    let fast = "fast.storageclass.storage.k8s.io/requests.storage";
    let of_class = quota(json!({fast: "2Gi"}), json!({fast: "0"}), json!({}));
    assert_eq!(
        charge(("", "persistentvolumeclaims"), &of_class, claim, None),
        Ok(Some(json!({fast: "1Gi"})))
    );
}

#[test]
fn what_is_used_is_counted() {
    let mut ended = pod("b", "5", json!({}));
    ended["status"]["phase"] = json!("Succeeded");
    let mut elsewhere = pod("c", "5", json!({}));
    elsewhere["metadata"]["namespace"] = json!("other");
    let reader = Fixed::new(vec![
        ("pods", pod("a", "1", json!({}))),
        ("pods", ended),
        ("pods", elsewhere),
        ("secrets", json!({"metadata": {"name": "s", "namespace": "ns"}})),
    ]);
    let hard = json!({"pods": "9", "count/pods": "9", "cpu": "9", "secrets": "9", "services": "9"});
    let quota = quota(hard.clone(), json!({}), json!({}));
    let kinds = ["pods", "secrets", "services"].map(|plural| GroupResource::new("", plural));
    let found = used(&reader, &quota, &amounts(Some(&hard)), &kinds, now());
    assert_eq!(
        to_json(&found),
        json!({"pods": "1", "count/pods": "2", "cpu": "1", "secrets": "1", "services": "0"})
    );
}
