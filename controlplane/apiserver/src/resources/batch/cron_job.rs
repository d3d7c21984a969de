//! CronJob: a Job made anew whenever the schedule says so.

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::batch::v1::CronJob;
use serde_json::{Value, json};

use super::job::rules;
use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::apps::workload;
use crate::resources::keep_status_apart;
use crate::resources::print::{columns, containers, or_none, selector};
use crate::resources::validation::names::is_dns1123_subdomain;
use crate::resources::validation::{At, cron, meta};

/// A label's length less what the Jobs' names add.
const MAX_NAME: usize = 52;

pub(crate) fn resource() -> Resource {
    Resource::of::<CronJob>()
        .short_names(&["cj"])
        .categories(&["all"])
        .strategy(CronJobs)
        .printer(definitions(), cells)
        .generation()
        .status()
        .build()
}

struct CronJobs;

impl Strategy for CronJobs {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        keep_status_apart(op, new, || json!({}));
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        if !matches!(op, Operation::UpdateStatus { .. }) {
            rules_of(op.old(), new, &mut errors);
        }
        if matches!(op, Operation::Create) && new.name().len() > MAX_NAME {
            let name = At::root(new, "metadata").child("name");
            errors.push(name.invalid(format!("must be no more than {MAX_NAME} characters")));
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        let mut found = workload::name_warnings(op, new);
        let spec = At::root(new, "spec");
        if workload::changes(op, new, "spec") {
            found.extend(rules::warnings(&spec.child("jobTemplate").child("spec")));
        }
        if matches!(op, Operation::Update { .. }) && spec.child("schedule").str().contains("TZ") {
            found.push(
                "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
                 https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                    .to_owned(),
            );
        }
        found
    }
}

fn rules_of(old: Option<&Object>, new: &Object, errors: &mut FieldErrors) {
    let spec = At::root(new, "spec");
    let before = old.map(|old| At::root(old, "spec"));
    let zone = spec.child("timeZone");
    let had_zone = before
        .as_ref()
        .is_some_and(|before| before.child("schedule").str().contains("TZ"));
    schedule(&spec.child("schedule"), had_zone, zone.is_set(), errors);
    spec.child("startingDeadlineSeconds").non_negative(errors);
    let same_zone = before.is_some_and(|before| before.child("timeZone").value() == zone.value());
    if zone.is_set() && !same_zone {
        zone.check(errors, cron::time_zone);
    }
    spec.child("concurrencyPolicy")
        .require_one_of(errors, &["Allow", "Forbid", "Replace"]);
    job(&spec.child("jobTemplate").child("spec"), errors);
    for limit in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        spec.child(limit).non_negative(errors);
    }
}

/// A schedule that names its time zone stays legal where it once was, but not beside the field for it.
fn schedule(at: &At<'_>, had_zone: bool, zone_is_set: bool, errors: &mut FieldErrors) {
    if at.is_empty() {
        return errors.push(at.required(""));
    }
    if let Err(problem) = cron::schedule(at.str()) {
        errors.push(at.invalid(problem));
    }
    let names_zone = at.str().contains("TZ");
    if names_zone && !had_zone {
        errors.push(at.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
    } else if names_zone && zone_is_set {
        errors.push(at.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
    }
}

/// Every Job made of the template gets a selector of its own.
fn job(at: &At<'_>, errors: &mut FieldErrors) {
    rules::spec(at, errors);
    let (selector, manual) = (at.child("selector"), at.child("manualSelector"));
    if selector.is_set() {
        errors.push(selector.invalid("`selector` will be auto-generated"));
    }
    if manual.bool() {
        errors.push(manual.not_supported(&["nil", "false"]));
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Schedule|string||When jobs are made, in Cron format.",
        "Timezone|string||The time zone of the schedule.",
        "Suspend|boolean||Whether no more jobs are made.",
        "Active|integer||How many jobs are running.",
        "Last Schedule|string||How long ago a job was last made.",
        "Age|string",
        "Containers|string||Names of each container in the template.|wide",
        "Images|string||Images referenced by each container in the template.|wide",
        "Selector|string||Selects the pods of the job.|wide",
    ])
}

fn cells(cron: &Object, now: Timestamp) -> Vec<Value> {
    let suspend = match cron.bool_at("spec.suspend") {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = match cron.str_at("status.lastScheduleTime") {
        Some(time) => age(Some(time), now),
        None => "<none>".into(),
    };
    let job = "spec.jobTemplate.spec";
    let [names, images] = containers(cron.list_at(&format!("{job}.template.spec.containers")));
    vec![
        cron.name().into(),
        cron.str_at("spec.schedule").unwrap_or_default().into(),
        or_none(cron.str_at("spec.timeZone").unwrap_or_default()),
        suspend.into(),
        cron.list_at("status.active").len().into(),
        last,
        age(cron.creation_timestamp(), now),
        names,
        images,
        selector(cron.at(&format!("{job}.selector"))),
    ]
}

#[cfg(test)]
pub(crate) fn cases() -> crate::resources::testing::Cases {
    let cron_job = |spec: Value| {
        let mut cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "backup", "namespace": "ns"},
            "spec": {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never",
                "containers": [{"name": "c", "image": "reg/tool:1"}]}}}}}});
        if let (Some(map), Value::Object(spec)) = (cron["spec"].as_object_mut(), spec) {
            map.extend(spec);
        }
        cron
    };
    let mut shown = cron_job(json!({"timeZone": "Etc/UTC", "suspend": false}));
    shown["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    shown["status"] = json!({"active": [{"name": "a"}], "lastScheduleTime": "2026-01-01T01:58:00Z"});
    let mut long = cron_job(json!({}));
    long["metadata"]["name"] = json!("a".repeat(53));
    let template = json!({"spec": {"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}, "parallelism": -1,
        "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    crate::resources::testing::Cases {
        valid: vec![
            cron_job(json!({})),
            cron_job(json!({"timeZone": "Europe/Berlin", "concurrencyPolicy": "Forbid", "suspend": true})),
        ],
        invalid: vec![
            (
                long,
                vec![
                    r#"metadata.name: Invalid value: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa": must be no more than 52 characters"#,
                ],
            ),
            (
                cron_job(
                    json!({"schedule": "", "startingDeadlineSeconds": -1, "timeZone": "", "concurrencyPolicy": "Maybe",
                    "successfulJobsHistoryLimit": -1, "failedJobsHistoryLimit": -2}),
                ),
                vec![
                    "spec.schedule: Required value",
                    "spec.startingDeadlineSeconds: Invalid value: -1: must be greater than or equal to 0",
                    r#"spec.timeZone: Invalid value: "": timeZone must be nil or non-empty string"#,
                    r#"spec.concurrencyPolicy: Unsupported value: "Maybe": supported values: "Allow", "Forbid", "Replace""#,
                    "spec.successfulJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
                    "spec.failedJobsHistoryLimit: Invalid value: -2: must be greater than or equal to 0",
                ],
            ),
            (
                cron_job(json!({"schedule": "TZ=UTC 0 25 * * *", "jobTemplate": template})),
                vec![
                    r#"spec.schedule: Invalid value: "TZ=UTC 0 25 * * *": end of range (25) above maximum (23): 25"#,
                    r#"spec.schedule: Invalid value: "TZ=UTC 0 25 * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"#,
                    "spec.jobTemplate.spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                    r#"spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never""#,
                    r#"spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated"#,
                    r#"spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false""#,
                ],
            ),
        ],
        table: vec![shown],
    }
}
