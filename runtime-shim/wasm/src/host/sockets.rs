//! A guest's sockets are those of its pod.
//!
//! All pods of a host share one network namespace, so nothing but the address tells them apart. The functions by which a
//! guest chooses addresses are shadowed: a bind to 0.0.0.0 becomes one to the pod's address, 127.0.0.1 becomes a loopback
//! address that is the pod's own, and an outgoing socket is bound to the pod's address before it connects (unbound, the
//! kernel would take the destination's own address as its source, and policy would be passed by).
//!
//! Besides, wasmtime's address check ([`Addresses::allows`]) refuses every bind that is not to the pod's addresses: should
//! a function escape the shadowing, it fails closed.

mod names;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    p2::{
        SocketResult, TcpSocket, UdpSocket,
        bindings::sockets::{
            network::{ErrorCode, Host as _, IpSocketAddress, Network},
            tcp::HostTcpSocket,
            udp::HostUdpSocket,
        },
    },
    sockets::{SocketAddrUse, WasiSocketsView},
};

use super::{guest::Guest, linker::VERSION, resolver::Resolver};
use crate::protocol;

/// Which addresses a pod has, and by which names it knows others.
#[derive(Debug)]
pub(crate) struct Addresses {
    network: protocol::Network,
    pub(crate) resolver: Resolver,
}

/// Where an outgoing socket goes, and what it is bound to first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: SocketAddr,
    /// `None`: the pod uses the node's network.
    pub(crate) from: Option<SocketAddr>,
}

impl Addresses {
    pub(crate) fn new(network: protocol::Network, resolver: Resolver) -> Arc<Self> {
        Arc::new(Self { network, resolver })
    }

    /// The address that a service of the pod listens on.
    pub(crate) fn listen(&self) -> Ipv4Addr {
        match self.network {
            protocol::Network::Pod { address, .. } => address,
            protocol::Network::Node => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// Where a guest's bind really goes; `None`: not to an address of this pod.
    pub(crate) fn local(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let protocol::Network::Pod { address, loopback, .. } = self.network else {
            return Some(wanted);
        };
        let ip = match wanted.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() || ip == address => address,
            IpAddr::V4(ip) if ip == Ipv4Addr::LOCALHOST || ip == loopback => loopback,
            _ => return None,
        };
        Some((ip, wanted.port()).into())
    }

    /// Where a guest's connection or datagram really goes; `None`: the pod may not go there.
    pub(crate) fn remote(&self, wanted: SocketAddr) -> Option<Route> {
        let protocol::Network::Pod { address, loopback, .. } = &self.network else {
            return Some(Route { to: wanted, from: None });
        };
        let IpAddr::V4(ip) = wanted.ip() else { return None };
        if ip == Ipv4Addr::LOCALHOST || ip == *loopback {
            let to = (*loopback, wanted.port()).into();
            return Some(Route {
                to,
                from: Some((*loopback, 0).into()),
            });
        }
        self.dialable(ip).then(|| Route {
            to: wanted,
            from: Some((*address, 0).into()),
        })
    }

    /// The last word on an address that wasmtime is about to use.
    pub(crate) fn allows(&self, address: SocketAddr, usage: SocketAddrUse) -> bool {
        let protocol::Network::Pod {
            address: own, loopback, ..
        } = &self.network
        else {
            return true;
        };
        let IpAddr::V4(ip) = address.ip() else { return false };
        let mine = ip == *own || ip == *loopback;
        match usage {
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen | SocketAddrUse::UdpBind => mine,
            SocketAddrUse::TcpConnect | SocketAddrUse::UdpSend => mine || self.dialable(ip),
            _ => true,
        }
    }

    /// Whether the pod may send to an address that is not its own loopback.
    fn dialable(&self, ip: Ipv4Addr) -> bool {
        let protocol::Network::Pod {
            address,
            dialable_loopback,
            ..
        } = &self.network
        else {
            return true;
        };
        !ip.is_unspecified()
            && (!ip.is_loopback() || ip == *address || dialable_loopback.iter().any(|range| range.contains(&ip)))
    }
}

type Lowered<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// Lays the pod's addresses over the socket functions.
pub(crate) fn guard(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    let mut tcp = linker.instance(&format!("wasi:sockets/tcp@{VERSION}"))?;
    tcp.func_wrap_async("[method]tcp-socket.start-bind", |store, arguments| {
        Box::new(tcp_bind(store, arguments))
    })?;
    tcp.func_wrap_async("[method]tcp-socket.start-connect", |store, arguments| {
        Box::new(tcp_connect(store, arguments))
    })?;
    let mut udp = linker.instance(&format!("wasi:sockets/udp@{VERSION}"))?;
    udp.func_wrap_async("[method]udp-socket.start-bind", |store, arguments| {
        Box::new(udp_bind(store, arguments))
    })?;
    names::guard(linker)
}

/// As wasmtime's generated glue does: an error the guest may see, or a trap.
fn lower<T>(store: &mut StoreContextMut<'_, Guest>, result: SocketResult<T>) -> Lowered<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(store.data_mut().sockets().convert_error_code(error)?),
    },))
}

async fn tcp_bind(
    mut store: StoreContextMut<'_, Guest>,
    (socket, network, address): (Resource<TcpSocket>, Resource<Network>, IpSocketAddress),
) -> Lowered<()> {
    let Some(address) = store.data().prepared.addresses.local(address.into()) else {
        return Ok((Err(ErrorCode::AddressNotBindable),));
    };
    let result = HostTcpSocket::start_bind(&mut store.data_mut().sockets(), socket, network, address.into()).await;
    lower(&mut store, result)
}

async fn tcp_connect(
    mut store: StoreContextMut<'_, Guest>,
    (socket, network, address): (Resource<TcpSocket>, Resource<Network>, IpSocketAddress),
) -> Lowered<()> {
    let Some(route) = store.data().prepared.addresses.remote(address.into()) else {
        return Ok((Err(ErrorCode::AccessDenied),));
    };
    let result = tcp_connect_by(&mut store, &socket, &network, route).await;
    lower(&mut store, result)
}

async fn tcp_connect_by(
    store: &mut StoreContextMut<'_, Guest>,
    socket: &Resource<TcpSocket>,
    network: &Resource<Network>,
    route: Route,
) -> SocketResult<()> {
    let view = &mut store.data_mut().sockets();
    let again = || (Resource::new_borrow(socket.rep()), Resource::new_borrow(network.rep()));
    // A socket that is not bound has no local address.
    if let Some(from) = route.from
        && HostTcpSocket::local_address(view, again().0).is_err()
    {
        HostTcpSocket::start_bind(view, again().0, again().1, from.into()).await?;
        HostTcpSocket::finish_bind(view, again().0)?;
    }
    HostTcpSocket::start_connect(view, again().0, again().1, route.to.into())
}

async fn udp_bind(
    mut store: StoreContextMut<'_, Guest>,
    (socket, network, address): (Resource<UdpSocket>, Resource<Network>, IpSocketAddress),
) -> Lowered<()> {
    let Some(address) = store.data().prepared.addresses.local(address.into()) else {
        return Ok((Err(ErrorCode::AddressNotBindable),));
    };
    let result = HostUdpSocket::start_bind(&mut store.data_mut().sockets(), socket, network, address.into()).await;
    lower(&mut store, result)
}

#[cfg(test)]
mod tests;
