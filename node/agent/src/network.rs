//! The pod network, as the kubelet asks for it.

use std::error::Error;

use async_trait::async_trait;
use ipnet::Ipv4Net;
use tokio::sync::watch;

use crate::{PodNetwork, names::listen};

/// The shared namespace of a node with root.
pub(crate) struct SharedNetwork {
    pub(crate) network: PodNetwork,
    /// Told the node's range when the network stands.
    pub(crate) range: watch::Sender<Option<Ipv4Net>>,
}

#[async_trait]
impl kubelet::PodNetwork for SharedNetwork {
    async fn ensure(&self, range: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let pod_range = range.parse()?;
        let config = network::Config {
            cluster_id: self.network.cluster_id.clone(),
            pod_range,
            cluster_range: self.network.cluster_range,
            service_range: self.network.service_range,
        };
        network::ensure(&config).await?;
        self.range.send_replace(Some(pod_range));
        Ok(())
    }
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
    async fn ensure(&self, range: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
        let pod_range = range.parse()?;
        if let Some(servers) = &self.servers {
            servers.send_replace(vec![listen(pod_range).to_string()]);
        }
        self.range.send_replace(Some(pod_range));
        Ok(())
    }
}
