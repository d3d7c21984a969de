use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;

use super::*;

const VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

fn document() -> Value {
    let deployments = Described {
        group: "apps",
        version: "v1",
        kind: "Deployment",
        plural: "deployments",
        namespaced: true,
        definition: "io.k8s.api.apps.v1.Deployment",
        verbs: VERBS,
        subresources: vec![
            Subresource {
                name: "status",
                group: "apps",
                version: "v1",
                kind: "Deployment",
                verbs: &["get", "patch", "update"],
            },
            Subresource {
                name: "scale",
                group: "autoscaling",
                version: "v1",
                kind: "Scale",
                verbs: &["get", "patch"],
            },
        ],
        schema_json: schema_json::<Deployment>,
    };
    v3_document(&GroupVersion::new("apps", "v1"), &[deployments])
}

#[test]
fn the_index_says_where_documents_are() {
    let versions = [GroupVersion::new("", "v1"), GroupVersion::new("apps", "v1")];
    let index = v3_index([(&versions[0], "AB"), (&versions[1], "CD")]);
    let want = json!({"paths": {
        "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=AB"},
        "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=CD"},
    }});
    assert_eq!(index, want);
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 200, "{}", references.len());
    for reference in references {
        let name = reference
            .strip_prefix("#/components/schemas/")
            .unwrap_or_else(|| panic!("{reference}"));
        assert!(schemas.contains_key(name), "{name}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|value| collect(value, references));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn clients_find_merge_keys_kinds_and_descriptions() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    let item = &containers["items"];
    assert_eq!(item["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert!(
        containers["description"]
            .as_str()
            .unwrap()
            .starts_with("List of containers")
    );
    let volumes = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["volumes"];
    assert_eq!(volumes["x-kubernetes-patch-strategy"], "merge,retainKeys");
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([kind]));
    assert_eq!(deployment["required"], Value::Null);
    let spec = &deployment["properties"]["spec"];
    assert_eq!(
        spec["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"}])
    );
    let either = &schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"];
    assert_eq!(either["oneOf"], json!([{"type": "integer"}, {"type": "string"}]));
}

#[test]
fn writes_take_field_validation_and_name_their_kind() {
    let document = document();
    let item = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    for method in ["patch", "put"] {
        let parameters = item[method]["parameters"].as_array().unwrap();
        assert!(
            parameters
                .iter()
                .any(|p| p["name"] == "fieldValidation" && p["in"] == "query"),
            "{method}"
        );
        let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
        assert_eq!(item[method]["x-kubernetes-group-version-kind"], kind);
    }
    assert!(item["get"]["parameters"].as_array().unwrap().is_empty());
    assert_eq!(item["patch"]["operationId"], "patchAppsV1NamespacedDeployment");
    // By this kubectl knows that it may apply.
    assert!(
        item["patch"]["requestBody"]["content"]
            .get("application/apply-patch+yaml")
            .is_some()
    );
}

#[test]
fn lists_the_paths_that_are_served() {
    let document = document();
    let paths: Vec<(&String, Vec<&String>)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| {
            (
                path,
                item.as_object()
                    .unwrap()
                    .keys()
                    .filter(|key| *key != "parameters")
                    .collect(),
            )
        })
        .collect();
    insta::assert_json_snapshot!(paths);
}
