use api::Object;
use serde_json::{Value, json};

use super::resource;
use crate::registry::resource::Operation;
use crate::resources::testing::{Cases, context, messages, object};

const UID: &str = "0f9c";

fn job(spec: &Value) -> Value {
    let mut job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "pi", "namespace": "ns", "uid": UID},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "reg/pi:1"}]}}}});
    if let (Some(map), Value::Object(spec)) = (job["spec"].as_object_mut(), spec) {
        map.extend(spec.clone());
    }
    job
}

fn labelled(labels: &Value) -> Value {
    json!({"metadata": {"labels": labels}, "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}})
}

pub(crate) fn cases() -> Cases {
    Cases {
        valid: vec![
            job(&json!({})),
            job(&json!({"parallelism": 3})),
            job(&json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}},
                "template": labelled(&json!({"a": "b"}))})),
            job(
                &json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimitPerIndex": 1,
                "maxFailedIndexes": 2, "managedBy": "example.com/queue",
                "successPolicy": {"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 2}]},
                "podFailurePolicy": {"rules": [
                    {"action": "FailIndex", "onExitCodes": {"containerName": "c", "operator": "In", "values": [1, 42]}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]}}),
            ),
        ],
        invalid: [counts(), selectors(), indexed(), failure_policies(), success_policies()].concat(),
        table: shown(),
    }
}

