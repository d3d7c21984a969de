//! Cluster DNS, as the agent runs it: where it listens, whom it asks, and what is told of it.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use api::cluster_dns::PORT;
use async_trait::async_trait;
use client::{Informers, events::Recorder};
use ipnet::Ipv4Net;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Config;

/// Runs cluster DNS, if there is an address for it, from when the node's pod range is known.
pub(crate) fn run(
    config: &Config,
    informers: &Informers,
    dns: ::dns::Dns,
    mut range: watch::Receiver<Option<Ipv4Net>>,
    quit: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (service, domain) = (config.dns.server, config.dns.domain.clone());
    let (informers, node_name) = (informers.clone(), config.node_name.clone());
    let resolv_conf = config.dns.resolv_conf.clone();
    let recorder = Recorder::new(
        config.client.clone().named("cluster-dns"),
        "cluster-dns",
        &config.node_name,
        config.clock.clone(),
        &config.tasks,
        quit.clone(),
    );
    async move {
        let Some(service) = service else { return };
        let known = quit.run_until_cancelled(range.wait_for(Option::is_some)).await;
        let Some(range) = known.and_then(Result::ok).and_then(|range| *range) else {
            return;
        };
        let settings = ::dns::Config {
            informers,
            recorder,
            node_name,
            domain,
            listen: listen(range),
            service,
            upstreams: Box::new(move || upstreams(&resolv_conf)),
        };
        dns.run(settings, quit).await;
    }
}

/// Where cluster DNS of a node listens.
pub(crate) fn listen(range: Ipv4Net) -> SocketAddr {
    (network::gateway(range), PORT).into()
}

/// The node's own name servers. They may change at any time.
fn upstreams(resolv_conf: &Path) -> Vec<IpAddr> {
    parse(&std::fs::read_to_string(resolv_conf).unwrap_or_default())
}

fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

/// What cluster DNS has done, among the kubelet's metrics.
pub(crate) struct Metrics(pub(crate) ::dns::Dns);

#[async_trait]
impl kubelet::Metrics for Metrics {
    async fn text(&self) -> String {
        let metrics = self.0.metrics().await;
        metrics.map(|metrics| metrics.text()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_off_the_configuration() {
        let text =
            "# made\nnameserver 192.0.2.1\nsearch lan\nnameserver\n nameserver fd00::1 # second\noptions rotate\n";
        let servers: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        assert_eq!(parse(text), servers);
    }
}
