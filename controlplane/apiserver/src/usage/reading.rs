//! What a kubelet's `/metrics/resource` says, read. Pure.
//!
//! Lines are taken as they come; what is not a figure this knows is passed over, so that a kubelet may tell more.

use std::collections::HashMap;

use api::NamespacedName;

/// The counters of a node or a container at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Point {
    /// Nanoseconds since the epoch.
    pub(super) at: i64,
    /// When it started, likewise.
    pub(super) started: Option<i64>,
    /// Core-nanoseconds since then.
    pub(super) cpu: u64,
    /// Bytes.
    pub(super) memory: u64,
}

/// One answer of one node.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) node: Option<Point>,
    /// By name, in the order in which they were told.
    pub(super) pods: HashMap<NamespacedName, Vec<(Box<str>, Point)>>,
}

/// As far as it was told.
#[derive(Default)]
struct Partial {
    at: Option<i64>,
    started: Option<i64>,
    cpu: Option<u64>,
    memory: Option<u64>,
}

impl Partial {
    fn take(&mut self, what: &str, value: f64, at: Option<i64>) {
        match what {
            "cpu_usage_seconds_total" => {
                self.cpu = Some(nanoseconds(value));
                // The rate is made of the processor's figures, so that theirs is the time that counts.
                self.at = at;
            }
            "memory_working_set_bytes" => self.memory = Some(value as u64),
            "start_time_seconds" => self.started = i64::try_from(nanoseconds(value)).ok(),
            _ => {}
        }
    }

    /// Whole, if processor and memory are known; what has no time of its own was told `now`.
    fn whole(&self, now: i64) -> Option<Point> {
        Some(Point {
            at: self.at.unwrap_or(now),
            started: self.started,
            cpu: self.cpu?,
            memory: self.memory?,
        })
    }
}

/// Seconds as nanoseconds; what is no time is none.
fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// Reads Prometheus' text; `now` is when it came, in nanoseconds since the epoch.
pub(super) fn read(text: &str, now: i64) -> Reading {
    let mut node = Partial::default();
    let mut pods: HashMap<NamespacedName, Vec<(Box<str>, Partial)>> = HashMap::new();
    for line in text.lines() {
        let Some((name, labels, value, at)) = series(line) else {
            continue;
        };
        if let Some(what) = name.strip_prefix("node_") {
            node.take(what, value, at);
        } else if let Some(what) = name.strip_prefix("container_") {
            let of = |key| label(labels, key);
            let (Some(namespace), Some(pod), Some(container)) = (of("namespace"), of("pod"), of("container")) else {
                continue;
            };
            let containers = pods.entry(NamespacedName::new(namespace, pod)).or_default();
            let known = containers.iter().position(|(name, _)| **name == *container);
            let at_place = known.unwrap_or_else(|| {
                containers.push((container.into(), Partial::default()));
                containers.len() - 1
            });
            if let Some((_, partial)) = containers.get_mut(at_place) {
                partial.take(what, value, at);
            }
        }
    }
    let whole = |containers: Vec<(Box<str>, Partial)>| -> Vec<(Box<str>, Point)> {
        let known = containers.into_iter();
        known
            .filter_map(|(name, partial)| Some((name, partial.whole(now)?)))
            .collect()
    };
    Reading {
        node: node.whole(now),
        pods: pods
            .into_iter()
            .map(|(name, containers)| (name, whole(containers)))
            .collect(),
    }
}

/// The name, the labels, the value and the time of a line; `None` for what is no series.
fn series(line: &str) -> Option<(&str, &str, f64, Option<i64>)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, labels, rest) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, rest) = rest.rsplit_once('}')?;
            (name, labels, rest)
        }
        None => {
            let (name, rest) = line.split_once(' ')?;
            (name, "", rest)
        }
    };
    let mut words = rest.split_ascii_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let milliseconds: Option<i64> = words.next().and_then(|word| word.parse().ok());
    let at = milliseconds.and_then(|milliseconds| milliseconds.checked_mul(1_000_000));
    (value.is_finite() && value >= 0.0).then_some((name, labels, value, at))
}

/// The value of a label; those of names have nothing in them that would be escaped.
fn label<'a>(labels: &'a str, key: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name.trim() == key).then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="a",namespace="default",pod="p"} 1.5 1700000000250
container_cpu_usage_seconds_total{container="half",namespace="default",pod="p"} 1.5 1700000000250
container_memory_working_set_bytes{container="a",namespace="default",pod="p"} 4.096e+06 1700000000100
container_start_time_seconds{container="a",namespace="default",pod="p"} 1.7e+09
node_cpu_usage_seconds_total 77.25 1700000000300
node_memory_working_set_bytes 1048576 1700000000300
pod_cpu_usage_seconds_total{namespace="default",pod="p"} 1.5 1700000000300
resource_scrape_error 0
"#;

    #[test]
    fn reads_what_a_kubelet_tells() {
        let reading = read(TEXT, 5);
        let container = Point {
            at: 1_700_000_000_250_000_000,
            started: Some(1_700_000_000_000_000_000),
            cpu: 1_500_000_000,
            memory: 4_096_000,
        };
        let pods = HashMap::from([(NamespacedName::new("default", "p"), vec![("a".into(), container)])]);
        assert_eq!(reading.pods, pods, "half a figure is none");
        let node = reading.node.expect("a node");
        assert_eq!((node.cpu, node.memory), (77_250_000_000, 1_048_576));
    }

    #[test]
    fn what_has_no_time_was_told_when_it_came() {
        let reading = read("node_cpu_usage_seconds_total 1\nnode_memory_working_set_bytes 2\n", 5);
        assert_eq!(reading.node.map(|node| node.at), Some(5));
    }

    #[test]
    fn nonsense_is_passed_over() {
        for text in [
            "",
            "container_cpu_usage_seconds_total{",
            "container_cpu_usage_seconds_total{} 1",
            "node_cpu_usage_seconds_total NaN\nnode_memory_working_set_bytes 1",
            "node_cpu_usage_seconds_total -1\nnode_memory_working_set_bytes 1",
            "node_cpu_usage_seconds_total x",
            "} 1 {",
            "container_cpu_usage_seconds_total{container,namespace=\"a\",pod=\"b\"} 1",
        ] {
            assert_eq!(read(text, 5), Reading::default(), "{text}");
        }
        let far = read(
            "node_cpu_usage_seconds_total 1e300 9223372036854775807\nnode_memory_working_set_bytes 1e300\n",
            5,
        );
        assert_eq!(
            far.node,
            Some(Point {
                at: 5,
                started: None,
                cpu: u64::MAX,
                memory: u64::MAX
            })
        );
    }
}
