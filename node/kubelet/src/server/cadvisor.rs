//! `/metrics/cadvisor`: the names that dashboards and alerts made for cAdvisor look for. Processor and memory are what the
//! runtimes tell, for containers of either kind; throttling, disks and networks are what the kernel counts of OCI ones.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::Arc,
};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    metrics::{family, seconds},
    usage::{self, ContainerUsage, PodUsage, Usage},
};
use crate::{node, resources, shared::Shared};

/// What the kernel counts, by the ids of containers.
type Counted = HashMap<cri::ContainerId, cri::Accounting>;

pub(super) async fn serve(State(shared): State<Arc<Shared>>) -> Response {
    let read = async {
        let (usage, accounts) = tokio::join!(usage::read(&shared), shared.runtime.accounting());
        Ok::<_, cri::Error>((usage?, accounts?))
    };
    let (usage, accounts) = match Box::pin(read).await {
        Ok(read) => read,
        Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, error.chain()).into_response(),
    };
    let counted = accounts
        .into_iter()
        .map(|account| (account.id.clone(), account))
        .collect();
    let machine = (shared.capacity.cpu_milli / 1000, node::memory().0);
    let mut out = String::new();
    let _ = write(&mut out, &series(&shared, &usage, &counted), machine); // a String takes all
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], out).into_response()
}

/// One family: its name, kind and help, and its lines' labels and values.
struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    lines: Vec<(String, f64)>,
}

/// Families in the order of their names.
#[derive(Default)]
struct Families(BTreeMap<&'static str, Family>);

impl Families {
    fn add(&mut self, name: &'static str, help: &'static str, labels: &str, value: f64) {
        let kind = match name.ends_with("_total") {
            true => "counter",
            false => "gauge",
        };
        let family = self.0.entry(name).or_insert_with(|| Family {
            name,
            kind,
            help,
            lines: Vec::new(),
        });
        family.lines.push((labels.to_owned(), value));
    }
}

fn write(out: &mut String, families: &Families, (cores, memory): (i64, i64)) -> std::fmt::Result {
    for told in families.0.values() {
        family(out, told.name, told.kind, told.help)?;
        for (labels, value) in &told.lines {
            writeln!(out, "{}{{{labels}}} {value}", told.name)?;
        }
    }
    family(out, "machine_cpu_cores", "gauge", "Number of logical CPU cores.")?;
    writeln!(out, "machine_cpu_cores {cores}")?;
    family(
        out,
        "machine_memory_bytes",
        "gauge",
        "Amount of memory installed on the machine.",
    )?;
    writeln!(out, "machine_memory_bytes {memory}")
}

fn series(shared: &Shared, usage: &Usage, counted: &Counted) -> Families {
    let mut families = Families::default();
    for pod in &usage.pods {
        let observed = shared.observer.pod(&shared.running_for(&pod.pod).metadata.uid);
        for container in &pod.containers {
            let id = &container.stats.id;
            let known = observed.containers.iter().find(|known| known.id == *id);
            let image = known.map(|known| known.image.as_str()).unwrap_or_default();
            of_container(&mut families, pod, container, image);
            if let Some(account) = counted.get(id) {
                of_kernel(&mut families, account, &labels(pod, container, image));
            }
        }
        of_network(&mut families, pod, counted);
    }
    families
}

fn labels(pod: &PodUsage, container: &ContainerUsage, image: &str) -> String {
    let (metadata, stats) = (&pod.pod.metadata, &container.stats);
    let name = stats.id.of_containerd().unwrap_or(&stats.id.0);
    format!(
        "container=\"{}\",id=\"/{}\",image=\"{}\",name=\"{name}\",namespace=\"{}\",pod=\"{}\"",
        stats.name,
        stats.id,
        escaped(image),
        metadata.namespace,
        metadata.name
    )
}

/// As the text format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn of_container(families: &mut Families, pod: &PodUsage, container: &ContainerUsage, image: &str) {
    let own = labels(pod, container, image);
    let stats = &container.stats;
    let with = |label: &str| format!("{label},{own}");
    let mut add = |name, help, value| families.add(name, help, &own, value);
    add(
        "container_memory_working_set_bytes",
        "Current working set in bytes.",
        stats.memory_working_set_bytes as f64,
    );
    add(
        "container_last_seen",
        "Last time a container was seen by the exporter",
        (stats.timestamp / 1_000_000_000) as f64,
    );
    if let Some(started) = container.started {
        add(
            "container_start_time_seconds",
            "Start time of the container since unix epoch in seconds.",
            started.as_second() as f64,
        );
    }
    if let Some((_, spec)) = pod.pod.container(&stats.name) {
        let limits = resources::for_runtime(spec);
        let period = "CPU period of the container.";
        add("container_spec_cpu_period", period, limits.cpu_period as f64);
        if limits.cpu_quota > 0 {
            add(
                "container_spec_cpu_quota",
                "CPU quota of the container.",
                limits.cpu_quota as f64,
            );
        }
        add(
            "container_spec_cpu_shares",
            "CPU share of the container.",
            limits.cpu_shares as f64,
        );
        let memory = "Memory limit for the container.";
        add("container_spec_memory_limit_bytes", memory, limits.memory_limit as f64);
    }
    families.add(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        &with("cpu=\"total\""),
        seconds(stats.cpu_usage_core_nanoseconds),
    );
    if let Some(linux) = &stats.linux {
        of_linux(families, linux, &own);
    }
}

