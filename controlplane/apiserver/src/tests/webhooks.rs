//! Admission webhooks, against webhooks that speak TLS in this process: those that decide, and those that hang, lie or die.

use std::time::Duration;

use super::custom::{widget, widgets};
use super::hooks::{Answering, Hook, answer, patch};
use super::*;
use crate::audit::annotations::Annotations;
use crate::registry::virtuals::{Passing, VirtualRoute};

const HOOKS: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/a/configmaps";

/// One webhook about ConfigMaps, changed by the test.
fn hook(of: &Hook, name: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut hook = json!({"name": format!("{name}.example.com"), "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": of.url, "caBundle": of.bundle},
        "rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]});
    change(&mut hook);
    hook
}

impl Fixture {
    /// Creates a namespace with labels.
    pub(super) async fn namespace(&self, name: &str, labels: Value) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let created = self.post("/api/v1/namespaces", namespace).await;
        assert_eq!(created.code, 201, "{created:?}");
    }

    /// Creates a configuration, and waits until it is heeded.
    async fn hooks(&self, kind: &str, name: &str, hooks: Value) {
        let before = self.planned().await;
        let configuration = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name}, "webhooks": hooks});
        let target = format!("{HOOKS}/{}webhookconfigurations", kind.to_lowercase());
        let created = self.post(&target, configuration).await;
        assert_eq!(created.code, 201, "{created:?}");
        self.until_planned(before).await;
    }

    pub(super) async fn planned(&self) -> usize {
        let plans = self.server.shared.dynamic.plans().await.expect("plans");
        Arc::as_ptr(&plans) as usize
    }

    /// Waits for other plans than those.
    pub(super) async fn until_planned(&self, before: usize) {
        let heeded = async {
            while self.planned().await == before {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), heeded)
            .await
            .expect("heeded");
    }

    async fn map(&self, name: &str, data: Value) -> Answer {
        self.post(MAPS, config_map(name, data)).await
    }
}

fn allow(review: &Value) -> Value {
    answer(
        review,
        json!({"allowed": true, "warnings": ["look out"], "auditAnnotations": {"key": "value"}}),
    )
}

fn deny(review: &Value) -> Value {
    answer(
        review,
        json!({"allowed": false, "status": {"message": "not today", "reason": "Forbidden", "code": 403}}),
    )
}

#[tokio::test]
async fn a_denial_passes_the_webhook_s_status_on() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(deny).await);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "deny", |_| {})]))
        .await;
    let refused = fixture.map("x", json!({})).await;
    assert_eq!(
        (refused.code.as_u16(), refused.at("/reason")),
        (403, json!("Forbidden"))
    );
    assert_eq!(
        refused.message(),
        "admission webhook \"deny.example.com\" denied the request: not today"
    );
    assert_eq!(fixture.backend_range("core/configmaps/").await, 0);
    let asked = webhook.asked.lock()[0]["request"].clone();
    assert_eq!(asked["operation"], "CREATE");
    assert_eq!(
        asked["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(asked["resource"], asked["requestResource"]);
    assert_eq!((&asked["name"], &asked["namespace"]), (&json!("x"), &json!("a")));
    assert_eq!(asked["userInfo"]["username"], "tester");
    assert_eq!((&asked["oldObject"], &asked["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(asked["options"]["kind"], "CreateOptions");
}

#[tokio::test]
async fn warnings_and_annotations_are_passed_on() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "allow", |_| {})]))
        .await;
    let annotations = Annotations::default();
    let created = annotations.scope(fixture.post(MAPS, config_map("x", json!({})))).await;
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(created.headers["warning"], "299 - \"look out\"");
    assert_eq!(annotations.said()["allow.example.com/key"], "value");
    let deleted = fixture.delete(&format!("{MAPS}/x")).await;
    assert_eq!(
        (deleted.code.as_u16(), deleted.headers.contains_key("warning")),
        (200, true)
    );
}

