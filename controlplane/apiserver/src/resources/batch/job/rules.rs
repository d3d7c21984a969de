//! What a Job's spec may say; the same for a Job and for the template of a CronJob's.

use api::FieldErrors;
use serde_json::Value;

use super::policies;
use crate::resources::validation::names::domain_prefixed_path;
use crate::resources::validation::{At, pod};

const MAX_MANAGER: usize = 63;
const MAX_INDEXED_PARALLELISM: i64 = 100_000;
const MAX_FAILED_INDEXES: i64 = 100_000;
/// Above so many completions an indexed Job's failures must be few to be kept track of.
const MANY_COMPLETIONS: i64 = 100_000;
const MAX_PARALLELISM_OF_MANY: i64 = 10_000;
const MAX_FAILED_OF_MANY: i64 = 10_000;

/// All but the selector.
pub(crate) fn spec(at: &At<'_>, errors: &mut FieldErrors) {
    counts(at, errors);
    manager(&at.child("managedBy"), errors);
    let mode = at.child("completionMode");
    mode.one_of(errors, &["NonIndexed", "Indexed"]);
    match mode.str() {
        "Indexed" => indexed(at, errors),
        "NonIndexed" | "" => not_indexed(at, errors),
        _ => {}
    }
    if at.child("podFailurePolicy").is_set() {
        policies::failure(at, errors);
    }
    let success = at.child("successPolicy");
    if success.is_set() {
        match mode.str() {
            "Indexed" => policies::success(at, errors),
            _ => errors.push(success.invalid("requires indexed completion mode")),
        }
    }
    replacement(at, errors);
    pod::template(&at.child("template"), errors);
    restart_policy(at, errors);
}

fn counts(at: &At<'_>, errors: &mut FieldErrors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        at.child(field).non_negative(errors);
    }
    let per_index = at.child("backoffLimitPerIndex");
    if at.child("maxFailedIndexes").is_set() && !per_index.is_set() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
}

fn manager(at: &At<'_>, errors: &mut FieldErrors) {
    if !at.is_set() {
        return;
    }
    domain_prefixed_path(at, errors);
    if at.str().len() > MAX_MANAGER {
        errors.push(api::FieldError::too_long(at.path(), MAX_MANAGER));
    }
}

fn indexed(at: &At<'_>, errors: &mut FieldErrors) {
    let (completions, parallelism) = (at.child("completions"), at.child("parallelism"));
    let failed = at.child("maxFailedIndexes");
    if !completions.is_set() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    let words = format!("must be less than or equal to {MAX_INDEXED_PARALLELISM} when completion mode is Indexed");
    at_most(&parallelism, MAX_INDEXED_PARALLELISM, &words, errors);
    if let Some(all) = completions.i64() {
        at_most(&failed, all, "must be less than or equal to completions", errors);
    }
    let words = format!("must be less than or equal to {MAX_FAILED_INDEXES}");
    at_most(&failed, MAX_FAILED_INDEXES, &words, errors);
    let many = completions.i64().is_some_and(|number| number > MANY_COMPLETIONS);
    if many && at.child("backoffLimitPerIndex").is_set() {
        of_many(&parallelism, &failed, errors);
    }
}

fn of_many(parallelism: &At<'_>, failed: &At<'_>, errors: &mut FieldErrors) {
    if !failed.is_set() {
        errors.push(failed.required(&format!(
            "must be specified when completions is above {MANY_COMPLETIONS}"
        )));
    }
    for (at, max) in [(parallelism, MAX_PARALLELISM_OF_MANY), (failed, MAX_FAILED_OF_MANY)] {
        let words = format!(
            "must be less than or equal to {max} when completions are above {MANY_COMPLETIONS} and used with backoff limit per \
             index"
        );
        at_most(at, max, &words, errors);
    }
}

fn at_most(at: &At<'_>, max: i64, words: &str, errors: &mut FieldErrors) {
    if at.i64().is_some_and(|number| number > max) {
        errors.push(at.invalid(words));
    }
}

fn not_indexed(at: &At<'_>, errors: &mut FieldErrors) {
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        let at = at.child(field);
        if at.is_set() {
            errors.push(at.invalid("requires indexed completion mode"));
        }
    }
}

fn replacement(at: &At<'_>, errors: &mut FieldErrors) {
    let supported: &[&str] = match at.child("podFailurePolicy").is_set() {
        true => &["Failed"],
        false => &["Failed", "TerminatingOrFailed"],
    };
    at.child("podReplacementPolicy").one_of(errors, supported);
}

/// Pods of a Job end; whoever left the policy out got that of pods that do not.
fn restart_policy(at: &At<'_>, errors: &mut FieldErrors) {
    let policy = at.child("template").child("spec").child("restartPolicy");
    match policy.str() {
        "" | "Always" => errors.push(policy.required("valid values: \"OnFailure\", \"Never\"")),
        "Never" => {}
        "OnFailure" if at.child("podFailurePolicy").is_set() => {
            errors.push(policy.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
        }
        "OnFailure" => {}
        _ => errors.push(policy.not_supported(&["OnFailure", "Never"])),
    }
}

/// What to say of the spec at `at`.
pub(crate) fn warnings(at: &At<'_>) -> Vec<String> {
    let number = |field: &str| at.child(field).i64().unwrap_or_default();
    let mut found = Vec::new();
    let many = number("completions") > MANY_COMPLETIONS && number("parallelism") > MAX_PARALLELISM_OF_MANY;
    if at.child("completionMode").str() == "Indexed" && many {
        found.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes \
             might not be able to track completedIndexes when a big number of indexes fail",
            at.path()
        ));
    }
    found.extend(pod::warnings(&at.child("template").child("spec")));
    found
}

/// A selector stands there, selects, and finds the pods of the template.
pub(super) fn selector(spec: &At<'_>, errors: &mut FieldErrors) {
    let selector = spec.child("selector");
    let labels = spec.child("template").child("metadata").child("labels");
    if !selector.is_set() {
        errors.push(selector.required(""));
    } else {
        crate::resources::validation::labels::selector(&selector, errors);
    }
    let parsed = match selector.value().map(api::LabelSelector::from_json) {
        None => api::LabelSelector::nothing(),
        Some(Ok(parsed)) => parsed,
        Some(Err(_)) => return,
    };
    let label = |key: &str| labels.map().and_then(|map| map.get(key)).and_then(Value::as_str);
    if !parsed.matches(label) {
        let shown = labels.value().cloned().unwrap_or(Value::Null);
        errors.push(labels.invalid_as(shown, "`selector` does not match template `labels`"));
    }
}