fn of_linux(families: &mut Families, linux: &cri::LinuxStats, own: &str) {
    let layer = &linux.writable_layer;
    let used = "Current memory usage in bytes, including all memory regardless of when it was accessed";
    families.add(
        "container_memory_usage_bytes",
        used,
        own,
        linux.memory_usage_bytes as f64,
    );
    families.add(
        "container_memory_rss",
        "Size of RSS in bytes.",
        own,
        linux.memory_rss_bytes as f64,
    );
    for (kind, count) in [("pgfault", linux.page_faults), ("pgmajfault", linux.major_page_faults)] {
        families.add(
            "container_memory_failures_total",
            "Cumulative count of memory allocation failures.",
            &format!("failure_type=\"{kind}\",scope=\"container\",{own}"),
            count as f64,
        );
    }
    let device = format!("device=\"\",{own}");
    let bytes = "Number of bytes that are consumed by the container on this filesystem.";
    families.add("container_fs_usage_bytes", bytes, &device, layer.used_bytes as f64);
}

fn of_kernel(families: &mut Families, account: &cri::Accounting, own: &str) {
    let told: [(&str, &str, f64); 13] = [
        (
            "container_cpu_user_seconds_total",
            "Cumulative user cpu time consumed in seconds.",
            seconds(account.cpu_user_nanoseconds),
        ),
        (
            "container_cpu_system_seconds_total",
            "Cumulative system cpu time consumed in seconds.",
            seconds(account.cpu_system_nanoseconds),
        ),
        (
            "container_cpu_cfs_periods_total",
            "Number of elapsed enforcement period intervals.",
            account.cpu_periods as f64,
        ),
        (
            "container_cpu_cfs_throttled_periods_total",
            "Number of throttled period intervals.",
            account.cpu_throttled_periods as f64,
        ),
        (
            "container_cpu_cfs_throttled_seconds_total",
            "Total time duration the container has been throttled.",
            seconds(account.cpu_throttled_nanoseconds),
        ),
        (
            "container_memory_cache",
            "Number of bytes of page cache memory.",
            account.memory_cache_bytes as f64,
        ),
        (
            "container_memory_max_usage_bytes",
            "Maximum memory usage recorded in bytes",
            account.memory_max_usage_bytes as f64,
        ),
        (
            "container_memory_failcnt",
            "Number of memory usage hits limits",
            account.memory_failures as f64,
        ),
        (
            "container_oom_events_total",
            "Count of out of memory events observed for the container",
            account.out_of_memory_kills as f64,
        ),
        (
            "container_processes",
            "Number of processes running inside the container.",
            account.processes as f64,
        ),
        (
            "container_threads",
            "Number of threads running inside the container",
            account.threads as f64,
        ),
        (
            "container_file_descriptors",
            "Number of open file descriptors for the container.",
            account.descriptors as f64,
        ),
        (
            "container_sockets",
            "Number of open sockets for the container.",
            account.sockets as f64,
        ),
    ];
    for (name, help, value) in told {
        families.add(name, help, own, value);
    }
    let limit = "Number of bytes that can be consumed by the container on this filesystem.";
    let disk = format!("device=\"\",{own}");
    families.add("container_fs_limit_bytes", limit, &disk, account.disk_bytes as f64);
    for device in &account.devices {
        let labels = format!("device=\"{}\",{own}", device.device);
        let told: [(&str, &str, u64); 4] = [
            (
                "container_fs_reads_total",
                "Cumulative count of reads completed",
                device.reads,
            ),
            (
                "container_fs_writes_total",
                "Cumulative count of writes completed",
                device.writes,
            ),
            (
                "container_fs_reads_bytes_total",
                "Cumulative count of bytes read",
                device.read_bytes,
            ),
            (
                "container_fs_writes_bytes_total",
                "Cumulative count of bytes written",
                device.written_bytes,
            ),
        ];
        for (name, help, value) in told {
            families.add(name, help, &labels, value as f64);
        }
    }
}

