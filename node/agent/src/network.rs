//! The pod network, as the kubelet asks for it.

use async_trait::async_trait;
use ipnet::Ipv4Net;
use tokio::sync::watch;

use crate::{Error, PodNetwork, names::listen};

/// The shared namespace of a node with root.
pub(crate) struct SharedNetwork {
    pub(crate) network: PodNetwork,
    /// Told the node's range when the network stands.
    pub(crate) range: watch::Sender<Option<Ipv4Net>>,
}

#[async_trait]
impl kubelet::PodNetwork for SharedNetwork {
    async fn ensure(&self, range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let pod_range = range.parse()?;
        ensure_network(&self.network, pod_range).await?;
        self.range.send_replace(Some(pod_range));
        Ok(())
    }
}

/// Makes or mends the pod network of a node that has this range.
///
/// # Errors
/// The range is too small, or the kernel refused something.
pub async fn ensure_network(network: &PodNetwork, pod_range: Ipv4Net) -> Result<(), Error> {
    let config = network::Config {
        cluster_id: network.cluster_id.clone(),
        pod_range,
        cluster_range: network.cluster_range,
        service_range: network.service_range,
    };
    let made = network::ensure(&config).await;
    made.map(drop).map_err(Error::Network)
}

/// Without root there is nothing to set up: all of 127.0.0.0/8 is local.
pub(crate) struct NoNetwork {
    /// As above.
    pub(crate) range: watch::Sender<Option<Ipv4Net>>,
    /// The name servers of pods. Their usual port needs a privilege, so they are told where cluster DNS itself listens.
    pub(crate) servers: Option<watch::Sender<Vec<String>>>,
}

#[async_trait]
impl kubelet::PodNetwork for NoNetwork {
    async fn ensure(&self, range: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let pod_range = range.parse()?;
        if let Some(servers) = &self.servers {
            servers.send_replace(vec![listen(pod_range).to_string()]);
        }
        self.range.send_replace(Some(pod_range));
        Ok(())
    }
}
