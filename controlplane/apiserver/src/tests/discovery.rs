//! Discovery, OpenAPI, health, version and metrics.

use http::StatusCode;
use serde_json::json;

use super::*;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";

#[tokio::test]
async fn legacy_discovery_names_every_kind() {
    let f = Fixture::new().await;
    assert_eq!(f.get("/api").await.at("/versions"), json!(["v1"]));
    let groups = f.get("/apis").await;
    let names: Vec<String> = groups
        .at("/groups")
        .as_array()
        .expect("groups")
        .iter()
        .map(|g| g["name"].as_str().unwrap_or_default().to_owned())
        .collect();
    for group in [
        "apps",
        "events.k8s.io",
        "rbac.authorization.k8s.io",
        "coordination.k8s.io",
    ] {
        assert!(names.iter().any(|name| name == group), "{group} not in {names:?}");
    }
    assert_eq!(
        f.get("/apis/apps").await.at("/preferredVersion/groupVersion"),
        "apps/v1"
    );
    let apps = f.get("/apis/apps/v1").await;
    let resources = apps.at("/resources");
    let find = |name: &str| {
        resources
            .as_array()
            .expect("resources")
            .iter()
            .find(|r| r["name"] == name)
            .cloned()
    };
    let deployments = find("deployments").expect("deployments");
    assert_eq!(deployments["storageVersionHash"], "8aSe+NMegvE=");
    assert_eq!(
        (&deployments["singularName"], &deployments["shortNames"]),
        (&json!("deployment"), &json!(["deploy"]))
    );
    let scale = find("deployments/scale").expect("scale");
    assert_eq!(
        (&scale["group"], &scale["version"], &scale["kind"]),
        (&json!("autoscaling"), &json!("v1"), &json!("Scale"))
    );
    assert_eq!(f.get("/apis/none").await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn aggregated_discovery_is_one_document_per_root() {
    let f = Fixture::new().await;
    let get = |path: &'static str| f.send_with("GET", path, &[("accept", AGGREGATED)], Vec::new());
    let core = get("/api").await;
    assert_eq!(
        core.headers["content-type"],
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    assert_eq!(core.at("/items/0/versions/0/version"), "v1");
    let resources = core.at("/items/0/versions/0/resources");
    let pods = resources
        .as_array()
        .expect("resources")
        .iter()
        .find(|r| r["resource"] == "pods")
        .cloned()
        .expect("pods");
    assert_eq!(
        (&pods["scope"], &pods["shortNames"]),
        (&json!("Namespaced"), &json!(["po"]))
    );
    let parts: Vec<&str> = pods["subresources"]
        .as_array()
        .expect("parts")
        .iter()
        .filter_map(|s| s["subresource"].as_str())
        .collect();
    assert_eq!(
        parts,
        ["binding", "ephemeralcontainers", "eviction", "resize", "status"]
    );
    let groups = get("/apis").await;
    assert!(
        groups
            .at("/items")
            .as_array()
            .is_some_and(|items| items.iter().any(|g| g["metadata"]["name"] == "apps"))
    );
    let etag = groups.headers["etag"].to_str().expect("text").to_owned();
    let again = f
        .send_with(
            "GET",
            "/apis",
            &[("accept", AGGREGATED), ("if-none-match", &etag)],
            Vec::new(),
        )
        .await;
    assert_eq!((again.code, again.bytes.len()), (StatusCode::NOT_MODIFIED, 0));
}

#[tokio::test]
async fn openapi_documents_are_found_by_their_hash_and_kept() {
    let f = Fixture::new().await;
    let index = f.get("/openapi/v3").await;
    let url = index.at("/paths/apis~1apps~1v1/serverRelativeURL");
    let url = url.as_str().expect("a URL");
    let document = f.get(url).await;
    assert_eq!(document.headers["cache-control"], "public, immutable, max-age=31536000");
    let schema = document.at("/components/schemas/io.k8s.api.apps.v1.Deployment");
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Deployment");
    assert!(
        document.json()["paths"]
            .get("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
            .is_some()
    );
    let moved = f.get("/openapi/v3/apis/apps/v1?hash=0").await;
    assert_eq!(
        (moved.code, moved.headers["location"].to_str().ok()),
        (StatusCode::MOVED_PERMANENTLY, Some(url))
    );
    assert_eq!(f.get("/openapi/v3/apis/none/v1").await.code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn openapi_v2_is_one_document_in_the_format_that_is_asked_for() {
    let f = Fixture::new().await;
    let get = |headers: Vec<(&'static str, String)>| {
        let f = &f;
        async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            f.send_with("GET", "/openapi/v2", &headers, Vec::new()).await
        }
    };
    let json = get(vec![]).await;
    assert_eq!(json.headers["content-type"], "application/json");
    assert_eq!(json.at("/swagger"), "2.0");
    assert_eq!(json.at("/info/version"), "v1.36.2+wherry");
    for definition in [
        "io.k8s.api.core.v1.Pod",
        "io.k8s.api.apps.v1.Deployment",
        "io.k8s.api.rbac.v1.Role",
    ] {
        assert!(json.json()["definitions"].get(definition).is_some(), "{definition}");
    }
    let etag = json.headers["etag"].to_str().expect("text").to_owned();
    let again = get(vec![("if-none-match", etag)]).await;
    assert_eq!((again.code, again.bytes.len()), (StatusCode::NOT_MODIFIED, 0));

    // As client-go asks.
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf".to_owned();
    let protobuf = get(vec![("accept", asked.clone())]).await;
    assert_eq!(
        protobuf.headers["content-type"],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert!(
        protobuf.bytes.starts_with(b"\x0a\x032.0"),
        "field 1 is the version of the specification"
    );
    assert_ne!(protobuf.headers["etag"], json.headers["etag"]);
    let etag = protobuf.headers["etag"].to_str().expect("text").to_owned();
    let again = get(vec![("accept", asked), ("if-none-match", format!("\"x\", {etag}"))]).await;
    assert_eq!(again.code, StatusCode::NOT_MODIFIED);
    assert_eq!(
        get(vec![("accept", "text/html".to_owned())]).await.code,
        StatusCode::NOT_ACCEPTABLE
    );
}

#[tokio::test]
async fn health_is_told_by_check() {
    let up = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let passes = up.clone();
    let check = |name, live| crate::http::health::Check {
        name,
        passes: match live {
            true => {
                let passes = passes.clone();
                Arc::new(move || passes.load(std::sync::atomic::Ordering::Relaxed))
            }
            false => Arc::new(|| true),
        },
        live,
    };
    let f = Fixture::made(Given {
        checks: vec![check("kms-providers", true), check("poststarthook/a", false)],
        ..Given::default()
    })
    .await;
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/readyz/ping",
        "/readyz/etcd",
        "/livez/kms-providers",
        "/readyz/poststarthook/a",
    ] {
        assert_eq!(f.get(path).await.bytes, "ok", "{path}");
    }
    let verbose = f.get("/readyz?verbose").await;
    assert_eq!(
        verbose.bytes,
        "[+]ping ok\n[+]etcd ok\n[+]informer-sync ok\n[+]shutdown ok\n[+]kms-providers ok\n[+]poststarthook/a ok\n\
         readyz check passed\n"
    );
    let verbose = f.get("/livez?verbose").await;
    assert_eq!(
        verbose.bytes,
        "[+]ping ok\n[+]etcd ok\n[+]kms-providers ok\nlivez check passed\n"
    );
    let excluded = f.get("/livez?verbose&exclude=etcd&exclude=a&exclude=b").await;
    assert_eq!(
        excluded.bytes,
        "[+]ping ok\n[+]etcd excluded: ok\n[+]kms-providers ok\nwarn: some health checks cannot be excluded: no matches \
         for \"a\", \"b\"\nlivez check passed\n"
    );
    for path in ["/readyz/nothing", "/livez/shutdown", "/livez/poststarthook/a"] {
        assert_eq!(f.get(path).await.code, StatusCode::NOT_FOUND, "{path}");
    }
    up.store(false, std::sync::atomic::Ordering::Relaxed);
    let failing = f.get("/livez").await;
    assert_eq!(failing.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(
        failing.bytes,
        "[+]ping ok\n[+]etcd ok\n[-]kms-providers failed: reason withheld\nlivez check failed\n"
    );
    assert_eq!(
        f.get("/livez/kms-providers").await.code,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(f.get("/livez?exclude=kms-providers").await.bytes, "ok");
    f.shutdown.cancel();
    let ending = f.get("/readyz?exclude=kms-providers").await;
    assert_eq!(ending.code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(String::from_utf8_lossy(&ending.bytes).contains("[-]shutdown failed: reason withheld\n"));
}

#[tokio::test]
async fn the_root_lists_what_there_is() {
    let f = Fixture::new().await;
    let listed = f.get("/").await.at("/paths");
    let listed: Vec<&str> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for path in [
        "/api",
        "/api/v1",
        "/apis",
        "/apis/",
        "/apis/apps",
        "/apis/apps/v1",
        "/healthz/etcd",
        "/livez",
        "/livez/ping",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openapi/v3/",
        "/readyz/informer-sync",
        "/version",
    ] {
        assert!(listed.contains(&path), "{path} is missing");
    }
    assert!(listed.is_sorted());
    for path in listed.iter().filter(|path| !path.starts_with("/openapi")) {
        assert_eq!(f.get(path).await.code, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn version_and_metrics_answer() {
    let f = Fixture::new().await;
    let version = f.get("/version").await;
    assert_eq!(
        (version.at("/gitVersion"), version.at("/minor")),
        (json!("v1.36.2+wherry"), json!("36"))
    );
    f.get("/api/v1/namespaces/a/configmaps").await;
    f.get("/api/v1/namespaces/a/inventions").await;
    let metrics = String::from_utf8(f.get("/metrics").await.bytes.to_vec()).expect("text");
    let line = r#"apiserver_request_total{verb="LIST",group="",version="v1",resource="configmaps",subresource="",scope="namespace",code="200"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(!metrics.contains("inventions"));
}

/// The rules of the text format, version 0.0.4, that a scraper relies on.
#[tokio::test]
async fn metrics_are_in_the_text_format_that_they_say_they_are_in() {
    let f = Fixture::new().await;
    f.get("/api/v1/namespaces/a/configmaps").await;
    let answer = f.get("/metrics").await;
    assert_eq!(
        answer.headers.get("content-type").and_then(|v| v.to_str().ok()),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = String::from_utf8(answer.bytes.to_vec()).expect("text");
    assert!(text.ends_with('\n'));
    let mut types = std::collections::HashMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "TYPE", name, kind] => {
                assert_eq!(types.insert(*name, *kind), None, "{name} is declared once");
            }
            ["#", "HELP", _, help] => assert!(!help.is_empty(), "{line}"),
            ["#", ..] => panic!("neither type nor help: {line}"),
            _ => {
                let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
                value.parse::<f64>().expect("a number");
                let name = sample.split('{').next().unwrap_or_default();
                let of = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
                let histogram = of.is_some_and(|of| types.get(of) == Some(&"histogram"));
                assert!(histogram || types.contains_key(name), "{name} has no type");
                assert_eq!(name.ends_with("_total"), types.get(name) == Some(&"counter"), "{name}");
            }
        }
    }
    assert_eq!(types.get("apiserver_request_total"), Some(&"counter"));
}

#[tokio::test]
async fn callers_in_this_process_use_the_same_path() {
    let f = Fixture::new().await;
    let client = f.server.as_user("system:kube-scheduler", &[]);
    let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::namespaced(client, "a");
    let made = serde_json::from_value(config_map("x", json!({"k": "v"}))).expect("a ConfigMap");
    maps.create(&kube::api::PostParams::default(), &made)
        .await
        .expect("created");
    assert_eq!(maps.get("x").await.expect("found").data.expect("data")["k"], "v");
    let error = maps.get("y").await.expect_err("there is none");
    assert!(matches!(error, kube::Error::Api(status) if status.code == 404));
}