fn counts() -> Vec<(Value, Vec<&'static str>)> {
    let spec = json!({"parallelism": -1, "completions": -2, "activeDeadlineSeconds": -3, "backoffLimit": -4,
        "ttlSecondsAfterFinished": -5, "managedBy": "me", "podReplacementPolicy": "Never",
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let found = vec![
        "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        "spec.completions: Invalid value: -2: must be greater than or equal to 0",
        "spec.activeDeadlineSeconds: Invalid value: -3: must be greater than or equal to 0",
        "spec.backoffLimit: Invalid value: -4: must be greater than or equal to 0",
        "spec.ttlSecondsAfterFinished: Invalid value: -5: must be greater than or equal to 0",
        r#"spec.managedBy: Invalid value: "me": must be a domain-prefixed path (such as "acme.io/foo")"#,
        r#"spec.podReplacementPolicy: Unsupported value: "Never": supported values: "Failed", "TerminatingOrFailed""#,
        r#"spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#,
    ];
    vec![
        (job(&spec), found),
        (
            job(&json!({"completionMode": "Random", "backoffLimitPerIndex": 1})),
            vec![r#"spec.completionMode: Unsupported value: "Random": supported values: "NonIndexed", "Indexed""#],
        ),
        (
            job(&json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 1, "successPolicy": {"rules": []}})),
            vec![
                "spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
                "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
                r#"spec.successPolicy: Invalid value: {"rules":[]}: requires indexed completion mode"#,
            ],
        ),
    ]
}

fn selectors() -> Vec<(Value, Vec<&'static str>)> {
    vec![
        (
            job(&json!({"manualSelector": true})),
            vec![
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            ],
        ),
        (
            job(&json!({"template": labelled(&json!({"job-name": "other"}))})),
            vec![
                r#"spec.template.metadata.labels[job-name]: Invalid value: {"batch.kubernetes.io/controller-uid":"0f9c","batch.kubernetes.io/job-name":"pi","controller-uid":"0f9c","job-name":"other"}: must be 'pi'"#,
            ],
        ),
        (
            job(&json!({"selector": {"matchLabels": {"a": "b"}}, "template": labelled(&json!({"a": "b"}))})),
            vec![
                r#"spec.selector: Invalid value: {"matchLabels":{"a":"b","batch.kubernetes.io/controller-uid":"0f9c"}}: `selector` not auto-generated"#,
            ],
        ),
    ]
}

fn indexed() -> Vec<(Value, Vec<&'static str>)> {
    let mut long = job(&json!({"completionMode": "Indexed", "completions": 100}));
    long["metadata"]["name"] = json!("a".repeat(61));
    vec![
        (
            job(&json!({"completionMode": "Indexed", "parallelism": 100_001, "maxFailedIndexes": 1})),
            vec![
                "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.parallelism: Invalid value: 100001: must be less than or equal to 100000 when completion mode is Indexed",
            ],
        ),
        (
            job(
                &json!({"completionMode": "Indexed", "completions": 100_001, "parallelism": 10_001,
                "backoffLimitPerIndex": 1}),
            ),
            vec![
                "spec.maxFailedIndexes: Required value: must be specified when completions is above 100000",
                "spec.parallelism: Invalid value: 10001: must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index",
            ],
        ),
        (
            long,
            vec![
                r#"metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": will not able to create pod with invalid DNS label: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-99"#,
            ],
        ),
    ]
}

fn failure_policies() -> Vec<(Value, Vec<&'static str>)> {
    let rules = json!([
        {"action": "", "onExitCodes": {"containerName": "x", "operator": "Is", "values": []}},
        {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [1, 0, 1]},
            "onPodConditions": [{"type": "", "status": "Perhaps"}]},
        {"action": "Retry"},
    ]);
    let template = json!({"spec": {"restartPolicy": "OnFailure", "containers": [{"name": "c", "image": "i"}]}});
    vec![(
        job(
            &json!({"podFailurePolicy": {"rules": rules}, "podReplacementPolicy": "TerminatingOrFailed", "template": template}),
        ),
        vec![
            r#"spec.podFailurePolicy.rules[0].action: Required value: valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#,
            r#"spec.podFailurePolicy.rules[0].onExitCodes.operator: Unsupported value: "Is": supported values: "In", "NotIn""#,
            r#"spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "x": must be one of the container or initContainer names in the pod template"#,
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: []: at least one value is required",
            r#"spec.podFailurePolicy.rules[1].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set"#,
            "spec.podFailurePolicy.rules[1].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[1].onExitCodes.values[2]: Duplicate value: 1",
            "spec.podFailurePolicy.rules[1].onExitCodes.values: Invalid value: [1,0,1]: must be ordered",
            r#"spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: "": name part must be non-empty"#,
            r#"spec.podFailurePolicy.rules[1].onPodConditions[0].type: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#,
            r#"spec.podFailurePolicy.rules[1].onPodConditions[0].status: Unsupported value: "Perhaps": supported values: "False", "True", "Unknown""#,
            "spec.podFailurePolicy.rules[1]: Invalid value: specifying both OnExitCodes and OnPodConditions is not supported",
            r#"spec.podFailurePolicy.rules[2].action: Unsupported value: "Retry": supported values: "Count", "FailIndex", "FailJob", "Ignore""#,
            "spec.podFailurePolicy.rules[2]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            r#"spec.podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed""#,
            r#"spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified"#,
        ],
    )]
}

fn success_policies() -> Vec<(Value, Vec<&'static str>)> {
    let with =
        |rules: Value| job(&json!({"completionMode": "Indexed", "completions": 5, "successPolicy": {"rules": rules}}));
    vec![
        (
            with(json!([])),
            vec![
                "spec.successPolicy.rules: Required value: at least one rules must be specified when the successPolicy is specified",
            ],
        ),
        (
            with(
                json!([{}, {"succeededIndexes": "5"}, {"succeededCount": 6}, {"succeededIndexes": "0-1", "succeededCount": 3}]),
            ),
            vec![
                "spec.successPolicy.rules[0]: Required value: at least one of succeededCount or succeededIndexes must be specified",
                r#"spec.successPolicy.rules[1].succeededIndexes: Invalid value: "5": error parsing succeededIndexes: too large index: "5""#,
                "spec.successPolicy.rules[2].succeededCount: Invalid value: 6: must be less than or equal to 5 (the number of specified completions)",
                "spec.successPolicy.rules[3].succeededCount: Invalid value: 3: must be less than or equal to 2 (the number of indexes in the specified succeededIndexes field)",
            ],
        ),
    ]
}

