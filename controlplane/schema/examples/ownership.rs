//! What keeping the managed fields costs: of a small ConfigMap that is created, of a Pod whose kubelet reports a status,
//! and of a Deployment that is applied again without a change. The JSON that the entries add to an object is not in it.
//!
//! `cargo run --release -p schema --example ownership -- [how many]`; prints microseconds for each.

#![allow(clippy::print_stdout, reason = "it is what this program is for")]

use std::error::Error;
use std::hint::black_box;
use std::time::Instant;

use api::Object;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use schema::Schema;
use schema::apply::{Versions, Writer, apply, update};
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

struct OneVersion;

impl Versions for OneVersion {
    fn schema(&self, _: &str) -> Option<&Schema> {
        None
    }

    fn convert(&self, object: &Object, _: &str, _: &str) -> Object {
        object.clone()
    }
}

fn main() -> Result<(), Failure> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(20_000), |n| n.parse())?;
    create(count)?;
    status(count)?;
    applied(count)
}

fn writer<'a>(name: &'a str, version: &'a str, schema: &'a Schema) -> Writer<'a> {
    Writer {
        name,
        version,
        subresource: "",
        schema,
        versions: &OneVersion,
        reset: &[],
        now: "2026-01-01T00:00:00Z",
    }
}

fn measure(what: &str, count: u32, mut each: impl FnMut() -> usize) {
    black_box(each());
    let begun = Instant::now();
    for _ in 0..count {
        black_box(each());
    }
    println!(
        "{what}: {:.2} us",
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)
    );
}

fn create(count: u32) -> Result<(), Failure> {
    let schema = Schema::of::<ConfigMap>("io.k8s.api.core.v1.ConfigMap");
    let map = object(json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "map-1", "labels": {"app": "web", "tier": "front"}},
        "data": {"address": "0.0.0.0:8080", "level": "info", "greeting": "Hello from a ConfigMap of ordinary size"}}))?;
    let writer = writer("kubectl-create", "v1", &schema);
    measure("create of a ConfigMap", count, || {
        update(&writer, None, &map, None).len()
    });
    Ok(())
}

fn container(name: &str) -> Value {
    json!({"name": name, "image": "registry.example.com/web:1", "imagePullPolicy": "IfNotPresent",
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "volumeMounts": [{"mountPath": "/data", "name": "data"}]})
}

fn pod_status(restarts: u32) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .map(condition)
        .into();
    let containers = json!([{"name": "a", "ready": true, "restartCount": restarts, "image": "i", "imageID": "id",
        "containerID": "c", "started": true, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]);
    json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.1.0.1",
        "conditions": conditions, "containerStatuses": containers, "startTime": "2026-01-01T00:00:00Z"})
}

fn status(count: u32) -> Result<(), Failure> {
    let schema = Schema::of::<Pod>("io.k8s.api.core.v1.Pod");
    let mut pod = object(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"app": "web"}, "uid": "u"},
        "spec": {"containers": [container("a"), container("b")], "volumes": [{"name": "data", "emptyDir": {}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst"}}))?;
    let entries = update(&writer("kube-controller-manager", "v1", &schema), None, &pod, None);
    pod.set("metadata.managedFields", entries);
    let kubelet = Writer {
        subresource: "status",
        reset: &["spec"],
        ..writer("kubelet", "v1", &schema)
    };
    let running = with_status(&kubelet, &pod, pod_status(0));
    let mut again = running.clone();
    again.remove("metadata.managedFields");
    again.set("status", pod_status(1));
    measure("status of a Pod", count, || {
        update(&kubelet, Some(&running), &again, None).len()
    });
    Ok(())
}

fn with_status(writer: &Writer<'_>, pod: &Object, status: Value) -> Object {
    let mut new = pod.clone();
    new.remove("metadata.managedFields");
    new.set("status", status);
    let entries = update(writer, Some(pod), &new, None);
    new.set("metadata.managedFields", entries);
    new
}

fn applied(count: u32) -> Result<(), Failure> {
    let schema = Schema::of::<Deployment>("io.k8s.api.apps.v1.Deployment");
    let config = object(
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"app": "web"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container("a"), container("b")]}}}}),
    )?;
    let writer = writer("me", "apps/v1", &schema);
    let mut live = apply(&writer, None, &config, false)?;
    live.set("metadata.uid", "u");
    measure("apply of a Deployment", count, || {
        apply(&writer, Some(&live), &config, false).map_or(0, |object| object.map().len())
    });
    Ok(())
}

fn object(value: Value) -> Result<Object, Failure> {
    Ok(Object::from_value(value)?)
}
