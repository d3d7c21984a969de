//! Names of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::rdata::PTR;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Answer, TTL, Zone, labels, records};
use crate::model::{Endpoint, Entry, Key, Kind};

impl Zone {
    /// Names of an address that is a Service's or an endpoint's. Other addresses have names elsewhere, or none.
    pub(super) fn reverse(&self, name: &Name, type_: RecordType) -> Answer {
        let Some(address) = address(name) else {
            return Answer::Elsewhere;
        };
        let targets = self.names_of(address);
        if targets.is_empty() {
            return Answer::Elsewhere;
        }
        if type_ != RecordType::PTR {
            return Answer::NoData;
        }
        let pointer = |target| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target)));
        records(targets.into_iter().map(pointer).collect())
    }

    /// A Service's own address is its alone; an endpoint has the names that it was given, or else those made of its address.
    fn names_of(&self, address: IpAddr) -> Vec<Name> {
        let owners = self.owners.get(&address).into_iter().flatten();
        let owners: Vec<(&Key, &Entry)> = owners.filter_map(|key| Some((key, self.services.get(key)?))).collect();
        let is_own = |entry: &Entry| matches!(&entry.kind, Kind::Cluster(own) if own.contains(&address));
        if let Some((key, _)) = owners.iter().find(|(_, entry)| is_own(entry)) {
            return key.name_in(self.domain(), None).into_iter().collect();
        }
        let endpoints = owners.iter().flat_map(|(key, entry)| {
            let all = entry.groups.values().flat_map(|group| &group.endpoints);
            all.filter(|endpoint| endpoint.address == address)
                .map(move |endpoint| (*key, endpoint))
        });
        let endpoints: Vec<(&Key, &Endpoint)> = endpoints.collect();
        let has_names = endpoints.iter().any(|(_, endpoint)| endpoint.hostname.is_some());
        let mut names: Vec<Name> = endpoints
            .iter()
            .filter(|(_, endpoint)| endpoint.hostname.is_some() == has_names)
            .filter_map(|(key, endpoint)| key.name_in(self.domain(), Some(endpoint)).ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn address(name: &Name) -> Option<IpAddr> {
    let labels = labels(name, 0)?;
    let mut backwards = labels.iter().rev().map(String::as_str);
    if backwards.next() != Some("arpa") {
        return None;
    }
    match backwards.next()? {
        "in-addr" => {
            let octets: Option<Vec<u8>> = backwards.map(|label| label.parse().ok()).collect();
            let octets: [u8; 4] = octets?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        "ip6" => {
            let nibble = |label: &str| {
                u128::from_str_radix(label, 16)
                    .ok()
                    .filter(|value| label.len() == 1 && *value < 16)
            };
            let nibbles: Option<Vec<u128>> = backwards.map(nibble).collect();
            let nibbles: [u128; 32] = nibbles?.try_into().ok()?;
            let bits = nibbles.iter().fold(0, |bits, nibble| bits << 4 | nibble);
            Some(Ipv6Addr::from(bits).into())
        }
        _ => None,
    }
}
