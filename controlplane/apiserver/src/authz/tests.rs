//! The operator's choice of authorizers, with programs of this process that are asked.

use std::sync::Arc;

use serde_json::{Value, json};

use super::config::{Configuration, Settings};
use super::webhook::{Conditions, Config as WebhookConfig, Webhook};
use super::{Attributes, Authorizer, Chain, Decision};
use crate::authn::UserInfo;
use crate::tests::hooks::Hook;
use crate::webhook::endpoint::{Access, Credentials, Endpoint};

fn jane() -> UserInfo {
    UserInfo {
        username: "jane".to_owned(),
        groups: vec!["dev".to_owned()],
        ..UserInfo::default()
    }
}

fn attributes<'a>(user: &'a UserInfo, verb: &'a str, namespace: &'a str) -> Attributes<'a> {
    Attributes {
        user,
        verb,
        namespace,
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        name: "",
        field_selector: "",
        path: "/api/v1/pods",
        is_resource: true,
    }
}

fn endpoint(hook: &Hook) -> Endpoint {
    let access = Access {
        url: hook.url.clone(),
        authorities: hook.authority(),
        credentials: Credentials::Token("secret".to_owned()),
        ..Access::default()
    };
    Endpoint::new(&access).expect("an endpoint")
}

fn asking(hook: &Hook, denies_on_failure: bool, expressions: &[&str]) -> Webhook {
    let mut conditions = Conditions::default();
    for expression in expressions {
        conditions.add(expression).expect("an expression");
    }
    Webhook::new(WebhookConfig {
        endpoint: endpoint(hook),
        version: "v1",
        timeout: std::time::Duration::from_millis(500),
        authorized_ttl: std::time::Duration::from_secs(60),
        unauthorized_ttl: std::time::Duration::ZERO,
        denies_on_failure,
        conditions,
    })
}

/// Allows reading, refuses deleting outright, has a reason to say nothing else.
fn by_verb(review: &Value) -> Value {
    let verb = &review["spec"]["resourceAttributes"]["verb"];
    json!({"status": match verb.as_str() {
        Some("get") => json!({"allowed": true}),
        Some("delete") => json!({"allowed": false, "denied": true, "reason": "never"}),
        Some("both") => json!({"allowed": true, "denied": true}),
        _ => json!({"allowed": false, "reason": "ask somebody else"}),
    }})
}

/// Allows everything.
struct Anything;

#[async_trait::async_trait]
impl Authorizer for Anything {
    async fn authorize(&self, _: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

#[tokio::test]
async fn a_program_decides_and_what_it_allowed_is_kept() {
    let hook = Hook::new(by_verb).await;
    let (webhook, user) = (asking(&hook, false, &[]), jane());
    for _ in 0..3 {
        let decided = webhook.authorize(&attributes(&user, "get", "a")).await;
        assert_eq!(decided, Decision::Allow);
    }
    assert_eq!(hook.count(), 1);
    for _ in 0..2 {
        let decided = webhook.authorize(&attributes(&user, "list", "a")).await;
        assert_eq!(decided, Decision::NoOpinion("ask somebody else".to_owned()));
    }
    assert_eq!(hook.count(), 3, "refusals count for no time here");
    let decided = webhook.authorize(&attributes(&user, "delete", "a")).await;
    assert_eq!(decided, Decision::Deny("never".to_owned()));
    let asked = hook.asked.lock()[0].clone();
    assert_eq!(asked["kind"], "SubjectAccessReview");
    assert_eq!(asked["apiVersion"], "authorization.k8s.io/v1");
    let resource = json!({"namespace": "a", "verb": "get", "version": "v1", "resource": "pods"});
    assert_eq!(
        asked["spec"],
        json!({"resourceAttributes": resource, "user": "jane", "groups": ["dev"]})
    );
}

#[tokio::test]
async fn the_first_to_allow_or_refuse_decides() {
    let hook = Hook::new(by_verb).await;
    let user = jane();
    let chain = |authorizers: Vec<Arc<dyn Authorizer>>| Chain(authorizers);
    let before = chain(vec![Arc::new(asking(&hook, false, &[])), Arc::new(Anything)]);
    let delete = attributes(&user, "delete", "a");
    assert_eq!(before.authorize(&delete).await, Decision::Deny("never".to_owned()));
    assert_eq!(before.authorize(&attributes(&user, "list", "a")).await, Decision::Allow);
    let after = chain(vec![Arc::new(Anything), Arc::new(asking(&hook, false, &[]))]);
    assert_eq!(after.authorize(&delete).await, Decision::Allow);
    let both = chain(vec![
        Arc::new(asking(&hook, false, &[])),
        Arc::new(asking(&hook, false, &[])),
    ]);
    let refused = both.authorize(&attributes(&user, "list", "a")).await;
    assert_eq!(
        refused
            .refusal(&attributes(&user, "list", "a"))
            .expect("a refusal")
            .message,
        "pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" in the namespace \"a\": ask \
         somebody else\nask somebody else"
    );
}

#[tokio::test]
async fn a_program_that_fails_counts_as_its_policy_says() {
    for answering in [
        (|_: &Value| json!({"does": "die"})) as fn(&Value) -> Value,
        |_| json!({"does": "hang"}),
        |_| json!({"kind": "Lie"}),
        |_| json!({"status": {"allowed": true, "denied": true}}),
    ] {
        let (hook, user) = (Hook::new(answering).await, jane());
        let get = attributes(&user, "get", "a");
        let open = Chain(vec![Arc::new(asking(&hook, false, &[])), Arc::new(Anything)]);
        assert_eq!(open.authorize(&get).await, Decision::Allow);
        let alone = Chain(vec![Arc::new(asking(&hook, false, &[]))]);
        let failed = alone.authorize(&get).await;
        assert!(matches!(failed, Decision::Failed { denies: false, .. }), "{failed:?}");
        assert_eq!(failed.refusal(&get).expect("a refusal").code, 500);
        let closed = Chain(vec![Arc::new(asking(&hook, true, &[])), Arc::new(Anything)]);
        let failed = closed.authorize(&get).await;
        assert!(matches!(failed, Decision::Failed { denies: true, .. }), "{failed:?}");
    }
}

#[tokio::test]
async fn conditions_decide_what_a_program_is_asked_about() {
    let hook = Hook::new(by_verb).await;
    let user = jane();
    let expressions = [
        "has(request.resourceAttributes)",
        "request.resourceAttributes.namespace == 'a'",
        "!('system:masters' in request.groups) && request.user != ''",
    ];
    let webhook = asking(&hook, true, &expressions);
    assert_eq!(webhook.authorize(&attributes(&user, "get", "a")).await, Decision::Allow);
    let elsewhere = webhook.authorize(&attributes(&user, "get", "b")).await;
    assert_eq!(elsewhere, Decision::NoOpinion(String::new()));
    let path = Attributes {
        is_resource: false,
        ..attributes(&user, "get", "")
    };
    assert_eq!(webhook.authorize(&path).await, Decision::NoOpinion(String::new()));
    assert_eq!(hook.count(), 1);
    let broken = ["request.resourceAttributes.namespace == 'a'"];
    let failed = asking(&hook, true, &broken).authorize(&path).await;
    assert!(matches!(failed, Decision::Failed { denies: true, .. }), "{failed:?}");
    let mut conditions = Conditions::default();
    assert!(conditions.add("request.nothing == 'a'").is_err());
    assert!(conditions.add("'text'").is_err());
}

fn compiled(authorizers: Value) -> Result<Settings, String> {
    let text = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration",
        "authorizers": authorizers});
    let open = |path: &str| match path {
        "/there" => Endpoint::new(&Access {
            url: "https://a.example".to_owned(),
            ..Access::default()
        })
        .map_err(|error| error.to_string()),
        _ => Err("no such file or directory".to_owned()),
    };
    Configuration::parse(&text.to_string())
        .and_then(|read| read.compile(open))
        .map_err(|error| error.to_string())
}

