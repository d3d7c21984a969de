//! Uploading to the cluster's own registry, as whoever a kubeconfig file says: over the Kubernetes API, which looks into the
//! program before it keeps it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use client::Client;
use http::{Request, header};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::cli::{PushImage, say};

/// Bytes of an answer.
const MAX_ANSWER: usize = 8 << 20;

/// `NAMESPACE/NAME:TAG` of an image in the cluster's own registry; `None` for one of another.
pub(super) fn name(image: &str) -> Option<&str> {
    image.strip_prefix(server::IMAGE_DOMAIN)?.strip_prefix('/')
}

/// Uploads the file and prints what pods call it.
pub(super) async fn push(options: &PushImage, name: &str) -> anyhow::Result<()> {
    let file = options.file.display();
    let Some((namespace, image)) = name.split_once('/') else {
        bail!(
            "images of the cluster are called {}/NAMESPACE/NAME:TAG",
            server::IMAGE_DOMAIN
        );
    };
    let program = std::fs::read(&options.file).with_context(|| format!("cannot read {file}"))?;
    let kubeconfig = kubeconfig(options)?;
    let client = Client::from_kubeconfig(&kubeconfig).await?;
    let path = format!(
        "/apis/registry.wherry.dev/v1/namespaces/{}/images?name={}",
        super::node::encode(namespace),
        super::node::encode(image)
    );
    let request = Request::post(path)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/wasm")
        .body(Bytes::from(program))?;
    let made = match client.open(request).await {
        Ok(response) => Limited::new(response.into_body(), MAX_ANSWER).collect().await,
        Err(error) => bail!(
            "cannot push {file} as \"{}\": {:#}",
            options.name,
            anyhow::Error::from(error)
        ),
    };
    let made = made.map_err(|error| anyhow::anyhow!("the API server's answer is cut off: {error}"))?;
    let made: Value = serde_json::from_slice(&made.to_bytes()).context("the API server did not answer as expected")?;
    let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    say(&format!(
        "pushed {file} as {} ({})",
        text("/status/image"),
        text("/status/digest")
    ));
    Ok(())
}

/// The file that says who one is: the one that is named, that of the environment, that of the data directory, or the user's.
fn kubeconfig(options: &PushImage) -> anyhow::Result<PathBuf> {
    if let Some(named) = &options.kubeconfig {
        return Ok(named.clone());
    }
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let usual = [
        variable("KUBECONFIG"),
        Some(options.data.path()?.join("kubeconfig")),
        variable("HOME").map(|home| home.join(".kube/config")),
    ];
    let found = usual.into_iter().flatten().find(|path| readable(path));
    found.context("no kubeconfig file says which cluster is meant; give --kubeconfig FILE")
}

fn readable(path: &Path) -> bool {
    std::fs::File::open(path).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clusters_own_registry_is_told_from_others() {
        assert_eq!(name("wherry.internal/team/hello:1"), Some("team/hello:1"));
        assert_eq!(name("wherry.internal.example/team/hello:1"), None);
        assert_eq!(name("docker.io/team/hello:1"), None);
    }
}
