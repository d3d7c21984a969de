//! StatefulSet: pods of one template that have numbers, names and volumes of their own.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::workload;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::core::persistent_volume_claim as claim;
use crate::resources::print::{columns, containers};
use crate::resources::validation::names::is_dns1123_label;
use crate::resources::validation::share::{amount, at_most_all, count_or_percent};
use crate::resources::validation::{At, labels, meta, pod};
use crate::resources::{keep_status_apart, unlike};

/// What an update may change; all else decides about pods and volumes that exist already.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const FIXED: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
    'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// Off in Kubernetes unless a feature gate is opened: what is not stored yet is not taken.
const MAX_UNAVAILABLE: &str = "spec.updateStrategy.rollingUpdate.maxUnavailable";

pub(crate) fn resource() -> Resource {
    Resource::of::<StatefulSet>()
        .short_names(&["sts"])
        .categories(&["all"])
        .strategy(StatefulSets)
        .printer(definitions(), cells)
        .generation()
        .status()
        .scale("spec.replicas", "status.replicas", "spec.selector")
        .build()
}

struct StatefulSets;

impl Strategy for StatefulSets {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        if op.old().is_none_or(|old| old.at(MAX_UNAVAILABLE).is_none()) {
            new.remove(MAX_UNAVAILABLE);
        }
        keep_status_apart(op, new, || json!({"replicas": 0, "availableReplicas": 0}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_label);
        match op {
            Operation::UpdateStatus { old } => {
                status(&At::root(new, "status"), &mut errors);
                workload::collisions(old, new, &mut errors);
            }
            Operation::Create | Operation::Delete { .. } => {
                rules(new, &mut errors);
                fixed_rules(&At::root(new, "spec"), &mut errors);
                template(new, &mut errors);
            }
            Operation::Update { old } => {
                rules(new, &mut errors);
                changed_template(old, new, &mut errors);
                if unlike(old.at("spec"), new.at("spec"), CHANGEABLE) {
                    errors.push(At::root(new, "spec").forbidden(FIXED));
                }
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        let mut found = workload::warnings(op, new);
        if workload::changes(op, new, "spec") {
            let spec = At::root(new, "spec");
            for template in spec.child("volumeClaimTemplates").items() {
                found.extend(claim::spec_warnings(&template.child("spec")));
            }
            let limit = spec.child("revisionHistoryLimit");
            if limit.i64().is_some_and(|limit| limit < 0) {
                let words = "a negative value retains all historical revisions; a value >= 0 is recommended";
                found.push(format!("{}: {words}", limit.path()));
            }
        }
        found
    }
}

fn rules(set: &Object, errors: &mut FieldErrors) {
    let spec = At::root(set, "spec");
    let management = spec.child("podManagementPolicy");
    match management.str() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(management.required("")),
        _ => errors.push(management.invalid("must be 'OrderedReady' or 'Parallel'")),
    }
    strategy(&spec.child("updateStrategy"), errors);
    let retention = spec.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        retention.child(field).one_of(errors, &["Retain", "Delete"]);
    }
    spec.child("replicas").non_negative(errors);
    spec.child("minReadySeconds").non_negative(errors);
    spec.child("ordinals").child("start").non_negative(errors);
    selector(&spec, errors);
}

/// Rules over what no update changes: what was let in once stays.
fn fixed_rules(spec: &At<'_>, errors: &mut FieldErrors) {
    for claim in spec.child("volumeClaimTemplates").items() {
        claim::rules(&claim.child("spec"), errors);
    }
    spec.child("serviceName").check_if_set(errors, is_dns1123_label);
}

/// The template of a set that is as good as the stored one was.
fn changed_template(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let mut wrong = FieldErrors::new();
    template(new, &mut wrong);
    if !wrong.is_empty() {
        let mut before = FieldErrors::new();
        rules(old, &mut before);
        template(old, &mut before);
        if before.is_empty() {
            errors.append(&mut wrong);
        }
    }
}

