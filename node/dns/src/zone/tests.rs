//! The zone's answers, as text that reads like a zone file.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model;

pub(crate) fn zone() -> Zone {
    let services: Value = json!([
        {"metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"clusterIP": "10.96.0.10",
            "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]}},
        {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9", "fd00::9"], "ports": [{"name": "http", "port": 80}, {"port": 81}]}},
        {"metadata": {"name": "db", "namespace": "ns"}, "spec": {"clusterIP": "None",
            "ports": [{"name": "sql", "port": 5432}]}},
        {"metadata": {"name": "empty", "namespace": "ns"}, "spec": {"clusterIP": "None"}},
        {"metadata": {"name": "out", "namespace": "ns"}, "spec": {"type": "ExternalName", "externalName": "www.Example.com"}},
        {"metadata": {"name": "round", "namespace": "ns"}, "spec": {"type": "ExternalName",
            "externalName": "round.ns.svc.cluster.local"}},
        {"metadata": {"name": "near", "namespace": "ns"}, "spec": {"type": "ExternalName",
            "externalName": "web.ns.svc.cluster.local."}},
    ]);
    let slices: Value = json!([
        {"metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "hostname": "front"}]},
        {"metadata": {"name": "db-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "sql", "port": 15432}],
            "endpoints": [{"addresses": ["10.0.1.1"], "hostname": "db-0"}, {"addresses": ["10.0.1.2"], "hostname": "db-1"},
                {"addresses": ["10.0.1.3"], "conditions": {"ready": false}, "hostname": "db-2"}]},
        {"metadata": {"name": "db-2", "namespace": "ns", "labels": {"kubernetes.io/service-name": "db"}},
            "ports": [{"name": "sql", "port": 15432}], "endpoints": [{"addresses": ["fd00::1:1"]}]},
    ]);
    let services: Vec<crate::objects::Service> = serde_json::from_value(services).unwrap();
    let slices: Vec<crate::objects::EndpointSlice> = serde_json::from_value(slices).unwrap();
    let mut zone = Zone::new(Name::from_ascii("cluster.local.").unwrap());
    zone.set_namespaces(["ns", "idle", "kube-system"].map(Into::into).to_vec());
    zone.update(&[], model::build(&services, &slices).into_iter().collect(), 7);
    zone
}

fn asked(zone: &Zone, question: &str, turn: usize) -> String {
    let (name, type_) = question.split_once(' ').unwrap();
    let name = Name::from_ascii(format!("{name}.")).unwrap();
    match zone.answer(&name, type_.parse().unwrap(), turn) {
        Answer::Records { answers, additionals } => {
            let lines = answers
                .iter()
                .map(text)
                .chain(additionals.iter().map(|r| format!("+ {}", text(r))));
            lines.collect::<Vec<_>>().join("\n")
        }
        Answer::Alias(record, _) => format!("{} ...", text(&record)),
        Answer::NoData => "NODATA".into(),
        Answer::NoName => "NXDOMAIN".into(),
        Answer::Elsewhere => "elsewhere".into(),
    }
}

fn text(record: &Record) -> String {
    format!(
        "{} {} {} {}",
        record.name,
        record.ttl,
        record.record_type(),
        record.data
    )
}

#[test]
fn every_name_has_the_records_that_kubernetes_says() {
    let zone = zone();
    for (question, answer) in [
        // Services
        ("web.ns.svc.cluster.local A", "web.ns.svc.cluster.local. 5 A 10.96.0.9"),
        (
            "web.ns.svc.cluster.local AAAA",
            "web.ns.svc.cluster.local. 5 AAAA fd00::9",
        ),
        ("web.ns.svc.cluster.local MX", "NODATA"),
        ("WEB.ns.svc.Cluster.local A", "WEB.ns.svc.Cluster.local. 5 A 10.96.0.9"),
        ("kube-dns.kube-system.svc.cluster.local AAAA", "NODATA"),
        (
            "_http._tcp.web.ns.svc.cluster.local SRV",
            "_http._tcp.web.ns.svc.cluster.local. 5 SRV 0 100 80 web.ns.svc.cluster.local.\n\
             + web.ns.svc.cluster.local. 5 A 10.96.0.9\n+ web.ns.svc.cluster.local. 5 AAAA fd00::9",
        ),
        ("_http._tcp.web.ns.svc.cluster.local A", "NODATA"),
        ("_http._udp.web.ns.svc.cluster.local SRV", "NXDOMAIN"),
        ("_._tcp.web.ns.svc.cluster.local SRV", "NXDOMAIN"),
        ("_tcp.web.ns.svc.cluster.local A", "NODATA"),
        ("_udp.web.ns.svc.cluster.local A", "NXDOMAIN"),
        (
            "front.web.ns.svc.cluster.local A",
            "front.web.ns.svc.cluster.local. 5 A 10.0.0.2",
        ),
        (
            "10-0-0-1.web.ns.svc.cluster.local A",
            "10-0-0-1.web.ns.svc.cluster.local. 5 A 10.0.0.1",
        ),
        ("10-0-0-2.web.ns.svc.cluster.local A", "NXDOMAIN"),
        // headless ones
        (
            "db.ns.svc.cluster.local A",
            "db.ns.svc.cluster.local. 5 A 10.0.1.1\ndb.ns.svc.cluster.local. 5 A 10.0.1.2",
        ),
        (
            "db.ns.svc.cluster.local AAAA",
            "db.ns.svc.cluster.local. 5 AAAA fd00::1:1",
        ),
        (
            "db-1.db.ns.svc.cluster.local A",
            "db-1.db.ns.svc.cluster.local. 5 A 10.0.1.2",
        ),
        ("db-1.db.ns.svc.cluster.local AAAA", "NODATA"),
        ("db-2.db.ns.svc.cluster.local A", "NXDOMAIN"),
        (
            "fd00--1-1.db.ns.svc.cluster.local AAAA",
            "fd00--1-1.db.ns.svc.cluster.local. 5 AAAA fd00::1:1",
        ),
        (
            "_sql._tcp.db.ns.svc.cluster.local SRV",
            "_sql._tcp.db.ns.svc.cluster.local. 5 SRV 0 33 15432 db-0.db.ns.svc.cluster.local.\n\
             _sql._tcp.db.ns.svc.cluster.local. 5 SRV 0 33 15432 db-1.db.ns.svc.cluster.local.\n\
             _sql._tcp.db.ns.svc.cluster.local. 5 SRV 0 33 15432 fd00--1-1.db.ns.svc.cluster.local.\n\
             + db-0.db.ns.svc.cluster.local. 5 A 10.0.1.1\n+ db-1.db.ns.svc.cluster.local. 5 A 10.0.1.2\n\
             + fd00--1-1.db.ns.svc.cluster.local. 5 AAAA fd00::1:1",
        ),
        (
            "db-0.db.ns.svc.cluster.local SRV",
            "db-0.db.ns.svc.cluster.local. 5 SRV 0 100 15432 db-0.db.ns.svc.cluster.local.\n\
             + db-0.db.ns.svc.cluster.local. 5 A 10.0.1.1",
        ),
        ("empty.ns.svc.cluster.local A", "NXDOMAIN"),
        // other names
        (
            "out.ns.svc.cluster.local A",
            "out.ns.svc.cluster.local. 5 CNAME www.Example.com. ...",
        ),
        (
            "out.ns.svc.cluster.local CNAME",
            "out.ns.svc.cluster.local. 5 CNAME www.Example.com.",
        ),
        ("out.ns.svc.cluster.local SRV", "NODATA"),
        ("x.out.ns.svc.cluster.local A", "NXDOMAIN"),
        // pods
        (
            "10-1-2-3.ns.pod.cluster.local A",
            "10-1-2-3.ns.pod.cluster.local. 5 A 10.1.2.3",
        ),
        ("10-1-2-3.ns.pod.cluster.local AAAA", "NODATA"),
        (
            "fd00--1.ns.pod.cluster.local AAAA",
            "fd00--1.ns.pod.cluster.local. 5 AAAA fd00::1",
        ),
        ("10-1-2.ns.pod.cluster.local A", "NXDOMAIN"),
        ("10-1-2-3.nowhere.pod.cluster.local A", "NXDOMAIN"),
        // what names stand on, and what is not there
        ("ns.svc.cluster.local A", "NODATA"),
        ("idle.svc.cluster.local A", "NODATA"),
        ("idle.pod.cluster.local A", "NODATA"),
        ("nowhere.svc.cluster.local A", "NXDOMAIN"),
        ("svc.cluster.local A", "NODATA"),
        ("pod.cluster.local A", "NODATA"),
        ("nothing.ns.svc.cluster.local A", "NXDOMAIN"),
        ("www.example.com.ns.svc.cluster.local A", "NXDOMAIN"),
        ("www.cluster.local A", "NXDOMAIN"),
        // the zone itself
        (
            "dns-version.cluster.local TXT",
            "dns-version.cluster.local. 28800 TXT 1.1.0",
        ),
        ("dns-version.cluster.local A", "NODATA"),
        ("cluster.local A", "NODATA"),
        (
            "cluster.local SOA",
            "cluster.local. 5 SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 5",
        ),
        (
            "cluster.local NS",
            "cluster.local. 5 NS ns.dns.cluster.local.\n+ ns.dns.cluster.local. 5 A 10.96.0.10",
        ),
        ("ns.dns.cluster.local A", "ns.dns.cluster.local. 5 A 10.96.0.10"),
        ("dns.cluster.local A", "NODATA"),
        // addresses
        (
            "9.0.96.10.in-addr.arpa PTR",
            "9.0.96.10.in-addr.arpa. 5 PTR web.ns.svc.cluster.local.",
        ),
        ("9.0.96.10.in-addr.arpa A", "NODATA"),
        (
            "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR",
            "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. 5 PTR web.ns.svc.cluster.local.",
        ),
        (
            "1.1.0.10.in-addr.arpa PTR",
            "1.1.0.10.in-addr.arpa. 5 PTR db-0.db.ns.svc.cluster.local.",
        ),
        (
            "2.0.0.10.in-addr.arpa PTR",
            "2.0.0.10.in-addr.arpa. 5 PTR front.web.ns.svc.cluster.local.",
        ),
        ("1.0.0.10.in-addr.arpa PTR", "elsewhere"),
        ("3.1.0.10.in-addr.arpa PTR", "elsewhere"),
        ("1.1.in-addr.arpa PTR", "elsewhere"),
        ("www.example.com A", "elsewhere"),
        ("local A", "elsewhere"),
    ] {
        assert_eq!(asked(&zone, question, 0), answer, "{question}");
    }
}

#[test]
fn addresses_take_turns_to_be_first() {
    let zone = zone();
    let first = |turn| {
        asked(&zone, "db.ns.svc.cluster.local A", turn)
            .lines()
            .next()
            .map(str::to_owned)
    };
    assert_ne!(first(0), first(1));
    assert_eq!(first(0), first(2));
}

#[test]
fn an_endpoint_without_a_name_of_its_own_is_found_by_its_address() {
    let zone = zone();
    let nibbles = "1.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
    assert_eq!(
        asked(&zone, &format!("{nibbles} PTR"), 0),
        format!("{nibbles}. 5 PTR fd00--1-1.db.ns.svc.cluster.local.")
    );
}

#[test]
fn what_is_removed_is_gone_with_its_addresses() {
    let mut zone = zone();
    zone.update(&[Key::new("ns", "web"), Key::new("ns", "db")], Vec::new(), 8);
    for (question, answer) in [
        ("web.ns.svc.cluster.local A", "NXDOMAIN"),
        ("9.0.96.10.in-addr.arpa PTR", "elsewhere"),
        ("1.1.0.10.in-addr.arpa PTR", "elsewhere"),
        (
            "kube-dns.kube-system.svc.cluster.local A",
            "kube-dns.kube-system.svc.cluster.local. 5 A 10.96.0.10",
        ),
    ] {
        assert_eq!(asked(&zone, question, 0), answer, "{question}");
    }
    assert_eq!(zone.owners.len(), 1, "{:?}", zone.owners);
}

proptest! {
    /// Changes lead to the zone that would have been made of what is there at the end.
    #[test]
    fn changes_leave_no_trace(steps in prop::collection::vec((0usize..4, 0u8..4, any::<bool>()), 0..20)) {
        let name = Name::from_ascii("cluster.local.").unwrap();
        let mut zone = Zone::new(name.clone());
        let mut now: std::collections::BTreeMap<Key, Entry> = Default::default();
        for (which, address, is_set) in steps {
            let key = Key::new("ns", &format!("s{which}"));
            if is_set {
                let entry = Entry {
                    kind: Kind::Cluster(vec![[10, 96, 0, address].into()]),
                    ports: Default::default(),
                    groups: Default::default(),
                };
                now.insert(key.clone(), entry.clone());
                zone.update(&[], vec![(key, entry)], 1);
            } else {
                now.remove(&key);
                zone.update(&[key], Vec::new(), 1);
            }
        }
        let mut fresh = Zone::new(name);
        fresh.update(&[], now.into_iter().collect(), 1);
        prop_assert_eq!(zone.services, fresh.services);
        prop_assert_eq!(zone.owners, fresh.owners);
    }

    /// Whatever is asked, there is an answer.
    #[test]
    fn any_name_is_answered(labels in prop::collection::vec("[a-z0-9_.-]{1,12}", 0..7), type_: u16) {
        let zone = zone();
        for tail in ["", "svc.cluster.local.", "pod.cluster.local.", "in-addr.arpa.", "ip6.arpa."] {
            if let Ok(name) = Name::from_ascii(format!("{}.{tail}", labels.join("."))) {
                let _ = zone.answer(&name, RecordType::from(type_), 3);
            }
        }
    }
}
