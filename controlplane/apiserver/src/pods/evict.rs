//! `pods/eviction`: a delete by the leave of the pod's disruption budget.
//!
//! [`plan`] decides whether a budget has a say; [`spend`] takes one disruption from it, in a compare-and-set, so that two
//! evictions never share one. What the budget allows is for the disruption controller to say.

use std::borrow::Cow;
use std::sync::Arc;

use api::status::StatusCause;
use api::{GroupResource, LabelSelector, Object, Status};
use serde_json::{Map, Value, json};

use crate::admission::dynamic::KindName;
use crate::http::info::RequestInfo;
use crate::registry::verbs::{
    Call, Current, DeleteOptions, Flavour, New, WriteOptions, approve_part, delete_object, modify,
};

const BUDGETS: (&str, &str, &str) = ("policy", "v1", "poddisruptionbudgets");
/// How many evicted pods a budget may wait for at once; as Kubernetes.
const MOST_DISRUPTED: usize = 2000;
/// How often an eviction is planned anew, since the pod changed under it.
const ATTEMPTS: usize = 6;

/// Evicts the pod of the call with the options that the Eviction carries; gives warnings too.
pub(crate) async fn evict(call: &Call<'_>, mut eviction: Object) -> Result<(Status, Vec<String>), Status> {
    if !eviction.name().is_empty() && eviction.name() != call.name() {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let options = eviction.at("deleteOptions").cloned();
    let options = options.and_then(|value| Object::from_value(value).ok());
    let mut options = DeleteOptions::parse(call.query, options.as_ref())?;
    options.dry_run |= WriteOptions::parse(call.query, "CreateOptions")?.dry_run;
    let kind = KindName::new("policy", "v1", "Eviction");
    let warnings = approve_part(call, kind, &mut eviction, options.dry_run).await?;
    for _ in 0..ATTEMPTS {
        let pod = Current::load(call.endpoint, call.namespace(), call.name()).await?;
        let pod = pod.ok_or_else(|| call.not_found(call.name()))?.object;
        let seen = match plan(&pod, &budgets_of(call, &pod).await?)? {
            Plan::Delete => None,
            Plan::DeleteAsSeen => pod.resource_version().map(str::to_owned),
            Plan::Spend(budget) => {
                spend_one(call, &budget, options.dry_run).await?;
                None
            }
        };
        let again = seen.is_some() && options.resource_version.is_none();
        match delete(call, &pod, seen, &options).await {
            Err(status) if again && status.is("Conflict") => {}
            done => return done.map(|()| (super::created(), warnings)),
        }
    }
    Err(Status::modified(&call.endpoint.group_resource(), call.name()))
}

/// How an eviction goes on.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// No budget has a say.
    Delete,
    /// No budget has a say as long as the pod is as it was seen.
    DeleteAsSeen,
    /// The budget of this name has to allow it.
    Spend(String),
}

fn plan(pod: &Object, budgets: &[Arc<Object>]) -> Result<Plan, Status> {
    let counts_for_nothing = matches!(pod.str_at("status.phase"), Some("Succeeded" | "Failed" | "Pending"));
    match budgets {
        _ if pod.is_deleting() => Ok(Plan::Delete),
        _ if counts_for_nothing => Ok(Plan::DeleteAsSeen),
        [] => Ok(Plan::Delete),
        [budget] if !is_ready(pod) && gives_up_unhealthy(budget) => Ok(Plan::DeleteAsSeen),
        [budget] => Ok(Plan::Spend(budget.name().to_owned())),
        _ => {
            let why =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            let mut status = Status::internal(why);
            why.clone_into(&mut status.message);
            Err(status)
        }
    }
}

fn is_ready(pod: &Object) -> bool {
    let ready = |condition: &&Value| condition.get("type").and_then(Value::as_str) == Some("Ready");
    let condition = pod.list_at("status.conditions").iter().find(ready);
    condition.and_then(|c| c.get("status")?.as_str()) == Some("True")
}

/// Whether a pod that is not ready may go without asking: always, or while enough others are healthy.
fn gives_up_unhealthy(budget: &Object) -> bool {
    let count = |path: &str| budget.i64_at(path).unwrap_or_default();
    let (current, desired) = (count("status.currentHealthy"), count("status.desiredHealthy"));
    budget.str_at("spec.unhealthyPodEvictionPolicy") == Some("AlwaysAllow") || (current >= desired && desired > 0)
}

/// The budgets of the pod's namespace that select it.
async fn budgets_of(call: &Call<'_>, pod: &Object) -> Result<Vec<Arc<Object>>, Status> {
    let kind = GroupResource::new(BUDGETS.0, BUDGETS.2);
    call.server.reader.fresh(&kind).await?;
    let selects = |budget: &Arc<Object>| {
        let selector = budget.at("spec.selector").filter(|selector| !selector.is_null());
        let selector = selector.and_then(|selector| LabelSelector::from_json(selector).ok());
        selector.is_some_and(|selector| selector.matches(|key| pod.label(key)))
    };
    let all = call.server.reader.list(&kind, call.namespace());
    Ok(all.into_iter().filter(selects).collect())
}

