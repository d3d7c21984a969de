//! Reading and removing tracked flows: the few messages of linux/netfilter/nfnetlink_conntrack.h that this takes.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

use super::Flow;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const HEADER: usize = 16;
// linux/netfilter/nfnetlink.h: NFNL_SUBSYS_CTNETLINK, and its messages
const CT_GET: u16 = (1 << 8) | 1;
const CT_DELETE: u16 = (1 << 8) | 2;
const NFGENMSG: usize = 4;
// linux/netfilter/nfnetlink_conntrack.h
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// The flags in the type of an attribute.
const TYPE_MASK: u16 = 0x3fff;
const UDP: u8 = 17;
/// Larger than what the kernel puts into one datagram of a dump.
const BUFFER: usize = 64 << 10;
const TIMEOUT_SECONDS: i64 = 5;

/// The flows of one namespace.
pub(super) struct Conntrack {
    socket: OwnedFd,
    sequence: u32,
}

impl Conntrack {
    /// Enters the namespace, if one is given, for good: this is for a thread that ends soon.
    pub(super) fn open(namespace: Option<&Path>) -> io::Result<Self> {
        if let Some(namespace) = namespace {
            setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
        }
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(TIMEOUT_SECONDS, 0))?;
        Ok(Conntrack { socket, sequence: 0 })
    }

    /// All flows of datagrams of one address family.
    pub(super) fn datagrams(&mut self, is_v6: bool) -> io::Result<Vec<Flow>> {
        self.request(CT_GET, NLM_F_DUMP, is_v6, &[])?;
        let mut flows = Vec::new();
        self.answers(|body| flows.extend(parse(body)))?;
        Ok(flows)
    }

    /// Removes a flow, unless it has ended by itself.
    pub(super) fn forget(&mut self, is_v6: bool, flow: &Flow) -> io::Result<()> {
        self.request(CT_DELETE, NLM_F_ACK, is_v6, &flow.identity)?;
        match self.answers(|_| {}) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(()),
            forgotten => forgotten,
        }
    }

    fn request(&mut self, type_: u16, flags: u16, is_v6: bool, attributes: &[u8]) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = HEADER + NFGENMSG + attributes.len();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).map_err(io::Error::other)?.to_ne_bytes());
        message.extend(type_.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        let family = if is_v6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        message.extend([family as u8, 0, 0, 0]);
        message.extend(attributes);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        Ok(())
    }

    /// Hands out the bodies of the answers to the last request, until it is answered.
    fn answers(&self, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..length).unwrap_or_default();
            while let Some((type_, sequence, body)) = message(&mut rest) {
                match type_ {
                    _ if sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return acknowledged(body),
                    _ => each(body),
                }
            }
        }
    }
}

/// The code in an error message, which is 0 for success.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().map(|code| i32::from_ne_bytes(*code));
    match code.ok_or(io::ErrorKind::InvalidData)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(-code)),
    }
}

/// Takes a message off the front: its type, sequence number and body.
fn message<'a>(rest: &mut &'a [u8]) -> Option<(u16, u32, &'a [u8])> {
    let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    let (message, _) = rest.split_at_checked(length)?;
    let (header, body) = message.split_at_checked(HEADER)?;
    let type_ = u16::from_ne_bytes(*header.get(4..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*header.get(8..)?.first_chunk()?);
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((type_, sequence, body))
}

/// The attributes that stand one after the other: type, value, and the whole as it stands there.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let type_ = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & TYPE_MASK;
        let value = rest.get(4..length)?;
        let (whole, after) = rest.split_at_checked(length.next_multiple_of(4)).unwrap_or((rest, &[]));
        rest = after;
        Some((type_, value, whole))
    })
}

fn attribute(of: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(of)
        .find(|(type_, ..)| *type_ == wanted)
        .map(|(_, value, _)| value)
}

/// A flow, if the body tells of one of datagrams.
pub(super) fn parse(body: &[u8]) -> Option<Flow> {
    let body = body.get(NFGENMSG..)?;
    let (original, reply) = (attribute(body, CTA_TUPLE_ORIG)?, attribute(body, CTA_TUPLE_REPLY)?);
    let protocol = attribute(attribute(original, CTA_TUPLE_PROTO)?, CTA_PROTO_NUM)?;
    if protocol != [UDP] {
        return None;
    }
    let identity = attributes(body).filter(|(type_, ..)| [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE].contains(type_));
    Some(Flow {
        destination: address(original, [CTA_IP_V4_DST, CTA_IP_V6_DST], CTA_PROTO_DST_PORT)?,
        endpoint: address(reply, [CTA_IP_V4_SRC, CTA_IP_V6_SRC], CTA_PROTO_SRC_PORT)?,
        identity: identity.flat_map(|(_, _, whole)| whole).copied().collect(),
    })
}

fn address(tuple: &[u8], [v4, v6]: [u16; 2], port: u16) -> Option<SocketAddr> {
    let ips = attribute(tuple, CTA_TUPLE_IP)?;
    let ip = match (attribute(ips, v4), attribute(ips, v6)) {
        (Some(v4), _) => IpAddr::from(Ipv4Addr::from(*v4.first_chunk::<4>()?)),
        (_, Some(v6)) => IpAddr::from(Ipv6Addr::from(*v6.first_chunk::<16>()?)),
        (None, None) => return None,
    };
    let port = attribute(attribute(tuple, CTA_TUPLE_PROTO)?, port)?;
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port.first_chunk()?)))
}
