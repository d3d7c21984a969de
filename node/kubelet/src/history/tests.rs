use cri::{ContainerId, ContainerStats, Latencies, SandboxId, WasmStats};

use serde_json::json;

use super::*;

const SECOND: i64 = 1_000_000_000;
const START: i64 = 1_800_000_000;

fn container(namespace: &str, pod: &str, name: &str) -> Reported {
    Reported {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        stats: ContainerStats {
            id: ContainerId(format!("{pod}-{name}-1")),
            sandbox: SandboxId(pod.to_owned()),
            name: name.to_owned(),
            pod_uid: format!("uid-{pod}"),
            timestamp: 0,
            cpu_usage_core_nanoseconds: 0,
            memory_working_set_bytes: 0,
            requests: 0,
            instances: 0,
            wasm: None,
            linux: None,
        },
    }
}

fn wasm(namespace: &str, pod: &str) -> Reported {
    let mut reported = container(namespace, pod, "hello");
    reported.stats.wasm = Some(Box::new(WasmStats {
        code_bytes: 1 << 17,
        ..WasmStats::default()
    }));
    reported
}

/// A reading so many steps after the start.
fn reading(step: i64, containers: Vec<Reported>) -> Reading {
    let seconds = step * STEP as i64;
    Reading {
        at: (START + seconds) * SECOND,
        node_cpu: u64::try_from(seconds * SECOND / 2).unwrap(),
        node_memory: 1 << 30,
        containers,
    }
}

/// What is told, as JSON.
fn told(history: &History, scope: &Scope) -> serde_json::Value {
    serde_json::to_value(history.tell(scope, 3600).expect("something")).unwrap()
}

fn pod(name: &str) -> Scope {
    Scope::Pod("default".to_owned(), name.to_owned())
}

#[test]
fn counters_are_told_as_what_they_grow_in_a_second() {
    let mut history = History::default();
    for step in 0..4 {
        let mut hello = wasm("default", "a");
        let n = u64::try_from(step).unwrap();
        hello.stats.cpu_usage_core_nanoseconds = n * 3_750_000_000;
        hello.stats.requests = n * 150;
        hello.stats.memory_working_set_bytes = 65_536;
        let counts = [vec![n * 30, n * 120], vec![0; Latencies::BOUNDS.len() - 1]].concat();
        hello.stats.wasm.as_mut().unwrap().latency = Latencies {
            counts,
            sum_nanoseconds: n,
        };
        history.take(&reading(step, vec![hello]));
    }
    let found = told(&history, &pod("a"));
    assert_eq!(found["step"], 15);
    assert_eq!(
        (&found["since"], &found["end"]),
        (&(START + 15).into(), &(START + 45).into())
    );
    let columns = &found["series"][0]["columns"];
    assert_eq!(found["series"][0]["name"], "hello");
    assert_eq!(
        columns["cpu"],
        json!([0.25, 0.25, 0.25]),
        "the first reading had nothing to compare with"
    );
    assert_eq!(columns["requests"], json!([10.0, 10.0, 10.0]));
    assert_eq!(columns["memory"], json!([65_536.0, 65_536.0, 65_536.0]));
    assert_eq!(columns["latency:50"], json!([2.0, 2.0, 2.0]));
    assert_eq!(columns["latency:100"][2], 8.0);
    let node = told(&history, &Scope::Node);
    assert_eq!(node["series"][0]["columns"]["cpu"][1], 0.5, "the machine's own");
    assert_eq!(node["series"][0]["columns"]["requests"][1], 10.0, "its containers'");
}

#[test]
fn a_namespace_is_the_sum_of_its_containers() {
    let mut history = History::default();
    for step in 0..2 {
        let grown = |mut reported: Reported, by: u64| {
            reported.stats.cpu_usage_core_nanoseconds = u64::try_from(step).unwrap() * by * 15_000_000_000;
            reported.stats.memory_working_set_bytes = by << 20;
            reported
        };
        let containers = vec![
            grown(container("default", "a", "x"), 1),
            grown(wasm("default", "b"), 2),
            grown(container("other", "c", "x"), 4),
        ];
        history.take(&reading(step, containers));
    }
    let found = told(&history, &Scope::Namespace("default".to_owned()));
    let columns = &found["series"][0]["columns"];
    assert_eq!(
        (&columns["cpu"], &columns["memory"]),
        (&json!([3.0]), &json!([3_145_728.0]))
    );
    assert_eq!(columns["code"], json!([131_072.0]), "of those that have it");
    let other = told(&history, &Scope::Namespace("other".to_owned()));
    assert!(
        other["series"][0]["columns"].get("requests").is_none(),
        "nothing there is Wasm"
    );
    assert!(history.tell(&Scope::Namespace("nobody".to_owned()), 3600).is_none());
}

#[test]
fn what_began_since_the_last_reading_has_all_its_counters_new() {
    let mut history = History::default();
    history.take(&reading(0, vec![]));
    let mut young = container("default", "a", "x");
    young.stats.cpu_usage_core_nanoseconds = 1_875_000_000;
    history.take(&reading(1, vec![young]));
    let mut restarted = container("default", "a", "x");
    restarted.stats.id = ContainerId("another".to_owned());
    restarted.stats.cpu_usage_core_nanoseconds = 3_750_000_000;
    history.take(&reading(2, vec![restarted]));
    let found = told(&history, &pod("a"));
    assert_eq!(found["series"][0]["columns"]["cpu"], json!([0.125, 0.25]));
}

