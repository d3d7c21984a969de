use serde_json::json;

use super::merge::{Columns, metrics};
use super::*;

fn told(end: u64, columns: Value) -> Told {
    let told = json!({"step": 15, "end": end, "since": end - 45, "series": [{"name": "", "columns": columns}]});
    serde_json::from_value(told).expect("what a kubelet tells")
}

fn columns(value: Value) -> Columns {
    serde_json::from_value(value).expect("columns")
}

#[test]
fn nodes_are_added_sample_by_sample() {
    let sum = sum(
        vec![
            told(600, json!({"cpu": [1.0, 1.0, 1.0, 1.0], "requests": [5.0]})),
            told(600, json!({"cpu": [null, 2.0, 3.0]})),
        ],
        600,
    );
    let sum = sum.expect("a sum");
    assert_eq!((sum.end, sum.since), (600, 555));
    assert_eq!(
        sum.series[0].columns,
        columns(json!({"cpu": [1.0, 1.0, 3.0, 4.0], "requests": [5.0]}))
    );
}

#[test]
fn what_one_node_has_not_sampled_yet_is_left_out() {
    let sum = sum(
        vec![
            told(615, json!({"cpu": [1.0, 1.0, 9.0]})),
            told(600, json!({"cpu": [2.0, 2.0]})),
        ],
        615,
    );
    let sum = sum.expect("a sum");
    assert_eq!(
        (sum.end, &sum.series[0].columns),
        (600, &columns(json!({"cpu": [3.0, 3.0]})))
    );
}

#[test]
fn a_node_that_stopped_long_ago_does_not_hold_up_the_others() {
    let sum = sum(
        vec![told(900, json!({"cpu": [1.0, 1.0]})), told(855, json!({"cpu": [2.0]}))],
        900,
    );
    let sum = sum.expect("a sum");
    assert_eq!(
        (sum.end, &sum.series[0].columns),
        (900, &columns(json!({"cpu": [2.0, null, 1.0, 1.0]})))
    );
}

#[test]
fn of_nobody_there_is_nothing() {
    assert_eq!(sum(Vec::new(), 0), None);
    assert_eq!(
        status(None, &["n1".to_owned()]),
        json!({"series": [], "silentNodes": ["n1"]})
    );
}

#[test]
fn requests_are_told_by_quantiles() {
    let found = metrics(&columns(json!({
        "requests": [10.0, 0.0, 100.0],
        "latency:100": [0.0, 0.0, 0.0], "latency:1000": [10.0, 0.0, 98.0], "latency:50": [0.0, 0.0, 0.0],
        "latency:inf": [2.0],
    })));
    assert_eq!(found["requests"], [Some(10.0), Some(0.0), Some(100.0)]);
    assert_eq!(found["latencyP50"], [Some(0.00055), None, Some(0.0005592)]);
    assert_eq!(found["latencyP99"][2], Some(0.001), "above all bounds");
    assert_eq!(found.len(), 3);
}

#[test]
fn what_is_new_is_passed_on() {
    let found = metrics(&columns(json!({"fuel": [1.0]})));
    assert_eq!(found, columns(json!({"fuel": [1.0]})));
}

#[test]
fn a_node_that_lies_about_the_time_spoils_nothing() {
    let mut liar = told(600, json!({"cpu": [5.0]}));
    for (end, step) in [(u64::MAX, 15), (10_000, 15), (600, 0), (600, u64::MAX)] {
        (liar.end, liar.step) = (end, step);
        let honest = told(600, json!({"cpu": [1.0]}));
        let found = sum(vec![liar.clone(), honest.clone(), honest], 600).expect("a sum");
        assert_eq!(
            (found.end, &found.series[0].columns),
            (600, &columns(json!({"cpu": [2.0]}))),
            "{end} {step}"
        );
    }
    (liar.end, liar.step) = (1, 15);
    let found = sum(vec![told(600_000, json!({"cpu": [1.0]})), liar], 600_000).expect("a sum");
    assert_eq!(found.series[0].columns, columns(json!({"cpu": [1.0]})));
}