#[tokio::test]
async fn deletes_show_what_was_and_each_of_a_collection_is_asked_about() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    for name in ["x", "y", "z"] {
        fixture.config_map(name, json!({"k": name})).await;
    }
    let only = |hook: &mut Value| hook["rules"][0]["operations"] = json!(["DELETE"]);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "d", only)]))
        .await;
    fixture.delete(&format!("{MAPS}/x?gracePeriodSeconds=0")).await;
    {
        let asked = webhook.asked.lock();
        let asked = &asked[0]["request"];
        assert_eq!(
            (&asked["object"], &asked["oldObject"]["data"]["k"]),
            (&Value::Null, &json!("x"))
        );
        assert_eq!(asked["options"]["gracePeriodSeconds"], 0);
    }
    fixture.delete(MAPS).await;
    assert_eq!(webhook.count(), 3);
}

fn first(review: &Value) -> Value {
    patch(review, json!([{"op": "add", "path": "/data/first", "value": "yes"}]))
}

/// Wants to see what the first has made.
fn second(review: &Value) -> Value {
    match review["request"]["object"]["data"]["first"].as_str() {
        Some(_) => patch(
            review,
            json!([{"op": "add", "path": "/data/second", "value": "yes"},
            {"op": "replace", "path": "/metadata/uid", "value": "mine"}]),
        ),
        None => answer(review, json!({"allowed": true})),
    }
}

#[tokio::test]
async fn mutations_are_made_in_order_and_seen_again_where_needed() {
    let (fixture, one, two) = (Fixture::new().await, Hook::new(second).await, Hook::new(first).await);
    let again = |hook: &mut Value| hook["reinvocationPolicy"] = json!("IfNeeded");
    fixture
        .hooks("Mutating", "a", json!([hook(&one, "watchful", again)]))
        .await;
    fixture
        .hooks("Mutating", "b", json!([hook(&two, "first", |_| {})]))
        .await;
    let created = fixture.map("x", json!({"k": "v"})).await;
    assert_eq!(
        created.at("/data"),
        json!({"k": "v", "first": "yes", "second": "yes"}),
        "{created:?}"
    );
    assert_eq!((one.count(), two.count()), (2, 1));
    assert_ne!(created.at("/metadata/uid"), "mine");
    let owned = created.at("/metadata/managedFields/0/fieldsV1/f:data");
    assert_eq!(
        owned.as_object().map(|map| map.len()),
        Some(2),
        "only what was sent is owned: {owned}"
    );
}

#[tokio::test]
async fn a_mutation_must_fit_the_kind() {
    fn wrong(review: &Value) -> Value {
        patch(review, json!([{"op": "add", "path": "/data", "value": ["no"]}]))
    }
    fn unknown(review: &Value) -> Value {
        patch(review, json!([{"op": "add", "path": "/surplus", "value": "no"}]))
    }
    let fixture = Fixture::new().await;
    let webhook = Hook::new(wrong).await;
    fixture
        .hooks("Mutating", "m", json!([hook(&webhook, "m", |_| {})]))
        .await;
    assert_eq!(fixture.map("x", json!({"k": "v"})).await.code, 500);
    drop(fixture);
    let fixture = Fixture::new().await;
    let webhook = Hook::new(unknown).await;
    fixture
        .hooks("Mutating", "m", json!([hook(&webhook, "m", |_| {})]))
        .await;
    let created = fixture.map("x", json!({"k": "v"})).await;
    assert_eq!((created.code.as_u16(), created.at("/surplus")), (201, Value::Null));
}

#[tokio::test]
async fn what_a_webhook_adds_to_a_custom_resource_is_pruned_and_judged() {
    fn grow(review: &Value) -> Value {
        let operations = json!([{"op": "add", "path": "/spec/surplus", "value": 1},
            {"op": "add", "path": "/spec/color", "value": "green"}]);
        patch(review, operations)
    }
    let (fixture, webhook) = (Fixture::new().await, Hook::new(grow).await);
    fixture.define(widgets(|_| {})).await;
    let about = |hook: &mut Value| {
        hook["rules"] = json!([{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["*"],
            "resources": ["widgets"]}]);
    };
    fixture
        .hooks("Mutating", "m", json!([hook(&webhook, "m", about)]))
        .await;
    let target = "/apis/example.com/v1/namespaces/a/widgets";
    let created = fixture.post(target, widget("w", json!({"size": 2}))).await;
    assert_eq!(created.at("/spec"), json!({"size": 2, "color": "green"}), "{created:?}");
}

