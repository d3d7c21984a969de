//! Admission policies from end to end: what their expressions see, what their bindings make of it.

use std::time::Duration;

use super::custom::{widget, widgets};
use super::*;
use crate::audit::annotations::Annotations;

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/a/deployments";

fn rules(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": [group], "apiVersions": ["v1"],
        "resources": [resource]}]})
}

impl Fixture {
    /// Creates a policy of a kind, `Validating` or `Mutating`.
    async fn policy(&self, kind: &str, name: &str, spec: Value) -> Answer {
        let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}AdmissionPolicy"),
            "metadata": {"name": name}, "spec": spec});
        let target = format!("{POLICIES}/{}admissionpolicies", kind.to_lowercase());
        self.post(&target, policy).await
    }

    /// Binds a policy, and waits until that is heeded.
    async fn bind(&self, kind: &str, name: &str, policy: &str, mut spec: Value) {
        spec["policyName"] = json!(policy);
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{kind}AdmissionPolicyBinding"), "metadata": {"name": name}, "spec": spec});
        let target = format!("{POLICIES}/{}admissionpolicybindings", kind.to_lowercase());
        let created = self.post(&target, binding).await;
        assert_eq!(created.code, 201, "{created:?}");
        let heeded = async {
            while !self.is_bound(name).await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), heeded)
            .await
            .expect("heeded");
    }

    async fn is_bound(&self, binding: &str) -> bool {
        let plans = self.server.shared.dynamic.plans().await.expect("plans");
        let mut bound = plans.validating_policies.iter().chain(&plans.mutating_policies);
        bound.any(|bound| bound.bindings.iter().any(|known| known.name == binding))
    }

    /// Puts a policy to work that denies.
    async fn validating(&self, name: &str, spec: Value) {
        let created = self.policy("Validating", name, spec).await;
        assert_eq!(created.code, 201, "{created:?}");
        self.bind(
            "Validating",
            &format!("{name}-binding"),
            name,
            json!({"validationActions": ["Deny"]}),
        )
        .await;
    }

    async fn mutating(&self, name: &str, mut spec: Value) {
        spec["reinvocationPolicy"] = json!("IfNeeded");
        let created = self.policy("Mutating", name, spec).await;
        assert_eq!(created.code, 201, "{created:?}");
        self.bind("Mutating", &format!("{name}-binding"), name, json!({})).await;
    }
}

#[tokio::test]
async fn a_rule_that_does_not_hold_denies_in_its_words() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({"tier": "gold"})).await;
    let spec = json!({"matchConstraints": rules("apps", "deployments"),
        "variables": [{"name": "n", "expression": "object.spec.replicas"},
            {"name": "gold", "expression": "namespaceObject.metadata.labels['tier'] == 'gold'"}],
        "matchConditions": [{"name": "not-free", "expression": "object.metadata.name != 'free'"}],
        "validations": [
            {"expression": "variables.n > 1", "messageExpression": "'wants more than ' + string(variables.n)"},
            {"expression": "variables.gold && request.namespace == 'a'", "reason": "Forbidden"},
            {"expression": "variables.n < 10 || authorizer.group('').resource('pods').check('go').allowed()"}]});
    fixture.validating("many", spec).await;
    let refused = fixture.post(DEPLOYMENTS, deployment("d", 1)).await;
    assert_eq!((refused.code.as_u16(), refused.at("/reason")), (422, json!("Invalid")));
    let words = "ValidatingAdmissionPolicy 'many' with binding 'many-binding' denied request: wants more than 1";
    assert_eq!(
        refused.message(),
        format!("deployments.apps \"d\" is forbidden: {words}")
    );
    assert_eq!(refused.at("/details/causes/0/message"), words);
    for (name, replicas, code) in [("free", 1, 201), ("d", 2, 201), ("e", 20, 201)] {
        let answer = fixture.post(DEPLOYMENTS, deployment(name, replicas)).await;
        assert_eq!(answer.code, code, "{name}: {answer:?}");
    }
    let scaled = fixture
        .patch(&format!("{DEPLOYMENTS}/d"), "merge", json!({"spec": {"replicas": 1}}))
        .await;
    assert_eq!(scaled.code, 422, "{scaled:?}");
}

