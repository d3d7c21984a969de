//! A CustomResourceDefinition in the hands of stock kubectl, of both versions.

use e2e::{Cluster, Output, Tool, control_plane, need_root};

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              size: {type: integer, minimum: 1, description: How large it is., default: 3}
            x-kubernetes-validations:
            - {rule: self.size < 100, message: too large}
          status: {type: object, properties: {size: {type: integer}}}
"#;

fn widget(size: u32) -> String {
    format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: w}}\nspec: {{size: {size}}}\n")
}

#[test]
fn a_kind_comes_and_goes() {
    need_root!();
    let cluster = Cluster::start(control_plane());
    for tool in [Tool::Kubectl132, Tool::Kubectl136] {
        let with = |arguments: &str, stdin: &str| -> Output {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            cluster.kubectl_with(tool, &arguments, stdin)
        };
        let says = |arguments: &str, stdin: &str, expected: &str| {
            let said = with(arguments, stdin).ok();
            assert!(
                said.contains(expected),
                "kubectl {arguments}: {expected:?} is missing:\n{said}"
            );
        };
        says(
            "apply -f -",
            DEFINITION,
            "customresourcedefinition.apiextensions.k8s.io/widgets.example.com created",
        );
        says(
            "wait --for=condition=Established crd/widgets.example.com --timeout=30s",
            "",
            "condition met",
        );
        says("apply -f -", &widget(5), "widget.example.com/w created");
        says("apply -f -", &widget(5), "widget.example.com/w unchanged");
        says("apply -f -", &widget(6), "widget.example.com/w configured");
        says("get wd", "", "SIZE\nw      6");
        says("explain widget.spec.size", "", "How large it is.");
        says("scale widget/w --replicas=7", "", "scaled");
        says("get widget w -o jsonpath={.spec.size}", "", "7");
        says("patch widget w --type=merge -p {\"spec\":{\"size\":8}}", "", "patched");
        says("api-resources --api-group=example.com", "", "wd");
        let refused = with("apply -f -", &widget(200));
        assert!(refused.err().contains("too large"));
        says("delete crd widgets.example.com --timeout=30s", "", "deleted");
        let gone = with("get widgets", "").err();
        // What kubectl remembers of the server's kinds decides who says it.
        let words = [
            "the server doesn't have a resource type",
            "the server could not find the requested resource",
        ];
        assert!(words.iter().any(|words| gone.contains(words)), "{gone}");
    }
}
