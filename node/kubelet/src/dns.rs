//! A pod's resolver configuration from its policy. Pure; the rules of "DNS for Services and Pods".

use tokio::sync::watch;

use crate::pod::{DnsPolicy, Pod};

/// The cluster's name service and the node's own configuration.
#[derive(Clone, Debug)]
pub struct Dns {
    /// Where the cluster's name service answers pods, as the runtime takes it; with none, pods use the node's.
    pub servers: watch::Receiver<Vec<String>>,
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// The node's `resolv.conf`, as text.
    pub node: String,
}

impl Default for Dns {
    fn default() -> Self {
        Dns {
            servers: watch::channel(Vec::new()).1,
            domain: String::new(),
            node: String::new(),
        }
    }
}

/// Kubernetes' limits for resolver configuration.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_LINE: usize = 2048;

/// A pod's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) config: cri::DnsConfig,
    /// What was left out, in the kubelet's words.
    pub(crate) notes: Vec<String>,
}

/// The configuration for one pod.
pub(crate) fn make(pod: &Pod, dns: &Dns) -> Made {
    let spec = &pod.spec;
    let clustered = match spec.dns_policy {
        DnsPolicy::ClusterFirst => !spec.host_network,
        DnsPolicy::ClusterFirstWithHostNet => true,
        DnsPolicy::Default | DnsPolicy::None => false,
    };
    let servers = dns.servers.borrow().clone();
    let mut made = match spec.dns_policy {
        DnsPolicy::None => cri::DnsConfig::default(),
        _ if clustered && !servers.is_empty() => of_cluster(&pod.metadata.namespace, servers, dns),
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
    bound(made)
}

/// Keeps to the limits.
fn bound(mut config: cri::DnsConfig) -> Made {
    let mut notes = Vec::new();
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        let line = config.servers.join(" ");
        notes.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
        ));
    }
    let mut length = 0;
    let fits = config.searches.iter().take(MAX_SEARCHES).take_while(|search| {
        length += search.len() + usize::from(length > 0);
        length <= MAX_SEARCH_LINE
    });
    let fits = fits.count();
    if fits < config.searches.len() {
        config.searches.truncate(fits);
        let line = config.searches.join(" ");
        notes.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        ));
    }
    Made { config, notes }
}

fn append(list: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

fn of_cluster(namespace: &str, servers: Vec<String>, dns: &Dns) -> cri::DnsConfig {
    let domain = &dns.domain;
    let mut searches = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.clone(),
    ];
    append(&mut searches, parse(&dns.node).searches.into_iter());
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
        whole(spec, servers).config
    }

    fn whole(spec: Value, servers: &[&str]) -> Made {
        let pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec})).expect("pod");
        let servers = servers.iter().map(|s| (*s).to_owned()).collect();
        let node = "# made\nnameserver 9.9.9.9\nsearch lan\noptions rotate\n".to_owned();
        make(
            &pod,
            &Dns {
                servers: watch::channel(servers).1,
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

    #[test]
    fn what_exceeds_the_limits_is_left_out_and_told() {
        let own = |config: Value| whole(json!({"dnsConfig": config}), &["10.96.0.10"]);
        assert!(own(json!({"nameservers": ["1.1.1.1", "2.2.2.2"]})).notes.is_empty());
        let made = own(json!({"nameservers": ["1.1.1.1", "2.2.2.2", "3.3.3.3"]}));
        assert_eq!(made.config.servers, ["10.96.0.10", "1.1.1.1", "2.2.2.2"]);
        assert_eq!(
            made.notes,
            [
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: \
              10.96.0.10 1.1.1.1 2.2.2.2"
            ]
        );
        let many: Vec<String> = (0..40).map(|n| format!("s{n}")).collect();
        assert_eq!(own(json!({"searches": many})).config.searches.len(), 32);
        let long: Vec<String> = (0..8).map(|n| format!("{n}{}", "x".repeat(299))).collect();
        let made = own(json!({"searches": long}));
        assert!(made.config.searches.join(" ").len() <= 2048 && made.config.searches.len() == 4 + 6);
        assert!(
            made.notes[0].starts_with("Search Line limits were exceeded"),
            "{:?}",
            made.notes
        );
    }
}
