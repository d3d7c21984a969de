//! The cluster's zone: from what is known of Services to the answer to a question. Pure.
//!
//! The records are those of Kubernetes' DNS specification, 1.1.0; where it leaves a choice, and for what other types there
//! are at a name, the answers are those of CoreDNS' `kubernetes` plugin with `pods insecure`:
//!
//! ```text
//!   SERVICE.NAMESPACE.svc.ZONE              A, AAAA: its addresses; those of its ready endpoints; or CNAME
//!   _PORT._PROTOCOL.SERVICE.NAMESPACE.svc.ZONE   SRV, one for the Service, or for each endpoint
//!   HOSTNAME.SERVICE.NAMESPACE.svc.ZONE     A, AAAA of an endpoint; HOSTNAME is its own or made of its address
//!   1-2-3-4.NAMESPACE.pod.ZONE              A: that address, whether there is such a pod or not
//!   dns-version.ZONE                        TXT
//!   ZONE                                    SOA, NS
//!   4.3.2.1.in-addr.arpa, ... .ip6.arpa     PTR of Services and endpoints; others are asked for elsewhere
//! ```

mod reverse;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use api::cluster_dns::SERVICE;
use hickory_proto::ProtoError;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::model::{Endpoint, Entry, Key, Kind, Port};

/// How long records may be kept: CoreDNS' default. It bounds how long a client can miss a change.
const TTL: u32 = 5;
/// That of the version, which never changes.
const VERSION_TTL: u32 = 28_800;
/// Of the specification that is kept.
const VERSION: &str = "1.1.0";
/// A service record's share of the load, and what is shared.
const WEIGHT: usize = 100;

/// What the zone says to a question.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Records {
        answers: Vec<Record>,
        /// Addresses of the names in the answers.
        additionals: Vec<Record>,
    },
    /// Ask for its target.
    Alias(Box<Record>, Name),
    /// The name is there, but has nothing of that type.
    NoData,
    NoName,
    /// It is not for us to say.
    Elsewhere,
}

/// The zone, as its last change has left it.
#[derive(Debug)]
pub(crate) struct Zone {
    domain: Name,
    services: HashMap<Key, Entry>,
    namespaces: HashSet<Box<str>>,
    /// Whose an address is.
    owners: HashMap<IpAddr, BTreeSet<Key>>,
    serial: u32,
}

impl Zone {
    /// An empty zone called `domain`.
    pub(crate) fn new(domain: Name) -> Self {
        Zone {
            domain,
            services: HashMap::new(),
            namespaces: HashSet::new(),
            owners: HashMap::new(),
            serial: 0,
        }
    }

    pub(crate) fn domain(&self) -> &Name {
        &self.domain
    }

