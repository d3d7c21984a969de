//! Job: pods that run until enough of them have succeeded.

mod generated;
mod indexes;
mod policies;
pub(super) mod rules;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod update;

use api::table::Column;
use api::time::Timestamp;
use api::{FieldErrors, Object};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Map, Value};

use crate::registry::printer::age;
use crate::registry::resource::{Context, Operation, Resource, Strategy};
use crate::resources::apps::workload;
use crate::resources::copy_field;
use crate::resources::print::columns;
use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, meta};

pub(crate) fn resource() -> Resource {
    Resource::of::<Job>()
        .categories(&["all"])
        .strategy(Jobs)
        .printer(definitions(), cells)
        .field_at("status.successful", &["status.succeeded"], "0")
        .generation()
        .status()
        .orphans_dependents()
        .build()
}

struct Jobs;

impl Strategy for Jobs {
    fn prepare(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &mut Object) {
        match op {
            Operation::Create => {
                generated::write(new);
                new.set("status", Map::new());
            }
            Operation::Update { old } => copy_field(old, new, "status"),
            Operation::UpdateStatus { old } => copy_field(old, new, "spec"),
            Operation::Delete { .. } => {}
        }
    }

    fn validate(&self, cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> FieldErrors {
        let mut errors = meta::validate(cx, op, new, is_dns1123_subdomain);
        match op {
            Operation::UpdateStatus { old } => status::rules(old, new, &mut errors),
            Operation::Create | Operation::Delete { .. } => whole(new, true, &mut errors),
            Operation::Update { old } => {
                whole(new, has_prefixed_labels(old), &mut errors);
                update::rules(old, new, &mut errors);
            }
        }
        errors
    }

    fn warnings(&self, _cx: &Context<'_>, op: &Operation<'_>, new: &Object) -> Vec<String> {
        let mut found = workload::name_warnings(op, new);
        if workload::changes(op, new, "spec") {
            found.extend(rules::warnings(&At::root(new, "spec")));
        }
        found
    }
}

fn has_prefixed_labels(old: &Object) -> bool {
    let labels = old.map_at("spec.template.metadata.labels");
    labels.is_some_and(|labels| labels.contains_key(generated::UID) && labels.contains_key(generated::NAME))
}

fn whole(job: &Object, prefixed: bool, errors: &mut FieldErrors) {
    generated::validate(job, prefixed, errors);
    let spec = At::root(job, "spec");
    rules::spec(&spec, errors);
    rules::selector(&spec, errors);
    hostnames(job, &spec, errors);
}

/// The pods of an indexed Job are named after it and their number.
fn hostnames(job: &Object, spec: &At<'_>, errors: &mut FieldErrors) {
    let completions = spec.child("completions").i64().unwrap_or_default();
    if spec.child("completionMode").str() != "Indexed" || completions <= 0 {
        return;
    }
    let longest = format!("{}-{}", job.name(), completions - 1);
    if !is_dns1123_label(&longest).is_empty() {
        let name = At::root(job, "metadata").child("name");
        errors.push(name.invalid(format!("will not able to create pod with invalid DNS label: {longest}")));
    }
}

fn definitions() -> Vec<Column> {
    columns(&[
        "Name|string|name",
        "Status|string||Status of the job.",
        "Completions|string||How many pods have succeeded, of how many that must.",
        "Duration|string||Time required to complete the job.",
        "Age|string",
        "Containers|string||Names of each container in the template.|wide",
        "Images|string||Images referenced by each container in the template.|wide",
        "Selector|string||Selects the pods of the job.|wide",
    ])
}

fn cells(job: &Object, now: Timestamp) -> Vec<Value> {
    let mut row = vec![
        job.name().into(),
        state(job).into(),
        completions(job).into(),
        duration(job, now).into(),
        age(job.creation_timestamp(), now),
    ];
    row.extend(workload::wide_cells(job));
    row
}

fn state(job: &Object) -> &'static str {
    let has = |condition| status::is(job, condition, "True");
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if job.deletion_timestamp().is_some() {
        "Terminating"
    } else {
        let later = ["Suspended", "FailureTarget", "SuccessCriteriaMet"];
        later.into_iter().find(|condition| has(condition)).unwrap_or("Running")
    }
}

fn completions(job: &Object) -> String {
    let succeeded = job.i64_at("status.succeeded").unwrap_or_default();
    match (job.i64_at("spec.completions"), job.i64_at("spec.parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, Some(parallelism)) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(job: &Object, now: Timestamp) -> String {
    let moment = |path: &str| job.str_at(path).and_then(api::time::parse);
    match (moment("status.startTime"), moment("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => api::time::human_duration(end.unwrap_or(now).as_second() - start.as_second()),
    }
}