fn strategy(at: &At<'_>, errors: &mut FieldErrors) {
    let rolling = at.child("rollingUpdate");
    match at.child("type").str() {
        "OnDelete" if rolling.is_set() => {
            errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.push(at.invalid("must be 'RollingUpdate' or 'OnDelete'")),
    }
}

fn rolling_update(at: &At<'_>, errors: &mut FieldErrors) {
    at.child("partition").non_negative(errors);
    let unavailable = at.child("maxUnavailable");
    if unavailable.is_set() {
        count_or_percent(&unavailable, errors);
        if amount(&unavailable).unwrap_or_default() == 0 {
            errors.push(unavailable.invalid("cannot be 0"));
        }
        at_most_all(&unavailable, errors);
    }
}

fn selector(spec: &At<'_>, errors: &mut FieldErrors) {
    let selector = spec.child("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
    } else {
        labels::selector(&selector, errors);
        if labels::selects_all(&selector) {
            errors.push(selector.invalid("empty selector is invalid for statefulset"));
        }
    }
    let template = spec.child("template");
    match selector.value().map(api::LabelSelector::from_json) {
        Some(Ok(parsed)) if !parsed.is_empty() => workload::labels_match(&template, &parsed, errors),
        Some(Ok(_)) => {}
        None => workload::labels_match(&template, &api::LabelSelector::nothing(), errors),
        Some(Err(_)) => errors.push(selector.invalid("")),
    }
    workload::runs_forever(&template, "StatefulSet", errors);
}

fn template(set: &Object, errors: &mut FieldErrors) {
    pod::template(&At::root(&as_in_pods(set), "spec").child("template"), errors);
}

/// The set as its pods will be: they have names of their own, and a claim's volume is there for containers to mount, in
/// place of one of that name.
fn as_in_pods(set: &Object) -> Object {
    let mut set = set.clone();
    for given in ["hostname", "subdomain"] {
        set.remove(&format!("spec.template.spec.{given}"));
    }
    let names: Vec<String> = set
        .list_at("spec.volumeClaimTemplates")
        .iter()
        .filter_map(|claim| claim.pointer("/metadata/name")?.as_str().map(str::to_owned))
        .collect();
    if names.is_empty() {
        return set;
    }
    let volumes = set.list_at("spec.template.spec.volumes").iter();
    let others = volumes.filter(|volume| {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        !names.iter().any(|claimed| claimed == name)
    });
    let claimed = |name: &String| json!({"name": name, "persistentVolumeClaim": {"claimName": name}});
    let all: Vec<Value> = others.cloned().chain(names.iter().map(claimed)).collect();
    set.set("spec.template.spec.volumes", all);
    set
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ] {
        at.child(field).non_negative(errors);
    }
    let all = "status.replicas";
    let bounds = [
        ("readyReplicas", "replicas", all),
        ("currentReplicas", "replicas", all),
        ("updatedReplicas", "replicas", all),
        ("availableReplicas", "replicas", all),
        ("availableReplicas", "readyReplicas", "status.readyReplicas"),
    ];
    workload::at_most(at, &bounds, errors);
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Ready|string||How many of the wanted pods are ready.",
        "Age|string",
        "Containers|string||Names of each container in the template.|wide",
        "Images|string||Images referenced by each container in the template.|wide",
    ])
}