    /// How many Services have names.
    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.services.len()).unwrap_or(u64::MAX)
    }

    /// Makes a change known; `serial` is greater than that of the last.
    pub(crate) fn update(&mut self, remove: &[Key], set: Vec<(Key, Entry)>, serial: u32) {
        self.serial = serial;
        for key in remove {
            self.remove(key);
        }
        for (key, entry) in set {
            self.remove(&key);
            for address in owned(&entry) {
                self.owners.entry(address).or_default().insert(key.clone());
            }
            self.services.insert(key, entry);
        }
    }

    pub(crate) fn set_namespaces(&mut self, namespaces: Vec<Box<str>>) {
        self.namespaces = namespaces.into_iter().collect();
    }

    fn remove(&mut self, key: &Key) {
        let Some(entry) = self.services.remove(key) else {
            return;
        };
        for address in owned(&entry) {
            if let Some(owners) = self.owners.get_mut(&address) {
                owners.remove(key);
                if owners.is_empty() {
                    self.owners.remove(&address);
                }
            }
        }
    }

    /// Answers a question. `turn` says which of several addresses comes first.
    pub(crate) fn answer(&self, name: &Name, type_: RecordType, turn: usize) -> Answer {
        if !self.domain.zone_of(name) {
            return self.reverse(name, type_);
        }
        let Some(labels) = labels(name, self.domain.iter().count()) else {
            return Answer::NoName;
        };
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let question = Question { name, type_, turn };
        match *labels {
            [] => self.apex(&question),
            ["dns-version"] => version(&question),
            ["ns", "dns"] => question.addresses(self.own_addresses()),
            ["dns" | "svc" | "pod"] => Answer::NoData,
            [namespace, "svc" | "pod"] if self.has_namespace(namespace) => Answer::NoData,
            [pod, namespace, "pod"] if self.has_namespace(namespace) => pod_address(&question, pod),
            [service, namespace, "svc"] => self.with(namespace, service, |at| at.service(&question)),
            [part, service, namespace, "svc"] => self.with(namespace, service, |at| at.part(&question, part)),
            [port, protocol, service, namespace, "svc"] => {
                self.with(namespace, service, |at| at.port(&question, port, protocol))
            }
            _ => Answer::NoName,
        }
    }

    /// The start of authority, which says for how long nothing may be concluded from an answer without records.
    pub(crate) fn soa(&self) -> Record {
        let own = |first: &str| below(&self.domain, first).unwrap_or_else(|_| self.domain.clone());
        let soa = SOA::new(own("ns.dns"), own("hostmaster"), self.serial, 7200, 1800, 86_400, TTL);
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(soa))
    }

    fn apex(&self, question: &Question<'_>) -> Answer {
        let Ok(server) = below(&self.domain, "ns.dns") else {
            return Answer::NoData;
        };
        match question.type_ {
            RecordType::SOA => records(vec![self.soa()]),
            RecordType::NS => Answer::Records {
                answers: vec![question.record(RData::NS(NS(server.clone())))],
                additionals: self
                    .own_addresses()
                    .iter()
                    .map(|ip| Record::from_rdata(server.clone(), TTL, address(*ip)))
                    .collect(),
            },
            _ => Answer::NoData,
        }
    }

    fn own_addresses(&self) -> &[IpAddr] {
        match self
            .services
            .get(&Key::new(SERVICE.0, SERVICE.1))
            .map(|entry| &entry.kind)
        {
            Some(Kind::Cluster(addresses)) => addresses,
            _ => &[],
        }
    }

    /// What is in a namespace need not be known in the same moment as the namespace.
    fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name) || self.services.keys().any(|key| &*key.namespace == name)
    }

    fn with<'a>(&'a self, namespace: &'a str, service: &'a str, f: impl FnOnce(Named<'a>) -> Answer) -> Answer {
        let key = Key::new(namespace, service);
        match self.services.get_key_value(&key) {
            Some((key, entry)) => f(Named {
                key,
                entry,
                domain: &self.domain,
            }),
            None => Answer::NoName,
        }
    }
}

/// The addresses by which a Service is found.
fn owned(entry: &Entry) -> Vec<IpAddr> {
    let own = match &entry.kind {
        Kind::Cluster(addresses) => addresses.as_slice(),
        Kind::Headless | Kind::External(_) => &[],
    };
    let endpoints = entry.groups.values().flat_map(|group| &group.endpoints);
    let named = endpoints.filter(|endpoint| entry.kind == Kind::Headless || endpoint.hostname.is_some());
    own.iter()
        .copied()
        .chain(named.map(|endpoint| endpoint.address))
        .collect()
}

/// The labels of a name before its last `zone` ones, in lower case; `None`: nobody's can look so.
fn labels(name: &Name, zone: usize) -> Option<Vec<String>> {
    let own = name.iter().count().checked_sub(zone)?;
    name.iter()
        .take(own)
        .map(|label| std::str::from_utf8(label).ok().map(str::to_ascii_lowercase))
        .collect()
}

/// What is asked.
struct Question<'a> {
    name: &'a Name,
    type_: RecordType,
    turn: usize,
}