#[test]
fn another_pod_of_the_same_name_begins_anew() {
    let mut history = History::default();
    for step in 0..3 {
        history.take(&reading(step, vec![container("default", "a", "x")]));
    }
    assert_eq!(
        told(&history, &pod("a"))["series"][0]["columns"]["memory"],
        json!([0.0, 0.0])
    );
    let mut another = container("default", "a", "x");
    another.stats.pod_uid = "another".to_owned();
    history.take(&reading(3, vec![another]));
    assert_eq!(
        told(&history, &pod("a"))["series"][0]["columns"]["memory"],
        json!([null, null, 0.0])
    );
}

#[test]
fn a_gap_is_a_gap_and_an_hour_later_all_is_forgotten() {
    let mut history = History::default();
    for step in [0, 1, 4] {
        history.take(&reading(step, vec![container("default", "a", "x")]));
    }
    let memory = told(&history, &pod("a"))["series"][0]["columns"]["memory"].clone();
    assert_eq!(memory, json!([0.0, null, null, 0.0]));
    history.take(&reading(4 + 239, vec![]));
    assert!(history.tell(&pod("a"), 3600).is_some());
    history.take(&reading(4 + 240, vec![]));
    assert!(history.tell(&pod("a"), 3600).is_none());
    assert!(history.namespaces.is_empty());
}

#[test]
fn a_clock_that_was_set_back_adds_nothing() {
    let mut history = History::default();
    history.take(&reading(4, vec![]));
    history.take(&reading(5, vec![container("default", "a", "x")]));
    history.take(&reading(2, vec![container("default", "a", "x")]));
    assert_eq!(told(&history, &pod("a"))["end"], START + 75);
}

#[test]
fn a_shorter_range_is_the_end_of_the_hour() {
    let mut history = History::default();
    for step in 0..100 {
        history.take(&reading(step, vec![container("default", "a", "x")]));
    }
    let told = serde_json::to_value(history.tell(&pod("a"), 60).unwrap()).unwrap();
    assert_eq!(told["series"][0]["columns"]["memory"].as_array().unwrap().len(), 4);
    assert_eq!(told["end"], START + 99 * 15);
}

#[test]
fn no_more_is_kept_than_there_is_room_for_but_all_is_summed() {
    let mut history = History::default();
    let all = (0..MOST_CONTAINERS + 10).map(|n| {
        let mut reported = container("default", &format!("p{n}"), "x");
        reported.stats.memory_working_set_bytes = 1;
        reported
    });
    history.take(&reading(0, vec![]));
    history.take(&reading(1, all.collect()));
    assert_eq!(history.pods.len(), MOST_CONTAINERS);
    let sum = told(&history, &Scope::Namespace("default".to_owned()))["series"][0]["columns"]["memory"][0]
        .as_f64()
        .unwrap();
    assert!((sum - (MOST_CONTAINERS as f64 + 10.0)).abs() < 50.0, "{sum}");
}

/// Bytes that a history takes, without what the allocator adds.
fn bytes(history: &History) -> usize {
    let of = |kept: &Kept| {
        let rings: usize = kept.series.iter().map(Series::heap).sum();
        kept.series.capacity() * size_of::<Series>() + rings
    };
    let pods = history.pods.iter().map(|((namespace, name), pod)| {
        let containers = pod.containers.iter().map(|(name, container)| {
            let counted = size_of_val(&*container.counted);
            size_of::<(String, Container)>() + name.len() + container.id.len() + counted + of(&container.kept)
        });
        size_of::<((String, String), Pod)>() + namespace.len() + name.len() + pod.uid.len() + containers.sum::<usize>()
    });
    pods.sum::<usize>() + of(&history.node) + history.namespaces.values().map(of).sum::<usize>()
}

#[test]
fn a_thousand_pods_cost_what_is_said_of_them() {
    type Change = fn(&mut ContainerStats, u64);
    let idle: Change = |_, _| {};
    let busy: Change = |stats, n| {
        stats.cpu_usage_core_nanoseconds = n * n * 1_000_000;
        stats.memory_working_set_bytes = n << 16;
        stats.requests = n * n;
        stats.instances = n % 7;
        let wasm = stats.wasm.as_mut().unwrap();
        wasm.cold_starts = n * n;
        // A program's requests mostly take about as long as each other.
        let places = 3..7;
        wasm.latency.counts = vec![0; Latencies::BOUNDS.len() + 1];
        wasm.latency.counts[places].fill(n * n);
    };
    let oci: Change = |stats, n| {
        stats.wasm = None;
        stats.cpu_usage_core_nanoseconds = n * n * 1_000_000;
        stats.memory_working_set_bytes = n << 16;
    };
    for (what, change, most) in [
        ("idle", idle, 600_000),
        ("busy", busy, 6_000_000),
        ("other", oci, 2_000_000),
    ] {
        let mut history = History::default();
        for step in 0..250 {
            let pods = (0..1_000).map(|n| {
                let mut reported = wasm("default", &format!("hello-5d9c7b6f4-{n:05}"));
                change(&mut reported.stats, u64::try_from(step).unwrap());
                reported
            });
            history.take(&reading(step, pods.collect()));
        }
        let found = bytes(&history);
        println!("1,000 {what} pods: {found} bytes");
        assert!(found < most, "{what}: {found} bytes");
        assert!(found > most / 3, "{what}: {found} bytes are fewer than is said");
    }
}