async fn spend_one(call: &Call<'_>, budget: &str, dry_run: bool) -> Result<(), Status> {
    let (group, version, resource) = BUDGETS;
    let endpoint = call.server.registry.endpoint(group, version, resource);
    let endpoint = &endpoint.ok_or_else(Status::no_such_path)?;
    let info = RequestInfo {
        verb: "patch",
        is_resource: true,
        group,
        version,
        namespace: Cow::Borrowed(&call.info.namespace),
        resource,
        subresource: "status",
        name: Cow::Borrowed(budget),
        path: call.info.path,
        trailing: false,
    };
    let of_budget = Call {
        endpoint,
        info: &info,
        ..*call
    };
    let take = |budget: &Object| {
        Ok(New {
            object: spend(budget, call.name(), call.now)?,
            warnings: Vec::new(),
            managed: true,
        })
    };
    modify(&of_budget, Flavour::Decided, dry_run, take).await.map(drop)
}

/// The budget with one disruption less, spent on `pod`; or why there is none to spend.
fn spend(budget: &Object, pod: &str, now: api::Timestamp) -> Result<Object, Status> {
    let name = budget.name();
    let allowed = budget.i64_at("status.disruptionsAllowed").unwrap_or_default();
    let disrupted = budget.map_at("status.disruptedPods").map_or(0, Map::len);
    let forbidden = |why: &str| {
        Err(Status::forbidden(
            &GroupResource::new(BUDGETS.0, "poddisruptionbudget"),
            name,
            why,
        ))
    };
    if budget.i64_at("status.observedGeneration").unwrap_or_default() < budget.generation() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(violated(why, 10));
    }
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if disrupted > MOST_DISRUPTED {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        return Err(violated(exhausted(budget), 0));
    }
    let mut budget = budget.clone();
    budget.set("status.disruptionsAllowed", allowed - 1);
    let mut disrupted = budget.map_at("status.disruptedPods").cloned().unwrap_or_default();
    disrupted.insert(pod.to_owned(), api::time::rfc3339(now).into());
    budget.set("status.disruptedPods", disrupted);
    Ok(budget)
}

fn exhausted(budget: &Object) -> String {
    let name = budget.name();
    let failed = |condition: &&Value| condition.get("reason").and_then(Value::as_str) == Some("SyncFailed");
    if let Some(condition) = budget.list_at("status.conditions").iter().find(failed) {
        let why = condition.get("message").and_then(Value::as_str).unwrap_or_default();
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
        );
    }
    format!(
        "The disruption budget {name} needs {} healthy pods and has {} currently",
        budget.i64_at("status.desiredHealthy").unwrap_or_default(),
        budget.i64_at("status.currentHealthy").unwrap_or_default()
    )
}

/// 429, which `kubectl drain` answers by trying again.
fn violated(why: String, retry_seconds: u32) -> Status {
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(text, retry_seconds);
    status.details.get_or_insert_default().causes = vec![StatusCause {
        reason: "DisruptionBudget".to_owned(),
        message: why,
        ..StatusCause::default()
    }];
    status
}

/// Says on the pod why it goes, then deletes it, if it is still the one that was `seen`.
async fn delete(call: &Call<'_>, pod: &Object, seen: Option<String>, options: &DeleteOptions) -> Result<(), Status> {
    let mut options = options.clone();
    let seen = options.resource_version.take().or(seen);
    let another = options.uid.as_deref().is_some_and(|uid| uid != pod.uid());
    options.resource_version = match options.dry_run || pod.is_deleting() || another {
        true => seen,
        false => mark(call, seen).await?,
    };
    delete_object(call, call.name(), &options).await.map(drop)
}

/// Gives the pod its condition; answers the resourceVersion after that, if it was to be the one that was `seen`.
async fn mark(call: &Call<'_>, seen: Option<String>) -> Result<Option<String>, Status> {
    let change = |now: &Object| match seen.as_deref() {
        Some(seen) if now.resource_version() != Some(seen) => {
            Err(Status::modified(&call.endpoint.group_resource(), call.name()))
        }
        _ => Ok(New {
            object: marked(now, call.now),
            warnings: Vec::new(),
            managed: true,
        }),
    };
    let written = modify(call, Flavour::Decided, false, change).await?;
    let written = Object::from_slice(&written.bytes).ok();
    Ok(seen.and(written.and_then(|pod| pod.resource_version().map(str::to_owned))))
}