impl Question<'_> {
    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.name.clone(), TTL, data)
    }

    /// Those of the addresses that are of the type; the name is there.
    fn addresses(&self, addresses: &[IpAddr]) -> Answer {
        let fits = |ip: &&IpAddr| match self.type_ {
            RecordType::A => ip.is_ipv4(),
            RecordType::AAAA => ip.is_ipv6(),
            _ => false,
        };
        let mut found: Vec<Record> = addresses
            .iter()
            .filter(fits)
            .map(|ip| self.record(address(*ip)))
            .collect();
        if !found.is_empty() {
            let first = self.turn % found.len();
            found.rotate_left(first);
        }
        records(found)
    }
}

fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

fn records(answers: Vec<Record>) -> Answer {
    match answers.is_empty() {
        true => Answer::NoData,
        false => Answer::Records {
            answers,
            additionals: Vec::new(),
        },
    }
}

fn version(question: &Question<'_>) -> Answer {
    match question.type_ {
        RecordType::TXT => {
            let text = RData::TXT(TXT::new(vec![VERSION.to_owned()]));
            records(vec![Record::from_rdata(question.name.clone(), VERSION_TTL, text)])
        }
        _ => Answer::NoData,
    }
}

/// `1-2-3-4` or `fd00--1`.
fn pod_address(question: &Question<'_>, label: &str) -> Answer {
    let parsed = label
        .replace('-', ".")
        .parse::<IpAddr>()
        .or_else(|_| label.replace('-', ":").parse());
    match parsed {
        Ok(address) => question.addresses(&[address]),
        Err(_) => Answer::NoName,
    }
}

/// A Service with its name.
struct Named<'a> {
    key: &'a Key,
    entry: &'a Entry,
    domain: &'a Name,
}

