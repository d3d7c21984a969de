//! Wasm pods one after another: the time from sending the create to the watch event that says Ready.

use std::{path::Path, time::Instant};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use e2e::{Cluster, Options, repository, run};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::{
    connection::Access,
    creates::load_command,
    figures::{Durations, print},
};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// Starts a cluster with the example's image and prints the figures.
pub(crate) fn measure(count: usize) -> anyhow::Result<()> {
    let cluster = Cluster::start(Options::default());
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    let out = run(&mut load_command(&cluster, &["load-pods"], &[count])?, "").ok();
    print(format!("pods {}", out.trim()));
    Ok(())
}

/// Makes `count` pods, each waited for and deleted; the first warms up and is not counted.
pub(crate) async fn load(kubeconfig: &Path, count: usize) -> anyhow::Result<()> {
    let access = Access::from_kubeconfig(kubeconfig)?;
    let mut writer = access.connect().await?;
    let mut watcher = access.connect().await?;
    let mut events = Events::new(
        watcher
            .open("GET", &format!("{PODS}?watch=true"), Bytes::new())
            .await?
            .into_body(),
    );
    let mut durations = Durations::default();
    let mut most_writes = 0;
    for index in 0..=count {
        let name = format!("pod-{index}");
        let start = Instant::now();
        writer.call("POST", PODS, Bytes::from(pod(&name).to_string())).await?;
        let writes = events.wait(&name, is_ready).await?;
        most_writes = most_writes.max(writes);
        if index > 0 {
            durations.push(start.elapsed());
        }
        let now = Bytes::from_static(br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":1}"#);
        writer.call("DELETE", &format!("{PODS}/{name}"), now).await?;
        events.wait(&name, |event| event["type"] == "DELETED").await?;
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

fn is_ready(event: &Value) -> bool {
    let conditions = event["object"]["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

/// The lines of a watch.
struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// Waits for an event of the pod; answers how many there were of it, each of them one durable write.
    async fn wait(&mut self, name: &str, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<usize> {
        let mut seen = 0;
        loop {
            let event = self.next().await?;
            if event["object"]["metadata"]["name"] == name {
                seen += 1;
                if wanted(&event) {
                    return Ok(seen);
                }
            }
        }
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return Ok(serde_json::from_slice(&line)?);
            }
            match self.body.frame().await.context("the watch ended")??.into_data() {
                Ok(data) => self.buffer.extend_from_slice(&data),
                Err(_) => bail!("the watch ended with trailers"),
            }
        }
    }
}
