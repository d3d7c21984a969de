//! Links, addresses, neighbours and routes, by netlink.
//!
//! ```text
//!   node:  wh-ID  GATEWAY/32      WASM_RANGE    via NEXT_HOP dev wh-ID onlink src GATEWAY
//!                                 SERVICE_RANGE via NEXT_HOP dev wh-ID onlink
//!   pods:  wp-ID                  default via GATEWAY dev wp-ID onlink
//!                                 GATEWAY/32 dev wp-ID              (table local: more specific than the next)
//!                                 local WASM_RANGE dev lo           (table local)
//! ```
//!
//! Both ends know each other's hardware address, so that there is no ARP and never more than one neighbour. The route of
//! the Service range is there so that connections made on the node find a route before the proxy rewrites them.

use std::{
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    path::Path,
};

use futures::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::{
    link::{LinkAttribute, LinkMessage},
    route::{RouteMessage, RouteScope, RouteType},
};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::task::JoinHandle;

use crate::{Config, Error, Network, link_name, namespace::in_netns};

/// `RT_TABLE_LOCAL` of linux/rtnetlink.h.
const TABLE_LOCAL: u32 = 255;

/// A link as far as it matters here.
struct Link {
    index: u32,
    address: Vec<u8>,
}

/// Netlink in one namespace; ends when dropped.
struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Makes or mends both ends of the pair and their routes.
pub(crate) async fn ensure(config: &Config, network: &Network) -> Result<(), Error> {
    let node = Netlink::here()?;
    let pods = Netlink::inside(&network.netns_path)?;
    let (node_end, pods_end) = pair(&node, &pods, config, network).await?;
    let lo = pods.link("lo").await?.ok_or_else(|| missing("lo"))?;
    pods.set_up(&lo, "lo").await?;

    let next_hop = next_hop(network.wasm_range);
    node.address(&node_end, network.gateway).await?;
    node.neighbour(&node_end, next_hop, &pods_end).await?;
    for (range, source) in [
        (network.wasm_range, Some(network.gateway)),
        (config.service_range, None),
    ] {
        node.route(
            via(range, next_hop, &node_end, source),
            &format!("the route of {range}"),
        )
        .await?;
    }

    pods.neighbour(&pods_end, network.gateway, &node_end).await?;
    pods.route(direct(network.gateway, &pods_end), "the route to the node")
        .await?;
    pods.route(any_ip(network.wasm_range, &lo), "the local range of pods")
        .await?;
    let all = Ipv4Net::default();
    pods.route(via(all, network.gateway, &pods_end, None), "the pods' default route")
        .await
}

/// Removes the pair, and with it the node's routes.
pub(crate) async fn remove(cluster_id: &str) -> Result<(), Error> {
    let node = Netlink::here()?;
    match node.link(&link_name(cluster_id)).await? {
        Some(link) => node
            .handle
            .link()
            .del(link.index)
            .execute()
            .await
            .map_err(|e| refused("the link's removal", &e)),
        None => Ok(()),
    }
}

/// Both ends, up; made anew where one of them is missing.
async fn pair(node: &Netlink, pods: &Netlink, config: &Config, network: &Network) -> Result<(Link, Link), Error> {
    let (node_name, pods_name) = (link_name(&config.cluster_id), format!("wp-{}", config.cluster_id));
    if pods.link(&pods_name).await?.is_none() {
        if let Some(half) = node.link(&node_name).await? {
            node.handle
                .link()
                .del(half.index)
                .execute()
                .await
                .map_err(|e| refused("the link's removal", &e))?;
        }
        let veth = LinkVeth::new(&node_name, &pods_name).build();
        node.handle
            .link()
            .add(veth)
            .execute()
            .await
            .map_err(|e| refused("the link", &e))?;
        node.move_into(&pods_name, &network.netns_path).await?;
    }
    let node_end = node.link(&node_name).await?.ok_or_else(|| missing(&node_name))?;
    let pods_end = pods.link(&pods_name).await?.ok_or_else(|| missing(&pods_name))?;
    node.set_up(&node_end, &node_name).await?;
    pods.set_up(&pods_end, &pods_name).await?;
    Ok((node_end, pods_end))
}

