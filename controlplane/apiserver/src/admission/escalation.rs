//! Escalation: nobody gives away what they do not hold. Who writes a role must hold its rules, or the verb `escalate`; who
//! writes a binding must hold the rules of its role, or the verb `bind`. In Kubernetes this is part of RBAC's storage.

use std::sync::Arc;

use api::{GroupResource, Object, Status};
use async_trait::async_trait;

use super::{Admission, AdmissionRequest};
use crate::authn::MASTERS;
use crate::authz::policy::{effective, own_rules};
use crate::authz::rule::{Rule, describe, uncovered};
use crate::authz::{Attributes, Authorizer, Decision};
use crate::registry::resource::{Operation, Resource};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) struct Escalation {
    authorizer: Arc<dyn Authorizer>,
}

impl Escalation {
    pub(super) fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Escalation { authorizer }
    }

    async fn may(&self, request: &AdmissionRequest<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let attributes = Attributes {
            user: request.user,
            verb,
            namespace: request.namespace.unwrap_or_default(),
            group: GROUP,
            version: "v1",
            resource,
            subresource: "",
            name,
            field_selector: "",
            path: "",
            is_resource: true,
        };
        self.authorizer.authorize(&attributes).await == Decision::Allow
    }

    fn lacking(&self, request: &AdmissionRequest<'_>, wanted: &[Rule]) -> Vec<Rule> {
        let owned = self
            .authorizer
            .rules(request.user, request.namespace.unwrap_or_default());
        uncovered(&owned, wanted)
    }

    async fn role(&self, request: &AdmissionRequest<'_>, role: &Object) -> Result<(), Status> {
        let unchanged = |old: &Object| {
            ["rules", "aggregationRule"]
                .iter()
                .all(|field| old.at(field) == role.at(field))
        };
        if request.old.is_some_and(unchanged)
            || self
                .may(request, "escalate", &request.resource.plural, role.name())
                .await
        {
            return Ok(());
        }
        if role.at("aggregationRule").is_some_and(|rule| !rule.is_null())
            && !self.lacking(request, &Rule::everything()).is_empty()
        {
            return Err(request.forbidden("must have cluster-admin privileges to use an aggregationRule"));
        }
        self.refuse_lacking(request, &own_rules(role))
    }

    async fn binding(&self, request: &AdmissionRequest<'_>, binding: &Object) -> Result<(), Status> {
        let unchanged = |old: &Object| {
            ["roleRef", "subjects"]
                .iter()
                .all(|field| old.at(field) == binding.at(field))
        };
        if request.old.is_some_and(unchanged) {
            return Ok(());
        }
        let name = binding.str_at("roleRef.name").unwrap_or_default();
        let (plural, namespace) = match binding.str_at("roleRef.kind") {
            Some("ClusterRole") => ("clusterroles", None),
            Some("Role") => ("roles", request.namespace),
            // Validation names the wrong kind.
            _ => return Ok(()),
        };
        if self.may(request, "bind", plural, name).await {
            return Ok(());
        }
        let kind = GroupResource::new(GROUP, plural);
        let role = request.reader.get_fresh(&kind, namespace, name).await?;
        let role = role.ok_or_else(|| Status::not_found(&kind, name))?;
        // What the role will give once it sums up its parts counts, whatever it says itself by now.
        let all = request.reader.list(&GroupResource::new(GROUP, "clusterroles"), None);
        self.refuse_lacking(request, &effective(&role, &all))
    }

    fn refuse_lacking(&self, request: &AdmissionRequest<'_>, wanted: &[Rule]) -> Result<(), Status> {
        let lacking = self.lacking(request, wanted);
        if lacking.is_empty() {
            return Ok(());
        }
        let groups: Vec<String> = request.user.groups.iter().map(|group| format!("{group:?}")).collect();
        Err(request.forbidden(&format!(
            "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
            request.user.username,
            groups.join(" "),
            lacking.iter().map(describe).collect::<Vec<_>>().join("\n")
        )))
    }
}

#[async_trait]
impl Admission for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, operation: &Operation<'_>, resource: &Resource, _subresource: Option<&str>) -> bool {
        resource.group == GROUP && matches!(operation, Operation::Create | Operation::Update { .. })
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), Status> {
        if request.user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let Some(object) = request.object.as_deref() else {
            return Ok(());
        };
        match &*request.resource.plural {
            "roles" | "clusterroles" => self.role(request, object).await,
            _ => self.binding(request, object).await,
        }
    }
}
