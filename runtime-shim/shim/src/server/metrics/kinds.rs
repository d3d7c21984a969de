//! The metrics there are, by the names that cAdvisor gave them.

use proto::v1::MetricType::{self, Counter, Gauge};

/// A metric: its name, what it is, how it moves, and the labels it has beside those of all.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) moves: MetricType,
    pub(super) labels: &'static [&'static str],
}

const fn counter(name: &'static str, help: &'static str) -> Kind {
    of(name, Counter, &[], help)
}

const fn gauge(name: &'static str, help: &'static str) -> Kind {
    of(name, Gauge, &[], help)
}

/// Counted by network interface.
const fn network(name: &'static str, help: &'static str) -> Kind {
    of(name, Counter, &["interface"], help)
}

/// Counted by block device.
const fn disk(name: &'static str, help: &'static str) -> Kind {
    of(name, Counter, &["device"], help)
}

const fn of(name: &'static str, moves: MetricType, labels: &'static [&'static str], help: &'static str) -> Kind {
    Kind {
        name,
        help,
        moves,
        labels,
    }
}

pub(super) const KINDS: &[Kind] = &[
    counter("container_cpu_usage_seconds_total", "CPU time used, in seconds."),
    counter(
        "container_cpu_user_seconds_total",
        "CPU time used outside the kernel, in seconds.",
    ),
    counter(
        "container_cpu_system_seconds_total",
        "CPU time used in the kernel, in seconds.",
    ),
    counter(
        "container_cpu_cfs_periods_total",
        "Periods of the CPU limit that have passed.",
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU limit was reached.",
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Seconds for which the CPU limit held tasks up.",
    ),
    gauge(
        "container_memory_working_set_bytes",
        "Memory that cannot be given back, in bytes.",
    ),
    gauge("container_memory_usage_bytes", "Memory charged, in bytes."),
    gauge(
        "container_memory_max_usage_bytes",
        "The most memory that was ever charged, in bytes.",
    ),
    gauge("container_memory_rss", "Anonymous memory, in bytes."),
    gauge("container_memory_cache", "Memory that holds files, in bytes."),
    gauge("container_memory_mapped_file", "Memory of mapped files, in bytes."),
    gauge(
        "container_memory_kernel_usage",
        "Memory that the kernel uses for the container, in bytes.",
    ),
    gauge("container_memory_swap", "Swap used, in bytes."),
    counter("container_memory_failcnt", "How often the memory limit was reached."),
    of(
        "container_memory_failures_total",
        Counter,
        &["failure_type", "scope"],
        "Page faults.",
    ),
    counter("container_oom_events_total", "Processes killed because memory ran out."),
    gauge("container_fs_usage_bytes", "Bytes of the writable layer."),
    gauge(
        "container_fs_limit_bytes",
        "Size of the file system of the writable layer, in bytes.",
    ),
    gauge("container_fs_inodes_total", "Inodes of that file system."),
    gauge("container_fs_inodes_free", "Inodes of that file system which are free."),
    disk("container_fs_reads_total", "Reads that were completed."),
    disk("container_fs_reads_bytes_total", "Bytes read."),
    disk("container_fs_writes_total", "Writes that were completed."),
    disk("container_fs_writes_bytes_total", "Bytes written."),
    of(
        "container_blkio_device_usage_total",
        Counter,
        &["device", "major", "minor", "operation"],
        "Bytes read from block devices and written to them.",
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Seconds in which every task waited for CPU.",
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Seconds in which some task waited for CPU.",
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Seconds in which every task waited for memory.",
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Seconds in which some task waited for memory.",
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Seconds in which every task waited for disks.",
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Seconds in which some task waited for disks.",
    ),
    gauge(
        "container_start_time_seconds",
        "When it was started, in seconds since the epoch.",
    ),
    gauge(
        "container_last_seen",
        "When it was last measured, in seconds since the epoch.",
    ),
    gauge("container_spec_cpu_period", "Period of the CPU limit, in microseconds."),
    gauge("container_spec_cpu_quota", "CPU limit, in microseconds of each period."),
    gauge("container_spec_cpu_shares", "Weight among others that want CPU."),
    gauge(
        "container_spec_memory_limit_bytes",
        "Memory limit, in bytes; 0 without one.",
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Limit of memory and swap together, in bytes; 0 without one.",
    ),
    gauge("container_processes", "Processes."),
    gauge("container_threads", "Threads."),
    gauge(
        "container_threads_max",
        "Threads that there may be; 0: as many as the system has.",
    ),
    gauge("container_file_descriptors", "Open file descriptors."),
    gauge("container_sockets", "Open sockets."),
    network("container_network_receive_bytes_total", "Bytes received."),
    network("container_network_receive_packets_total", "Packets received."),
    network("container_network_receive_errors_total", "Errors while receiving."),
    network(
        "container_network_receive_packets_dropped_total",
        "Packets dropped while receiving.",
    ),
    network("container_network_transmit_bytes_total", "Bytes sent."),
    network("container_network_transmit_packets_total", "Packets sent."),
    network("container_network_transmit_errors_total", "Errors while sending."),
    network(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped while sending.",
    ),
];
