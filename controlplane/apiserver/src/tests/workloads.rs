//! Jobs, controllers, autoscalers and parts of pods over the whole request path.

use super::*;

const PODS: &str = "/api/v1/namespaces/a/pods";
const JOBS: &str = "/apis/batch/v1/namespaces/a/jobs";
const V1: &str = "/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers";

fn job(name: &str) -> Value {
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
}

#[tokio::test]
async fn a_job_selects_its_own_pods() {
    let f = Fixture::new().await;
    let made = f.post(JOBS, job("j")).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let uid = made.at("/metadata/uid");
    assert_eq!(
        made.at("/spec/selector"),
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    );
    assert_eq!(
        made.at("/spec/template/metadata/labels"),
        json!({"batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "j", "controller-uid": uid,
            "job-name": "j"})
    );
    let done = f.get(&format!("{JOBS}?fieldSelector=status.successful%3D0")).await;
    assert_eq!(done.names(), ["j"]);
    let target = format!("{JOBS}/j");
    let suspended = f.patch(&target, "merge", json!({"spec": {"suspend": true}})).await;
    assert_eq!(suspended.at("/metadata/generation"), 2, "{suspended:?}");
    let again = f.put(&target, suspended.json()).await;
    assert_eq!(again.revision(), suspended.revision(), "{again:?}");
}

#[tokio::test]
async fn kinds_older_than_the_garbage_collector_leave_dependents_alone() {
    let f = Fixture::new().await;
    f.post(JOBS, job("j")).await;
    let gone = f.delete(&format!("{JOBS}/j")).await;
    assert_eq!(gone.at("/metadata/finalizers"), json!(["orphan"]), "{gone:?}");
    f.post(JOBS, job("k")).await;
    let gone = f.delete(&format!("{JOBS}/k?propagationPolicy=Background")).await;
    assert_eq!(gone.at("/status"), "Success", "{gone:?}");
}

#[tokio::test]
async fn what_keeps_pods_is_scaled() {
    let f = Fixture::new().await;
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "x"},
        "spec": {"selector": {"app": "x"}, "template": template}});
    let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "x"},
        "spec": {"serviceName": "x", "selector": {"matchLabels": {"app": "x"}}, "template": template}});
    for (collection, object) in [
        ("/api/v1/namespaces/a/replicationcontrollers", controller),
        ("/apis/apps/v1/namespaces/a/statefulsets", set),
    ] {
        let made = f.post(collection, object).await;
        assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
        let target = format!("{collection}/x/scale");
        let mut scale = f.get(&target).await.json();
        assert_eq!(scale["status"]["selector"], "app=x", "{collection}: {scale}");
        scale["spec"]["replicas"] = json!(4);
        assert_eq!(f.put(&target, scale).await.at("/spec/replicas"), 4, "{collection}");
        assert_eq!(f.get(&format!("{collection}/x")).await.at("/spec/replicas"), 4);
    }
}

fn autoscaler() -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {
        "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "metrics": [
            {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "30"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}]}})
}

#[tokio::test]
async fn an_autoscaler_is_the_same_in_both_versions() {
    let f = Fixture::new().await;
    let made = f.post(V2, autoscaler()).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let old = f.get(&format!("{V1}/h")).await;
    assert_eq!(old.at("/apiVersion"), "autoscaling/v1");
    assert_eq!(old.at("/spec/targetCPUUtilizationPercentage"), 50);
    assert_eq!(old.at("/status"), json!({"currentReplicas": 0, "desiredReplicas": 0}));
    let mut changed = old.json();
    changed["spec"]["maxReplicas"] = json!(9);
    let put = f.put(&format!("{V1}/h"), changed).await;
    assert_eq!(put.code, StatusCode::OK, "{put:?}");
    let new = f.get(&format!("{V2}/h")).await;
    assert_eq!(new.at("/spec/maxReplicas"), 9);
    assert_eq!(new.at("/spec/metrics"), made.at("/spec/metrics"));
    assert_eq!(new.at("/metadata/annotations"), Value::Null);
}

