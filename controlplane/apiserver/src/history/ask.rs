//! Asking a node's kubelet for a document.

use std::sync::Arc;
use std::time::Duration;

use api::Status;
use async_trait::async_trait;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::gather::Ask;
use super::merge::Told;
use crate::http::dial::Dialer;

/// How long a node may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes that it may say.
const LIMIT: usize = 8 << 20;

/// Asks.
#[derive(Clone)]
pub(super) struct Kubelets {
    dialer: Arc<dyn Dialer>,
    tasks: TaskTracker,
}

impl Kubelets {
    pub(super) fn new(dialer: Arc<dyn Dialer>, tasks: TaskTracker) -> Self {
        Kubelets { dialer, tasks }
    }

    /// A document of a node; `None` where it has none.
    pub(super) async fn get<T: DeserializeOwned>(&self, node: &str, path: &str) -> Result<Option<T>, Status> {
        let failed = |why: &str| {
            tracing::debug!(node, path, why, "a node did not answer");
            Status::service_unavailable(format!("node {node:?} did not answer"))
        };
        let asked = timeout(PATIENCE, self.send(node, path)).await;
        let (code, body) = asked.map_err(|_| failed("it takes too long"))??;
        match code {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|error| failed(&error.to_string())),
            StatusCode::NOT_FOUND => Ok(None),
            code => Err(failed(code.as_str())),
        }
    }

    async fn send(&self, node: &str, path: &str) -> Result<(StatusCode, bytes::Bytes), Status> {
        let connection = self.dialer.dial(node).await?;
        let lost = |error: &dyn std::error::Error| {
            Status::service_unavailable(format!("node {node:?} did not answer: {error}"))
        };
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
            .await
            .map_err(|error| lost(&error))?;
        self.tasks.spawn(async move {
            // The body's reader sees how it ends.
            let _ = driver.await;
        });
        let request = Request::get(path)
            .header(HOST, "kubelet")
            .body(Empty::<bytes::Bytes>::new());
        let request = request.map_err(|_| Status::bad_request("the name makes no request"))?;
        let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
        let code = response.status();
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        let body =
            body.map_err(|error| Status::service_unavailable(format!("node {node:?} did not answer: {error}")))?;
        Ok((code, body.to_bytes()))
    }
}

#[async_trait]
impl Ask for Kubelets {
    async fn ask(&self, node: &str, path: &str) -> Result<Option<Told>, Status> {
        self.get(node, path).await
    }
}
