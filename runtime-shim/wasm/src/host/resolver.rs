//! Names as a pod knows them: its own, `localhost`, and what its name servers answer.
//!
//! Search lists and `ndots` work as resolv.conf(5) has them. Only addresses of IP version 4 are asked for, since pods
//! have no others. Queries leave from the pod's address; those that come back truncated are repeated over TCP.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;

use super::dns;

/// How long one server may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often the list of servers is gone through.
const ROUNDS: usize = 2;
/// The port of name servers.
const PORT: u16 = 53;
/// Bytes of an answer over UDP that are read.
const DATAGRAM: usize = 4096;

/// How a pod resolves names.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    searches: Vec<String>,
    ndots: usize,
    /// Names that need no server, in lower case.
    known: BTreeMap<String, Ipv4Addr>,
    /// What queries are bound to.
    source: Ipv4Addr,
}

/// Why a name has no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    #[error("the name does not resolve")]
    Unknown,
    #[error("no name server answers")]
    Unavailable,
    #[error("not a name")]
    Malformed,
}

impl LookupError {
    /// As `wasi:sockets` has it.
    pub(crate) fn code(self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::NameUnresolvable,
            Self::Unavailable => ErrorCode::TemporaryResolverFailure,
            Self::Malformed => ErrorCode::InvalidArgument,
        }
    }
}

impl Resolver {
    /// `hostname` is the pod's own name, with the address `own`.
    pub(crate) fn new(config: &cri::DnsConfig, hostname: &str, own: Ipv4Addr) -> Self {
        let servers = config.servers.iter().filter_map(|server| address(server));
        let ndots = config
            .options
            .iter()
            .find_map(|option| option.strip_prefix("ndots:")?.parse().ok());
        let mut known = BTreeMap::from([("localhost".to_owned(), Ipv4Addr::LOCALHOST)]);
        if !hostname.is_empty() && !own.is_unspecified() {
            known.insert(hostname.to_ascii_lowercase(), own);
        }
        Self {
            servers: servers.collect(),
            searches: config
                .searches
                .iter()
                .map(|search| search.trim_end_matches('.').to_owned())
                .collect(),
            ndots: ndots.unwrap_or(1),
            known,
            source: own,
        }
    }

    /// The addresses of a name: at least one, in the order in which they were told.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Vec<Ipv4Addr>, LookupError> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let name = name.to_ascii_lowercase();
        if let Some(address) = self.known.get(name.trim_end_matches('.')) {
            return Ok(vec![*address]);
        }
        let mut worst = LookupError::Unknown;
        for candidate in self.candidates(&name) {
            match self.ask(&candidate).await {
                Ok(addresses) => return Ok(addresses),
                Err(LookupError::Unknown) => {}
                Err(error) => worst = error,
            }
        }
        Err(worst)
    }

    /// The full names to try, in order.
    fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.searches.iter().map(|search| format!("{name}.{search}"));
        let dots = name.bytes().filter(|byte| *byte == b'.').count();
        if dots >= self.ndots {
            std::iter::once(name.to_owned()).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(name.to_owned())).collect()
        }
    }

    async fn ask(&self, name: &str) -> Result<Vec<Ipv4Addr>, LookupError> {
        let id = rand::random();
        let query = dns::query(id, name).ok_or(LookupError::Malformed)?;
        for server in self.servers.iter().cycle().take(self.servers.len() * ROUNDS) {
            let Ok(Ok(answer)) = timeout(ANSWER, self.exchange(*server, &query)).await else {
                continue;
            };
            match dns::answer(id, name, &answer) {
                Some(dns::Answer::Addresses(addresses)) => return some(addresses),
                Some(dns::Answer::Failed) | None => {}
                Some(dns::Answer::Truncated) => {
                    let Ok(Ok(answer)) = timeout(ANSWER, self.exchange_by_tcp(*server, &query)).await else {
                        continue;
                    };
                    if let Some(dns::Answer::Addresses(addresses)) = dns::answer(id, name, &answer) {
                        return some(addresses);
                    }
                }
            }
        }
        Err(LookupError::Unavailable)
    }

    async fn exchange(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = UdpSocket::bind((self.source, 0)).await?;
        socket.connect(server).await?;
        socket.send(query).await?;
        let mut answer = vec![0; DATAGRAM];
        let length = socket.recv(&mut answer).await?;
        answer.truncate(length);
        Ok(answer)
    }

    async fn exchange_by_tcp(&self, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((self.source, 0).into())?;
        let mut stream = socket.connect(server).await?;
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

fn some(addresses: Vec<Ipv4Addr>) -> Result<Vec<Ipv4Addr>, LookupError> {
    match addresses.is_empty() {
        true => Err(LookupError::Unknown),
        false => Ok(addresses),
    }
}

/// A name server as resolv.conf(5) has it, or with its port, where that is not the usual one.
fn address(server: &str) -> Option<SocketAddr> {
    let usual = || server.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    server.parse().ok().or_else(usual)
}

#[cfg(test)]
mod tests;
