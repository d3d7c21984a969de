//! Which FlowSchema a request belongs to: the first that matches, by precedence and name. Compiled once, matched without an
//! allocation; pure.

use api::Object;
use serde_json::Value;

use crate::authn::UserInfo;
use crate::http::info::RequestInfo;

const EVERY: &str = "*";
const ACCOUNT: &str = "system:serviceaccount:";

/// The rules of a FlowSchema.
#[derive(Debug)]
pub(super) struct Rules(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug)]
enum Subject {
    User(Names),
    Group(Names),
    /// What a user's name begins with, or is.
    Accounts(Box<str>),
    Account(Box<str>),
}

#[derive(Debug)]
struct ResourceRule {
    verbs: Names,
    groups: Names,
    resources: Names,
    namespaces: Names,
    cluster: bool,
}

#[derive(Debug)]
struct PathRule {
    verbs: Names,
    paths: Vec<Box<str>>,
}

/// Names, or every one.
#[derive(Debug)]
enum Names {
    Every,
    These(Vec<Box<str>>),
}

impl Names {
    fn read(value: Option<&Value>) -> Self {
        let names = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let names: Vec<Box<str>> = names.iter().filter_map(Value::as_str).map(Box::from).collect();
        match names.as_slice() {
            [only] if &**only == EVERY => Names::Every,
            _ => Names::These(names),
        }
    }

    fn one(name: &str) -> Self {
        match name {
            EVERY => Names::Every,
            name => Names::These(vec![name.into()]),
        }
    }

    fn have(&self, name: &str) -> bool {
        match self {
            Names::Every => true,
            Names::These(names) => names.iter().any(|own| **own == *name),
        }
    }

    /// `resource` or `resource/subresource`.
    fn have_resource(&self, resource: &str, subresource: &str) -> bool {
        let is = |name: &str| match (name.strip_prefix(resource), subresource) {
            (Some(rest), "") => rest.is_empty(),
            (Some(rest), subresource) => rest.strip_prefix('/') == Some(subresource),
            (None, _) => false,
        };
        match self {
            Names::Every => true,
            Names::These(names) => names.iter().any(|own| is(own)),
        }
    }
}

impl Rules {
    pub(super) fn read(schema: &Object) -> Self {
        let list = |of: &Value, field: &str| of.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
        let rule = |rule: &Value| Rule {
            subjects: list(rule, "subjects").iter().filter_map(Subject::read).collect(),
            resources: list(rule, "resourceRules").iter().map(ResourceRule::read).collect(),
            paths: list(rule, "nonResourceRules").iter().map(PathRule::read).collect(),
        };
        Rules(schema.list_at("spec.rules").iter().map(rule).collect())
    }

    pub(super) fn match_(&self, info: &RequestInfo<'_>, user: &UserInfo) -> bool {
        self.0.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(user))
                && match info.is_resource {
                    true => rule.resources.iter().any(|rule| rule.match_(info)),
                    false => rule.paths.iter().any(|rule| rule.match_(info)),
                }
        })
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let text = |pointer: &str| subject.pointer(pointer).and_then(Value::as_str);
        match text("/kind")? {
            "User" => Some(Subject::User(Names::one(text("/user/name")?))),
            "Group" => Some(Subject::Group(Names::one(text("/group/name")?))),
            "ServiceAccount" => {
                let namespace = text("/serviceAccount/namespace")?;
                Some(match text("/serviceAccount/name")? {
                    EVERY => Subject::Accounts(format!("{ACCOUNT}{namespace}:").into()),
                    name => Subject::Account(format!("{ACCOUNT}{namespace}:{name}").into()),
                })
            }
            _ => None,
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Subject::User(names) => names.have(&user.username),
            Subject::Group(Names::Every) => true,
            Subject::Group(names) => user.groups.iter().any(|group| names.have(group)),
            Subject::Accounts(prefix) => user.username.starts_with(&**prefix),
            Subject::Account(name) => *user.username == **name,
        }
    }
}

impl ResourceRule {
    fn read(rule: &Value) -> Self {
        ResourceRule {
            verbs: Names::read(rule.get("verbs")),
            groups: Names::read(rule.get("apiGroups")),
            resources: Names::read(rule.get("resources")),
            namespaces: Names::read(rule.get("namespaces")),
            cluster: rule.get("clusterScope").and_then(Value::as_bool) == Some(true),
        }
    }