#[tokio::test]
async fn an_expression_that_fails_counts_as_the_policy_says() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({})).await;
    let spec = |policy: &str| {
        json!({"matchConstraints": rules("", "configmaps"), "failurePolicy": policy,
        "validations": [{"expression": "object.data.wanted == 'yes'", "message": " Say yes. "}]})
    };
    fixture.validating("open", spec("Ignore")).await;
    assert_eq!(fixture.post(MAPS, config_map("x", json!({"k": "v"}))).await.code, 201);
    let refused = fixture.post(MAPS, config_map("y", json!({"wanted": "no"}))).await;
    assert!(refused.message().ends_with("denied request: Say yes."), "{refused:?}");
    fixture.validating("shut", spec("Fail")).await;
    let refused = fixture.post(MAPS, config_map("z", json!({"k": "v"}))).await;
    let words = "expression 'object.data.wanted == 'yes'' resulted in error: no such key: wanted";
    assert!(refused.message().ends_with(words), "{refused:?}");
    assert_eq!(
        fixture.post(MAPS, config_map("z", json!({"wanted": "yes"}))).await.code,
        201
    );
}

#[tokio::test]
async fn bindings_warn_and_audit() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({})).await;
    let spec = json!({"matchConstraints": rules("", "configmaps"), "validations": [{"expression": "false", "message": "no"}],
        "auditAnnotations": [{"key": "named", "valueExpression": "'name ' + object.metadata.name"}]});
    assert_eq!(fixture.policy("Validating", "p", spec).await.code, 201);
    fixture
        .bind("Validating", "b", "p", json!({"validationActions": ["Warn", "Audit"]}))
        .await;
    let annotations = Annotations::default();
    let created = annotations.scope(fixture.post(MAPS, config_map("x", json!({})))).await;
    assert_eq!(created.code, 201, "{created:?}");
    let warning = "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': no\"";
    assert_eq!(created.headers["warning"], warning);
    let annotations = annotations.said();
    assert_eq!(annotations["p/named"], "name x");
    let failures: Value =
        serde_json::from_str(&annotations["validation.policy.admission.k8s.io/validation_failure"]).unwrap();
    assert_eq!(
        (&failures[0]["policy"], &failures[0]["expressionIndex"]),
        (&json!("p"), &json!(0))
    );
}

#[tokio::test]
async fn parameters_come_by_name_and_by_selector() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({})).await;
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConstraints": rules("apps", "deployments"),
        "validations": [{"expression": "object.spec.replicas <= int(params.data.max)",
            "messageExpression": "'at most ' + params.data.max"}]});
    assert_eq!(fixture.policy("Validating", "p", spec).await.code, 201);
    let by_name =
        json!({"validationActions": ["Deny"], "paramRef": {"name": "limit", "parameterNotFoundAction": "Deny"}});
    fixture.bind("Validating", "b", "p", by_name).await;
    let refused = fixture.post(DEPLOYMENTS, deployment("d", 4)).await;
    let words = "denied request: failed to configure binding: no params found for policy binding with `Deny` \
                 parameterNotFoundAction";
    assert!(refused.message().ends_with(words), "{refused:?}");
    fixture.config_map("limit", json!({"max": "5"})).await;
    assert_eq!(fixture.post(DEPLOYMENTS, deployment("d", 4)).await.code, 201);
    let refused = fixture.post(DEPLOYMENTS, deployment("e", 6)).await;
    assert!(refused.message().ends_with("denied request: at most 5"), "{refused:?}");
    let labels = json!({"matchLabels": {"limits": "yes"}});
    let selected = json!({"validationActions": ["Deny"],
        "paramRef": {"selector": labels, "parameterNotFoundAction": "Allow"}});
    fixture.bind("Validating", "c", "p", selected).await;
    assert_eq!(fixture.post(DEPLOYMENTS, deployment("f", 3)).await.code, 201);
    let mut stricter = config_map("stricter", json!({"max": "2"}));
    stricter["metadata"]["labels"] = json!({"limits": "yes"});
    assert_eq!(fixture.post(MAPS, stricter).await.code, 201);
    let refused = fixture.post(DEPLOYMENTS, deployment("g", 3)).await;
    assert!(refused.message().ends_with("denied request: at most 2"), "{refused:?}");
}

