//! Reaching the kubelet API of a node: for logs now, and whatever else a node answers itself.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Status;
use api::names::GroupResource;
use async_trait::async_trait;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::registry::reader::Reader;

/// A connection to a node.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens connections to the kubelet API of nodes. One implementation dials the address in the Node's status; a node
/// that cannot be dialled is reached through a connection of its own making.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// A TLS connection on which the server is authenticated to the node and the node to the server.
    async fn dial(&self, node: &str) -> Result<Box<dyn Connection>, Status>;
}

/// How long a node may take to answer a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Dials what the Node's status says: an internal address and the kubelet's port.
pub struct Direct {
    reader: Arc<dyn Reader>,
    tls: TlsConnector,
}

impl Direct {
    /// `tls` holds the client certificate the kubelets know the server by, and trusts the authority that signs theirs.
    pub fn new(reader: Arc<dyn Reader>, tls: Arc<rustls::ClientConfig>) -> Self {
        Direct {
            reader,
            tls: TlsConnector::from(tls),
        }
    }
}

#[async_trait]
impl Dialer for Direct {
    async fn dial(&self, node: &str) -> Result<Box<dyn Connection>, Status> {
        let nodes = GroupResource::new("", "nodes");
        let found = self.reader.get_fresh(&nodes, None, node).await?;
        let found = found.ok_or_else(|| Status::not_found(&nodes, node))?;
        let (address, port) = endpoint(found.at("status"))
            .ok_or_else(|| Status::service_unavailable(format!("node {node:?} has not said where it is reached")))?;
        let connect = async {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            self.tls.connect(ServerName::IpAddress(address.into()), stream).await
        };
        let unreachable = |why: String| {
            Status::service_unavailable(format!("node {node:?} cannot be reached at {address}:{port}: {why}"))
        };
        match tokio::time::timeout(PATIENCE, connect).await {
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Err(_) => Err(unreachable("it does not answer".to_owned())),
        }
    }
}

/// Where the kubelet of a node listens, from `status`: the first internal address and the port.
fn endpoint(status: Option<&Value>) -> Option<(IpAddr, u16)> {
    let status = status?;
    let internal = |address: &&Value| address.get("type").and_then(Value::as_str) == Some("InternalIP");
    let address = status
        .get("addresses")?
        .as_array()?
        .iter()
        .find(internal)?
        .get("address")?
        .as_str()?;
    let port = status.pointer("/daemonEndpoints/kubeletEndpoint/Port")?.as_u64()?;
    Some((address.parse().ok()?, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn finds_the_kubelet_in_a_nodes_status() {
        let port = json!({"kubeletEndpoint": {"Port": 10250}});
        let addresses = json!([{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.7"}]);
        let cases = [
            (
                json!({"addresses": addresses, "daemonEndpoints": port}),
                Some(("10.0.0.7", 10250)),
            ),
            (json!({"addresses": addresses}), None),
            (json!({"addresses": [], "daemonEndpoints": port}), None),
            (json!({}), None),
        ];
        for (status, expected) in cases {
            let expected = expected.map(|(ip, port)| (ip.parse().expect("an address"), port));
            assert_eq!(endpoint(Some(&status)), expected, "{status}");
        }
    }
}