    fn match_(&self, info: &RequestInfo<'_>) -> bool {
        self.verbs.have(info.verb)
            && self.groups.have(info.group)
            && self.resources.have_resource(info.resource, info.subresource)
            && match &*info.namespace {
                "" => self.cluster,
                namespace => self.namespaces.have(namespace),
            }
    }
}

impl PathRule {
    fn read(rule: &Value) -> Self {
        let paths = rule.get("nonResourceURLs").and_then(Value::as_array);
        let paths = paths.map(Vec::as_slice).unwrap_or_default().iter();
        PathRule {
            verbs: Names::read(rule.get("verbs")),
            paths: paths.filter_map(Value::as_str).map(Box::from).collect(),
        }
    }

    fn match_(&self, info: &RequestInfo<'_>) -> bool {
        let below = |path: &str| {
            let prefix = path.trim_end_matches('*');
            let rest = info.path.strip_prefix(prefix);
            rest.is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/'))
        };
        self.verbs.have(info.verb)
            && self
                .paths
                .iter()
                .any(|path| &**path == EVERY || **path == *info.path || below(path))
    }
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::json;

    use super::*;
    use crate::http::query::Query;

    fn matches(rule: Value, user: &str, groups: &[&str], method: &Method, path: &str) -> bool {
        let schema = Object::from_value(json!({"spec": {"rules": [rule]}})).expect("an object");
        let user = UserInfo {
            username: user.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..UserInfo::default()
        };
        let query = Query::parse("");
        Rules::read(&schema).match_(&RequestInfo::parse(method, path, &query), &user)
    }

    #[test]
    fn a_rule_is_about_somebody_and_something() {
        let user = |name: &str| json!([{"kind": "User", "user": {"name": name}}]);
        let account =
            |name: &str| json!([{"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": name}}]);
        let group = json!([{"kind": "Group", "group": {"name": "g"}}]);
        let pods = |subjects: Value, more: Value| {
            let mut rule =
                json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods", "pods/status"], "namespaces": ["a"]});
            rule.as_object_mut()
                .expect("a map")
                .extend(more.as_object().expect("a map").clone());
            json!({"subjects": subjects, "resourceRules": [rule]})
        };
        let paths = |paths: Value| json!({"subjects": user("*"), "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": paths}]});
        let (in_a, all) = ("/api/v1/namespaces/a/pods", "/api/v1/pods");
        let cases = [
            (pods(user("u"), json!({})), in_a, true),
            (pods(user("v"), json!({})), in_a, false),
            (pods(user("*"), json!({})), in_a, true),
            (pods(group.clone(), json!({})), in_a, true),
            (pods(account("*"), json!({})), in_a, false),
            (pods(user("u"), json!({})), "/api/v1/namespaces/b/pods", false),
            (pods(user("u"), json!({})), all, false),
            (pods(user("u"), json!({"clusterScope": true})), all, true),
            (
                pods(user("u"), json!({"namespaces": ["*"]})),
                "/api/v1/namespaces/b/pods",
                true,
            ),
            (pods(user("u"), json!({"verbs": ["create"]})), in_a, false),
            (pods(user("u"), json!({})), "/api/v1/namespaces/a/pods/p/status", true),
            (pods(user("u"), json!({})), "/api/v1/namespaces/a/pods/p/log", false),
            (pods(user("u"), json!({})), "/apis/apps/v1/namespaces/a/pods", false),
            (paths(json!(["/healthz"])), "/healthz", true),
            (paths(json!(["/healthz/*"])), "/healthz/etcd", true),
            (paths(json!(["/healthz"])), "/healthzz", false),
            (paths(json!(["*"])), "/version", true),
        ];
        for (rule, path, expected) in cases {
            assert_eq!(
                matches(rule.clone(), "u", &["g"], &Method::GET, path),
                expected,
                "{rule} {path}"
            );
        }
        for (name, user, expected) in [
            ("*", "system:serviceaccount:n:x", true),
            ("x", "system:serviceaccount:n:x", true),
            ("y", "system:serviceaccount:n:x", false),
            ("*", "system:serviceaccount:nn:x", false),
        ] {
            assert_eq!(
                matches(pods(account(name), json!({})), user, &[], &Method::GET, in_a),
                expected
            );
        }
    }
}