fn cells(set: &Object, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| set.i64_at(path).unwrap_or_default();
    let [names, images] = containers(set.list_at("spec.template.spec.containers"));
    vec![
        set.name().into(),
        format!("{}/{}", count("status.readyReplicas"), count("spec.replicas")).into(),
        age(set.creation_timestamp(), now),
        names,
        images,
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let set = |extra: Value| workload::sample("StatefulSet", &extra);
    let mut shown = set(json!({"replicas": 3}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["status"] = json!({"readyReplicas": 2});
    let mut mounting = set(
        json!({"serviceName": "web", "volumeClaimTemplates": [{"metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}),
    );
    mounting["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    let mut dangling = set(json!({}));
    dangling["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "data", "mountPath": "/data"}]);
    crate::resources::testing::Cases {
        valid: vec![
            set(json!({})),
            mounting,
            set(json!({"updateStrategy": {"type": "OnDelete"}, "podManagementPolicy": "Parallel"})),
        ],
        invalid: vec![
            (
                set(
                    json!({"podManagementPolicy": "Random", "replicas": -1, "updateStrategy": {"type": "Never"},
                    "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Never"}, "selector": {}}),
                ),
                vec![
                    "spec.podManagementPolicy: Invalid value: \"Random\": must be 'OrderedReady' or 'Parallel'",
                    "spec.updateStrategy: Invalid value: {\"type\":\"Never\"}: must be 'RollingUpdate' or 'OnDelete'",
                    "spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: \"Never\": supported values: \
                     \"Retain\", \"Delete\"",
                    "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                    "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
                ],
            ),
            (
                set(
                    json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": -1, "maxUnavailable": 0}}}),
                ),
                vec![
                    "spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0",
                ],
            ),
            (
                set(json!({"serviceName": "A", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]})),
                vec![
                    "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
                    "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
                    "spec.serviceName: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric \
                     characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex \
                     used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                ],
            ),
            (
                dangling,
                vec!["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
            ),
        ],
        table: vec![shown],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{context, messages, object};

    #[test]
    fn as_many_may_be_missing_as_were_allowed_to() {
        let set = |unavailable: Value| {
            let rolling = json!({"partition": 0, "maxUnavailable": unavailable});
            let strategy = json!({"type": "RollingUpdate", "rollingUpdate": rolling});
            object(workload::sample("StatefulSet", &json!({"updateStrategy": strategy})))
        };
        let old = set(json!(1));
        for (unavailable, problem) in [
            (json!(0), Some("cannot be 0")),
            (json!("101%"), Some("must not be greater than 100%")),
            (json!("50%"), None),
        ] {
            let mut new = set(unavailable.clone());
            let found = context(Some("ns"), |cx| {
                StatefulSets.prepare(cx, &Operation::Update { old: &old }, &mut new);
                let mut errors = FieldErrors::new();
                strategy(&At::root(&new, "spec").child("updateStrategy"), &mut errors);
                messages(errors)
            });
            assert_eq!(new.at(MAX_UNAVAILABLE), Some(&unavailable));
            assert_eq!(found.len(), usize::from(problem.is_some()), "{found:?}");
            assert!(problem.is_none_or(|problem| found[0].ends_with(problem)), "{found:?}");
        }
        let mut fresh = set(json!(1));
        context(Some("ns"), |cx| {
            StatefulSets.prepare(cx, &Operation::Create, &mut fresh)
        });
        assert!(fresh.at(MAX_UNAVAILABLE).is_none());
    }

    #[test]
    fn a_template_need_not_be_better_than_it_was() {
        let set = |extra: Value, image: &str| {
            let mut set = workload::sample("StatefulSet", &extra);
            set["spec"]["template"]["spec"]["containers"][0]["image"] = json!(image);
            let mut set = object(set);
            let schema = resource();
            schema::default(&mut set, schema.storage().schema());
            set
        };
        let found = |old: &Object, new: &Object| {
            context(Some("ns"), |cx| {
                messages(StatefulSets.validate(cx, &Operation::Update { old }, new))
            })
        };
        let claims = json!({"serviceName": "A", "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]});
        let (good, bad) = (set(claims.clone(), "reg/web"), set(claims, " "));
        assert_eq!(found(&good, &good), Vec::<String>::new());
        assert_eq!(found(&bad, &bad), Vec::<String>::new());
        assert_eq!(
            found(&good, &bad),
            [
                "spec.template.spec.containers[0].image: Invalid value: \" \": must not have leading or trailing whitespace"
            ]
        );
    }

    #[test]
    fn only_some_of_the_spec_may_change() {
        let old = object(workload::sample(
            "StatefulSet",
            &json!({"podManagementPolicy": "OrderedReady", "updateStrategy": {"type": "OnDelete"}}),
        ));
        let changed = |path: &str, value: Value| {
            let mut new = old.clone();
            new.set(path, value);
            let found = context(Some("ns"), |cx| {
                messages(StatefulSets.validate(cx, &Operation::Update { old: &old }, &new))
            });
            found.iter().any(|message| message.contains(FIXED))
        };
        assert!(!changed("spec.replicas", json!(3)));
        assert!(!changed(
            "spec.template.spec.containers",
            json!([{"name": "d", "image": "i"}])
        ));
        assert!(!changed("spec.revisionHistoryLimit", json!(3)));
        assert!(changed("spec.serviceName", json!("other")));
        assert!(changed(
            "spec.volumeClaimTemplates",
            json!([{"metadata": {"name": "d"}}])
        ));
    }
}