/// A pod's interfaces: what a process in it sees, or else what the runtime tells.
fn of_network(families: &mut Families, pod: &PodUsage, counted: &Counted) {
    if pod.pod.spec.host_network {
        return; // the node's own are no pod's
    }
    let accounts = pod
        .containers
        .iter()
        .filter_map(|container| counted.get(&container.stats.id));
    let seen = accounts
        .map(|account| &account.interfaces)
        .find(|interfaces| !interfaces.is_empty());
    let told = || {
        let interfaces = pod.sandbox.iter().flat_map(|sandbox| &sandbox.interfaces);
        let traffic = |bytes, errors| cri::Traffic {
            bytes,
            errors,
            ..cri::Traffic::default()
        };
        interfaces.map(move |i| cri::InterfaceCounters {
            name: i.name.clone(),
            received: traffic(i.rx_bytes, i.rx_errors),
            sent: traffic(i.tx_bytes, i.tx_errors),
        })
    };
    let packets = seen.is_some();
    let interfaces = seen.cloned().unwrap_or_else(|| told().collect());
    let metadata = &pod.pod.metadata;
    for interface in interfaces {
        let labels = format!(
            "interface=\"{}\",namespace=\"{}\",pod=\"{}\"",
            interface.name, metadata.namespace, metadata.name
        );
        let mut add = |name, help, value: u64| families.add(name, help, &labels, value as f64);
        let (receive, transmit) = (interface.received, interface.sent);
        add(
            "container_network_receive_bytes_total",
            "Cumulative count of bytes received",
            receive.bytes,
        );
        add(
            "container_network_receive_errors_total",
            "Cumulative count of errors encountered while receiving",
            receive.errors,
        );
        add(
            "container_network_transmit_bytes_total",
            "Cumulative count of bytes transmitted",
            transmit.bytes,
        );
        add(
            "container_network_transmit_errors_total",
            "Cumulative count of errors encountered while transmitting",
            transmit.errors,
        );
        if packets {
            add(
                "container_network_receive_packets_total",
                "Cumulative count of packets received",
                receive.packets,
            );
            add(
                "container_network_receive_packets_dropped_total",
                "Cumulative count of packets dropped while receiving",
                receive.dropped,
            );
            add(
                "container_network_transmit_packets_total",
                "Cumulative count of packets transmitted",
                transmit.packets,
            );
            add(
                "container_network_transmit_packets_dropped_total",
                "Cumulative count of packets dropped while transmitting",
                transmit.dropped,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_is_told_by_the_names_that_dashboards_know() {
        let pod = json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}, "spec": {"containers": [
            {"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Mi"}}}]}});
        let mut pod = PodUsage {
            pod: Arc::new(serde_json::from_value(pod).expect("a pod")),
            sandbox: None,
            containers: Vec::new(),
        };
        let container = ContainerUsage {
            stats: serde_json::from_value(json!({
                "id": "containerd-01", "sandbox": "s", "name": "c", "pod_uid": "u", "timestamp": 5_000_000_000_i64,
                "cpu_usage_core_nanoseconds": 1_500_000_000, "memory_working_set_bytes": 4096, "requests": 0,
                "instances": 0, "linux": {"memory_usage_bytes": 8192, "page_faults": 3,
                    "writable_layer": {"used_bytes": 7, "inodes_used": 1}},
            }))
            .expect("stats"),
            started: None,
        };
        let account = cri::Accounting {
            cpu_throttled_nanoseconds: 250_000_000,
            devices: vec![cri::DeviceUsage {
                device: "8:0".to_owned(),
                read_bytes: 9,
                ..cri::DeviceUsage::default()
            }],
            interfaces: vec![cri::InterfaceCounters {
                name: "eth0".to_owned(),
                sent: cri::Traffic {
                    packets: 4,
                    ..cri::Traffic::default()
                },
                ..cri::InterfaceCounters::default()
            }],
            ..cri::Accounting::default()
        };
        let mut families = Families::default();
        of_container(&mut families, &pod, &container, "web:1");
        of_kernel(&mut families, &account, &labels(&pod, &container, "web:1"));
        let counted = Counted::from([(container.stats.id.clone(), account)]);
        pod.containers.push(container);
        of_network(&mut families, &pod, &counted);
        let mut text = String::new();
        write(&mut text, &families, (2, 1024)).expect("a String takes all");
        let own = r#"container="c",id="/containerd-01",image="web:1",name="01",namespace="a",pod="p""#;
        for line in [
            format!("container_cpu_usage_seconds_total{{cpu=\"total\",{own}}} 1.5"),
            format!("container_memory_working_set_bytes{{{own}}} 4096"),
            format!("container_memory_failures_total{{failure_type=\"pgfault\",scope=\"container\",{own}}} 3"),
            format!("container_fs_usage_bytes{{device=\"\",{own}}} 7"),
            format!("container_cpu_cfs_throttled_seconds_total{{{own}}} 0.25"),
            format!("container_fs_reads_bytes_total{{device=\"8:0\",{own}}} 9"),
            "container_network_transmit_packets_total{interface=\"eth0\",namespace=\"a\",pod=\"p\"} 4".to_owned(),
            format!("container_spec_cpu_quota{{{own}}} 50000"),
            format!("container_spec_memory_limit_bytes{{{own}}} 1048576"),
            "machine_cpu_cores 2".to_owned(),
            "# TYPE container_cpu_usage_seconds_total counter".to_owned(),
            "# TYPE container_memory_working_set_bytes gauge".to_owned(),
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("# TYPE container_memory_failures_total").count(), 1);
    }
}
