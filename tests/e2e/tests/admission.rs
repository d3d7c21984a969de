//! Admission that users bring along, in the hands of stock kubectl of both versions.

use std::time::Duration;

use e2e::{Cluster, Output, Tool, control_plane, need_root, until};

const VALIDATING: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  variables:
  - {name: count, expression: object.spec.replicas}
  validations:
  - {expression: variables.count <= 5, messageExpression: "'at most 5, not ' + string(variables.count)"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few}
spec: {policyName: few, validationActions: [Deny]}
"#;

const MUTATING: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: label}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >-
        Object{metadata: Object.metadata{labels: {"made": "by-" + request.userInfo.username.split(":")[0]}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: label}
spec: {policyName: label}
"#;

/// A webhook where nobody listens.
fn webhook(policy: &str) -> String {
    format!(
        r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: away}}
webhooks:
- name: away.example.com
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: {policy}
  timeoutSeconds: 2
  clientConfig: {{url: "https://127.0.0.1:1/ask"}}
  matchConditions:
  - {{name: not-the-marker, expression: "object.metadata.name != 'free'"}}
  rules:
  - {{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [secrets]}}
"#
    )
}

/// Asks again until the answer is the one: what decides on requests is heeded soon, not at once.
fn asked(mut ask: impl FnMut() -> Output, is_it: impl Fn(&Output) -> bool) -> Output {
    until("the answer", Duration::from_secs(20), || {
        let said = ask();
        match is_it(&said) {
            true => Ok(said),
            false => Err(format!("{}{}", said.stdout, said.stderr)),
        }
    })
}

#[test]
fn policies_and_webhooks_decide() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for tool in [Tool::Kubectl132, Tool::Kubectl136] {
        let with = |arguments: &str, stdin: &str| -> Output {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            cluster.kubectl_with(tool, &arguments, stdin)
        };
        with("apply -f -", VALIDATING).ok();
        let many = "create deployment d --image=i --replicas=9 --dry-run=server";
        let refused = asked(|| with(many, ""), |said| !said.success).err();
        let words = "ValidatingAdmissionPolicy 'few' with binding 'few' denied request: at most 5, not 9";
        assert!(refused.contains(words), "{refused}");
        with("create deployment d --image=i --replicas=5 --dry-run=server", "").ok();
        let listed = with("get validatingadmissionpolicies", "").ok();
        assert!(listed.contains("few    1             <unset>"), "{listed}");

        with("apply -f -", MUTATING).ok();
        let made = "create configmap c --dry-run=server -o jsonpath={.metadata.labels.made}";
        let made = asked(|| with(made, ""), |said| said.stdout.contains("by-")).ok();
        assert!(made.starts_with("by-"), "{made}");

        with("apply -f -", &webhook("Fail")).ok();
        let secret = "create secret generic s --dry-run=server";
        let refused = asked(|| with(secret, ""), |said| !said.success).err();
        let words = "failed calling webhook \"away.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/ask?timeout=2s\"";
        assert!(refused.contains(words), "{refused}");
        with("create secret generic free --dry-run=server", "").ok();
        with("apply -f -", &webhook("Ignore")).ok();
        asked(|| with(secret, ""), |said| said.success).ok();

        with("delete validatingwebhookconfiguration away", "").ok();
        with("delete -f -", MUTATING).ok();
        with("delete -f -", VALIDATING).ok();
        asked(|| with(many, ""), |said| said.success).ok();
    }
}

#[test]
fn an_expression_that_does_not_compile_is_refused() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    let broken = VALIDATING.replace("variables.count <= 5", "variables.amount <= 5");
    let refused = cluster
        .kubectl_with(Tool::Kubectl136, &["create", "-f", "-"], &broken)
        .err();
    assert!(refused.contains("undefined field 'amount'"), "{refused}");
}
