//! The default roles and bindings: a table of our own (`policy.txt`, one line per rule), read into objects.

use std::collections::BTreeMap;

use api::Object;
use serde_json::{Value, json};

use crate::authz::rule::Rule;

const TABLE: &str = include_str!("policy.txt");
const GROUP: &str = "rbac.authorization.k8s.io";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];

/// All default roles and bindings, roles first, as they are written on a new cluster.
pub fn policy() -> Vec<Object> {
    let mut entries = parse(TABLE);
    sum_up(&mut entries);
    entries.into_iter().map(Entry::into_object).collect()
}

/// The rules of one default ClusterRole; none for an unknown name.
pub(crate) fn cluster_role_rules(name: &str) -> Vec<Rule> {
    let found = parse(TABLE).into_iter().find_map(|entry| match entry {
        Entry::Role(role) if role.namespace.is_none() && role.name == name => Some(role.rules),
        _ => None,
    });
    found.unwrap_or_default()
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Role(Role),
    Binding(Binding),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Role {
    namespace: Option<String>,
    name: String,
    /// Labels of the group, without it.
    labels: Vec<String>,
    /// The label of the roles that this one sums up.
    sum: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
struct Binding {
    namespace: Option<String>,
    name: String,
    role: String,
    subjects: Vec<Value>,
}

/// Reads the table. Lines it does not understand are left out; a test proves that there are none.
fn parse(table: &str) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        match (line.strip_prefix("  "), entries.last_mut()) {
            (Some(rule), Some(Entry::Role(role))) => role.rules.extend(parse_rule(rule)),
            _ => entries.extend(parse_head(line)),
        }
    }
    entries
}

fn parse_head(line: &str) -> Option<Entry> {
    let (kind, rest) = line.split_once(' ')?;
    if kind == "bind" {
        return parse_binding(rest);
    }
    let mut words = rest.split(' ');
    let mut role = Role::default();
    (role.namespace, role.name) = place(kind == "role", words.next()?);
    for word in words {
        match word.strip_prefix("sum=") {
            Some(label) => role.sum = Some(label.to_owned()),
            None => role.labels.push(word.to_owned()),
        }
    }
    Some(Entry::Role(role))
}

fn parse_binding(rest: &str) -> Option<Entry> {
    let (head, subjects) = rest.split_once(" to ")?;
    let (place_word, role) = head.split_once(" role=").map_or((head, None), |(p, r)| (p, Some(r)));
    let (namespace, name) = place(place_word.contains('/'), place_word);
    let role = role.unwrap_or(&name).to_owned();
    let subjects = subjects.split(' ').filter_map(subject).collect();
    Some(Entry::Binding(Binding {
        namespace,
        name,
        role,
        subjects,
    }))
}

fn place(namespaced: bool, word: &str) -> (Option<String>, String) {
    match word.split_once('/').filter(|_| namespaced) {
        Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
        None => (None, word.to_owned()),
    }
}

fn subject(word: &str) -> Option<Value> {
    let (kind, name) = word.split_once(':')?;
    Some(match kind {
        "user" => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        "group" => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        _ => {
            let (namespace, name) = name.split_once('/')?;
            json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
        }
    })
}

fn parse_rule(line: &str) -> Option<Rule> {
    let mut words = line.split(' ');
    let verbs = verbs(words.next()?);
    let groups = words.next()?;
    let what = list(words.next()?);
    if groups == "path" {
        return Some(Rule {
            verbs,
            paths: what,
            ..Rule::default()
        });
    }
    let groups = groups
        .split(',')
        .map(|g| if g == "core" { String::new() } else { g.to_owned() })
        .collect();
    let names = match words.next() {
        Some("named") => list(words.next()?),
        _ => Vec::new(),
    };
    Some(Rule {
        verbs,
        groups,
        resources: what,
        names,
        paths: Vec::new(),
    })
}

fn verbs(word: &str) -> Vec<String> {
    match word {
        "read" => READ.iter().map(|v| (*v).to_owned()).collect(),
        "write" => WRITE.iter().map(|v| (*v).to_owned()).collect(),
        "all" => {
            let mut both = [WRITE, READ].concat();
            both.sort_unstable();
            both.into_iter().map(str::to_owned).collect()
        }
        other => list(other),
    }
}

fn list(word: &str) -> Vec<String> {
    word.split(',').map(str::to_owned).collect()
}

/// Gives every summing role the rules of its parts, so that they can be read off the object as well.
fn sum_up(entries: &mut [Entry]) {
    let roles: Vec<Role> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Role(role) => Some(role.clone()),
            Entry::Binding(_) => None,
        })
        .collect();
    for entry in entries {
        if let Entry::Role(role) = entry
            && let Some(label) = role.sum.clone()
        {
            role.rules = summed(&label, &roles, &mut Vec::new());
        }
    }
}

