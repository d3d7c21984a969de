//! One RBAC rule, and when it allows or covers something.

use serde_json::{Value, json};

use super::Attributes;

const ANY: &str = "*";

/// A `PolicyRule`, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    pub resources: Vec<String>,
    /// Empty for all.
    pub names: Vec<String>,
    /// Non-resource paths; a trailing `*` matches what follows.
    pub paths: Vec<String>,
}

impl Rule {
    pub fn from_json(rule: &Value) -> Self {
        let list = |field: &str| {
            let items = rule.get(field).and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Rule {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            paths: list("nonResourceURLs"),
        }
    }

    pub fn to_json(&self) -> Value {
        let mut rule = json!({"verbs": self.verbs});
        let lists = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        if let Some(map) = rule.as_object_mut() {
            for (field, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
                map.insert(field.to_owned(), json!(list));
            }
        }
        rule
    }

    /// The two rules that allow everything.
    pub(crate) fn everything() -> [Self; 2] {
        let any = || vec![ANY.to_owned()];
        [
            Rule {
                verbs: any(),
                groups: any(),
                resources: any(),
                ..Rule::default()
            },
            Rule {
                verbs: any(),
                paths: any(),
                ..Rule::default()
            },
        ]
    }

    pub(crate) fn allows(&self, a: &Attributes<'_>) -> bool {
        if !has(&self.verbs, a.verb) {
            return false;
        }
        if !a.is_resource {
            return self.paths.iter().any(|path| path_covers(path, a.path));
        }
        let resource = |rule: &String| resource_covers(rule, a.resource, a.subresource);
        has(&self.groups, a.group) && self.resources.iter().any(resource) && self.has_name(a.name)
    }

    fn has_resource(&self, wanted: &str) -> bool {
        let (resource, subresource) = wanted.split_once('/').unwrap_or((wanted, ""));
        self.resources
            .iter()
            .any(|rule| resource_covers(rule, resource, subresource))
    }

    fn has_name(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|n| n == name)
    }

    /// Whether this rule alone allows all that an atomic rule (see [`Rule::atoms`]) does.
    fn covers_atom(&self, atom: &Rule) -> bool {
        let all = |ours: &[String], theirs: &[String]| theirs.iter().all(|item| has(ours, item));
        if !all(&self.verbs, &atom.verbs) {
            return false;
        }
        if !atom.paths.is_empty() {
            return atom
                .paths
                .iter()
                .all(|wanted| self.paths.iter().any(|path| path_covers(path, wanted)));
        }
        let named = self.names.is_empty() || (!atom.names.is_empty() && all(&self.names, &atom.names));
        all(&self.groups, &atom.groups) && atom.resources.iter().all(|r| self.has_resource(r)) && named
    }

    /// The rule split until each part has one verb, group, resource, name or path.
    fn atoms(&self) -> Vec<Rule> {
        let mut atoms = Vec::new();
        for verb in &self.verbs {
            let one = |text: &String| vec![text.clone()];
            for path in &self.paths {
                atoms.push(Rule {
                    verbs: one(verb),
                    paths: one(path),
                    ..Rule::default()
                });
            }
            for (group, resource) in self
                .groups
                .iter()
                .flat_map(|g| self.resources.iter().map(move |r| (g, r)))
            {
                let base = Rule {
                    verbs: one(verb),
                    groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                if self.names.is_empty() {
                    atoms.push(base);
                    continue;
                }
                atoms.extend(self.names.iter().map(|name| Rule {
                    names: one(name),
                    ..base.clone()
                }));
            }
        }
        atoms
    }
}

/// What `wanted` allows and `owned` does not; empty when `owned` covers all.
pub(crate) fn uncovered(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let atoms = wanted.iter().flat_map(Rule::atoms);
    atoms
        .filter(|atom| !owned.iter().any(|rule| rule.covers_atom(atom)))
        .collect()
}

/// A rule in the form in which Kubernetes shows missing permissions.
pub(crate) fn describe(rule: &Rule) -> String {
    let list = |items: &[String]| items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    for (label, items) in [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.paths),
        ("Verbs", &rule.verbs),
    ] {
        if !items.is_empty() {
            parts.push(format!("{label}:[{}]", list(items)));
        }
    }
    format!("{{{}}}", parts.join(", "))
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == ANY || item == wanted)
}

fn resource_covers(rule: &str, resource: &str, subresource: &str) -> bool {
    match rule.split_once('/') {
        _ if rule == ANY => true,
        None => subresource.is_empty() && rule == resource,
        Some((kind, sub)) => (kind == ANY || kind == resource) && sub == subresource,
    }
}

fn path_covers(rule: &str, wanted: &str) -> bool {
    rule == ANY || rule == wanted || rule.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::UserInfo;

    fn rule(value: Value) -> Rule {
        Rule::from_json(&value)
    }

    #[test]
    fn allows_what_verb_group_resource_and_name_say() {
        let user = UserInfo::default();
        let ask = |verb, resource, subresource, name| Attributes {
            user: &user,
            verb,
            namespace: "a",
            group: "",
            version: "v1",
            resource,
            subresource,
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        let cases = [
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
                ask("get", "pods", "", "x"),
                true,
            ),
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}),
                ask("get", "pods", "log", "x"),
                false,
            ),
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"]}),
                ask("get", "pods", "log", "x"),
                true,
            ),
            (
                json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/log"]}),
                ask("get", "pods", "log", "x"),
                true,
            ),
            (
                json!({"verbs": ["get"], "apiGroups": ["apps"], "resources": ["*"]}),
                ask("get", "pods", "", "x"),
                false,
            ),
            (
                json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["y"]}),
                ask("get", "pods", "", "x"),
                false,
            ),
            (
                json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]}),
                ask("get", "pods", "", "x"),
                false,
            ),
        ];
        for (value, asked, expected) in cases {
            assert_eq!(rule(value.clone()).allows(&asked), expected, "{value}");
        }
    }

    #[test]
    fn allows_paths_by_prefix() {
        let user = UserInfo::default();
        let ask = |path| Attributes {
            user: &user,
            verb: "get",
            namespace: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            name: "",
            field_selector: "",
            path,
            is_resource: false,
        };
        let rule = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/api/*"]}));
        assert!(rule.allows(&ask("/healthz")) && rule.allows(&ask("/api/v1")));
        assert!(!rule.allows(&ask("/healthz/x")) && !rule.allows(&ask("/metrics")));
    }

    #[test]
    fn names_what_is_not_covered() {
        let owned = [rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}),
        )];
        let wanted = [rule(
            json!({"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}),
        )];
        let missing = uncovered(&owned, &wanted);
        assert_eq!(
            missing.iter().map(describe).collect::<Vec<_>>(),
            ["{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"]
        );
        assert!(uncovered(&Rule::everything(), &wanted).is_empty());
    }

    #[test]
    fn a_named_rule_does_not_cover_an_unnamed_one() {
        let named = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}));
        let unnamed = rule(json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}));
        assert!(uncovered(std::slice::from_ref(&unnamed), std::slice::from_ref(&named)).is_empty());
        assert_eq!(uncovered(&[named], &[unnamed]).len(), 1);
    }
}
