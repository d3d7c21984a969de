//! `wherry image load`: hands a file to the running node over its socket.

use std::path::Path;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, client::conn::http1::handshake};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::{
    cli::{LoadImage, flag_for, say},
    datadir::require_cluster,
};

/// Loads the file under its name and prints the image's id.
pub(crate) async fn load(options: LoadImage) -> anyhow::Result<()> {
    let directory = options.data.path()?;
    require_cluster(&directory)?;
    let content = tokio::fs::read(&options.file)
        .await
        .with_context(|| format!("cannot read {}", options.file.display()))?;
    let (success, body) = post(
        &directory,
        &format!("/images?name={}", encode(&options.name)),
        content.into(),
    )
    .await?;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |field: &str| {
        answer
            .get(field)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if !success {
        bail!(
            "cannot load {} as \"{}\": {}",
            options.file.display(),
            options.name,
            text("error")
        );
    }
    say(&format!(
        "loaded {} as {} ({})",
        options.file.display(),
        options.name,
        text("id")
    ));
    Ok(())
}

/// Sends a request to the agent of a data directory.
async fn post(directory: &Path, target: &str, body: Bytes) -> anyhow::Result<(bool, Bytes)> {
    let socket = directory.join("agent.sock");
    let stream = UnixStream::connect(&socket).await.with_context(|| {
        format!(
            "no node runs on {}; start it with: wherry up {}",
            directory.display(),
            flag_for(directory)
        )
    })?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::post(target).header("host", "agent").body(Full::new(body))?;
    let response = sender.send_request(request).await.context("the node did not answer")?;
    let success = response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    drop(sender);
    connection.await??;
    Ok((success, body))
}

/// Percent-encodes a query value (RFC 3986: everything but unreserved characters).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