#[tokio::test]
async fn the_old_version_of_an_autoscaler_is_enough() {
    let f = Fixture::new().await;
    let old = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {
        "maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
        "targetCPUUtilizationPercentage": 70}});
    let made = f.post(V1, old).await;
    assert_eq!(made.at("/spec/minReplicas"), 1, "{made:?}");
    let new = f.get(&format!("{V2}/h")).await;
    assert_eq!(new.at("/spec/metrics/0/resource/target/averageUtilization"), 70);
    let status = json!({"status": {"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 81}});
    let told = f.patch(&format!("{V1}/h/status"), "merge", status).await;
    assert_eq!(told.at("/status/currentCPUUtilizationPercentage"), 81, "{told:?}");
    let new = f.get(&format!("{V2}/h")).await;
    assert_eq!(
        new.at("/status/currentMetrics/0/resource/current/averageUtilization"),
        81
    );
    assert_eq!(new.at("/spec/metrics/0/resource/target/averageUtilization"), 70);
}

#[tokio::test]
async fn a_debugger_joins_a_pod() {
    let f = Fixture::new().await;
    f.post(PODS, pod("p")).await;
    let target = format!("{PODS}/p/ephemeralcontainers");
    assert_eq!(f.get(&target).await.at("/kind"), "Pod");
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "d", "image": "shell"}], "nodeName": "elsewhere"}});
    let joined = f.patch(&target, "strategic-merge", debugger).await;
    assert_eq!(joined.code, StatusCode::OK, "{joined:?}");
    assert_eq!(joined.at("/spec/ephemeralContainers/0/imagePullPolicy"), "Always");
    assert_eq!(joined.at("/spec/nodeName"), Value::Null);
    assert_eq!(joined.at("/metadata/generation"), 2);
    let gone = f
        .patch(&target, "merge", json!({"spec": {"ephemeralContainers": null}}))
        .await;
    assert_eq!(gone.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_pod_is_resized() {
    let f = Fixture::new().await;
    let mut small = pod("p");
    small["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    f.post(PODS, small).await;
    let more = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}}}]}});
    let refused = f.patch(&format!("{PODS}/p"), "strategic-merge", more.clone()).await;
    assert_eq!(refused.code, StatusCode::UNPROCESSABLE_ENTITY, "{refused:?}");
    let resized = f.patch(&format!("{PODS}/p/resize"), "strategic-merge", more).await;
    assert_eq!(resized.code, StatusCode::OK, "{resized:?}");
    assert_eq!(resized.at("/spec/containers/0/resources/requests/cpu"), "2");
    assert_eq!(resized.at("/metadata/generation"), 2);
}

#[tokio::test]
async fn a_claim_grows_but_does_not_shrink() {
    let f = Fixture::new().await;
    let claims = "/api/v1/namespaces/a/persistentvolumeclaims";
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}}});
    let made = f.post(claims, claim).await;
    assert_eq!(made.code, StatusCode::CREATED, "{made:?}");
    let bound = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    let target = format!("{claims}/c");
    let status = f.patch(&format!("{target}/status"), "merge", bound).await;
    assert_eq!(status.code, StatusCode::OK, "{status:?}");
    let size = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let grown = f.patch(&target, "merge", size("2Gi")).await;
    assert_eq!(grown.code, StatusCode::OK, "{grown:?}");
    let shrunk = f.patch(&target, "merge", size("500Mi")).await;
    assert_eq!(shrunk.code, StatusCode::UNPROCESSABLE_ENTITY, "{shrunk:?}");
}

#[tokio::test]
async fn a_scale_is_shown_as_a_table() {
    let f = Fixture::new().await;
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": pod});
    f.post(
        "/apis/apps/v1/namespaces/a/deployments",
        json!({"metadata": {"name": "d"}, "spec": spec}),
    )
    .await;
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let target = "/apis/apps/v1/namespaces/a/deployments/d/scale";
    let table = f.send_with("GET", target, &accept, Vec::new()).await;
    let columns = table.at("/columnDefinitions");
    let names: Vec<_> = columns
        .as_array()
        .into_iter()
        .flatten()
        .map(|column| column["name"].clone())
        .collect();
    assert_eq!(json!(names), json!(["Name", "Desired", "Available", "Age"]));
    let cells = table.at("/rows/0/cells");
    assert_eq!((&cells[0], &cells[1], &cells[2]), (&json!("d"), &json!(3), &json!(0)));
    assert_eq!(table.at("/rows/0/object/kind"), json!("PartialObjectMetadata"));
}
