//! The images that the cluster keeps: who looks into them, and how this machine's node reaches them.
//!
//! To the node the cluster's registry is one as any other, described by a `hosts.toml`, with a certificate of the node's own
//! by which the API server knows it.

use std::{fs::File, io, path::Path, sync::Arc};

use anyhow::Context;
use async_trait::async_trait;
use server::{IMAGE_DOMAIN, Images, Inspector, Looked, NodeCredentials};

use crate::{cli, machine};

/// What the control plane is told of them, which may share its store.
pub(crate) fn config(options: &cli::KeptImages, shared: bool) -> Images {
    Images {
        limits: options.limits(shared),
        inspector: Arc::new(Child),
    }
}

/// Has a child of our own look.
#[derive(Debug)]
struct Child;

#[async_trait]
impl Inspector for Child {
    async fn look(&self, binary: File, title: &str, created: &str) -> Result<Looked, String> {
        let answer = wasm::look::look(&machine::command("look"), binary, title, created).await;
        let answer = answer.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }
}

/// Shows the node the way to the registry, which may have changed since the last start. `server` is the API's URL.
pub(crate) fn reach(data_dir: &Path, server: &str, credentials: &NodeCredentials) -> anyhow::Result<()> {
    let folder = data_dir.join("certs.d").join(IMAGE_DOMAIN);
    let file = folder.join("hosts.toml");
    let write = || {
        std::fs::create_dir_all(&folder)?;
        let text = hosts(server, credentials);
        match std::fs::read_to_string(&file) {
            // On a full disk what is right already stays.
            Ok(known) if known == text => Ok(()),
            _ => replace(&file, &text),
        }
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}

fn replace(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, file)
}

fn hosts(server: &str, credentials: &NodeCredentials) -> String {
    let path = |path: &Path| serde_json::Value::from(path.to_string_lossy()).to_string();
    format!(
        "# Written at every start: the cluster's own image registry, as this node reaches it.\n\
         server = \"{server}\"\ncapabilities = [\"pull\", \"resolve\"]\nca = {}\nclient = [[{}, {}]]\n",
        path(&credentials.authority),
        path(&credentials.certificate),
        path(&credentials.key)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_shows_its_certificate_and_only_pulls() {
        let directory = tempfile::tempdir().unwrap();
        let credentials = NodeCredentials {
            authority: "/data/pki/ca.crt".into(),
            certificate: "/data/pki/node.crt".into(),
            key: "/data/\"odd\"/node.key".into(),
        };
        let address = "https://127.0.0.1:6443";
        reach(directory.path(), address, &credentials).unwrap();
        reach(directory.path(), address, &credentials).unwrap();
        let text = std::fs::read_to_string(directory.path().join("certs.d/wherry.internal/hosts.toml")).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "server = \"https://127.0.0.1:6443\"",
                "capabilities = [\"pull\", \"resolve\"]",
                "ca = \"/data/pki/ca.crt\"",
                "client = [[\"/data/pki/node.crt\", \"/data/\\\"odd\\\"/node.key\"]]"
            ]
        );
    }
}
