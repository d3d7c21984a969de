//! Where the API is reached: the listeners, and the address that pods are told.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why the API server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens there.
    #[error("cannot listen on {address}: the port is taken; end what runs there or choose another with --api-bind")]
    Taken { address: SocketAddr },
    /// The address is not one of this machine, or the port needs a privilege.
    #[error("cannot listen on {address}; choose another address or port with --api-bind")]
    Refused {
        address: SocketAddr,
        source: std::io::Error,
    },
}

/// Where the API server listens, and what it calls itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// As asked for by the user.
    pub(crate) bind: SocketAddr,
    /// A second address, for pods, where `bind` is out of their reach.
    pub(crate) for_pods: Option<SocketAddr>,
    /// In the endpoints of the `kubernetes` Service.
    pub(crate) advertise: IpAddr,
}

impl Plan {
    /// `gateway` is the node's own address on the pod network; `primary` the machine's address towards the outside.
    ///
    /// Loopback is not reachable from pods, and Kubernetes allows no loopback address in endpoints: then the API is
    /// served on the gateway as well.
    pub(crate) fn new(bind: SocketAddr, gateway: Ipv4Addr, primary: Option<IpAddr>) -> Self {
        let (for_pods, advertise) = match bind.ip() {
            ip if ip.is_loopback() => (Some(SocketAddr::from((gateway, bind.port()))), IpAddr::V4(gateway)),
            ip if ip.is_unspecified() => (None, primary.unwrap_or(IpAddr::V4(gateway))),
            ip => (None, ip),
        };
        Self {
            bind,
            for_pods,
            advertise,
        }
    }

    /// For an address at which others reach what listens on `bind`, by whatever way.
    pub(crate) fn advertising(bind: SocketAddr, advertise: IpAddr) -> Self {
        Self {
            bind,
            for_pods: None,
            advertise,
        }
    }

    /// Where clients on this machine reach the API.
    pub(crate) fn local_address(&self) -> SocketAddr {
        match self.bind.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, self.bind.port())),
            IpAddr::V6(ip) if ip.is_unspecified() => {
                SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, self.bind.port()))
            }
            _ => self.bind,
        }
    }
}

/// Listens on `address`; with `free` also where no interface has the address yet (`IP_FREEBIND`).
pub fn bind(address: SocketAddr, free: bool) -> Result<TcpListener, Error> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.set_freebind_v4(free)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => Error::Taken { address },
        _ => Error::Refused { address, source },
    })
}

/// The address this machine uses towards the outside; `None` without a default route. Sends nothing: connecting a UDP
/// socket only looks up the route (to an address reserved for documentation, RFC 5737).
pub fn primary_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket
        .local_addr()
        .ok()
        .map(|a| a.ip())
        .filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 1);

    #[test]
    fn serves_pods_on_the_gateway_when_bound_to_loopback() {
        let plan = Plan::new("127.0.0.1:6443".parse().unwrap(), GATEWAY, None);
        assert_eq!(plan.for_pods, Some("10.128.0.1:6443".parse().unwrap()));
        assert_eq!(plan.advertise, IpAddr::V4(GATEWAY));
        assert_eq!(plan.local_address(), "127.0.0.1:6443".parse().unwrap());
    }

    #[test]
    fn advertises_the_primary_address_when_bound_to_all() {
        let plan = Plan::new(
            "0.0.0.0:6443".parse().unwrap(),
            GATEWAY,
            Some("192.0.2.8".parse().unwrap()),
        );
        assert_eq!(
            (plan.for_pods, plan.advertise.to_string()),
            (None, "192.0.2.8".to_owned())
        );
        assert_eq!(plan.local_address(), "127.0.0.1:6443".parse().unwrap());
    }

    #[test]
    fn advertises_the_address_it_was_given() {
        let plan = Plan::new("192.0.2.9:6443".parse().unwrap(), GATEWAY, None);
        assert_eq!(
            (plan.for_pods, plan.advertise.to_string()),
            (None, "192.0.2.9".to_owned())
        );
    }

    #[tokio::test]
    async fn says_that_the_port_is_taken() {
        let first = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
        let address = first.local_addr().unwrap();
        let error = bind(address, false).unwrap_err();
        assert!(error.to_string().contains("the port is taken"), "{error}");
    }
}
