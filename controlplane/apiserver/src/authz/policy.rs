//! All roles and bindings of the cluster, compiled: who holds which rules, where. A pure function of the objects.

use std::collections::HashMap;
use std::sync::Arc;

use api::{LabelSelector, Object};
use serde_json::Value;

use super::Attributes;
use super::rule::Rule;
use crate::authn::UserInfo;

/// The objects a policy is made of.
pub(crate) struct Sources<'a> {
    pub(crate) roles: &'a [Arc<Object>],
    pub(crate) cluster_roles: &'a [Arc<Object>],
    pub(crate) role_bindings: &'a [Arc<Object>],
    pub(crate) cluster_role_bindings: &'a [Arc<Object>],
}

/// Somebody that a binding names.
enum Subject {
    User(String),
    Group(String),
}

#[derive(Clone)]
struct Grant {
    /// `None`: everywhere.
    namespace: Option<String>,
    rules: Arc<[Rule]>,
}

/// The compiled policy: what users hold by name and by group.
#[derive(Default)]
pub(crate) struct Policy {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Policy {
    pub(crate) fn compile(sources: &Sources<'_>) -> Self {
        let cluster: HashMap<&str, Arc<[Rule]>> = sources
            .cluster_roles
            .iter()
            .map(|role| (role.name(), effective(role, sources.cluster_roles)))
            .collect();
        let local: HashMap<(&str, &str), Arc<[Rule]>> = sources
            .roles
            .iter()
            .map(|role| {
                (
                    (role.namespace().unwrap_or_default(), role.name()),
                    own_rules(role).into(),
                )
            })
            .collect();
        let mut policy = Policy::default();
        for binding in sources.cluster_role_bindings.iter().chain(sources.role_bindings) {
            let name = binding.str_at("roleRef.name").unwrap_or_default();
            let namespace = binding.namespace();
            let rules = match (binding.str_at("roleRef.kind"), namespace) {
                (Some("ClusterRole"), _) => cluster.get(name),
                (Some("Role"), Some(namespace)) => local.get(&(namespace, name)),
                _ => None,
            };
            // A binding may come before its role; it gives nothing until then.
            let Some(rules) = rules else { continue };
            let grant = Grant {
                namespace: namespace.map(str::to_owned),
                rules: rules.clone(),
            };
            for subject in binding.list_at("subjects").iter().filter_map(|s| subject(s, namespace)) {
                let grants = match subject {
                    Subject::User(name) => policy.users.entry(name),
                    Subject::Group(name) => policy.groups.entry(name),
                };
                grants.or_default().push(grant.clone());
            }
        }
        policy
    }

    /// Whether some rule allows the request.
    pub(crate) fn allows(&self, a: &Attributes<'_>) -> bool {
        self.grants_of(a.user, a.namespace)
            .flat_map(|grant| grant.rules.iter())
            .any(|rule| rule.allows(a))
    }

    /// All rules that hold for a user in a namespace (empty: cluster-wide ones).
    pub(crate) fn rules(&self, user: &UserInfo, namespace: &str) -> Vec<Rule> {
        self.grants_of(user, namespace)
            .flat_map(|grant| grant.rules.iter().cloned())
            .collect()
    }

    fn grants_of<'a>(&'a self, user: &'a UserInfo, namespace: &'a str) -> impl Iterator<Item = &'a Grant> {
        let by_group = user.groups.iter().filter_map(|group| self.groups.get(group));
        let grants = self.users.get(&user.username).into_iter().chain(by_group).flatten();
        grants.filter(move |g| {
            g.namespace
                .as_deref()
                .is_none_or(|n| !namespace.is_empty() && n == namespace)
        })
    }
}

fn subject(subject: &Value, namespace: Option<&str>) -> Option<Subject> {
    let text = |field: &str| subject.get(field).and_then(Value::as_str);
    let name = text("name")?;
    match text("kind")? {
        "User" => Some(Subject::User(name.to_owned())),
        "Group" => Some(Subject::Group(name.to_owned())),
        "ServiceAccount" => {
            let namespace = text("namespace").filter(|n| !n.is_empty()).or(namespace)?;
            Some(Subject::User(format!("system:serviceaccount:{namespace}:{name}")))
        }
        _ => None,
    }
}