fn summed(label: &str, roles: &[Role], seen: &mut Vec<String>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for part in roles.iter().filter(|role| role.labels.iter().any(|l| l == label)) {
        if seen.contains(&part.name) {
            continue;
        }
        seen.push(part.name.clone());
        rules.extend(part.rules.iter().cloned());
        if let Some(label) = &part.sum {
            rules.extend(summed(label, roles, seen));
        }
    }
    rules
}

impl Entry {
    fn into_object(self) -> Object {
        match self {
            Entry::Role(role) => role.into_object(),
            Entry::Binding(binding) => binding.into_object(),
        }
    }
}

impl Role {
    fn into_object(self) -> Object {
        let kind = if self.namespace.is_some() {
            "Role"
        } else {
            "ClusterRole"
        };
        let mut object = base(kind, self.namespace.as_deref(), &self.name);
        for label in &self.labels {
            object.set_label(&format!("{GROUP}/{label}"), "true");
        }
        if let Some(label) = &self.sum {
            let labels: BTreeMap<String, &str> = [(format!("{GROUP}/{label}"), "true")].into();
            object.set(
                "aggregationRule",
                json!({"clusterRoleSelectors": [{"matchLabels": labels}]}),
            );
        }
        object.set("rules", self.rules.iter().map(Rule::to_json).collect::<Vec<_>>());
        object
    }
}

impl Binding {
    fn into_object(self) -> Object {
        let (kind, role) = if self.namespace.is_some() {
            ("RoleBinding", "Role")
        } else {
            ("ClusterRoleBinding", "ClusterRole")
        };
        let mut object = base(kind, self.namespace.as_deref(), &self.name);
        object.set("roleRef", json!({"apiGroup": GROUP, "kind": role, "name": self.role}));
        if !self.subjects.is_empty() {
            object.set("subjects", self.subjects);
        }
        object
    }
}

fn base(kind: &str, namespace: Option<&str>, name: &str) -> Object {
    let mut object = Object::new(&format!("{GROUP}/v1"), kind);
    object.set_name(name);
    object.set_namespace(namespace);
    object.set_label("kubernetes.io/bootstrapping", "rbac-defaults");
    object.set_annotation(super::reconcile::AUTO_UPDATE, "true");
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_understood() {
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix("  ") {
                Some(rule) => {
                    let parsed = parse_rule(rule).unwrap_or_else(|| panic!("{line}"));
                    assert!(
                        !parsed.verbs.is_empty() && (parsed.paths.is_empty() != parsed.resources.is_empty()),
                        "{line}"
                    );
                }
                None => match parse_head(line).unwrap_or_else(|| panic!("{line}")) {
                    Entry::Role(role) => {
                        assert!(line.starts_with("clusterrole ") != role.namespace.is_some(), "{line}")
                    }
                    Entry::Binding(binding) => {
                        assert_eq!(binding.subjects.is_empty(), line.ends_with(" to nobody"), "{line}");
                    }
                },
            }
        }
    }

    #[test]
    fn every_binding_names_a_role_that_is_there() {
        let objects = policy();
        for binding in objects.iter().filter(|o| o.kind().ends_with("Binding")) {
            let (kind, name) = (binding.str_at("roleRef.kind"), binding.str_at("roleRef.name"));
            let found = objects
                .iter()
                .any(|o| Some(o.kind()) == kind && Some(o.name()) == name && o.namespace() == binding.namespace());
            assert!(found, "{}: {kind:?} {name:?}", binding.name());
        }
    }

    #[test]
    fn admin_holds_what_edit_and_view_hold() {
        let role = |name: &str| {
            let found = policy()
                .into_iter()
                .find(|o| o.kind() == "ClusterRole" && o.name() == name)
                .expect("a role");
            crate::authz::policy::own_rules(&found)
        };
        for part in ["edit", "view", "system:aggregate-to-view"] {
            assert!(
                crate::authz::rule::uncovered(&role("admin"), &role(part)).is_empty(),
                "{part}"
            );
        }
        assert!(!crate::authz::rule::uncovered(&role("view"), &role("edit")).is_empty());
    }

    #[test]
    fn who_may_view_may_read_what_nodes_know() {
        for role in ["admin", "edit", "view"] {
            let found = policy()
                .into_iter()
                .find(|o| o.kind() == "ClusterRole" && o.name() == role)
                .expect("a role");
            let needed = cluster_role_rules("wherry:runtime-viewer");
            assert!(!needed.is_empty());
            let rules = crate::authz::policy::own_rules(&found);
            assert!(crate::authz::rule::uncovered(&rules, &needed).is_empty(), "{role}");
        }
    }

    #[test]
    fn a_node_role_is_found_by_name() {
        assert!(
            cluster_role_rules("system:node")
                .iter()
                .any(|rule| rule.resources == ["pods/status"])
        );
        assert!(cluster_role_rules("nobody").is_empty());
    }
}
