//! `componentstatuses`: read, listed and printed, of parts that run and parts that do not.

use super::*;
use crate::http::health::Check;

const PATH: &str = "/api/v1/componentstatuses";

async fn fixture() -> Fixture {
    let check = |name, up: bool| Check {
        name,
        passes: Arc::new(move || up),
        live: false,
    };
    let others = vec![check("scheduler", true), check("controller-manager", false)];
    let virtuals =
        Box::new(move |deps: &crate::registry::Deps| vec![crate::components::route(deps.backend.clone(), others)]);
    Fixture::with(Arc::new(Memory::default()), Vec::new(), virtuals).await
}

#[tokio::test]
async fn components_say_whether_they_are_up() {
    let f = fixture().await;
    let all = f.get(PATH).await;
    assert_eq!(all.at("/kind"), "ComponentStatusList");
    assert_eq!(all.names(), ["controller-manager", "etcd-0", "scheduler"]);
    assert_eq!(
        all.headers["warning"],
        "299 - \"v1 ComponentStatus is deprecated in v1.19+\""
    );
    let store = f.get(&format!("{PATH}/etcd-0")).await;
    assert_eq!(
        store.json(),
        json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": "etcd-0"},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
    );
    let idle = f.get(&format!("{PATH}/controller-manager")).await;
    assert_eq!(
        idle.at("/conditions"),
        json!([{"type": "Healthy", "status": "False", "error": "not running"}])
    );
    let none = f.get(&format!("{PATH}/x")).await;
    assert_eq!(
        (none.code, none.message().as_str()),
        (StatusCode::NOT_FOUND, "componentstatus \"x\" not found")
    );
    let some = f.get(&format!("{PATH}?fieldSelector=metadata.name%3Dscheduler")).await;
    assert_eq!(some.names(), ["scheduler"]);
    assert!(f.get(&format!("{PATH}?labelSelector=a%3Db")).await.names().is_empty());
    assert_eq!(
        f.delete(&format!("{PATH}/etcd-0")).await.code,
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn components_are_printed_and_discovered() {
    let f = fixture().await;
    let accept = [(
        "accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let table = f.send_with("GET", PATH, &accept, Vec::new()).await.json();
    let cells: Vec<&Value> = table["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| &row["cells"])
        .collect();
    assert_eq!(
        cells,
        [
            &json!(["controller-manager", "Unhealthy", "", "not running"]),
            &json!(["etcd-0", "Healthy", "ok", ""]),
            &json!(["scheduler", "Healthy", "ok", ""]),
        ]
    );
    let core = f.get("/api/v1").await.json();
    let found = core["resources"]
        .as_array()
        .expect("resources")
        .iter()
        .find(|r| r["name"] == "componentstatuses");
    assert_eq!(
        found,
        Some(
            &json!({"name": "componentstatuses", "singularName": "componentstatus", "namespaced": false,
            "kind": "ComponentStatus", "verbs": ["get", "list"], "shortNames": ["cs"]})
        )
    );
}