/// The pod with the condition by which controllers tell an eviction from a failure (KEP-3329).
fn marked(pod: &Object, now: api::Timestamp) -> Object {
    const TYPE: &str = "DisruptionTarget";
    let mut pod = pod.clone();
    let mut conditions = pod.list_at("status.conditions").to_vec();
    let is_it = |condition: &Value| condition.get("type").and_then(Value::as_str) == Some(TYPE);
    let known = |condition: &Value| is_it(condition) && condition.get("status").and_then(Value::as_str) == Some("True");
    if conditions.iter().any(known) {
        return pod;
    }
    conditions.retain(|condition| !is_it(condition));
    conditions.push(json!({
        "type": TYPE, "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting",
        "lastProbeTime": null, "lastTransitionTime": api::time::rfc3339(now),
    }));
    pod.set("status.conditions", conditions);
    pod
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::{now, object};

    fn pod(status: Value) -> Object {
        object(json!({"metadata": {"name": "p"}, "status": status}))
    }

    fn budget(spec: Value, status: Value) -> Object {
        object(json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status}))
    }

    #[test]
    fn a_budget_has_a_say_over_pods_that_serve() {
        let conditions = |ready: &str| json!([{"type": "Ready", "status": ready}]);
        let running = |ready: &str| pod(json!({"phase": "Running", "conditions": conditions(ready)}));
        let spend = || Plan::Spend("b".to_owned());
        let counts = |current: i64, desired: i64| json!({"currentHealthy": current, "desiredHealthy": desired});
        let strict = budget(json!({}), counts(1, 2));
        let enough = budget(json!({}), counts(2, 2));
        let nothing = budget(json!({}), counts(0, 0));
        let lenient = budget(json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}), counts(1, 2));
        let mut dying = running("True");
        dying.set("metadata.deletionTimestamp", "2026-01-01T00:00:00Z");
        let cases = [
            (running("True"), vec![], Plan::Delete),
            (running("True"), vec![&strict], spend()),
            (running("True"), vec![&lenient], spend()),
            (running("False"), vec![&strict], spend()),
            (running("False"), vec![&nothing], spend()),
            (running("False"), vec![&enough], Plan::DeleteAsSeen),
            (running("False"), vec![&lenient], Plan::DeleteAsSeen),
            (
                pod(json!({"phase": "Pending"})),
                vec![&strict, &lenient],
                Plan::DeleteAsSeen,
            ),
            (pod(json!({"phase": "Failed"})), vec![&strict], Plan::DeleteAsSeen),
            (dying, vec![&strict], Plan::Delete),
        ];
        for (pod, budgets, expected) in cases {
            let budgets: Vec<Arc<Object>> = budgets.into_iter().map(|b| Arc::new(b.clone())).collect();
            assert_eq!(plan(&pod, &budgets).expect("planned"), expected, "{pod:?} {budgets:?}");
        }
        let two = [Arc::new(strict), Arc::new(lenient)];
        let refused = plan(&running("True"), &two).expect_err("refused");
        assert_eq!(refused.code, 500);
        assert!(
            refused
                .message
                .starts_with("This pod has more than one PodDisruptionBudget")
        );
    }

    #[test]
    fn spending_takes_one_and_remembers_the_pod() {
        let two = budget(json!({}), json!({"observedGeneration": 2, "disruptionsAllowed": 2}));
        let spent = spend(&two, "p", now()).expect("allowed");
        assert_eq!(spent.i64_at("status.disruptionsAllowed"), Some(1));
        assert_eq!(
            spent.at("status.disruptedPods"),
            Some(&json!({"p": "2026-01-01T02:00:00Z"}))
        );
    }

    #[test]
    fn says_why_there_is_nothing_to_spend() {
        let refusal = |status: Value| {
            let status = spend(&budget(json!({}), status), "p", now()).expect_err("refused");
            let causes = status.details.map(|details| details.causes).unwrap_or_default();
            (
                status.code,
                causes.first().map_or(status.message, |cause| cause.message.clone()),
            )
        };
        assert_eq!(
            refusal(json!({"observedGeneration": 1, "disruptionsAllowed": 2})),
            (
                429,
                "The disruption budget b is still being processed by the server.".to_owned()
            )
        );
        assert_eq!(
            refusal(json!({"observedGeneration": 2, "desiredHealthy": 3, "currentHealthy": 2})),
            (
                429,
                "The disruption budget b needs 3 healthy pods and has 2 currently".to_owned()
            )
        );
        let (code, message) = refusal(json!({"observedGeneration": 2,
            "conditions": [{"type": "DisruptionAllowed", "reason": "SyncFailed", "message": "found no controllers"}]}));
        assert_eq!(code, 429);
        assert!(
            message.ends_with("because it failed sync: found no controllers"),
            "{message}"
        );
        assert_eq!(
            refusal(json!({"observedGeneration": 2, "disruptionsAllowed": -1})).0,
            403
        );
    }
}
