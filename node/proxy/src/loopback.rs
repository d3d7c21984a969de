//! Node ports on 127.0.0.1, by listeners of our own.
//!
//! The kernel translates no packet to a loopback address unless `route_localnet` is set, which would open the host's
//! own loopback services to its neighbours. Connections made here end with this process; those that come in on the
//! node's other addresses do not. SCTP is absent.

mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::model::{Model, Policy, Protocol};

/// Where a listener forwards to: looked at for each new connection.
type Endpoints = watch::Receiver<Arc<[SocketAddr]>>;

/// The listeners that should be, with where they forward to. A port without endpoints is not listened on, so that it
/// refuses.
pub(crate) type Wanted = BTreeMap<(Protocol, u16), Arc<[SocketAddr]>>;

/// What the model asks for. A connection from the node itself goes to any endpoint, whatever the policy.
pub(crate) fn wanted(model: &Model) -> Wanted {
    let mut wanted = Wanted::new();
    for port in model.values() {
        let endpoints: Arc<[SocketAddr]> = port.endpoints(Policy::Cluster, false).collect();
        if let Some(node_port) = port.node_port
            && port.id.protocol != Protocol::Sctp
            && !endpoints.is_empty()
        {
            wanted.entry((port.id.protocol, node_port)).or_insert(endpoints);
        }
    }
    wanted
}

/// The running listeners. Dropping it ends them, and the connections made through them.
#[derive(Debug)]
pub(crate) struct Loopback {
    address: Ipv4Addr,
    running: BTreeMap<(Protocol, u16), Listener>,
    /// Ports that could not be listened on, which has been said.
    refused: BTreeMap<(Protocol, u16), std::io::ErrorKind>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Listener {
    endpoints: watch::Sender<Arc<[SocketAddr]>>,
    /// Ends the listening; connections go on.
    _stop: DropGuard,
}

impl Loopback {
    pub(crate) fn new(address: Ipv4Addr, tasks: TaskTracker, shutdown: &CancellationToken) -> Self {
        let shutdown = shutdown.child_token();
        let stop = shutdown.clone().drop_guard();
        Loopback {
            address,
            running: BTreeMap::new(),
            refused: BTreeMap::new(),
            tasks,
            shutdown,
            _stop: stop,
        }
    }

    /// Starts, changes and ends listeners until they are as wanted. A port that somebody else has is said once and
    /// tried again at the next call.
    pub(crate) async fn sync(&mut self, wanted: Wanted) {
        self.running.retain(|port, _| wanted.contains_key(port));
        self.refused.retain(|port, _| wanted.contains_key(port));
        for (port, endpoints) in wanted {
            if let Some(listener) = self.running.get(&port) {
                listener.endpoints.send_if_modified(|now| {
                    let changed = *now != endpoints;
                    *now = endpoints;
                    changed
                });
                continue;
            }
            match self.listen(port, endpoints).await {
                Ok(listener) => {
                    self.refused.remove(&port);
                    self.running.insert(port, listener);
                }
                Err(error) => self.say(port, &error),
            }
        }
    }

    async fn listen(
        &self,
        (protocol, port): (Protocol, u16),
        endpoints: Arc<[SocketAddr]>,
    ) -> std::io::Result<Listener> {
        let at = (self.address, port);
        let (endpoints, to) = watch::channel(endpoints);
        let stop = self.shutdown.child_token();
        match protocol {
            Protocol::Udp => {
                let socket = UdpSocket::bind(at).await?;
                self.tasks
                    .spawn(udp::serve(socket, to, stop.clone(), self.tasks.clone()));
            }
            Protocol::Tcp | Protocol::Sctp => {
                let listener = TcpListener::bind(at).await?;
                let connections = self.shutdown.clone();
                self.tasks
                    .spawn(tcp::serve(listener, to, stop.clone(), connections, self.tasks.clone()));
            }
        }
        Ok(Listener {
            endpoints,
            _stop: stop.drop_guard(),
        })
    }

    fn say(&mut self, port: (Protocol, u16), error: &std::io::Error) {
        if self.refused.insert(port, error.kind()) != Some(error.kind()) {
            let (protocol, port) = port;
            let error = error as &dyn std::error::Error;
            tracing::warn!(%protocol, port, address = %self.address, error, "cannot listen for a node port");
        }
    }
}

#[cfg(test)]
mod tests;