#[tokio::test]
async fn expressions_must_compile() {
    let fixture = Fixture::new().await;
    let refused = fixture
        .policy(
            "Validating",
            "p",
            json!({"matchConstraints": rules("", "pods"),
            "variables": [{"name": "v", "expression": "nowhere"}],
            "validations": [{"expression": "1 +", "messageExpression": "authorizer.path('/').check('get').reason()"},
                {"expression": "'text'"}, {"expression": "params.x == 1"}],
            "auditAnnotations": [{"key": "k", "valueExpression": "1"}]}),
        )
        .await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let causes = refused.at("/details/causes");
    let fields: Vec<&str> = causes
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|cause| cause["field"].as_str())
        .collect();
    let expected = [
        "spec.variables[0].expression",
        "spec.validations[0].expression",
        "spec.validations[0].messageExpression",
        "spec.validations[1].expression",
        "spec.validations[2].expression",
        "spec.auditAnnotations[0].valueExpression",
    ];
    assert_eq!(fields, expected);
    for words in [
        "undeclared reference to 'nowhere'",
        "must evaluate to bool but got string",
        "undeclared reference to 'params'",
        "must evaluate to one of [string null",
    ] {
        assert!(refused.message().contains(words), "{words}: {refused:?}");
    }
    let refused = fixture
        .policy(
            "Mutating",
            "m",
            json!({"matchConstraints": rules("", "pods"), "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "Object{}"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Other{}"}}]}),
        )
        .await;
    assert!(
        refused
            .message()
            .contains("must evaluate to list(JSONPatch) but got Object"),
        "{refused:?}"
    );
    assert!(
        refused.message().contains("undeclared reference to 'Other'"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn doubtful_expressions_are_told_in_the_status() {
    let fixture = Fixture::new().await;
    fixture.define(widgets(|_| {})).await;
    for (group, resource) in [("apps", "deployments"), ("example.com", "widgets")] {
        let name = format!("check-{resource}");
        let field = if group == "apps" { "replicas" } else { "size" };
        let spec = json!({"matchConstraints": rules(group, resource),
            "validations": [{"expression": format!("object.spec.{field} > '1'"),
                "messageExpression": format!("'wants > 1, got ' + object.spec.{field}")}]});
        assert_eq!(fixture.policy("Validating", &name, spec).await.code, 201);
        let target = format!("{POLICIES}/validatingadmissionpolicies/{name}");
        let status = async {
            loop {
                let status = fixture.get(&target).await.at("/status");
                if status["observedGeneration"] == 1 {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(5), status)
            .await
            .expect("a status");
        let warnings = &status["typeChecking"]["expressionWarnings"];
        assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
        assert_eq!(warnings[1]["fieldRef"], "spec.validations[0].messageExpression");
        for (nth, words) in ["'_>_' applied to '(int, string)'", "'_+_' applied to '(string, int)'"]
            .iter()
            .enumerate()
        {
            let warning = warnings[nth]["warning"].as_str().unwrap_or_default();
            assert!(
                warning.contains(&format!("found no matching overload for {words}")),
                "{warning}"
            );
        }
    }
}

#[tokio::test]
async fn mutating_policies_apply_and_patch() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({})).await;
    fixture
        .mutating(
            "label",
            json!({"matchConstraints": rules("", "pods"), "variables": [{"name": "v", "expression": "'yes'"}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{metadata: Object.metadata{labels: {'applied': variables.v}}, spec: Object.spec{initContainers: \
                 [Object.spec.initContainers{name: 'proxy', image: 'proxy:1', restartPolicy: 'Always'}]}}"}}]}),
        )
        .await;
    fixture
        .mutating(
            "annotate",
            json!({"matchConstraints": rules("", "pods"),
            "matchConditions": [{"name": "once", "expression": "!has(object.metadata.annotations)"}],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
                "[JSONPatch{op: 'test', path: '/spec/containers/0/name', value: 'c'}, \
                 JSONPatch{op: 'add', path: '/metadata/annotations', value: {}}, \
                 JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('a.b/c'), \
                 value: string(size(object.spec.containers))}]"}}]}),
        )
        .await;
    let created = fixture.post("/api/v1/namespaces/a/pods", pod("p")).await;
    assert_eq!(created.code, 201, "{created:?}");
    assert_eq!(created.at("/metadata/labels"), json!({"app": "p", "applied": "yes"}));
    assert_eq!(created.at("/metadata/annotations"), json!({"a.b/c": "1"}));
    let init = created.at("/spec/initContainers/0");
    assert_eq!(
        (&init["name"], &init["restartPolicy"]),
        (&json!("proxy"), &json!("Always"))
    );
    assert_eq!(init["imagePullPolicy"], "IfNotPresent", "what is added has defaults");
    assert_eq!(created.at("/spec/containers/0/name"), "c");
    let mut other = pod("q");
    other["spec"]["containers"][0]["name"] = json!("d");
    let created = fixture.post("/api/v1/namespaces/a/pods", other).await;
    assert_eq!(
        created.at("/metadata/annotations"),
        Value::Null,
        "a test that fails changes nothing"
    );
}

#[tokio::test]
async fn a_change_that_fails_denies_in_words() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({})).await;
    let change = |expression: &str| {
        json!({"matchConstraints": rules("", "pods"), "mutations": [{"patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": expression}}]})
    };
    fixture
        .mutating(
            "atomic",
            change("Object{spec: Object.spec{containers: [Object.spec.containers{name: 'c', command: ['x']}]}}"),
        )
        .await;
    let refused = fixture.post("/api/v1/namespaces/a/pods", pod("p")).await;
    assert_eq!(refused.code, 403, "{refused:?}");
    assert_eq!(
        refused.message(),
        "policy 'atomic' with binding 'atomic-binding' denied request: error applying patch: invalid ApplyConfiguration: may \
         not mutate atomic arrays, maps or structs: .spec.containers[0].command"
    );
}

