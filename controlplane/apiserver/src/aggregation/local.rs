//! The APIServices of the groups and versions that this server answers itself: those of built-in kinds, and those of custom
//! ones, which come and go with their definitions.
//!
//! What is labelled as managed is kept as it should be; an APIService without the label belongs to whoever wrote it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use api::Object;
use api::names::GroupResource;
use futures::{StreamExt, stream};
use http::Method;
use serde_json::{Value, json};

use super::{GROUP, PLURAL};
use crate::own;
use crate::server::Shared;

const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
/// How many are written at once, so that the store commits them together.
const AT_ONCE: usize = 32;

/// Kubernetes' priorities: group, version, the group's and the version's. The aggregator's own group comes first of all
/// and has no APIService.
const BUILT_IN: [(&str, &str, i64, i64); 22] = [
    ("", "v1", 18000, 1),
    ("apps", "v1", 17800, 15),
    ("events.k8s.io", "v1", 17750, 15),
    ("authentication.k8s.io", "v1", 17700, 15),
    ("authorization.k8s.io", "v1", 17600, 15),
    ("autoscaling", "v2", 17500, 30),
    ("autoscaling", "v1", 17500, 15),
    ("batch", "v1", 17400, 15),
    ("certificates.k8s.io", "v1", 17300, 15),
    ("networking.k8s.io", "v1", 17200, 15),
    ("policy", "v1", 17100, 15),
    ("rbac.authorization.k8s.io", "v1", 17000, 15),
    ("storage.k8s.io", "v1", 16800, 15),
    ("admissionregistration.k8s.io", "v1", 16700, 15),
    ("apiextensions.k8s.io", "v1", 16700, 15),
    ("scheduling.k8s.io", "v1", 16600, 15),
    ("coordination.k8s.io", "v1", 16500, 15),
    ("node.k8s.io", "v1", 16300, 15),
    ("discovery.k8s.io", "v1", 16200, 15),
    ("resource.k8s.io", "v1", 16200, 20),
    ("flowcontrol.apiserver.k8s.io", "v1", 16100, 21),
    (GROUP, "v1", 20000, 0),
];
/// Those of custom kinds.
const CUSTOM: (i64, i64) = (1000, 100);
/// Of what this server measures itself, as metrics-server asks to be placed. It has no APIService, so that a metrics-server
/// finds its name free.
const MEASURED: (&str, (i64, i64)) = ("metrics.k8s.io", (100, 100));

/// How a group and version of this server is placed among the others: by its group, then within it.
pub(crate) fn priority(group: &str, version: &str) -> (i64, i64) {
    if group == MEASURED.0 {
        return MEASURED.1;
    }
    let found = BUILT_IN.iter().find(|row| row.0 == group && row.1 == version);
    found.map_or(CUSTOM, |row| (row.2, row.3))
}

/// An APIService that there has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wanted {
    group: String,
    version: String,
    /// Of custom kinds: kept at all times, and gone with the last of them.
    custom: bool,
}

/// What brings the stored APIServices a step further.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create(Value),
    Update { name: String, patch: Value },
    Delete { name: String, uid: String },
}

impl Wanted {
    pub(super) fn new(group: &str, version: &str, custom: bool) -> Self {
        Wanted {
            group: group.to_owned(),
            version: version.to_owned(),
            custom,
        }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.version, self.group)
    }

    fn spec(&self) -> Value {
        let (group, version) = priority(&self.group, &self.version);
        json!({"group": self.group, "version": self.version, "groupPriorityMinimum": group, "versionPriority": version})
    }

    fn object(&self) -> Value {
        let managed = if self.custom { "true" } else { "onstart" };
        json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": self.name(), "labels": {MANAGED: managed}}, "spec": self.spec()})
    }

    fn is_as_wanted(&self, stored: &Object) -> bool {
        let spec = self.spec();
        let number = |field: &str| stored.i64_at(&format!("spec.{field}")) == spec.get(field).and_then(Value::as_i64);
        number("groupPriorityMinimum") && number("versionPriority") && stored.at("spec.service").is_none()
    }
}

