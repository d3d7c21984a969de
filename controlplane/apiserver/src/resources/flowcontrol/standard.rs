//! The flow schemas and priority levels of every cluster. The mandatory ones cannot be otherwise (but for what the exempt
//! level lends); the suggested ones are administrators' to change.

use api::Object;
use serde_json::{Value, json};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
/// Whether the server keeps an object's spec as it suggests.
pub(crate) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
pub(crate) const EXEMPT: &str = "exempt";
pub(crate) const CATCH_ALL: &str = "catch-all";
const QUEUE_LENGTH: u32 = 50;

/// Suggested levels: name, shares, percentage that may be lent, queues, and how many of them a flow may use.
const LEVELS: [(&str, u32, u32, u32, u32); 6] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];

/// What a schema is about.
#[derive(Clone, Copy)]
enum Requests {
    All,
    Probes,
    Leases,
    NodeHealth,
}

/// Schemas: name, level, precedence, what tells flows apart, whose requests, and which.
type Row = (
    &'static str,
    &'static str,
    u32,
    &'static str,
    &'static [&'static str],
    Requests,
);

const EVERYBODY: &[&str] = &["group:system:unauthenticated", "group:system:authenticated"];
const MANDATORY: [Row; 2] = [
    (EXEMPT, EXEMPT, 1, "", &["group:system:masters"], Requests::All),
    (CATCH_ALL, CATCH_ALL, 10_000, "ByUser", EVERYBODY, Requests::All),
];
const SUGGESTED: [Row; 9] = [
    (
        "system-nodes",
        "system",
        500,
        "ByUser",
        &["group:system:nodes"],
        Requests::All,
    ),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        &["group:system:nodes"],
        Requests::NodeHealth,
    ),
    ("probes", EXEMPT, 2, "", EVERYBODY, Requests::Probes),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        &[
            "user:system:kube-controller-manager",
            "user:system:kube-scheduler",
            "account:*",
        ],
        Requests::Leases,
    ),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &["user:system:kube-controller-manager"],
        Requests::All,
    ),
    (
        "kube-scheduler",
        "workload-high",
        800,
        "ByNamespace",
        &["user:system:kube-scheduler"],
        Requests::All,
    ),
    (
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        &["account:*"],
        Requests::All,
    ),
    (
        "service-accounts",
        "workload-low",
        9000,
        "ByUser",
        &["group:system:serviceaccounts"],
        Requests::All,
    ),
    (
        "global-default",
        "global-default",
        9900,
        "ByUser",
        EVERYBODY,
        Requests::All,
    ),
];

/// All of them, levels first.
pub(crate) fn objects() -> Vec<Object> {
    let levels = [EXEMPT, CATCH_ALL].into_iter().chain(LEVELS.iter().map(|row| row.0));
    let levels = levels.filter_map(|name| Some(object("PriorityLevelConfiguration", name, level(name)?)));
    let schemas = MANDATORY.iter().chain(&SUGGESTED);
    levels
        .chain(schemas.map(|row| object("FlowSchema", row.0, schema(row))))
        .collect()
}

/// The spec that the schema of this name must have, if it must.
pub(super) fn mandatory_schema(name: &str) -> Option<Value> {
    MANDATORY.iter().find(|row| row.0 == name).map(schema)
}

/// The spec that the level of this name must have, if it must.
pub(super) fn mandatory_level(name: &str) -> Option<Value> {
    [EXEMPT, CATCH_ALL].contains(&name).then(|| level(name)).flatten()
}

fn object(kind: &str, name: &str, spec: Value) -> Object {
    let mut object = Object::new(API_VERSION, kind);
    object.set_name(name);
    object.set_annotation(AUTO_UPDATE, "true");
    object.set("spec", spec);
    object
}

fn level(name: &str) -> Option<Value> {
    if name == EXEMPT {
        return Some(json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}));
    }
    if name == CATCH_ALL {
        let limited = json!({"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}});
        return Some(json!({"type": "Limited", "limited": limited}));
    }
    let (_, shares, lendable, queues, hand) = LEVELS.iter().find(|row| row.0 == name)?;
    let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH});
    let response = json!({"type": "Queue", "queuing": queuing});
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
    Some(json!({"type": "Limited", "limited": limited}))
}

fn schema((_, level, precedence, distinguisher, subjects, requests): &Row) -> Value {
    let subjects: Vec<Value> = subjects.iter().map(|subject| self::subject(subject)).collect();
    let mut rule = rules(*requests);
    if let Some(map) = rule.as_object_mut() {
        map.insert("subjects".to_owned(), subjects.into());
    }
    let mut spec =
        json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if let Some(map) = spec.as_object_mut().filter(|_| !distinguisher.is_empty()) {
        map.insert("distinguisherMethod".to_owned(), json!({"type": distinguisher}));
    }
    spec
}

fn subject(text: &str) -> Value {
    match text.split_once(':').unwrap_or_default() {
        ("user", name) => json!({"kind": "User", "user": {"name": name}}),
        ("account", name) => {
            json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
        }
        (_, name) => json!({"kind": "Group", "group": {"name": name}}),
    }
}

fn rules(requests: Requests) -> Value {
    let cluster = |groups: &str, resources: &[&str]| json!({"verbs": ["*"], "apiGroups": [groups], "resources": resources, "namespaces": ["*"], "clusterScope": true});
    let leases = |verbs: &[&str]| json!({"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]});
    match requests {
        Requests::All => json!({
            "resourceRules": [cluster("*", &["*"])],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }),
        Requests::Probes => {
            json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]})
        }
        Requests::Leases => json!({"resourceRules": [leases(&["get", "create", "update"])]}),
        Requests::NodeHealth => {
            json!({"resourceRules": [cluster("", &["nodes", "nodes/status"]), leases(&["*"])]})
        }
    }
}
