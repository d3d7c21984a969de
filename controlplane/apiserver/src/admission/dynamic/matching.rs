//! Whether a webhook or policy is about a request: by its rules, and by labels of the object and its namespace.

use api::{GroupResource, LabelSelector, Object, Status};
use serde_json::Value;

use super::request::{Matched, Request};
use super::rules::{Asked, Rule};

/// What a webhook or policy is about.
#[derive(Debug)]
pub(crate) struct Matching {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Whether no rule at all means every request.
    everything: bool,
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

impl Matching {
    /// Of a webhook.
    pub(crate) fn of_webhook(hook: &Value) -> Self {
        Matching {
            rules: Rule::read_all(hook.get("rules")),
            excluded: Vec::new(),
            everything: false,
            equivalent: is_equivalent(hook),
            namespaces: selector(hook.get("namespaceSelector")),
            objects: selector(hook.get("objectSelector")),
        }
    }

    /// Of a `MatchResources`.
    pub(crate) fn of_policy(resources: &Value) -> Self {
        let rules = Rule::read_all(resources.get("resourceRules"));
        Matching {
            everything: rules.is_empty(),
            rules,
            excluded: Rule::read_all(resources.get("excludeResourceRules")),
            equivalent: is_equivalent(resources),
            namespaces: selector(resources.get("namespaceSelector")),
            objects: selector(resources.get("objectSelector")),
        }
    }

    /// As what the request is matched, if it is.
    pub(crate) async fn of(&self, request: &Request<'_>, object: Option<&Object>) -> Result<Option<Matched>, Status> {
        if !self.selects_object(request, object) || self.by(&self.excluded, request).is_some() {
            return Ok(None);
        }
        let matched = match self.everything {
            true => Some(request.itself()),
            false => self.by(&self.rules, request),
        };
        let Some(matched) = matched else { return Ok(None) };
        let selected = self.selects_namespace(request, object).await?;
        Ok(selected.then_some(matched))
    }

    fn by(&self, rules: &[Rule], request: &Request<'_>) -> Option<Matched> {
        let asked = request.asked();
        if rules.iter().any(|rule| rule.matches(&asked)) {
            return Some(request.itself());
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let equivalents = request.equivalents();
        // An earlier rule goes before an earlier version.
        rules.iter().find_map(|rule| {
            let found = equivalents.iter().find(|other| {
                rule.matches(&Asked {
                    group: &other.group,
                    version: &other.version,
                    ..asked
                })
            });
            found.cloned()
        })
    }

    fn selects_object(&self, request: &Request<'_>, object: Option<&Object>) -> bool {
        let selects = |object: &Object| self.objects.matches(|key| object.label(key));
        self.objects.is_empty() || object.is_some_and(selects) || request.old.is_some_and(selects)
    }

    async fn selects_namespace(&self, request: &Request<'_>, object: Option<&Object>) -> Result<bool, Status> {
        let is_namespaces = request.resource == "namespaces";
        if self.namespaces.is_empty() || (request.namespace.is_empty() && !is_namespaces) {
            return Ok(true);
        }
        let written = is_namespaces && request.subresource.is_empty() && request.operation != "DELETE";
        if let (true, Some(object)) = (written, object) {
            return Ok(self.namespaces.matches(|key| object.label(key)));
        }
        let namespace = namespace(request, request.namespace).await?;
        Ok(self.namespaces.matches(|key| namespace.label(key)))
    }
}

/// A namespace as the cache has it, or as the store does.
pub(crate) async fn namespace(request: &Request<'_>, name: &str) -> Result<std::sync::Arc<Object>, Status> {
    let kind = GroupResource::new("", "namespaces");
    let reader = &request.server.reader;
    let found = match reader.get(&kind, None, name) {
        Some(found) => Some(found),
        None => reader.get_fresh(&kind, None, name).await?,
    };
    found.ok_or_else(|| Status::not_found(&kind, name))
}

fn is_equivalent(of: &Value) -> bool {
    of.get("matchPolicy").and_then(Value::as_str) != Some("Exact")
}

/// A selector that has been validated; one that cannot be read selects nothing.
pub(crate) fn selector(json: Option<&Value>) -> LabelSelector {
    match json {
        Some(json) => LabelSelector::from_json(json).unwrap_or_else(|_| LabelSelector::nothing()),
        None => LabelSelector::everything(),
    }
}