#[tokio::test]
async fn a_flood_of_warnings_is_cut() {
    fn flood(review: &Value) -> Value {
        let warnings: Vec<String> = (0..50_000).map(|i| format!("{i} {}", "w".repeat(300))).collect();
        answer(review, json!({"allowed": true, "warnings": warnings}))
    }
    let (fixture, webhook) = (Fixture::new().await, Hook::new(flood).await);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", |_| {})]))
        .await;
    let created = fixture.map("x", json!({})).await;
    assert_eq!(
        (created.code.as_u16(), created.headers.get_all("warning").iter().count()),
        (201, 16)
    );
}

#[tokio::test]
async fn selectors_scopes_and_conditions_decide_who_is_asked() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(deny).await);
    fixture.namespace("a", json!({"guarded": "yes"})).await;
    fixture.namespace("b", json!({})).await;
    let narrowed = |hook: &mut Value| {
        hook["namespaceSelector"] = json!({"matchLabels": {"guarded": "yes"}});
        hook["objectSelector"] = json!({"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]});
        hook["matchConditions"] = json!([{"name": "not-me", "expression": "object.metadata.name != 'skip-me'"},
            {"name": "user", "expression": "!authorizer.requestResource.check('never').allowed() || request.name != 'free'"}]);
    };
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", narrowed)]))
        .await;
    assert_eq!(fixture.map("x", json!({})).await.code, 403);
    assert_eq!(fixture.map("skip-me", json!({})).await.code, 201);
    assert_eq!(
        fixture.map("free", json!({})).await.code,
        201,
        "the tester may do everything"
    );
    let elsewhere = fixture
        .post("/api/v1/namespaces/b/configmaps", config_map("x", json!({})))
        .await;
    assert_eq!(elsewhere.code, 201);
    let mut labelled = config_map("y", json!({}));
    labelled["metadata"]["labels"] = json!({"skip": "me"});
    assert_eq!(fixture.post(MAPS, labelled.clone()).await.code, 201);
    labelled["metadata"]["labels"] = json!({});
    let target = format!("{MAPS}/y");
    assert_eq!(
        fixture.put(&target, labelled).await.code,
        403,
        "the new object has to pass"
    );
}

#[tokio::test]
async fn a_condition_that_fails_counts_as_the_policy_says() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    let broken =
        |hook: &mut Value| hook["matchConditions"] = json!([{"name": "c", "expression": "object.nothing == 1"}]);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", broken)]))
        .await;
    let refused = fixture.map("x", json!({})).await;
    assert_eq!(refused.code, 403, "{refused:?}");
    assert!(
        refused.message().contains("resulted in error: no such key: nothing"),
        "{refused:?}"
    );
    let open = json!([{"op": "add", "path": "/webhooks/0/failurePolicy", "value": "Ignore"}]);
    let before = fixture.planned().await;
    let target = format!("{HOOKS}/validatingwebhookconfigurations/v");
    assert_eq!(fixture.patch(&target, "json", open).await.code, 200);
    fixture.until_planned(before).await;
    assert_eq!(fixture.map("x", json!({})).await.code, 201);
    assert_eq!(webhook.count(), 0);
}

#[tokio::test]
async fn conditions_must_compile() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    let hooks = |expression: &str| {
        let broken = |hook: &mut Value| hook["matchConditions"] = json!([{"name": "c", "expression": expression}]);
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "v"}, "webhooks": [hook(&webhook, "v", broken)]})
    };
    for (expression, words) in [
        ("... [", "compilation failed"),
        ("object.x + 1 == nowhere", "undeclared reference to 'nowhere'"),
        ("'text'", "must evaluate to bool but got string"),
    ] {
        let refused = fixture
            .post(&format!("{HOOKS}/validatingwebhookconfigurations"), hooks(expression))
            .await;
        assert_eq!(refused.code, 422, "{refused:?}");
        assert!(refused.message().contains(words), "{expression}: {refused:?}");
    }
}

#[tokio::test]
async fn configurations_themselves_are_exempt() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(deny).await);
    let all = |hook: &mut Value| {
        hook["rules"] = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    };
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", all)]))
        .await;
    assert_eq!(fixture.map("x", json!({})).await.code, 403);
    let deleted = fixture
        .delete(&format!("{HOOKS}/validatingwebhookconfigurations/v"))
        .await;
    assert_eq!(deleted.code, 200, "{deleted:?}");
}