fn shown() -> Vec<Value> {
    let with = |spec: Value, status: Value| {
        let mut job = job(&spec);
        job["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        job["status"] = status;
        job
    };
    let selector = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": UID}});
    let complete = json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]);
    let suspended = json!([{"type": "Suspended", "status": "True"}]);
    vec![
        with(
            json!({"completions": 2, "selector": selector}),
            json!({"succeeded": 1, "startTime": "2026-01-01T01:00:00Z"}),
        ),
        with(
            json!({"parallelism": 3}),
            json!({"conditions": complete, "startTime": "2026-01-01T01:00:00Z", "completionTime": "2026-01-01T01:00:42Z"}),
        ),
        with(json!({"parallelism": 1}), json!({"conditions": suspended})),
    ]
}

/// A stored Job, with a status.
fn stored(spec: &Value, status: Value) -> Object {
    let mut new = object(job(spec));
    schema::default(&mut new, resource().storage().schema());
    context(Some("ns"), |cx| {
        resource().strategy.prepare(cx, &Operation::Create, &mut new);
    });
    new.set("status", status);
    new
}

fn updated(old: &Object, change: impl FnOnce(&mut Object)) -> Vec<String> {
    let mut new = old.clone();
    change(&mut new);
    context(Some("ns"), |cx| {
        let op = Operation::Update { old };
        resource().strategy.prepare(cx, &op, &mut new);
        messages(resource().strategy.validate(cx, &op, &new))
    })
}

#[test]
fn a_jobs_work_is_fixed_once_it_is_made() {
    let old = stored(&json!({"completions": 2, "parallelism": 2}), json!({}));
    assert!(updated(&old, |new| new.set("spec.parallelism", 5)).is_empty());
    assert!(updated(&old, |new| new.set("spec.suspend", true)).is_empty());
    assert_eq!(
        updated(&old, |new| new.set("spec.completions", 3)),
        ["spec.completions: Invalid value: 3: field is immutable"]
    );
    assert_eq!(
        updated(&old, |new| new.set("spec.managedBy", "example.com/queue")),
        [r#"spec.managedBy: Invalid value: "example.com/queue": field is immutable"#]
    );
    let template = updated(&old, |new| {
        new.set("spec.template.spec.nodeSelector", json!({"a": "b"}));
    });
    assert!(
        template.len() == 1 && template[0].ends_with("field is immutable"),
        "{template:?}"
    );
}

#[test]
fn an_indexed_job_grows_and_shrinks_with_its_parallelism() {
    let old = stored(
        &json!({"completionMode": "Indexed", "completions": 2, "parallelism": 2}),
        json!({}),
    );
    let found = updated(&old, |new| {
        new.set("spec.completions", 3);
        new.set("spec.parallelism", 3);
    });
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(
        updated(&old, |new| new.set("spec.completions", 3)),
        ["spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"]
    );
}

#[test]
fn a_suspended_jobs_pods_may_go_elsewhere_and_ask_for_more() {
    let place = |new: &mut Object| {
        new.set("spec.template.metadata.annotations", json!({"queue": "a"}));
        new.set("spec.template.spec.nodeSelector", json!({"zone": "a"}));
        new.set(
            "spec.template.spec.tolerations",
            json!([{"key": "k", "operator": "Exists"}]),
        );
        let terms = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]});
        let required = json!({"requiredDuringSchedulingIgnoredDuringExecution": terms});
        new.set("spec.template.spec.affinity", json!({"nodeAffinity": required}));
        let containers = json!([{"name": "c", "image": "reg/pi:1", "resources": {"requests": {"cpu": "2"}}}]);
        let mut container = new.list_at("spec.template.spec.containers").to_vec();
        container[0]["resources"] = containers[0]["resources"].clone();
        new.set("spec.template.spec.containers", container);
    };
    let started = json!({"startTime": "2026-01-01T01:00:00Z"});
    let paused = json!({"startTime": "2026-01-01T01:00:00Z", "conditions": [{"type": "Suspended", "status": "True"}]});
    for (suspend, status, fine) in [
        (true, json!({}), true),
        (true, paused, true),
        (true, started, false),
        (true, json!({"active": 1}), false),
        (false, json!({}), false),
    ] {
        let old = stored(&json!({"suspend": suspend}), status.clone());
        assert_eq!(updated(&old, place).is_empty(), fine, "{suspend} {status}");
    }
    let old = stored(&json!({"suspend": true}), json!({}));
    let found = updated(&old, |new| new.set("spec.template.spec.hostNetwork", true));
    assert!(
        found
            .iter()
            .any(|m| m.starts_with("spec.template.spec: Invalid value") && m.ends_with("field is immutable"))
    );
}

