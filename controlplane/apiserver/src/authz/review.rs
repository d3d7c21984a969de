//! The reviews of `authorization.k8s.io` and `SelfSubjectReview`: what `kubectl auth can-i` and `whoami` ask. Nothing is
//! stored; a review is answered with itself and a status.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::field::Path;
use api::{FieldError, GroupKind, Object, Status};
use async_trait::async_trait;
use http::StatusCode;
use k8s_openapi::api::authentication::v1 as authentication;
use k8s_openapi::api::authorization::v1 as authorization;
use serde_json::{Map, Value, json};

use super::rule::Rule;
use super::{Attributes, Authorizer, Decision};
use crate::authn::UserInfo;
use crate::registry::virtuals::{
    Passing, Request, Response, Virtual, VirtualContext, VirtualRoute, read_object, reply,
};
use schema::openapi::schema_json;

const GROUP: &str = "authorization.k8s.io";

/// Which review a handler answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Review {
    /// About the caller.
    SelfAccess,
    /// About anybody, anywhere or (`Local`) in the namespace of the request.
    Access,
    LocalAccess,
    SelfRules,
    SelfSubject,
}

struct Handler {
    review: Review,
    authorizer: Arc<dyn Authorizer>,
}

pub(super) fn routes(authorizer: Arc<dyn Authorizer>) -> Vec<VirtualRoute> {
    let route = |review, group, resource, kind, namespaced, definition| VirtualRoute {
        group,
        version: "v1",
        resource,
        subresource: None,
        namespaced,
        kind,
        kind_group_version: None,
        definition: Some(definition),
        verbs: &["create"],
        passing: Passing::Unseen,
        handler: Arc::new(Handler {
            review,
            authorizer: authorizer.clone(),
        }),
    };
    vec![
        route(
            Review::SelfAccess,
            GROUP,
            "selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            false,
            (
                "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
                schema_json::<authorization::SelfSubjectAccessReview>,
            ),
        ),
        route(
            Review::Access,
            GROUP,
            "subjectaccessreviews",
            "SubjectAccessReview",
            false,
            (
                "io.k8s.api.authorization.v1.SubjectAccessReview",
                schema_json::<authorization::SubjectAccessReview>,
            ),
        ),
        route(
            Review::LocalAccess,
            GROUP,
            "localsubjectaccessreviews",
            "LocalSubjectAccessReview",
            true,
            (
                "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
                schema_json::<authorization::LocalSubjectAccessReview>,
            ),
        ),
        route(
            Review::SelfRules,
            GROUP,
            "selfsubjectrulesreviews",
            "SelfSubjectRulesReview",
            false,
            (
                "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
                schema_json::<authorization::SelfSubjectRulesReview>,
            ),
        ),
        route(
            Review::SelfSubject,
            "authentication.k8s.io",
            "selfsubjectreviews",
            "SelfSubjectReview",
            false,
            (
                "io.k8s.api.authentication.v1.SelfSubjectReview",
                schema_json::<authentication::SelfSubjectReview>,
            ),
        ),
    ]
}

#[async_trait]
impl Virtual for Handler {
    async fn call(&self, cx: VirtualContext, request: Request) -> Result<Response, Status> {
        let mut review = read_object(request).await?;
        let status = match self.review {
            Review::SelfSubject => {
                review.set("metadata.creationTimestamp", api::time::rfc3339(cx.now));
                json!({"userInfo": user_json(&cx.user)})
            }
            Review::SelfRules => {
                let namespace = review.str_at("spec.namespace").unwrap_or_default();
                if namespace.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                rules_status(&self.authorizer.rules(&cx.user, namespace))
            }
            Review::SelfAccess => self.access(&review, &cx.user).await?,
            Review::Access => self.access(&review, &named_user(&review)?).await?,
            Review::LocalAccess => {
                same_namespace(&review, cx.namespace.as_deref().unwrap_or_default())?;
                self.access(&review, &named_user(&review)?).await?
            }
        };
        review.set("status", status);
        Ok(reply(StatusCode::CREATED, &review))
    }
}

impl Handler {
    async fn access(&self, review: &Object, user: &UserInfo) -> Result<Value, Status> {
        let attributes = attributes(review, user)?;
        Ok(match self.authorizer.authorize(&attributes).await {
            Decision::Allow => json!({"allowed": true}),
            Decision::Deny(reason) => with_reason(json!({"allowed": false, "denied": true}), &reason),
            Decision::NoOpinion(reason) => with_reason(json!({"allowed": false}), &reason),
            Decision::Failed { denies: true, why } => {
                json!({"allowed": false, "denied": true, "evaluationError": why})
            }
            Decision::Failed { denies: false, why } => json!({"allowed": false, "evaluationError": why}),
        })
    }
}

fn with_reason(mut status: Value, reason: &str) -> Value {
    if let Some(map) = status.as_object_mut().filter(|_| !reason.is_empty()) {
        map.insert("reason".to_owned(), reason.into());
    }
    status
}