/// What every cluster has.
fn built_in() -> impl Iterator<Item = Wanted> {
    let kept = BUILT_IN.iter().filter(|row| row.0 != GROUP);
    kept.map(|row| Wanted::new(row.0, row.1, false))
}

/// The steps from what is stored to what is wanted. Built-in ones are set right at the start only, as Kubernetes does:
/// an administrator may have another server answer for them.
pub(super) fn plan(wanted: &BTreeSet<Wanted>, stored: &[Arc<Object>], first: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    let found: HashMap<&str, &Arc<Object>> = stored.iter().map(|object| (object.name(), object)).collect();
    let mut names = HashSet::new();
    for wanted in wanted {
        let name = wanted.name();
        names.insert(name.clone());
        match found.get(&*name) {
            None => steps.push(Step::Create(wanted.object())),
            Some(object) if is_managed(object, first) && !wanted.is_as_wanted(object) => {
                let mut spec = wanted.spec();
                for field in ["service", "caBundle", "insecureSkipTLSVerify"] {
                    if let Some(fields) = spec.as_object_mut() {
                        fields.insert(field.to_owned(), Value::Null);
                    }
                }
                steps.push(Step::Update {
                    name,
                    patch: json!({"spec": spec}),
                });
            }
            Some(_) => {}
        }
    }
    let unwanted = stored.iter().filter(|object| {
        !names.contains(object.name()) && is_managed(object, first) && object.at("metadata.deletionTimestamp").is_none()
    });
    steps.extend(unwanted.map(|object| Step::Delete {
        name: object.name().to_owned(),
        uid: object.uid().to_owned(),
    }));
    steps
}

fn is_managed(object: &Object, first: bool) -> bool {
    match object.label(MANAGED) {
        Some("true") => true,
        Some("onstart") => first,
        _ => false,
    }
}

/// Keeps them, and the table of the others, until it is dropped.
pub(super) async fn follow(shared: &Arc<Shared>) {
    let mut changes = shared.reader.changes(&GroupResource::new(GROUP, PLURAL));
    let mut served = shared.registry.watch_version();
    let mut first = true;
    loop {
        changes.mark_unchanged();
        served.mark_unchanged();
        if shared.aggregator.refresh(&*shared.reader) {
            shared.registry.touch();
            served.mark_unchanged();
        }
        settle(shared, first).await;
        first = false;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            changed = served.changed() => if changed.is_err() { return },
        }
    }
}

async fn settle(shared: &Arc<Shared>, first: bool) {
    let mut wanted: BTreeSet<Wanted> = built_in().collect();
    for kind in shared.registry.custom() {
        let served = kind.resource.served.iter().filter(|served| !served.hidden);
        let known = |group: &str, version: &str| BUILT_IN.iter().any(|row| row.0 == group && row.1 == version);
        let custom = served.filter(|served| !known(&served.group, &served.version));
        wanted.extend(custom.map(|served| Wanted::new(&served.group, &served.version, true)));
    }
    let stored = shared.reader.list(&GroupResource::new(GROUP, PLURAL), None);
    let steps = plan(&wanted, &stored, first);
    stream::iter(steps)
        .for_each_concurrent(AT_ONCE, |step| take(shared, step))
        .await;
}

async fn take(shared: &Arc<Shared>, step: Step) {
    match step {
        Step::Create(object) => own::send(shared, Method::POST, PATH, &object).await,
        Step::Update { name, patch } => own::send(shared, Method::PATCH, &format!("{PATH}/{name}"), &patch).await,
        Step::Delete { name, uid } => {
            let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}});
            own::send(shared, Method::DELETE, &format!("{PATH}/{name}"), &options).await;
        }
    }
}