/// The rules that a role states itself.
pub(crate) fn own_rules(role: &Object) -> Vec<Rule> {
    role.list_at("rules").iter().map(Rule::from_json).collect()
}

/// The rules of a ClusterRole, those it sums up included. Sums of sums are followed; a cycle ends.
pub(crate) fn effective(role: &Object, all: &[Arc<Object>]) -> Arc<[Rule]> {
    let mut rules = own_rules(role);
    let (mut seen, mut open) = (vec![role.name()], vec![role]);
    while let Some(role) = open.pop() {
        for part in parts(role, all) {
            if !seen.contains(&part.name()) {
                seen.push(part.name());
                rules.extend(own_rules(part));
                open.push(part);
            }
        }
    }
    rules.into()
}

fn parts<'a>(role: &Object, all: &'a [Arc<Object>]) -> Vec<&'a Object> {
    let selectors = role.list_at("aggregationRule.clusterRoleSelectors");
    let selectors: Vec<LabelSelector> = selectors
        .iter()
        .filter_map(|s| LabelSelector::from_json(s).ok())
        .collect();
    let chosen = |other: &&Arc<Object>| selectors.iter().any(|s| s.matches(|key| other.label(key)));
    all.iter().filter(chosen).map(AsRef::as_ref).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::resources::testing::object;

    fn shared(values: Vec<Value>) -> Vec<Arc<Object>> {
        values.into_iter().map(|v| Arc::new(object(v))).collect()
    }

    fn allowed(policy: &Policy, user: &str, groups: &[&str], namespace: &str, resource: &str) -> bool {
        let user = UserInfo {
            username: user.to_owned(),
            groups: groups.iter().map(|g| (*g).to_owned()).collect(),
            ..UserInfo::default()
        };
        policy.allows(&Attributes {
            user: &user,
            verb: "get",
            namespace,
            group: "",
            version: "v1",
            resource,
            subresource: "",
            name: "x",
            field_selector: "",
            path: "",
            is_resource: true,
        })
    }

    fn policy() -> Policy {
        let rules = |resource: &str| json!([{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]);
        let binding = |namespace: Option<&str>, kind: &str, role: &str, subject: Value| json!({"metadata": {"name": "b", "namespace": namespace}, "roleRef": {"kind": kind, "name": role}, "subjects": [subject]});
        Policy::compile(&Sources {
            roles: &shared(vec![
                json!({"metadata": {"name": "local", "namespace": "a"}, "rules": rules("secrets")}),
            ]),
            cluster_roles: &shared(vec![
                json!({"metadata": {"name": "sum"}, "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}}),
                json!({"metadata": {"name": "part", "labels": {"x": "y"}}, "rules": rules("pods"),
                    "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"x": "y"}}]}}),
            ]),
            role_bindings: &shared(vec![
                binding(
                    Some("a"),
                    "Role",
                    "local",
                    json!({"kind": "ServiceAccount", "name": "sa"}),
                ),
                binding(Some("a"), "ClusterRole", "sum", json!({"kind": "User", "name": "jane"})),
                binding(Some("a"), "Role", "missing", json!({"kind": "User", "name": "jane"})),
            ]),
            cluster_role_bindings: &shared(vec![binding(
                None,
                "ClusterRole",
                "sum",
                json!({"kind": "Group", "name": "ops"}),
            )]),
        })
    }

    #[test]
    fn grants_hold_where_they_were_given() {
        let policy = policy();
        assert!(allowed(&policy, "system:serviceaccount:a:sa", &[], "a", "secrets"));
        assert!(!allowed(&policy, "system:serviceaccount:a:sa", &[], "b", "secrets"));
        assert!(!allowed(&policy, "system:serviceaccount:a:sa", &[], "a", "pods"));
        assert!(allowed(&policy, "jane", &[], "a", "pods"));
        assert!(!allowed(&policy, "jane", &[], "", "pods"));
        assert!(allowed(&policy, "joe", &["ops"], "b", "pods"));
        assert!(allowed(&policy, "joe", &["ops"], "", "pods"));
        assert!(!allowed(&policy, "joe", &[], "b", "pods"));
    }
}
