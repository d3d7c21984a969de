//! Wasm pods one after another: the time from sending the create to the watch event that says Ready.

use std::{path::Path, time::Instant};

use bytes::Bytes;
use e2e::{Cluster, Options, run};
use serde_json::{Value, json};

use crate::{
    connection::Access,
    creates::load_command,
    disk,
    figures::{Durations, print},
    watch::{Event, Events},
    workload,
};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Starts a cluster with the component's image (the example's, if none is given) and prints the figures.
pub(crate) fn measure(count: usize, component: Option<&Path>) -> anyhow::Result<()> {
    let cluster = Cluster::start(Options::default());
    let component = component.map_or_else(workload::component, Path::to_owned);
    cluster.load(&component, "hello:1").ok();
    disk::measure(&cluster.data())?;
    let out = run(&mut load_command(&cluster, &["load-pods"], &[count])?, "").ok();
    print(format!("pods {}", out.trim()));
    Ok(())
}

/// Makes `count` pods, each waited for and deleted; the first warms up and is not counted.
pub(crate) async fn load(kubeconfig: &Path, count: usize) -> anyhow::Result<()> {
    let access = Access::from_kubeconfig(kubeconfig)?;
    let mut writer = access.connect().await?;
    let mut watcher = access.connect().await?;
    let mut events = Events::open(&mut watcher, &format!("{PODS}?watch=true")).await?;
    let mut durations = Durations::default();
    let mut most_writes = 0;
    for index in 0..=count {
        let name = format!("pod-{index}");
        let start = Instant::now();
        writer.call("POST", PODS, Bytes::from(pod(&name).to_string())).await?;
        let writes = events.wait(&name, Event::is_ready).await?;
        most_writes = most_writes.max(writes);
        if index > 0 {
            durations.push(start.elapsed());
        }
        let now = Bytes::from_static(br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":1}"#);
        writer.call("DELETE", &format!("{PODS}/{name}"), now).await?;
        events.wait(&name, |event| event.kind == "DELETED").await?;
    }
    print(format!(
        "count={} most_writes={most_writes} {}",
        durations.len(),
        durations.summary()
    ));
    Ok(())
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{
            "name": "hello",
            "image": "hello:1",
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
        }]},
    })
}
