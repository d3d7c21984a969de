//! What the larger benchmarks deploy: a Deployment of Wasm pods behind a Service, scaled by kubectl.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use e2e::{Cluster, Options, Tool, repository, run};
use serde::Deserialize;

use crate::{
    connection::Access,
    creates::load_command,
    figures::{Durations, print},
    watch::{Events, Metadata},
};

/// Every pod of the workload has this label.
const SELECTOR: &str = "app%3Dload";

/// The component the pods run unless told otherwise.
pub(crate) fn component() -> PathBuf {
    repository().join("examples/hello/hello.wasm")
}

/// A cluster with `component` as the image `load:1` and one Ready pod of it behind the Service `load`.
pub(crate) fn deploy(component: &Path, readiness: Option<&str>) -> Cluster {
    let cluster = Cluster::start(Options::default());
    cluster.load(component, "load:1").ok();
    cluster.apply(&manifest(readiness)).ok();
    let rollout = ["rollout", "status", "deployment/load", "--timeout=110s"];
    cluster.kubectl(&rollout).ok();
    cluster
}

/// The Deployment and its Service; `readiness` is the path of a probe every ten seconds.
fn manifest(readiness: Option<&str>) -> String {
    let probe = readiness.map_or(String::new(), |path| {
        format!("\n          readinessProbe: {{httpGet: {{path: {path}, port: http}}, periodSeconds: 10}}")
    });
    format!(
        "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: load
spec:
  replicas: 1
  selector: {{matchLabels: {{app: load}}}}
  template:
    metadata:
      labels: {{app: load}}
    spec:
      enableServiceLinks: false
      containers:
        - name: load
          image: load:1
          ports: [{{name: http, containerPort: 8080}}]{probe}
---
apiVersion: v1
kind: Service
metadata:
  name: load
spec:
  selector: {{app: load}}
  ports: [{{port: 80, targetPort: http}}]
"
    )
}

/// Scales the Deployment to `count` from inside the cluster's network namespace; answers the line of figures.
pub(crate) fn scale(cluster: &Cluster, count: usize) -> anyhow::Result<String> {
    let out = run(&mut load_command(cluster, &["load-scale"], &[count])?, "").ok();
    Ok(out.trim().to_owned())
}

/// Runs `kubectl scale` and waits until a watch has seen `count` Ready pods. The figures count from the start of kubectl,
/// over the pods that were not Ready before it; `writes` is how many changes the store has seen meanwhile.
pub(crate) async fn load(kubeconfig: &Path, count: usize) -> anyhow::Result<()> {
    let access = Access::from_kubeconfig(kubeconfig)?;
    let mut watcher = access.connect().await?;
    let path = format!("/api/v1/namespaces/default/pods?watch=true&labelSelector={SELECTOR}");
    let mut events = Events::open(&mut watcher, &path).await?;
    let first = events.next().await?;
    anyhow::ensure!(first.is_ready(), "one pod is Ready before");
    let mut reader = access.connect().await?;
    let list = reader.call("GET", "/api/v1/namespaces/default/pods?limit=1", Bytes::new());
    let List { metadata: before } = serde_json::from_slice(&list.await?)?;
    let start = Instant::now();
    let mut kubectl = tokio::process::Command::new(Tool::Kubectl136.path())
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(["scale", "deployment/load", &format!("--replicas={count}")])
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let mut ready = std::collections::HashSet::from([first.object.metadata.name]);
    let mut durations = Durations::default();
    let mut last = before.resource_version.clone();
    while ready.len() < count {
        let event = tokio::time::timeout(Duration::from_secs(100), events.next()).await??;
        last.clone_from(&event.object.metadata.resource_version);
        if event.is_ready() && ready.insert(event.object.metadata.name) {
            durations.push(start.elapsed());
        }
    }
    let all = start.elapsed().as_secs_f64();
    anyhow::ensure!(kubectl.wait().await?.success(), "kubectl scale failed");
    let writes = last.parse::<u64>()? - before.resource_version.parse::<u64>()?;
    print(format!(
        "pods={} all_ready_s={all:.2} writes={writes} {}",
        durations.len(),
        durations.summary()
    ));
    Ok(())
}

/// What is read of a list.
#[derive(Deserialize)]
struct List {
    metadata: Metadata,
}
