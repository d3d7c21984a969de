//! The running node of a data directory, over its socket.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use crate::{
    cli::{DataDir, flag_for},
    datadir::require_cluster,
};

/// The node's socket.
pub(super) struct Node {
    directory: PathBuf,
}

/// What became of a load.
#[derive(Deserialize)]
pub(super) struct Loaded {
    pub(super) id: String,
    /// Why it will not run here.
    pub(super) warning: Option<String>,
}

#[derive(Deserialize)]
struct Images {
    images: Vec<cri::Image>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Node {
    pub(super) fn of(data: &DataDir) -> anyhow::Result<Self> {
        let directory = data.path()?;
        require_cluster(&directory)?;
        Ok(Self { directory })
    }

    pub(super) async fn load(&self, name: &str, content: Bytes) -> anyhow::Result<Loaded> {
        let answer = self.call(Method::POST, &named("/images", name), content).await?;
        serde_json::from_slice(&answer).context("the node did not answer as expected")
    }

    /// All images, or the one with this name.
    pub(super) async fn images(&self, name: Option<&str>) -> anyhow::Result<Vec<cri::Image>> {
        let target = name.map_or_else(|| "/images".to_owned(), |name| named("/images", name));
        let answer = self.call(Method::GET, &target, Bytes::new()).await?;
        let images: Images = serde_json::from_slice(&answer).context("the node did not answer as expected")?;
        Ok(images.images)
    }

    pub(super) async fn remove(&self, name: &str) -> anyhow::Result<()> {
        let target = named("/images", name);
        self.call(Method::DELETE, &target, Bytes::new()).await.map(drop)
    }

    /// The Wasm binary of an image.
    pub(super) async fn program(&self, name: &str) -> anyhow::Result<Bytes> {
        self.call(Method::GET, &named("/images/program", name), Bytes::new())
            .await
    }

    async fn call(&self, method: Method, target: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let socket = self.directory.join("agent.sock");
        let stream = UnixStream::connect(&socket).await.with_context(|| {
            format!(
                "no node runs on {}; start it with: wherry up {}",
                self.directory.display(),
                flag_for(&self.directory)
            )
        })?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder().method(method).uri(target).header("host", "agent");
        let sent = sender.send_request(request.body(Full::new(body))?).await;
        let response = sent.context("the node did not answer")?;
        let success = response.status().is_success();
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.await??;
        if success {
            return Ok(body);
        }
        match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) => bail!("{}", refused.error),
            Err(_) => bail!("{}", String::from_utf8_lossy(&body)),
        }
    }
}

fn named(path: &str, name: &str) -> String {
    format!("{path}?name={}", encode(name))
}

/// Percent-encodes a query value (RFC 3986: everything but unreserved characters).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