#[tokio::test]
async fn an_equivalent_version_is_asked_about_in_that_version() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    let scalers = |policy: &str| {
        let policy = policy.to_owned();
        move |hook: &mut Value| {
            hook["matchPolicy"] = json!(policy);
            hook["rules"] = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
                "resources": ["horizontalpodautoscalers"]}]);
        }
    };
    let hooks = json!([
        hook(&webhook, "like", scalers("Equivalent")),
        hook(&webhook, "exact", scalers("Exact"))
    ]);
    fixture.hooks("Validating", "v", hooks).await;
    let scaler = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"},
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization",
                "averageUtilization": 50}}}]}});
    let created = fixture
        .post("/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers", scaler)
        .await;
    assert_eq!(created.code, 201, "{created:?}");
    let asked = webhook.asked.lock();
    assert_eq!(asked.len(), 1, "only the one that takes what is like it");
    let asked = &asked[0]["request"];
    assert_eq!(
        (&asked["kind"]["version"], &asked["requestKind"]["version"]),
        (&json!("v1"), &json!("v2"))
    );
    assert_eq!(asked["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(asked["object"]["spec"]["targetCPUUtilizationPercentage"], 50);
}

#[tokio::test]
async fn a_scale_is_shown_as_one() {
    fn fewer(review: &Value) -> Value {
        patch(review, json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]))
    }
    let (fixture, webhook) = (Fixture::new().await, Hook::new(fewer).await);
    let deployments = "/apis/apps/v1/namespaces/a/deployments";
    fixture.post(deployments, deployment("d", 1)).await;
    let scales = |hook: &mut Value| {
        hook["rules"] = json!([{"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
            "resources": ["deployments/scale"]}]);
    };
    fixture
        .hooks("Mutating", "m", json!([hook(&webhook, "m", scales)]))
        .await;
    let scaled = fixture
        .patch(
            &format!("{deployments}/d/scale"),
            "merge",
            json!({"spec": {"replicas": 9}}),
        )
        .await;
    assert_eq!(scaled.at("/spec/replicas"), 2, "{scaled:?}");
    let asked = webhook.asked.lock();
    assert_eq!(asked[0]["request"]["object"]["kind"], "Scale");
    assert_eq!(asked[0]["request"]["object"]["spec"]["replicas"], 9);
    assert_eq!(asked[0]["request"]["kind"]["group"], "autoscaling");
}

#[tokio::test]
async fn a_dry_run_is_said_to_be_one() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", |_| {})]))
        .await;
    let dry = fixture
        .post(&format!("{MAPS}?dryRun=All"), config_map("x", json!({})))
        .await;
    assert_eq!(dry.code, 201);
    let asked = webhook.asked.lock()[0]["request"].clone();
    assert_eq!(
        (&asked["dryRun"], &asked["options"]["dryRun"]),
        (&json!(true), &json!(["All"]))
    );
}

#[tokio::test]
async fn a_binding_may_be_refused() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(deny).await);
    let pods = "/api/v1/namespaces/a/pods";
    fixture.post(pods, pod("p")).await;
    let bindings = |hook: &mut Value| hook["rules"][0]["resources"] = json!(["pods/binding"]);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", bindings)]))
        .await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"}});
    let refused = fixture.post(&format!("{pods}/p/binding"), binding).await;
    assert_eq!(refused.code, 403, "{refused:?}");
    assert_eq!(webhook.asked.lock()[0]["request"]["object"]["target"]["name"], "n");
}