impl Named<'_> {
    /// The answer for the Service itself. A headless one without endpoints is not there, as the specification has it.
    fn service(&self, question: &Question<'_>) -> Answer {
        match &self.entry.kind {
            Kind::Cluster(_) if question.type_ == RecordType::SRV => self.services(question, |_| true),
            Kind::Cluster(addresses) => question.addresses(addresses),
            Kind::External(target) => self.alias(question, target),
            Kind::Headless => self.endpoints(question, |_| true),
        }
    }

    /// The answer for a name below the Service: an endpoint's, or what the names of ports stand on.
    fn part(&self, question: &Question<'_>, part: &str) -> Answer {
        if matches!(self.entry.kind, Kind::External(_)) {
            return Answer::NoName;
        }
        if let Some(protocol) = part.strip_prefix('_') {
            let has = |ports: &BTreeSet<Port>| {
                ports
                    .iter()
                    .any(|port| &*port.protocol == protocol && !port.name.is_empty())
            };
            return match has(&self.entry.ports) || self.entry.groups.values().any(|group| has(&group.ports)) {
                true => Answer::NoData,
                false => Answer::NoName,
            };
        }
        self.endpoints(question, |endpoint| endpoint.label() == part)
    }

    /// The answer for `_PORT._PROTOCOL` of the Service.
    fn port(&self, question: &Question<'_>, port: &str, protocol: &str) -> Answer {
        let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else {
            return Answer::NoName;
        };
        let is_it = |at: &Port| !port.is_empty() && *at.name == *port && *at.protocol == *protocol;
        let found = match self.entry.kind {
            Kind::Cluster(_) => self.services(question, is_it),
            Kind::Headless => self.located(question, |_| true, is_it),
            Kind::External(_) => Answer::NoName,
        };
        match (found, question.type_) {
            (Answer::Records { .. }, type_) if type_ != RecordType::SRV => Answer::NoData,
            (found, _) => found,
        }
    }

    fn alias(&self, question: &Question<'_>, target: &str) -> Answer {
        let absolute = format!("{}.", target.trim_end_matches('.'));
        let Ok(target) = Name::from_ascii(absolute) else {
            return Answer::NoData;
        };
        let alias = question.record(RData::CNAME(CNAME(target.clone())));
        match question.type_ {
            RecordType::CNAME => records(vec![alias]),
            // Nobody but the target itself knows its services.
            RecordType::SRV => Answer::NoData,
            _ => Answer::Alias(Box::new(alias), target),
        }
    }

    /// Service records that lead to the Service's own name.
    fn services(&self, question: &Question<'_>, is_asked: impl Fn(&Port) -> bool) -> Answer {
        let ports: Vec<&Port> = self.entry.ports.iter().filter(|port| is_asked(port)).collect();
        let Ok(target) = self.key.name_in(self.domain, None) else {
            return Answer::NoName;
        };
        if ports.is_empty() {
            return Answer::NoName;
        }
        let weight = share(ports.len());
        let answers = ports
            .iter()
            .map(|port| question.record(RData::SRV(SRV::new(0, weight, port.port, target.clone()))))
            .collect();
        let additionals = match &self.entry.kind {
            Kind::Cluster(addresses) => addresses
                .iter()
                .map(|ip| Record::from_rdata(target.clone(), TTL, address(*ip)))
                .collect(),
            Kind::Headless | Kind::External(_) => Vec::new(),
        };
        Answer::Records { answers, additionals }
    }

    /// Addresses or service records of endpoints.
    fn endpoints(&self, question: &Question<'_>, is_asked: impl Fn(&Endpoint) -> bool) -> Answer {
        let all = self.entry.groups.values().flat_map(|group| &group.endpoints);
        let addresses: BTreeSet<IpAddr> = all
            .filter(|endpoint| is_asked(endpoint))
            .map(|endpoint| endpoint.address)
            .collect();
        if addresses.is_empty() {
            return Answer::NoName;
        }
        if question.type_ != RecordType::SRV {
            return question.addresses(&addresses.into_iter().collect::<Vec<_>>());
        }
        match self.located(question, is_asked, |_| true) {
            Answer::NoName => Answer::NoData, // without ports
            located => located,
        }
    }

    /// Service records that lead to endpoints.
    fn located(
        &self,
        question: &Question<'_>,
        is_asked: impl Fn(&Endpoint) -> bool,
        is_port: impl Fn(&Port) -> bool,
    ) -> Answer {
        let mut found: BTreeSet<(u16, Endpoint)> = BTreeSet::new();
        for group in self.entry.groups.values() {
            for port in group.ports.iter().filter(|port| is_port(port)) {
                let endpoints = group.endpoints.iter().filter(|endpoint| is_asked(endpoint));
                found.extend(endpoints.map(|endpoint| (port.port, endpoint.clone())));
            }
        }
        if found.is_empty() {
            return Answer::NoName;
        }
        let weight = share(found.len());
        let (mut answers, mut additionals) = (Vec::new(), BTreeSet::new());
        for (port, endpoint) in found {
            let Ok(target) = self.key.name_in(self.domain, Some(&endpoint)) else {
                continue;
            };
            answers.push(question.record(RData::SRV(SRV::new(0, weight, port, target.clone()))));
            additionals.insert((target, endpoint.address));
        }
        let additionals = additionals
            .into_iter()
            .map(|(target, ip)| Record::from_rdata(target, TTL, address(ip)));
        Answer::Records {
            answers,
            additionals: additionals.collect(),
        }
    }
}

impl Key {
    /// The name of the Service, or of one of its endpoints.
    fn name_in(&self, domain: &Name, endpoint: Option<&Endpoint>) -> Result<Name, ProtoError> {
        let Key { namespace, name } = self;
        match endpoint {
            Some(endpoint) => below(domain, &format!("{}.{name}.{namespace}.svc", endpoint.label())),
            None => below(domain, &format!("{name}.{namespace}.svc")),
        }
    }
}

/// A name in the zone. Its labels are taken as they are.
fn below(domain: &Name, first: &str) -> Result<Name, ProtoError> {
    Name::from_ascii(first)?.append_domain(domain)
}

fn share(count: usize) -> u16 {
    u16::try_from((WEIGHT / count.max(1)).max(1)).unwrap_or(1)
}

#[cfg(test)]
pub(crate) mod tests;
