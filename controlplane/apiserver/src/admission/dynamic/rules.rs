//! Which requests a rule is about: operation, group, version, resource and scope. Pure.

use serde_json::Value;

/// What is asked, and of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) operation: &'a str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    /// Of a Namespace, its own name.
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// A `RuleWithOperations`, and the names of one with names.
#[derive(Debug)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: Option<Scope>,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Cluster,
    Namespaced,
}

impl Rule {
    /// Reads a rule that has been validated.
    pub(crate) fn read(rule: &Value) -> Self {
        let texts = |field: &str| {
            let list = rule.get(field).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Rule {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: match rule.get("scope").and_then(Value::as_str) {
                Some("Cluster") => Some(Scope::Cluster),
                Some("Namespaced") => Some(Scope::Namespaced),
                _ => None,
            },
            names: texts("resourceNames"),
        }
    }

    /// Reads a list of rules.
    pub(crate) fn read_all(rules: Option<&Value>) -> Vec<Self> {
        let rules = rules.and_then(Value::as_array).into_iter().flatten();
        rules.map(Rule::read).collect()
    }

    pub(crate) fn matches(&self, asked: &Asked<'_>) -> bool {
        self.in_scope(asked)
            && any(&self.operations, asked.operation)
            && any(&self.groups, asked.group)
            && any(&self.versions, asked.version)
            && self.resources.iter().any(|resource| is_of(resource, asked))
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
    }

    fn in_scope(&self, asked: &Asked<'_>) -> bool {
        let is_namespace = (asked.group, asked.resource) == ("", "namespaces");
        let cluster = is_namespace || asked.namespace.is_empty();
        self.scope.is_none_or(|scope| (scope == Scope::Cluster) == cluster)
    }
}

fn any(items: &[String], wanted: &str) -> bool {
    items.iter().any(|item| item == "*" || item == wanted)
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/scale`, `*/*`.
fn is_of(resource: &str, asked: &Asked<'_>) -> bool {
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let fits = |pattern: &str, text: &str| pattern == "*" || pattern == text;
    fits(resource, asked.resource) && fits(part, asked.subresource)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_resource_matches_with_its_part() {
        let cases = [
            ("pods", "", true),
            ("pods", "status", false),
            ("pods/status", "status", true),
            ("pods/status", "", false),
            ("pods/*", "status", true),
            ("pods/*", "", true),
            ("*", "", true),
            ("*", "status", false),
            ("*/status", "status", true),
            ("*/*", "exec", true),
            ("services", "", false),
        ];
        for (pattern, subresource, expected) in cases {
            let rule =
                json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": [pattern]});
            let asked = Asked {
                operation: "CREATE",
                group: "",
                version: "v1",
                resource: "pods",
                subresource,
                namespace: "a",
                name: "p",
            };
            assert_eq!(Rule::read(&rule).matches(&asked), expected, "{pattern} {subresource}");
        }
    }

    #[test]
    fn every_part_of_a_rule_must_match() {
        let base = json!({"operations": ["CREATE", "UPDATE"], "apiGroups": ["apps"], "apiVersions": ["*"],
            "resources": ["deployments"]});
        let asked = Asked {
            operation: "UPDATE",
            group: "apps",
            version: "v1",
            resource: "deployments",
            subresource: "",
            namespace: "a",
            name: "d",
        };
        let with = |field: &str, value: Value| {
            let mut rule = base.clone();
            rule[field] = value;
            Rule::read(&rule).matches(&asked)
        };
        assert!(with("scope", json!("*")));
        for (field, value, expected) in [
            ("scope", json!("Namespaced"), true),
            ("scope", json!("Cluster"), false),
            ("operations", json!(["*"]), true),
            ("operations", json!(["DELETE"]), false),
            ("apiGroups", json!(["*"]), true),
            ("apiGroups", json!([""]), false),
            ("apiVersions", json!(["v1beta1"]), false),
            ("resourceNames", json!(["d", "e"]), true),
            ("resourceNames", json!(["e"]), false),
        ] {
            assert_eq!(with(field, value.clone()), expected, "{field} {value}");
        }
    }

    #[test]
    fn a_namespace_is_of_the_cluster() {
        let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "Cluster"});
        let asked = Asked {
            operation: "UPDATE",
            group: "",
            version: "v1",
            resource: "namespaces",
            subresource: "",
            namespace: "a",
            name: "a",
        };
        assert!(Rule::read(&rule).matches(&asked));
        assert!(!Rule::read(&rule).matches(&Asked {
            resource: "pods",
            ..asked
        }));
    }
}