fn status_update(spec: &Value, before: Value, after: Value) -> Vec<String> {
    let old = stored(spec, before);
    let mut new = old.clone();
    new.set("status", after);
    context(Some("ns"), |cx| {
        messages(
            resource()
                .strategy
                .validate(cx, &Operation::UpdateStatus { old: &old }, &new),
        )
    })
}

fn conditions(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| json!({"type": name, "status": "True"}))
        .collect()
}

#[test]
fn a_jobs_end_is_told_in_order() {
    let running = json!({"active": 1, "startTime": "2026-01-01T01:00:00Z"});
    let done = |names: &[&str]| {
        json!({"startTime": "2026-01-01T01:00:00Z", "completionTime": "2026-01-01T01:01:00Z", "succeeded": 1,
            "conditions": conditions(names)})
    };
    let failed = json!({"startTime": "2026-01-01T01:00:00Z", "conditions": conditions(&["FailureTarget", "Failed"])});
    for (after, expected) in [
        (done(&["SuccessCriteriaMet", "Complete"]), vec![]),
        (failed, vec![]),
        (
            done(&["Complete"]),
            vec![
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ],
        ),
        (
            done(&[]),
            vec![
                r#"status.completionTime: Invalid value: "2026-01-01T01:01:00Z": cannot set completionTime when there is no Complete=True condition"#,
            ],
        ),
        (
            json!({"active": 1, "terminating": 1, "conditions": conditions(&["Failed"]),
                "uncountedTerminatedPods": {"failed": ["a", "a", ""]}}),
            vec![
                r#"status.uncountedTerminatedPods.failed[1]: Duplicate value: "a""#,
                r#"status.uncountedTerminatedPods.failed[2]: Invalid value: "": must not be empty"#,
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
                "status.active: Invalid value: 1: active>0 is invalid for finished job",
                "status.startTime: Required value: startTime is required for finished job",
                r#"status.uncountedTerminatedPods: Invalid value: {"failed":["a","a",""]}: must be empty for finished job"#,
                "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
                "status.startTime: Invalid value: null: field is immutable for unsuspended job once set",
            ],
        ),
    ] {
        assert_eq!(
            status_update(&json!({}), running.clone(), after.clone()),
            expected,
            "{after}"
        );
    }
    let found = status_update(&json!({}), done(&["SuccessCriteriaMet", "Complete"]), running);
    assert_eq!(
        found,
        [
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ]
    );
}

#[test]
fn a_status_names_indexes_that_there_are() {
    let spec = json!({"completionMode": "Indexed", "completions": 3, "backoffLimitPerIndex": 1});
    assert!(
        status_update(
            &spec,
            json!({}),
            json!({"completedIndexes": "0", "failedIndexes": "1-2"})
        )
        .is_empty()
    );
    assert_eq!(
        status_update(
            &spec,
            json!({}),
            json!({"completedIndexes": "0-1", "failedIndexes": "1,3"})
        ),
        [
            r#"status.failedIndexes: Invalid value: "1,3": error parsing failedIndexes: too large index: "3""#,
            r#"status.failedIndexes: Invalid value: "1,3": failedIndexes and completedIndexes overlap at index: 1"#,
        ]
    );
    assert_eq!(
        status_update(
            &json!({}),
            json!({}),
            json!({"completedIndexes": "0", "failedIndexes": ""})
        ),
        [
            r#"status.completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode"#,
            r#"status.failedIndexes: Invalid value: "": cannot set non-null failedIndexes when backoffLimitPerIndex is null"#,
        ]
    );
}
