//! Which steps a Job's status may take, whoever the controller is: ends are final, counts grow, and lists of indexes are
//! lists of indexes. What the write leaves as it was is not checked again, but for the last few rules.

use std::collections::BTreeSet;

use api::{FieldErrors, Object};
use serde_json::Value;

use super::indexes;
use crate::resources::validation::At;

/// Whether a Job has a condition with a status.
pub(super) fn is(job: &Object, condition: &str, status: &str) -> bool {
    let mut conditions = job.list_at("status.conditions").iter();
    conditions.any(|c| text(c, "type") == condition && text(c, "status") == status)
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn rules(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let step = Step {
        was: Ends::of(old),
        is: Ends::of(new),
        before: At::root(old, "status"),
        status: At::root(new, "status"),
        spec: At::root(new, "spec"),
        resumed: is(old, "Suspended", "True") && is(new, "Suspended", "False"),
    };
    step.counts(errors);
    step.uncounted(errors);
    step.conditions(errors);
    step.times(errors);
    step.finished(errors);
    step.index_lists(errors);
    step.never_back(errors);
}

/// Which of the conditions about its end a Job has.
struct Ends {
    complete: bool,
    failed: bool,
    failure_target: bool,
    criteria_met: bool,
}

impl Ends {
    fn of(job: &Object) -> Self {
        Ends {
            complete: is(job, "Complete", "True"),
            failed: is(job, "Failed", "True"),
            failure_target: is(job, "FailureTarget", "True"),
            criteria_met: is(job, "SuccessCriteriaMet", "True"),
        }
    }

    fn finished(&self) -> bool {
        self.complete || self.failed
    }
}

struct Step<'a> {
    was: Ends,
    is: Ends,
    before: At<'a>,
    status: At<'a>,
    spec: At<'a>,
    resumed: bool,
}