#[tokio::test]
async fn a_binding_of_its_own_is_seen_as_what_it_is() {
    let virtuals: crate::Virtuals = Box::new(|_| vec![crate::pods::bindings()]);
    let fixture = Fixture::with(Arc::new(Memory::default()), Vec::new(), virtuals).await;
    let webhook = Hook::new(deny).await;
    fixture.post("/api/v1/namespaces/a/pods", pod("p")).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
        "target": {"kind": "Node", "name": "n"}});
    let target = "/api/v1/namespaces/a/bindings";
    let of = |resource: &'static str| move |hook: &mut Value| hook["rules"][0]["resources"] = json!([resource]);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", of("bindings"))]))
        .await;
    assert_eq!(fixture.post(target, binding.clone()).await.code, 403);
    let asked = webhook.asked.lock()[0]["request"].clone();
    let resource = json!({"group": "", "version": "v1", "resource": "bindings"});
    assert_eq!(
        (&asked["resource"], &asked["name"], &asked["kind"]["kind"]),
        (&resource, &json!("p"), &json!("Binding"))
    );
    // The part of the pod that does the work is another resource.
    let part = json!([hook(&webhook, "v", of("pods/binding"))]);
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let before = fixture.planned().await;
    fixture.delete(&format!("{hooks}/v")).await;
    fixture.until_planned(before).await;
    fixture.hooks("Validating", "w", part).await;
    assert_eq!(fixture.post(target, binding).await.code, 201);
    assert_eq!(webhook.asked.lock().len(), 1);
}

/// Answers whoever gets through.
struct Through;

#[async_trait]
impl crate::registry::virtuals::Virtual for Through {
    async fn call(
        &self,
        _: crate::registry::virtuals::VirtualContext,
        _: crate::registry::virtuals::Request,
    ) -> Result<crate::registry::virtuals::Response, api::Status> {
        Ok(http::Response::new(Body::empty()))
    }
}

/// A route to a part of an object.
fn part(resource: &'static str, subresource: &'static str, kind: &'static str, passing: Passing) -> VirtualRoute {
    VirtualRoute {
        group: "",
        version: "v1",
        resource,
        subresource: Some(subresource),
        namespaced: true,
        kind,
        kind_group_version: None,
        definition: None,
        verbs: &["create", "get"],
        passing,
        handler: Arc::new(Through),
    }
}

#[tokio::test]
async fn what_a_route_takes_may_be_refused() {
    let mut token = part("serviceaccounts", "token", "TokenRequest", Passing::Create);
    token.kind_group_version = Some(("authentication.k8s.io", "v1"));
    let fixture = Fixture::with(Arc::new(Memory::default()), Vec::new(), Box::new(move |_| vec![token])).await;
    let webhook = Hook::new(deny).await;
    let target = "/api/v1/namespaces/a/serviceaccounts/x/token";
    let wanted = json!({"spec": {"audiences": ["vault"]}});
    assert_eq!(fixture.post(target, wanted.clone()).await.code, 200);
    let tokens = |hook: &mut Value| {
        hook["rules"] = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["serviceaccounts/token"]}]);
    };
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", tokens)]))
        .await;
    assert_eq!(fixture.post(target, wanted).await.code, 403);
    let asked = webhook.asked.lock()[0]["request"].clone();
    assert_eq!(
        (&asked["name"], &asked["kind"]["kind"]),
        (&json!("x"), &json!("TokenRequest"))
    );
    assert_eq!(asked["object"]["spec"]["audiences"], json!(["vault"]));
}

#[tokio::test]
async fn a_name_that_was_asked_for_is_told_beside_a_base_for_one() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "allow", |_| {})]))
        .await;
    for (metadata, told) in [
        (json!({"name": "own", "generateName": "x-"}), "own"),
        (json!({"generateName": "x-"}), ""),
    ] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        assert_eq!(fixture.post(MAPS, map).await.code, 201);
        let asked = webhook.asked.lock().pop().expect("it was asked");
        assert_eq!(asked["request"]["name"].as_str().unwrap_or_default(), told);
    }
}

#[tokio::test]
async fn a_connection_may_be_refused() {
    let attach = part("pods", "attach", "PodAttachOptions", Passing::Connect);
    let fixture = Fixture::with(Arc::new(Memory::default()), Vec::new(), Box::new(move |_| vec![attach])).await;
    let webhook = Hook::new(deny).await;
    let target = "/api/v1/namespaces/a/pods/p/attach?container=c&stdin=true";
    assert_eq!(fixture.post(target, json!({})).await.code, 200);
    let connects = |hook: &mut Value| {
        hook["rules"] = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
            "resources": ["pods/attach"]}]);
    };
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", connects)]))
        .await;
    assert_eq!(fixture.post(target, json!({})).await.code, 403);
    let asked = webhook.asked.lock()[0]["request"].clone();
    assert_eq!((&asked["operation"], &asked["name"]), (&json!("CONNECT"), &json!("p")));
    let options = json!({"kind": "PodAttachOptions", "apiVersion": "v1", "container": "c", "stdin": true});
    assert_eq!(asked["object"], options);
}

