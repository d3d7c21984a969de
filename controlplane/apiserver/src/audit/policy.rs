//! What is written down of which request: a Policy of audit.k8s.io/v1. Pure; the first rule that matches decides, and what
//! no rule matches is not written down.

use serde::{Deserialize, Serialize};

use crate::authn::UserInfo;
use crate::http::info::RequestInfo;

/// How much is written down, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// When something is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// An audit policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde::de::IgnoredAny,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("it is not a Policy of audit.k8s.io/v1: {0}")]
    Decode(String),
    #[error("its kind must be Policy of audit.k8s.io/v1, not {kind} of {version}")]
    Kind { kind: String, version: String },
    #[error("it has no rules")]
    NoRules,
    #[error("rules[{index}]: {why}")]
    Rule { index: usize, why: &'static str },
}

/// What a policy wants of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) level: Level,
    pub(crate) omit_stages: Vec<Stage>,
    pub(crate) omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy from YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Policy = serde_saphyr::from_str(text).map_err(|error| PolicyError::Decode(error.to_string()))?;
        if (policy.api_version.as_str(), policy.kind.as_str()) != ("audit.k8s.io/v1", "Policy") {
            return Err(PolicyError::Kind {
                kind: policy.kind,
                version: policy.api_version,
            });
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::NoRules);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|why| PolicyError::Rule { index, why })?;
        }
        Ok(policy)
    }

    /// What is wanted of a request; `None` for nothing.
    pub(crate) fn evaluate(&self, info: &RequestInfo<'_>, user: Option<&UserInfo>) -> Option<Wanted> {
        let rule = self.rules.iter().find(|rule| rule.matches(info, user))?;
        (rule.level != Level::None).then(|| Wanted {
            level: rule.level,
            omit_stages: [self.omit_stages.as_slice(), &rule.omit_stages].concat(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        })
    }
}

impl Rule {
    fn check(&self) -> Result<(), &'static str> {
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            return Err("rules cannot apply to both regular resources and non-resource URLs");
        }
        let sound = |url: &String| {
            url == "*" || url.starts_with('/') && !url.trim_end_matches('*').contains('*') && !url.ends_with("**")
        };
        if !self.non_resource_urls.iter().all(sound) {
            return Err("non-resource URLs must begin with a '/' and may have a wildcard at the end only");
        }
        let unnamed = |of: &GroupResources| of.resources.is_empty() && !of.resource_names.is_empty();
        if self.resources.iter().any(unnamed) {
            return Err("using resourceNames requires at least one resource");
        }
        Ok(())
    }

    fn matches(&self, info: &RequestInfo<'_>, user: Option<&UserInfo>) -> bool {
        let has = |list: &[String], text: &str| list.iter().any(|entry| entry == text);
        if !self.users.is_empty() && !user.is_some_and(|user| has(&self.users, &user.username)) {
            return false;
        }
        let in_group = |user: &UserInfo| user.groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !user.is_some_and(in_group) {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, info.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            let here = self.namespaces.is_empty() || has(&self.namespaces, &info.namespace);
            let named = self.resources.is_empty() || self.resources.iter().any(|of| of.matches(info));
            return info.is_resource && here && named;
        }
        self.non_resource_urls.is_empty()
            || !info.is_resource && self.non_resource_urls.iter().any(|url| path_matches(url, info.path))
    }
}

impl GroupResources {
    fn matches(&self, info: &RequestInfo<'_>) -> bool {
        if self.group != info.group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.iter().any(|name| *name == info.name);
        named
            && self
                .resources
                .iter()
                .any(|pattern| resource_matches(pattern, info.resource, info.subresource))
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/status` or `*`; a resource alone does not mean its subresources.
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || subresource.is_empty() && pattern == resource,
        Some((of, "*")) => of == resource,
        Some((of, sub)) => sub == subresource && (of == "*" || of == resource),
    }
}

fn path_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::http::query::Query;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
- level: Metadata
  resources: [{group: "", resources: [secrets, "serviceaccounts/token"]}]
- level: Request
  resources: [{group: "", resources: [configmaps], resourceNames: [one]}]
  namespaces: [a]
  omitStages: [ResponseComplete]
  omitManagedFields: false
- level: None
  nonResourceURLs: ["/healthz*", /version]
- level: RequestResponse
  userGroups: [ops]
- level: Metadata
  resources: [{group: apps, resources: ["deployments/*"]}, {group: "*", resources: ["*/status"]}]
"#;

    fn level(method: Method, target: &str, name: &str, group: &str) -> Level {
        let policy = Policy::parse(POLICY).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = Query::parse(query);
        let info = RequestInfo::parse(&method, path, &query);
        let user = UserInfo {
            username: name.to_owned(),
            groups: vec![group.to_owned()],
            ..UserInfo::default()
        };
        policy
            .evaluate(&info, Some(&user))
            .map_or(Level::None, |wanted| wanted.level)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let cases = [
            ("/api/v1/pods?watch=1", "system:kube-proxy", "ops", Level::None),
            ("/api/v1/pods", "system:kube-proxy", "ops", Level::RequestResponse),
            ("/api/v1/namespaces/a/secrets/x", "jane", "ops", Level::Metadata),
            (
                "/api/v1/namespaces/a/serviceaccounts/x/token",
                "jane",
                "",
                Level::Metadata,
            ),
            ("/api/v1/namespaces/a/serviceaccounts/x", "jane", "", Level::None),
            ("/api/v1/namespaces/a/configmaps/one", "jane", "", Level::Request),
            ("/api/v1/namespaces/a/configmaps/two", "jane", "", Level::None),
            ("/api/v1/namespaces/b/configmaps/one", "jane", "", Level::None),
            ("/healthz/ping", "jane", "ops", Level::None),
            ("/versions", "jane", "ops", Level::RequestResponse),
            (
                "/apis/apps/v1/namespaces/a/deployments/d/scale",
                "jane",
                "",
                Level::Metadata,
            ),
            ("/apis/apps/v1/namespaces/a/deployments/d", "jane", "", Level::Metadata),
            ("/api/v1/namespaces/a/pods/p/status", "jane", "", Level::Metadata),
            ("/api/v1/namespaces/a/pods/p/log", "jane", "", Level::None),
        ];
        for (target, name, group, expected) in cases {
            assert_eq!(
                level(Method::GET, target, name, group),
                expected,
                "{target} {name} {group}"
            );
        }
    }

    #[test]
    fn a_rule_adds_stages_to_omit_and_overrides_the_rest() {
        let policy = Policy::parse(POLICY).unwrap();
        let query = Query::parse("");
        let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/a/configmaps/one", &query);
        let wanted = policy.evaluate(&info, None).unwrap();
        assert_eq!(wanted.omit_stages, [Stage::RequestReceived, Stage::ResponseComplete]);
        assert!(!wanted.omit_managed_fields);
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        for (text, said) in [
            (
                "kind: Policy\napiVersion: v1\nrules: []",
                "must be Policy of audit.k8s.io/v1",
            ),
            (&format!("{head}rules: []"), "no rules"),
            (&format!("{head}rules: [{{level: Everything}}]"), "Everything"),
            (&format!("{head}rules: [{{level: None, user: [x]}}]"), "user"),
            (
                &format!("{head}rules: [{{level: None, namespaces: [a], nonResourceURLs: [/x]}}]"),
                "rules[0]",
            ),
            (
                &format!("{head}rules: [{{level: None, nonResourceURLs: [x]}}]"),
                "begin with a '/'",
            ),
            (
                &format!("{head}rules: [{{level: None, resources: [{{resourceNames: [x]}}]}}]"),
                "resourceNames",
            ),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
