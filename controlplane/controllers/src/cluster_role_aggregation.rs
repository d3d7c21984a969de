//! ClusterRoles with an aggregation rule hold the rules of all that their selectors match.

use api::NamespacedName;
use client::{
    Delta, Error, Informer, Meta, Patch, Scope, kinds,
    reconcile::{self, Action},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::{Context, RESYNC, view::Selector};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClusterRole {
    metadata: Meta,
    aggregation_rule: Option<AggregationRule>,
    #[serde(deserialize_with = "texts")]
    rules: Vec<Box<str>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Vec<Selector>,
}

/// Rules as canonical JSON: a tenth of their tree's memory, and compared as they are.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    let rules: Option<Vec<Value>> = Option::deserialize(deserializer)?;
    Ok(rules
        .unwrap_or_default()
        .iter()
        .map(|rule| rule.to_string().into())
        .collect())
}

pub(crate) async fn run(context: Context) {
    let roles: Informer<ClusterRole> = context.informers.get(&kinds::CLUSTER_ROLE, Scope::All);
    roles.synced().await;
    let all = roles.clone();
    let triggers = vec![
        reconcile::mapped(&roles, move |delta| concerned(delta, &all)),
        reconcile::every(RESYNC, &roles),
    ];
    match reconcile::keyed("clusterrole-aggregation", 2, triggers, |key| {
        aggregate(&context, &roles, key)
    })
    .await {}
}

/// The role itself, and those that aggregate it.
fn concerned(delta: &Delta<ClusterRole>, roles: &Informer<ClusterRole>) -> Vec<NamespacedName> {
    let snapshot = roles.snapshot();
    let aggregates = |role: &ClusterRole| delta.states().any(|changed| selects(role, changed));
    let mut keys: Vec<_> = snapshot
        .iter()
        .filter(|(_, role)| aggregates(role))
        .map(|(key, _)| key.clone())
        .collect();
    keys.push(delta.key.clone());
    keys
}

fn selects(role: &ClusterRole, other: &ClusterRole) -> bool {
    let selectors = role
        .aggregation_rule
        .iter()
        .flat_map(|rule| &rule.cluster_role_selectors);
    role.metadata.name != other.metadata.name && selectors.into_iter().any(|s| s.matches(&other.metadata.labels))
}

/// The rules a role should have: of every role it selects, by name, each rule once.
fn aggregated<'a>(role: &ClusterRole, roles: impl Iterator<Item = &'a ClusterRole>) -> Vec<Box<str>> {
    let mut rules: Vec<Box<str>> = Vec::new();
    for other in roles.filter(|other| selects(role, other)) {
        for rule in &other.rules {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

async fn aggregate(context: &Context, roles: &Informer<ClusterRole>, key: NamespacedName) -> Result<Action, Error> {
    let Some(role) = roles.get(&key).filter(|role| role.aggregation_rule.is_some()) else {
        return Ok(Action::Done);
    };
    let rules = {
        let snapshot = roles.snapshot();
        aggregated(&role, snapshot.iter().map(|(_, role)| &**role))
    };
    if rules == role.rules {
        return Ok(Action::Done);
    }
    let rules: Vec<Value> = rules
        .iter()
        .filter_map(|rule| serde_json::from_str(rule).ok())
        .collect();
    let patch = json!({"metadata": {"uid": role.metadata.uid}, "rules": rules});
    match context
        .client
        .patch(&kinds::CLUSTER_ROLE, &key, None, Patch::Merge(patch))
        .await
    {
        Ok(role) => roles.wait_written(&role).await,
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(Action::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: Value, rules: Value, selectors: Value) -> ClusterRole {
        let mut role = json!({"metadata": {"name": name, "labels": labels}, "rules": rules});
        if selectors.is_array() {
            role["aggregationRule"] = json!({"clusterRoleSelectors": selectors});
        }
        serde_json::from_value(role).unwrap()
    }

    #[test]
    fn rules_are_gathered_once_each_and_never_from_itself() {
        let (get, list) = (json!({"verbs": ["get"]}), json!({"verbs": ["list"]}));
        let labels = json!({"to": "view"});
        let view = role(
            "view",
            labels.clone(),
            json!([]),
            json!([{"matchLabels": {"to": "view"}}]),
        );
        let roles = [
            role("a", labels.clone(), json!([get, list]), Value::Null),
            role("b", labels, json!([list]), Value::Null),
            role("c", json!({}), json!([{"verbs": ["*"]}]), Value::Null),
        ];
        let rules = aggregated(&view, roles.iter().chain([&view]));
        assert_eq!(rules, [get.to_string().into(), list.to_string().into()]);
    }
}
