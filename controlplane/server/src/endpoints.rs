//! The endpoints of the `kubernetes` Service where several API servers share a store, as kube-apiserver's lease
//! reconciler keeps them: each server renews a key of its own that expires soon after it stops, and makes the endpoints
//! what the keys say. Nobody has to find out that a server is dead.

use std::{error::Error as StdError, net::IpAddr, sync::Arc, time::Duration};

use apiserver::bootstrap::{self, Cluster};
use client::Clock;
use serde::{Deserialize, Serialize};
use store::{Backend, Expect, Page, Write};
use tokio_util::sync::CancellationToken;

/// Where the keys are; no kind is served from them.
const PREFIX: &str = "wherry/apiservers//";
/// How long a server that does not renew counts as answering, and how often one renews, as in kube-apiserver.
const LIFETIME: Duration = Duration::from_secs(15);
const PERIOD: Duration = Duration::from_secs(10);

/// What a server says of itself. The time makes each renewal another value, since only such prolongs a key's life.
#[derive(Serialize, Deserialize)]
struct Record {
    port: u16,
    renewed: String,
}

/// Keeps this server among the endpoints.
pub(crate) struct Keeper {
    pub(crate) backend: Arc<dyn Backend>,
    /// An administrator's.
    pub(crate) client: kube::Client,
    /// Its addresses are this server's own.
    pub(crate) cluster: Cluster,
    pub(crate) address: IpAddr,
    pub(crate) clock: Clock,
}

impl Keeper {
    /// Adds this server, and removes those that have stopped.
    pub(crate) async fn renew(&self) -> Result<(), Failed> {
        let record = Record {
            port: self.cluster.advertise_port,
            renewed: self.clock.now().to_string(),
        };
        let record = serde_json::to_vec(&record).expect("a port and a time are JSON");
        self.backend.write(Write::put(self.key(), record).ttl(LIFETIME)).await?;
        self.reconcile().await
    }

    /// Renews until `shutdown`, and then removes this server.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(PERIOD)).await.is_some() {
            if let Err(error) = self.renew().await {
                tracing::warn!(
                    error = &error as &dyn StdError,
                    "the endpoints of the API servers are not renewed"
                );
            }
        }
        if let Err(error) = self.leave().await {
            tracing::debug!(
                error = &error as &dyn StdError,
                "others will remove this server from the endpoints"
            );
        }
    }

    async fn leave(&self) -> Result<(), Failed> {
        self.backend.write(Write::delete(self.key(), Expect::Any)).await?;
        self.reconcile().await
    }

    async fn reconcile(&self) -> Result<(), Failed> {
        let found = self.backend.range(PREFIX, Page::all(), None).await?;
        let servers: Vec<(IpAddr, u16)> = found.items.iter().filter_map(|kv| read(&kv.key, &kv.value)).collect();
        let Some((advertise, advertise_port)) = answering(servers) else {
            return Ok(()); // the last one leaves its endpoint, as kube-apiserver does
        };
        let cluster = Cluster {
            advertise,
            advertise_port,
            ..self.cluster.clone()
        };
        Ok(bootstrap::reconcile_endpoints(&self.client, &cluster).await?)
    }

    fn key(&self) -> String {
        format!("{PREFIX}{}", self.address)
    }
}

/// Why the endpoints could not be kept this time.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    #[error("the store failed")]
    Store(#[from] store::Error),
    #[error("the endpoints cannot be written")]
    Write(#[from] bootstrap::Error),
}

fn read(key: &str, value: &[u8]) -> Option<(IpAddr, u16)> {
    let record: Record = serde_json::from_slice(value).ok()?;
    Some((key.strip_prefix(PREFIX)?.parse().ok()?, record.port))
}

/// The addresses to show, with the port that they share. A Service's endpoints have one: of servers that do not share a
/// port, or a family of addresses, those count that agree with the lowest address, so that all servers count alike.
fn answering(mut servers: Vec<(IpAddr, u16)>) -> Option<(Vec<IpAddr>, u16)> {
    servers.sort_unstable();
    let (first, port) = *servers.first()?;
    let agree = |(address, other): &(IpAddr, u16)| *other == port && address.is_ipv4() == first.is_ipv4();
    Some((
        servers
            .iter()
            .filter(|server| agree(server))
            .map(|(address, _)| *address)
            .collect(),
        port,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(all: &[&str]) -> Vec<(IpAddr, u16)> {
        let parse = |text: &&str| {
            let address: std::net::SocketAddr = text.parse().unwrap();
            (address.ip(), address.port())
        };
        all.iter().map(parse).collect()
    }

    #[test]
    fn shows_those_that_share_a_port() {
        let shown = |all: &[&str]| {
            answering(servers(all)).map(|(addresses, port)| {
                let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
                format!("{} on {port}", addresses.join(" "))
            })
        };
        assert_eq!(shown(&[]), None);
        assert_eq!(
            shown(&["10.0.0.2:6443", "10.0.0.1:6443"]).unwrap(),
            "10.0.0.1 10.0.0.2 on 6443"
        );
        assert_eq!(shown(&["10.0.0.2:7443", "10.0.0.1:6443"]).unwrap(), "10.0.0.1 on 6443");
        assert_eq!(shown(&["[fd00::1]:6443", "10.0.0.1:6443"]).unwrap(), "10.0.0.1 on 6443");
    }

    #[test]
    fn what_is_no_record_is_no_server() {
        let record = br#"{"port": 6443, "renewed": "2026-11-20T10:00:00Z"}"#;
        assert!(read("wherry/apiservers//10.0.0.1", record).is_some());
        assert!(read("wherry/apiservers//here", record).is_none());
        assert!(read("wherry/apiservers//10.0.0.1", b"{}").is_none());
    }
}