#[tokio::test]
async fn connections_are_kept_between_calls() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    let both = json!([hook(&webhook, "one", |_| {}), hook(&webhook, "two", |_| {})]);
    fixture.hooks("Mutating", "m", both).await;
    for nth in 0..10 {
        assert_eq!(fixture.map(&format!("x{nth}"), json!({})).await.code, 201);
    }
    assert_eq!(
        (webhook.count(), webhook.connections()),
        (20, 1),
        "calls one after the other share a connection"
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_opened_anew() {
    fn once(review: &Value) -> Value {
        let mut answer = allow(review);
        answer["does"] = json!("close");
        answer
    }
    let (fixture, webhook) = (Fixture::new().await, Hook::new(once).await);
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "v", |_| {})]))
        .await;
    for nth in 0..5 {
        assert_eq!(fixture.map(&format!("x{nth}"), json!({})).await.code, 201);
    }
    assert_eq!((webhook.count(), webhook.connections()), (5, 5));
}

/// What a webhook that is no good does, and the words for it.
const BAD: [(Answering, &str); 7] = [
    (|_| json!({"does": "hang"}), "context deadline exceeded"),
    (|_| json!({"does": "die"}), "failed to call webhook: Post "),
    (
        |_| json!({"does": "fail"}),
        "failed to call webhook: an error on the server",
    ),
    (
        |_| json!({"kind": "AdmissionReview"}),
        "received invalid webhook response: webhook response was absent",
    ),
    (
        |_| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": {"uid": "x", "allowed": true}}),
        "received invalid webhook response: expected response.uid=",
    ),
    (
        |review| json!({"apiVersion": "v1", "kind": "Lie", "response": {"uid": review["request"]["uid"], "allowed": true}}),
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got /v1, Kind=Lie",
    ),
    (
        |review| {
            answer(
                review,
                json!({"allowed": true, "patch": "bm9uZQ==", "patchType": "JSONPatch"}),
            )
        },
        "received undecodable patch in webhook response",
    ),
];

#[tokio::test]
async fn a_webhook_that_hangs_lies_or_dies_counts_as_its_policy_says() {
    for (bad, words) in BAD {
        let (fixture, webhook) = (Fixture::new().await, Hook::new(bad).await);
        let failing = |policy: &'static str| {
            move |hook: &mut Value| {
                hook["failurePolicy"] = json!(policy);
                hook["timeoutSeconds"] = json!(1);
            }
        };
        fixture
            .hooks("Mutating", "m", json!([hook(&webhook, "open", failing("Ignore"))]))
            .await;
        let created = fixture.map("x", json!({"k": "v"})).await;
        assert_eq!(
            (created.code.as_u16(), webhook.count()),
            (201, 1),
            "{words}: {created:?}"
        );
        fixture
            .hooks("Mutating", "n", json!([hook(&webhook, "closed", failing("Fail"))]))
            .await;
        let refused = fixture.map("y", json!({"k": "v"})).await;
        assert_eq!(
            (refused.code.as_u16(), refused.at("/reason")),
            (500, json!("InternalError")),
            "{refused:?}"
        );
        let message = refused.message();
        let head = "Internal error occurred: failed calling webhook \"closed.example.com\": ";
        assert!(
            message.starts_with(head) && message.contains(words),
            "{words}: {message}"
        );
    }
}

#[tokio::test]
async fn a_webhook_that_is_not_there_fails_in_words() {
    let (fixture, webhook) = (Fixture::new().await, Hook::new(allow).await);
    let away = |hook: &mut Value| {
        hook["clientConfig"] = json!({"service": {"namespace": "a", "name": "nobody", "path": "/ask", "port": 8443},
            "caBundle": webhook.bundle});
    };
    fixture
        .hooks("Validating", "v", json!([hook(&webhook, "away", away)]))
        .await;
    let refused = fixture.map("x", json!({})).await;
    assert_eq!(
        refused.message(),
        "Internal error occurred: failed calling webhook \"away.example.com\": failed to call webhook: Post \
         \"https://nobody.a.svc:8443/ask?timeout=10s\": service \"nobody\" not found"
    );
}
