//! A pod's resolver configuration from its policy. Pure; the rules of "DNS for Services and Pods".

use std::net::IpAddr;

use crate::pod::{DnsPolicy, Pod};

/// The cluster's name service and the node's own configuration.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Addresses of the cluster's name service; with none, pods use the node's.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// The node's `resolv.conf`, as text.
    pub node: String,
}

/// Kubernetes' limits for resolver configuration.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// The configuration for one pod.
pub(crate) fn make(pod: &Pod, dns: &Dns) -> cri::DnsConfig {
    let spec = &pod.spec;
    let clustered = match spec.dns_policy {
        DnsPolicy::ClusterFirst => !spec.host_network,
        DnsPolicy::ClusterFirstWithHostNet => true,
        DnsPolicy::Default | DnsPolicy::None => false,
    };
    let mut made = match spec.dns_policy {
        DnsPolicy::None => cri::DnsConfig::default(),
        _ if clustered && !dns.servers.is_empty() => of_cluster(&pod.metadata.namespace, dns),
        _ => parse(&dns.node),
    };
    if let Some(own) = &spec.dns_config {
        append(&mut made.servers, own.nameservers.iter().cloned());
        append(&mut made.searches, own.searches.iter().cloned());
        for option in &own.options {
            made.options.retain(|o| o.split(':').next() != Some(&option.name));
            made.options.push(match &option.value {
                Some(value) => format!("{}:{value}", option.name),
                None => option.name.clone(),
            });
        }
    }
    made.servers.truncate(MAX_SERVERS);
    made.searches.truncate(MAX_SEARCHES);
    made
}

fn append(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

fn of_cluster(namespace: &str, dns: &Dns) -> cri::DnsConfig {
    let domain = &dns.domain;
    let mut searches = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    append(&mut searches, parse(&dns.node).searches.into_iter());
    let servers = dns.servers.iter().map(IpAddr::to_string).collect();
    cri::DnsConfig {
        servers,
        searches,
        options: vec!["ndots:5".into()],
    }
}

/// Reads `resolv.conf`; the last `search` line counts.
fn parse(text: &str) -> cri::DnsConfig {
    let mut made = cri::DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => made.servers.extend(words.next()),
            Some("search") => made.searches = words.filter(|word| word != ".").collect(),
            Some("options") => made.options.extend(words),
            _ => {}
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made(spec: Value, servers: &[&str]) -> cri::DnsConfig {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).expect("pod");
        let servers = servers.iter().map(|s| s.parse().expect("ip")).collect();
        let node = "# made\nnameserver 9.9.9.9\nsearch lan\noptions rotate\n".to_owned();
        make(
            &pod,
            &Dns {
                servers,
                domain: "cluster.local".into(),
                node,
            },
        )
    }

    fn config(servers: &[&str], searches: &[&str], options: &[&str]) -> cri::DnsConfig {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        cri::DnsConfig {
            servers: list(servers),
            searches: list(searches),
            options: list(options),
        }
    }

    #[test]
    fn follows_the_policy() {
        let cluster = ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"];
        let cases = [
            (json!({}), config(&["10.96.0.10"], &cluster, &["ndots:5"])),
            (
                json!({"dnsPolicy": "Default"}),
                config(&["9.9.9.9"], &["lan"], &["rotate"]),
            ),
            (
                json!({"hostNetwork": true}),
                config(&["9.9.9.9"], &["lan"], &["rotate"]),
            ),
            (
                json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                config(&["10.96.0.10"], &cluster, &["ndots:5"]),
            ),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}]}}),
                config(&["1.1.1.1"], &["a"], &["ndots:2"]),
            ),
            (
                json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]}}),
                config(&["10.96.0.10"], &cluster, &["ndots:1", "edns0"]),
            ),
        ];
        for (spec, want) in cases {
            assert_eq!(made(spec, &["10.96.0.10"]), want);
        }
    }

    #[test]
    fn without_a_cluster_name_service_pods_use_the_nodes() {
        assert_eq!(made(json!({}), &[]), config(&["9.9.9.9"], &["lan"], &["rotate"]));
    }
}