impl Step<'_> {
    fn changed(&self, field: &str) -> bool {
        self.before.child(field).value() != self.status.child(field).value()
    }

    fn counter(&self, field: &str) -> i64 {
        self.status.child(field).i64().unwrap_or_default()
    }

    fn counter_before(&self, field: &str) -> i64 {
        self.before.child(field).i64().unwrap_or_default()
    }

    fn finish_changed(&self) -> bool {
        self.was.finished() != self.is.finished()
    }

    fn counts(&self, errors: &mut FieldErrors) {
        for field in ["active", "succeeded", "failed", "ready", "terminating"] {
            self.status.child(field).non_negative(errors);
        }
        let ready = self.status.child("ready");
        let active_changed = self.counter("active") != self.counter_before("active");
        if (self.changed("ready") || active_changed) && self.counter("ready") > self.counter("active") {
            errors.push(ready.invalid("cannot set more ready pods than active"));
        }
    }

    fn uncounted(&self, errors: &mut FieldErrors) {
        let mut seen = BTreeSet::new();
        for list in ["succeeded", "failed"] {
            for uid in self.status.child("uncountedTerminatedPods").child(list).items() {
                if uid.is_empty() {
                    errors.push(uid.invalid("must not be empty"));
                } else if !seen.insert(uid.str()) {
                    errors.push(uid.duplicate());
                }
            }
        }
    }

    fn conditions(&self, errors: &mut FieldErrors) {
        let (was, is) = (&self.was, &self.is);
        let completes = was.complete != is.complete;
        let fails = was.failed != is.failed;
        let targets = was.failure_target != is.failure_target;
        let meets = was.criteria_met != is.criteria_met;
        let policy = self.spec.child("successPolicy").is_set();
        let bad = [
            (
                (completes || fails) && is.complete && is.failed,
                "cannot set Complete=True and Failed=true conditions",
            ),
            (
                (completes || targets) && is.complete && is.failure_target,
                "cannot set Complete=True and FailureTarget=true conditions",
            ),
            (
                (fails || self.changed("failedIndexes")) && is.failed && !is.failure_target,
                "cannot set Failed=True condition without the FailureTarget=true condition",
            ),
            (
                (completes || meets) && is.complete && !is.criteria_met,
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (
                is.criteria_met && is.failed,
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            ),
            (
                is.criteria_met && is.failure_target,
                "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
            ),
            (
                policy && !is.criteria_met && is.complete,
                "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
            ),
        ];
        let at = self.status.child("conditions");
        let found = bad.into_iter().filter(|(bad, _)| *bad);
        errors.extend(found.map(|(_, words)| at.invalid_unshown(words)));
    }

    fn times(&self, errors: &mut FieldErrors) {
        let (start, end) = (self.status.child("startTime"), self.status.child("completionTime"));
        let completes = self.was.complete != self.is.complete;
        let (starts, ends) = (self.changed("startTime"), self.changed("completionTime"));
        if (completes || ends) && end.is_set() && !self.is.complete {
            errors.push(end.invalid("cannot set completionTime when there is no Complete=True condition"));
        }
        if (completes || ends) && !end.is_set() && self.is.complete {
            errors.push(end.required("completionTime is required for Complete jobs"));
        }
        let moment = |at: &At<'_>| api::time::parse(at.str());
        let backwards = moment(&start).zip(moment(&end)).is_some_and(|(start, end)| end < start);
        if (starts || ends) && backwards {
            errors.push(end.invalid("must be equal to or after `startTime`"));
        }
    }

    fn finished(&self, errors: &mut FieldErrors) {
        if !self.is.finished() {
            return;
        }
        let finishes = self.finish_changed();
        let at = |field: &str| self.status.child(field);
        let active_changed = self.counter("active") != self.counter_before("active");
        if (finishes || active_changed) && self.counter("active") > 0 {
            errors.push(at("active").invalid("active>0 is invalid for finished job"));
        }
        let never_ran = self.spec.child("suspend").bool() && self.spec.child("completions").i64() == Some(0);
        if (finishes || self.changed("startTime")) && !never_ran && !at("startTime").is_set() {
            errors.push(at("startTime").required("startTime is required for finished job"));
        }
        let uncounted = at("uncountedTerminatedPods");
        let some = uncounted.child("failed").len() + uncounted.child("succeeded").len() > 0;
        if (finishes || self.changed("uncountedTerminatedPods")) && some {
            errors.push(uncounted.invalid("must be empty for finished job"));
        }
        if (finishes || self.changed("terminating")) && self.counter("terminating") > 0 {
            errors.push(at("terminating").invalid("terminating>0 is invalid for finished job"));
        }
    }

    fn index_lists(&self, errors: &mut FieldErrors) {
        let (completed, failed) = (
            self.status.child("completedIndexes"),
            self.status.child("failedIndexes"),
        );
        let completes = completed.str() != self.before.child("completedIndexes").str();
        let fails = self.changed("failedIndexes");
        let completions = self.spec.child("completions").i64();
        let per_index = self.spec.child("backoffLimitPerIndex").is_set();
        if let (true, Some(all)) = (completes, completions) {
            well_formed(&completed, "completedIndexes", all, errors);
        }
        if let (true, Some(all)) = (fails && per_index && failed.is_set(), completions) {
            well_formed(&failed, "failedIndexes", all, errors);
        }
        if completes && !completed.is_empty() && self.spec.child("completionMode").str() != "Indexed" {
            errors.push(completed.invalid("cannot set non-empty completedIndexes when non-indexed completion mode"));
        }
        if fails && !per_index && failed.is_set() {
            errors.push(failed.invalid("cannot set non-null failedIndexes when backoffLimitPerIndex is null"));
        }
        if let (true, Some(all)) = (completes || fails, completions)
            && let Some(index) = indexes::overlap(completed.str(), failed.str(), all)
        {
            errors.push(failed.invalid(format!("failedIndexes and completedIndexes overlap at index: {index}")));
        }
    }

    /// What has been reached stays reached.
    fn never_back(&self, errors: &mut FieldErrors) {
        let (was, is) = (&self.was, &self.is);
        let at = |field: &str| self.status.child(field);
        let conditions = at("conditions");
        for (was, is, name) in [
            (was.failed, is.failed, "Failed"),
            (was.complete, is.complete, "Complete"),
            (was.failure_target, is.failure_target, "FailureTarget"),
        ] {
            if was && !is {
                errors.push(conditions.invalid_unshown(format!("cannot disable the terminal {name}=True condition")));
            }
        }
        self.counters_grow(errors);
        let (start, end) = (at("startTime"), at("completionTime"));
        if end.is_set() && self.before.child("completionTime").is_set() && self.changed("completionTime") {
            errors.push(end.invalid("field is immutable"));
        }
        let runs = !self.spec.child("suspend").bool() && !self.resumed;
        if runs && self.before.child("startTime").is_set() && self.changed("startTime") {
            let shown = start.value().cloned().unwrap_or(Value::Null);
            errors.push(start.invalid_as(shown, "field is immutable for unsuspended job once set"));
        }
        if was.criteria_met && !is.criteria_met {
            errors.push(conditions.invalid_unshown("cannot disable the SuccessCriteriaMet=True condition"));
        }
        if was.complete && !was.criteria_met && is.criteria_met {
            let words = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            errors.push(conditions.invalid_unshown(words));
        }
    }

    /// A Job that may be scaled down may also have fewer successes than it had.
    fn counters_grow(&self, errors: &mut FieldErrors) {
        let shrinks = |field: &str| self.counter(field) < self.counter_before(field);
        let refused = |field: &str| {
            let at = self.status.child(field);
            at.invalid_as(self.counter(field), format!("cannot decrease the {field} counter"))
        };
        if shrinks("failed") {
            errors.push(refused("failed"));
        }
        let (completions, parallelism) = (self.spec.child("completions"), self.spec.child("parallelism"));
        let elastic = self.spec.child("completionMode").str() == "Indexed" && completions.i64() == parallelism.i64();
        if shrinks("succeeded") && !elastic {
            errors.push(refused("succeeded"));
        }
    }
}

fn well_formed(at: &At<'_>, name: &str, completions: i64, errors: &mut FieldErrors) {
    if let Err(problem) = indexes::count(at.str(), completions) {
        errors.push(at.invalid(format!("error parsing {name}: {problem}")));
    }
}