/// Reads what a review asks; exactly one of the two kinds of question must be there.
fn attributes<'a>(review: &'a Object, user: &'a UserInfo) -> Result<Attributes<'a>, Status> {
    let empty = Attributes {
        user,
        verb: "",
        namespace: "",
        group: "",
        version: "",
        resource: "",
        subresource: "",
        name: "",
        field_selector: "",
        path: "",
        is_resource: false,
    };
    let text = |map: &'a Map<String, Value>, field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default();
    match (
        review.map_at("spec.resourceAttributes"),
        review.map_at("spec.nonResourceAttributes"),
    ) {
        (Some(r), None) => Ok(Attributes {
            verb: text(r, "verb"),
            namespace: text(r, "namespace"),
            group: text(r, "group"),
            version: text(r, "version"),
            resource: text(r, "resource"),
            subresource: text(r, "subresource"),
            name: text(r, "name"),
            field_selector: r
                .get("fieldSelector")
                .and_then(Value::as_object)
                .map_or("", |selector| text(selector, "rawSelector")),
            is_resource: true,
            ..empty
        }),
        (None, Some(n)) => Ok(Attributes {
            verb: text(n, "verb"),
            path: text(n, "path"),
            ..empty
        }),
        (resource, _) => {
            let path = Path::root("spec").child(if resource.is_some() {
                "nonResourceAttributes"
            } else {
                "resourceAttributes"
            });
            let shown = review.at(path.as_str()).cloned().unwrap_or_default();
            let detail = match resource {
                Some(_) => "cannot be specified in combination with resourceAttributes",
                None => "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            };
            Err(invalid(review, FieldError::invalid(&path, shown, detail)))
        }
    }
}

fn named_user(review: &Object) -> Result<UserInfo, Status> {
    let list = |value: Option<&Value>| -> Vec<String> {
        value
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    let extra = review.map_at("spec.extra").into_iter().flatten();
    let user = UserInfo {
        username: review.str_at("spec.user").unwrap_or_default().to_owned(),
        uid: review.str_at("spec.uid").unwrap_or_default().to_owned(),
        groups: list(review.at("spec.groups")),
        extra: extra
            .map(|(key, values)| (key.clone(), list(Some(values))))
            .collect::<BTreeMap<_, _>>(),
    };
    if user.username.is_empty() && user.groups.is_empty() {
        let detail = "at least one of user or group must be specified";
        return Err(invalid(
            review,
            FieldError::invalid(&Path::root("spec").child("user"), "", detail),
        ));
    }
    Ok(user)
}

fn same_namespace(review: &Object, namespace: &str) -> Result<(), Status> {
    let asked = review.str_at("spec.resourceAttributes.namespace").unwrap_or_default();
    if asked == namespace {
        return Ok(());
    }
    let path = Path::root("spec").child("resourceAttributes").child("namespace");
    let detail = format!("must match metadata.namespace: {namespace}");
    Err(invalid(review, FieldError::invalid(&path, asked, detail)))
}

fn invalid(review: &Object, error: FieldError) -> Status {
    Status::invalid(&GroupKind::new(GROUP, review.kind()), "", vec![error])
}

fn rules_status(rules: &[Rule]) -> Value {
    let of = |paths: bool| -> Vec<Value> {
        rules
            .iter()
            .filter(|rule| rule.paths.is_empty() != paths)
            .map(Rule::to_json)
            .collect()
    };
    json!({"resourceRules": of(false), "nonResourceRules": of(true), "incomplete": false})
}

/// A user as `authentication.k8s.io` writes it.
pub(crate) fn user_json(user: &UserInfo) -> Value {
    let mut info = Map::new();
    info.insert("username".to_owned(), user.username.clone().into());
    if !user.uid.is_empty() {
        info.insert("uid".to_owned(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".to_owned(), json!(user.extra));
    }
    info.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::testing::object;

    #[test]
    fn a_review_asks_exactly_one_question() {
        let user = UserInfo::default();
        let ask = |spec: Value| {
            let review = object(json!({"kind": "SelfSubjectAccessReview", "spec": spec}));
            attributes(&review, &user)
                .map(|a| (a.is_resource, a.verb.to_owned()))
                .map_err(|status| status.message)
        };
        assert_eq!(
            ask(json!({"resourceAttributes": {"verb": "get"}})),
            Ok((true, "get".to_owned()))
        );
        assert_eq!(
            ask(json!({"nonResourceAttributes": {"verb": "get"}})),
            Ok((false, "get".to_owned()))
        );
        assert_eq!(
            ask(json!({})),
            Err("SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: \
                 exactly one of nonResourceAttributes or resourceAttributes must be specified"
                .to_owned())
        );
        assert!(ask(json!({"resourceAttributes": {}, "nonResourceAttributes": {}})).is_err());
    }

    #[test]
    fn a_review_of_somebody_names_somebody() {
        let of = |spec: Value| named_user(&object(json!({"kind": "SubjectAccessReview", "spec": spec})));
        assert_eq!(
            of(json!({"user": "jane", "groups": ["ops"]})).map(|u| u.groups).ok(),
            Some(vec!["ops".to_owned()])
        );
        assert!(of(json!({})).is_err());
    }
}
