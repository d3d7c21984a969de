//! What is counted of Wasm pods: on the node's `/metrics` at once, and in the last hour that the API tells of.

use std::time::Duration;

use e2e::{Cluster, Options, need_root, repository, until};
use serde_json::Value;

const RUNTIME: &str = "/apis/runtime.wherry.dev/v1";
/// Two samples, and what a loaded machine adds.
const SAMPLED: Duration = Duration::from_secs(90);

fn pod(name: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{name}"}}, "spec": {{"containers": [{{
        "name": "main", "image": "{name}:1", "imagePullPolicy": "IfNotPresent", "ports": [{{"containerPort": 8080}}]}}]}}}}"#
    )
}

fn raw(cluster: &Cluster, path: &str) -> Value {
    let text = cluster.kubectl(&["get", "--raw", path]).ok();
    serde_json::from_str(&text).expect("JSON")
}

/// The value of a series of a pod on the node's `/metrics`.
fn counted(text: &str, series: &str, pod: &str) -> Option<f64> {
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with(series) && line.contains(&format!("pod=\"{pod}\"")));
    lines.next()?.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn what_wasm_pods_do_is_counted_and_an_hour_of_it_is_kept() {
    need_root!();
    let cluster = Cluster::start(Options::default());
    let workloads = repository().join("tests/workloads");
    for guest in ["http-hello", "http-trap"] {
        cluster
            .load(&workloads.join(format!("{guest}.wasm")), &format!("{guest}:1"))
            .ok();
        cluster.apply(&pod(guest)).ok();
        let name = format!("pod/{guest}");
        cluster
            .kubectl(&["wait", "--for=condition=Ready", &name, "--timeout=60s"])
            .ok();
    }
    let address = |name: &str| {
        let pod = cluster.get(&["pod", name]);
        format!("http://{}:8080/", pod["status"]["podIP"].as_str().expect("an address"))
    };
    let (hello, trap) = (address("http-hello"), address("http-trap"));
    for _ in 0..5 {
        cluster.curl(&hello).ok();
    }
    for _ in 0..3 {
        // It is answered 500.
        let _ = cluster.curl(&trap);
    }

    let nodes = cluster.get(&["nodes"]);
    let node = nodes["items"][0]["metadata"]["name"]
        .as_str()
        .expect("a node")
        .to_owned();
    let text = cluster
        .kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics")])
        .ok();
    for (series, pod, expected) in [
        ("wherry_wasm_requests_total{", "http-hello", 5.0),
        ("wherry_wasm_traps_total{", "http-hello", 0.0),
        // One was made at the start, for nobody.
        ("wherry_wasm_cold_starts_total{", "http-hello", 6.0),
        ("wherry_wasm_request_duration_seconds_count{", "http-hello", 5.0),
        ("wherry_wasm_requests_total{", "http-trap", 3.0),
        ("wherry_wasm_traps_total{", "http-trap", 3.0),
        ("wherry_wasm_instances{", "http-trap", 0.0),
    ] {
        assert_eq!(counted(&text, series, pod), Some(expected), "{series} {pod}\n{text}");
    }
    assert!(counted(&text, "wherry_wasm_code_bytes{", "http-hello").is_some_and(|bytes| bytes > 1000.0));

    // Growth is seen from one sample to the next.
    let history = until("the last hour is known", SAMPLED, || {
        let _ = cluster.curl(&trap);
        let found = raw(&cluster, &format!("{RUNTIME}/namespaces/default/pods/http-trap"));
        let values = &found["status"]["series"][0]["values"];
        let grows = |name: &str| {
            values[name]
                .as_array()
                .is_some_and(|all| all.iter().any(|v| v.as_f64() > Some(0.0)))
        };
        match grows("traps") && grows("requests") && grows("latencyP99") && grows("code") {
            true => Ok(found),
            false => Err(found.to_string()),
        }
    });
    assert_eq!(history["status"]["series"][0]["name"], "main");
    assert!(history["status"]["since"].is_string(), "{history}");
    for scope in [
        "clusters/current".to_owned(),
        "namespaces/default".to_owned(),
        format!("nodes/{node}"),
    ] {
        let found = raw(&cluster, &format!("{RUNTIME}/{scope}?rangeSeconds=600"));
        let values = &found["status"]["series"][0]["values"];
        for name in ["cpu", "memory", "requests", "traps", "coldStarts", "instances"] {
            assert!(values[name].is_array(), "{scope} {name}: {found}");
        }
    }

    let programs = raw(
        &cluster,
        &format!("{RUNTIME}/namespaces/default/pods/http-hello/programs"),
    );
    let program = &programs["status"]["containers"][0]["program"];
    assert!(
        program["worlds"][0]
            .as_str()
            .is_some_and(|world| world.starts_with("wasi:http/proxy@0.2")),
        "{programs}"
    );
    assert!(
        program["exports"].to_string().contains("wasi:http/incoming-handler"),
        "{programs}"
    );
    assert!(program["codeSize"].as_u64() > Some(1000), "{programs}");
}