#[tokio::test]
async fn policies_reach_custom_resources_and_are_judged_after_changes() {
    let fixture = Fixture::new().await;
    fixture.namespace("a", json!({})).await;
    fixture.define(widgets(|_| {})).await;
    fixture
        .mutating(
            "grow",
            json!({"matchConstraints": rules("example.com", "widgets"),
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression":
                "Object{spec: Object.spec{color: 'green', surplus: 1}}"}}]}),
        )
        .await;
    let created = fixture
        .post(
            "/apis/example.com/v1/namespaces/a/widgets",
            widget("w", json!({"size": 2})),
        )
        .await;
    assert_eq!(created.code, 403, "{created:?}");
    assert!(
        created
            .message()
            .contains(".spec.surplus: field not declared in schema"),
        "{created:?}"
    );
    let target = format!("{POLICIES}/mutatingadmissionpolicies/grow");
    let before = fixture.planned().await;
    let fixed = json!([{"op": "replace", "path": "/spec/mutations/0/applyConfiguration/expression",
        "value": "Object{spec: Object.spec{color: 'green'}}"}]);
    assert_eq!(fixture.patch(&target, "json", fixed).await.code, 200);
    fixture.until_planned(before).await;
    let spec = json!({"matchConstraints": rules("example.com", "widgets"),
        "validations": [{"expression": "object.spec.color == 'green' && object.spec.size < 9"}]});
    fixture.validating("green", spec).await;
    let created = fixture
        .post(
            "/apis/example.com/v1/namespaces/a/widgets",
            widget("w", json!({"size": 2})),
        )
        .await;
    assert_eq!(created.at("/spec"), json!({"size": 2, "color": "green"}), "{created:?}");
    let refused = fixture
        .post(
            "/apis/example.com/v1/namespaces/a/widgets",
            widget("x", json!({"size": 10})),
        )
        .await;
    assert!(
        refused
            .message()
            .ends_with("failed expression: object.spec.color == 'green' && object.spec.size < 9"),
        "{refused:?}"
    );
}