impl Netlink {
    /// In the namespace of this process.
    fn here() -> Result<Self, Error> {
        Self::open().map_err(|e| refused("netlink", &e))
    }

    /// In the namespace at `path`: a socket belongs to the namespace it was opened in.
    fn inside(path: &Path) -> Result<Self, Error> {
        let runtime = tokio::runtime::Handle::current();
        let opened = in_netns(path, || {
            let _entered = runtime.enter();
            Self::open()
        })?;
        opened.map_err(|e| refused("netlink", &e))
    }

    fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }

    async fn link(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut links = self.handle.link().get().match_name(name).execute();
        match links.try_next().await {
            Ok(link) => Ok(link.map(|message| Link {
                index: message.header.index,
                address: hardware(&message),
            })),
            Err(rtnetlink::Error::NetlinkError(e)) if is_absent(&e.to_io()) => Ok(None),
            Err(e) => Err(refused(&format!("link {name}"), &e)),
        }
    }

    async fn set_up(&self, link: &Link, name: &str) -> Result<(), Error> {
        let up = LinkUnspec::new_with_index(link.index).up().build();
        self.handle
            .link()
            .set(up)
            .execute()
            .await
            .map_err(|e| refused(&format!("link {name}"), &e))
    }

    async fn move_into(&self, name: &str, namespace: &Path) -> Result<(), Error> {
        let link = self.link(name).await?.ok_or_else(|| missing(name))?;
        let file = std::fs::File::open(namespace).map_err(|e| refused(&format!("link {name}"), &e))?;
        let message = LinkUnspec::new_with_index(link.index)
            .setns_by_fd(file.as_raw_fd())
            .build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(|e| refused(&format!("link {name}"), &e))
    }

    async fn address(&self, link: &Link, address: Ipv4Addr) -> Result<(), Error> {
        let add = self.handle.address().add(link.index, IpAddr::V4(address), 32).replace();
        add.execute()
            .await
            .map_err(|e| refused(&format!("address {address}"), &e))
    }

    /// Tells this side of the pair which hardware address `address` has: that of the other side.
    async fn neighbour(&self, link: &Link, address: Ipv4Addr, other: &Link) -> Result<(), Error> {
        let add = self
            .handle
            .neighbours()
            .add(link.index, IpAddr::V4(address))
            .link_layer_address(&other.address);
        add.replace()
            .execute()
            .await
            .map_err(|e| refused(&format!("neighbour {address}"), &e))
    }

    async fn route(&self, route: RouteMessage, what: &str) -> Result<(), Error> {
        self.handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(|e| refused(what, &e))
    }
}

/// `RANGE via GATEWAY dev LINK onlink [src SOURCE]`
fn via(range: Ipv4Net, gateway: Ipv4Addr, link: &Link, source: Option<Ipv4Addr>) -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.network(), range.prefix_len())
        .gateway(gateway)
        .output_interface(link.index)
        .onlink();
    match source {
        Some(source) => route.pref_source(source).build(),
        None => route.build(),
    }
}

/// `ADDRESS dev LINK`, in the table that is asked first.
fn direct(address: Ipv4Addr, link: &Link) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(address, 32)
        .output_interface(link.index)
        .scope(RouteScope::Link)
        .table_id(TABLE_LOCAL)
        .build()
}

/// `local RANGE dev lo`
fn any_ip(range: Ipv4Net, lo: &Link) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.network(), range.prefix_len())
        .output_interface(lo.index)
        .kind(RouteType::Local)
        .scope(RouteScope::Host)
        .table_id(TABLE_LOCAL)
        .build()
}

/// Any address of the range: all of them are at the other end.
fn next_hop(wasm_range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(wasm_range.network()).saturating_add(2))
}

fn hardware(message: &LinkMessage) -> Vec<u8> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => Some(address.clone()),
        _ => None,
    });
    address.unwrap_or_default()
}

fn is_absent(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ENODEV)
}

fn missing(name: &str) -> Error {
    Error::Netlink {
        what: format!("link {name}"),
        reason: "it is not there".to_owned(),
    }
}

fn refused(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Netlink {
        what: what.to_owned(),
        reason: error.to_string(),
    }
}
