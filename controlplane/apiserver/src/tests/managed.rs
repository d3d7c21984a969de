//! Managed fields of whatever is no apply, as kubectl's commands leave them.

use serde_json::json;

use super::*;

const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const PODS: &str = "/api/v1/namespaces/a/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";

/// `manager operation [subresource]: fieldsV1` of each entry.
pub(super) fn books(answer: &Answer) -> Vec<String> {
    let entries = answer.at("/metadata/managedFields");
    let line = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        let sub = entry
            .get("subresource")
            .map(|_| format!(" {}", text("subresource")))
            .unwrap_or_default();
        format!("{} {}{sub}: {}", text("manager"), text("operation"), entry["fieldsV1"])
    };
    entries.as_array().into_iter().flatten().map(line).collect()
}

impl Fixture {
    /// As a program that says who it is by its user agent.
    async fn send_as(&self, agent: &str, method: &str, target: &str, media: &str, body: Value) -> Answer {
        let headers = [("content-type", media), ("user-agent", agent)];
        self.send_with(method, target, &headers, body.to_string().into()).await
    }
}

#[tokio::test]
async fn a_create_is_the_work_of_the_named_manager_or_the_user_agent() {
    let f = Fixture::new().await;
    for (name, query, agent, want) in [
        ("x", "?fieldManager=me", "kubectl/v1.36", "me"),
        ("y", "", "kubectl/v1.36 (linux/amd64) kubernetes/abc", "kubectl"),
        ("z", "", "", "unknown"),
    ] {
        let body = config_map(name, json!({"k": "v"}));
        let made = f
            .send_as(agent, "POST", &format!("{MAPS}{query}"), "application/json", body)
            .await;
        assert_eq!(
            made.at("/metadata/managedFields"),
            json!([{
                "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:k": {}}},
                "manager": want, "operation": "Update", "time": "2026-01-01T00:00:00Z",
            }])
        );
    }
}

#[tokio::test]
async fn the_books_of_a_pods_life() {
    let f = Fixture::new().await;
    let mut body = pod("p");
    body["metadata"]["labels"] = json!({"run": "p"});
    f.send_as(
        "kubectl/v1",
        "POST",
        &format!("{PODS}?fieldManager=kubectl-run"),
        "application/json",
        body,
    )
    .await;
    f.post(
        &format!("{PODS}/p/binding"),
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}),
    )
    .await;
    let media = "application/strategic-merge-patch+json";
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    f.send_as("kubelet/v1", "PATCH", &format!("{PODS}/p/status"), media, status)
        .await;
    let label = json!({"metadata": {"labels": {"run": "other", "new": "x"}}});
    let target = format!("{PODS}/p?fieldManager=kubectl-label");
    let labelled = f
        .send_as("kubectl/v1", "PATCH", &target, "application/merge-patch+json", label)
        .await;
    insta::assert_snapshot!(books(&labelled).join("\n"));
    assert_eq!(labelled.at("/spec/nodeName"), "n");
}

#[tokio::test]
async fn the_books_of_a_deployments_life() {
    let f = Fixture::new().await;
    let made = f
        .send_as(
            "kubectl/v1",
            "POST",
            &format!("{DEPLOYMENTS}?fieldManager=kubectl-create"),
            "application/json",
            deployment("d", 1),
        )
        .await;
    insta::assert_snapshot!("created", books(&made).join("\n"));
    let scale = json!({"spec": {"replicas": 4}});
    let target = format!("{DEPLOYMENTS}/d/scale");
    f.send_as("kubectl/v1", "PATCH", &target, "application/merge-patch+json", scale)
        .await;
    let mut status = f.get(&format!("{DEPLOYMENTS}/d")).await.json();
    status["status"] = json!({"replicas": 4, "observedGeneration": 2});
    status["metadata"]["labels"] = json!({"not": "owned"});
    status["metadata"]["managedFields"] = json!([]);
    let target = format!("{DEPLOYMENTS}/d/status");
    f.send_as("kube-controller-manager/v1", "PUT", &target, "application/json", status)
        .await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "new"}]}}}});
    let target = format!("{DEPLOYMENTS}/d?fieldManager=kubectl-set");
    let set = f
        .send_as(
            "kubectl/v1",
            "PATCH",
            &target,
            "application/strategic-merge-patch+json",
            image,
        )
        .await;
    insta::assert_snapshot!("scaled_observed_and_set", books(&set).join("\n"));
}

#[tokio::test]
async fn a_write_that_changes_nothing_writes_nothing() {
    let f = Fixture::new().await;
    let made = f.config_map("x", json!({"k": "v"})).await;
    let same = f.put(&format!("{MAPS}/x"), config_map("x", json!({"k": "v"}))).await;
    assert_eq!(same.json(), made.json());
    let target = format!("{MAPS}/x?fieldManager=other");
    let patched = f.patch(&target, "merge", json!({"data": {"k": "v"}})).await;
    assert_eq!(patched.json(), made.json());
}

#[tokio::test]
async fn managed_fields_can_be_forgotten_and_sent() {
    let f = Fixture::new().await;
    f.config_map("x", json!({"k": "v"})).await;
    let target = format!("{MAPS}/x");
    for reset in [json!([{}]), json!([])] {
        let sent = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": "2020-01-01T00:00:00Z", "fieldsV1": {"f:data": {"f:k": {}}}}]);
        let op = json!([{"op": "add", "path": "/metadata/managedFields", "value": sent}]);
        let theirs = f.patch(&target, "json", op).await;
        assert_eq!(books(&theirs), ["m Update: {\"f:data\":{\"f:k\":{}}}"]);
        let forgotten = f
            .patch(&target, "merge", json!({"metadata": {"managedFields": reset}}))
            .await;
        assert_eq!(forgotten.code, StatusCode::OK, "{forgotten:?}");
        assert!(forgotten.json()["metadata"].get("managedFields").is_none(), "{reset}");
    }
    // Nobody's fields are known from now on, until the next apply.
    let later = f.put(&target, config_map("x", json!({"k": "w"}))).await;
    assert!(later.json()["metadata"].get("managedFields").is_none());
}

#[tokio::test]
async fn owner_references_are_kept_once() {
    let f = Fixture::new().await;
    let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"});
    let mut body = config_map("x", json!({}));
    body["metadata"]["ownerReferences"] = json!([owner, owner]);
    let made = f.post(MAPS, body).await;
    assert_eq!(made.at("/metadata/ownerReferences"), json!([owner]));
    let warning = made.headers["warning"].to_str().expect("text");
    assert!(
        warning.contains("contains duplicate entries; API server dedups owner references"),
        "{warning}"
    );
    assert!(warning.contains("duplicate UID(s) observed: u"), "{warning}");
}
