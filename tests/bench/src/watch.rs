//! The events of a watch of pods, read for no more than a benchmark asks, so that reading them is not what is measured.

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;

use crate::connection::Connection;

/// One event of a pod.
#[derive(Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) object: Pod,
}

/// What is read of a pod.
#[derive(Deserialize)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) resource_version: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    phase: String,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Event {
    /// Whether the pod is there and Ready.
    pub(crate) fn is_ready(&self) -> bool {
        let conditions = &self.object.status.conditions;
        self.kind != "DELETED" && conditions.iter().any(|c| c.kind == "Ready" && c.status == "True")
    }

    /// Whether the pod is there and its containers run.
    pub(crate) fn is_running(&self) -> bool {
        self.kind != "DELETED" && self.object.status.phase == "Running"
    }
}

/// The lines of a watch.
pub(crate) struct Events {
    body: Incoming,
    buffer: BytesMut,
}

impl Events {
    /// Begins the watch at `path`.
    pub(crate) async fn open(connection: &mut Connection, path: &str) -> anyhow::Result<Self> {
        let response = connection.open("GET", path, Bytes::new()).await?;
        Ok(Self {
            body: response.into_body(),
            buffer: BytesMut::new(),
        })
    }

    /// Waits for an event of the pod; answers how many there were of it, each of them one durable write.
    pub(crate) async fn wait(&mut self, name: &str, wanted: impl Fn(&Event) -> bool) -> anyhow::Result<usize> {
        let mut seen = 0;
        loop {
            let event = self.next().await?;
            if event.object.metadata.name == name {
                seen += 1;
                if wanted(&event) {
                    return Ok(seen);
                }
            }
        }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Event> {
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