fn webhook(change: impl FnOnce(&mut Value)) -> Value {
    let mut webhook = json!({"authorizedTTL": "30s", "unauthorizedTTL": "30s", "timeout": "3s",
        "subjectAccessReviewVersion": "v1", "failurePolicy": "NoOpinion",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": "/there"}});
    change(&mut webhook);
    json!([{"type": "Webhook", "name": "w.example", "webhook": webhook}])
}

#[test]
fn configurations_are_checked_in_kubernetes_words() {
    let order = json!([{"type": "Node", "name": "node"}, webhook(|_| {})[0], {"type": "RBAC", "name": "rbac"}]);
    assert_eq!(compiled(order).map(|settings| settings.0.len()), Ok(3));
    for (authorizers, words) in [
        (
            json!([]),
            "authorizers: Required value: at least one authorization mode must be defined",
        ),
        (json!([{"name": "a"}]), "authorizers[0].type: Required value"),
        (
            json!([{"type": "ABAC", "name": "a"}]),
            "authorizers[0].type: Unsupported value: \"ABAC\": supported values: \"Node\", \"RBAC\", \"Webhook\"",
        ),
        (
            json!([{"type": "RBAC", "name": "a"}, {"type": "RBAC", "name": "b"}]),
            "authorizers[1].type: Duplicate value: \"RBAC\"",
        ),
        (
            json!([{"type": "RBAC", "name": "a"}, {"type": "Node", "name": "a"}]),
            "authorizers[1].name: Duplicate value: \"a\"",
        ),
        (json!([{"type": "RBAC"}]), "authorizers[0].name: Required value"),
        (
            json!([{"type": "RBAC", "name": "A B"}]),
            "authorizer name is invalid: a lowercase RFC 1123 subdomain",
        ),
        (
            json!([{"type": "Webhook", "name": "a"}]),
            "authorizers[0].webhook: Required value: required when type=Webhook",
        ),
        (
            webhook(|webhook| webhook["timeout"] = json!("31s")),
            "authorizers[0].webhook.timeout: Invalid value: \"31s\": must be > 0s and <= 30s",
        ),
        (
            webhook(|webhook| webhook["authorizedTTL"] = json!("")),
            "authorizers[0].webhook.authorizedTTL: Required value",
        ),
        (
            webhook(|webhook| webhook["failurePolicy"] = json!("Allow")),
            "authorizers[0].webhook.failurePolicy: Unsupported value: \"Allow\"",
        ),
        (
            webhook(|webhook| webhook["matchConditions"] = json!([{"expression": "true"}])),
            "matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
        ),
        (
            webhook(|webhook| {
                webhook["matchConditionSubjectAccessReviewVersion"] = json!("v1");
                webhook["matchConditions"] = json!([{"expression": "request.user"}]);
            }),
            "authorizers[0].webhook.matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to \
             bool",
        ),
        (
            webhook(|webhook| webhook["connectionInfo"]["kubeConfigFile"] = json!("there")),
            "must be an absolute path",
        ),
        (
            webhook(|webhook| webhook["connectionInfo"]["kubeConfigFile"] = json!("/away")),
            "error loading file: no such file or directory",
        ),
    ] {
        let why = compiled(authorizers).map(|settings| settings.0.len()).expect_err(words);
        assert!(why.contains(words), "{words}\n{why}");
    }
}
