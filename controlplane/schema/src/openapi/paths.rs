//! The operations of a document: which paths there are, which kind each is about, and which parameters it takes.

use serde_json::{Map, Value, json};

use super::{
    Described, Subresource,
    components::{list_name, reference},
};

type Tree = Map<String, Value>;

const MEDIA: [&str; 2] = ["application/json", "application/yaml"];
const PATCH_MEDIA: [&str; 4] = [
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// An operation that is about one kind.
struct Operation<'a> {
    verb: &'a str,
    method: &'static str,
    /// As `x-kubernetes-action` names it.
    action: &'static str,
    parameters: Vec<&'static str>,
}

/// All paths below `root` (`/apis/apps/v1`).
pub(super) fn paths(root: &str, resources: &[Described<'_>]) -> Tree {
    let mut paths = Tree::new();
    for resource in resources {
        let base = if resource.namespaced {
            format!("{root}/namespaces/{{namespace}}")
        } else {
            root.to_owned()
        };
        let collection = format!("{base}/{}", resource.plural);
        let item = format!("{collection}/{{name}}");
        if resource.namespaced && resource.verbs.contains(&"list") {
            let everywhere = Described {
                verbs: &["list"],
                namespaced: false,
                ..resource.clone()
            };
            paths.insert(format!("{root}/{}", resource.plural), collection_item(&everywhere));
        }
        paths.insert(collection, collection_item(resource));
        paths.insert(item.clone(), object_item(resource));
        for subresource in &resource.subresources {
            paths.insert(
                format!("{item}/{}", subresource.name),
                subresource_item(resource, subresource),
            );
        }
    }
    paths.retain(|_, item| item.as_object().is_some_and(|item| item.len() > 1));
    paths
}

/// Verb, whether it is a collection's, HTTP method, action, lists of parameters.
type Known = (
    &'static str,
    bool,
    &'static str,
    &'static str,
    &'static [&'static [&'static str]],
);

fn operations(verbs: &[&str], collection: bool) -> Vec<Operation<'static>> {
    let known: [Known; 7] = [
        ("list", true, "get", "list", &[LIST]),
        ("create", true, "post", "post", &[WRITE]),
        ("deletecollection", true, "delete", "deletecollection", &[LIST, DELETE]),
        ("get", false, "get", "get", &[]),
        ("update", false, "put", "put", &[WRITE]),
        ("patch", false, "patch", "patch", &[WRITE, &["force"]]),
        ("delete", false, "delete", "delete", &[DELETE]),
    ];
    let wanted = known
        .into_iter()
        .filter(|(verb, of_collection, ..)| *of_collection == collection && verbs.contains(verb));
    wanted
        .map(|(verb, _, method, action, parameters)| Operation {
            verb,
            method,
            action,
            parameters: parameters.concat(),
        })
        .collect()
}

fn collection_item(resource: &Described<'_>) -> Value {
    let mut item = Tree::new();
    for operation in operations(resource.verbs, true) {
        let answer = if operation.verb == "list" {
            list_name(resource)
        } else {
            resource.definition.to_owned()
        };
        let kind = (resource.group, resource.version, resource.kind);
        item.insert(
            operation.method.to_owned(),
            describe(&operation, resource, kind, Some(&answer), ""),
        );
    }
    item.insert("parameters".to_owned(), path_parameters(resource.namespaced, false));
    Value::Object(item)
}

fn object_item(resource: &Described<'_>) -> Value {
    let mut item = Tree::new();
    for operation in operations(resource.verbs, false) {
        let kind = (resource.group, resource.version, resource.kind);
        item.insert(
            operation.method.to_owned(),
            describe(&operation, resource, kind, Some(resource.definition), ""),
        );
    }
    item.insert("parameters".to_owned(), path_parameters(resource.namespaced, true));
    Value::Object(item)
}

fn subresource_item(resource: &Described<'_>, subresource: &Subresource<'_>) -> Value {
    let same =
        (subresource.group, subresource.version, subresource.kind) == (resource.group, resource.version, resource.kind);
    let mut item = Tree::new();
    let mut known = operations(subresource.verbs, false);
    // A subresource is created at its own path: bindings, evictions, tokens.
    known.extend(
        operations(subresource.verbs, true)
            .into_iter()
            .filter(|operation| operation.verb == "create"),
    );
    for operation in known {
        let kind = (subresource.group, subresource.version, subresource.kind);
        let definition = same.then_some(resource.definition);
        item.insert(
            operation.method.to_owned(),
            describe(&operation, resource, kind, definition, subresource.name),
        );
    }
    item.insert("parameters".to_owned(), path_parameters(resource.namespaced, true));
    Value::Object(item)
}

fn describe(
    operation: &Operation<'_>,
    resource: &Described<'_>,
    (group, version, kind): (&str, &str, &str),
    definition: Option<&str>,
    subresource: &str,
) -> Value {
    let answer = definition.map_or_else(
        || json!({ "type": "object" }),
        |name| json!({ "$ref": reference(name) }),
    );
    let mut described = json!({
        "operationId": operation_id(operation, resource, subresource),
        "tags": [tag(resource)],
        "parameters": operation.parameters.iter().map(|name| query(name)).collect::<Value>(),
        "responses": { "200": { "description": "OK", "content": content(&MEDIA, &answer) } },
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": { "group": group, "version": version, "kind": kind },
    });
    let body = match operation.verb {
        "create" | "update" => Some(content(&MEDIA, &answer)),
        "patch" => Some(content(&PATCH_MEDIA, &json!({ "type": "object" }))),
        "delete" | "deletecollection" => {
            let options = reference("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions");
            Some(content(&MEDIA, &json!({ "$ref": options })))
        }
        _ => None,
    };
    if let (Some(body), Some(map)) = (body, described.as_object_mut()) {
        let required = !operation.verb.starts_with("delete");
        map.insert(
            "requestBody".to_owned(),
            json!({ "content": body, "required": required }),
        );
    }
    described
}

fn content(media: &[&str], schema: &Value) -> Value {
    let entries = media
        .iter()
        .map(|media| ((*media).to_owned(), json!({ "schema": schema })));
    Value::Object(entries.collect())
}

/// `listAppsV1NamespacedDeployment`
fn operation_id(operation: &Operation<'_>, resource: &Described<'_>, subresource: &str) -> String {
    let verb = match operation.verb {
        "get" => "read",
        "update" => "replace",
        verb => verb,
    };
    let scope = match (resource.namespaced, operation.verb) {
        (true, _) => "Namespaced",
        (false, _) => "",
    };
    let group = if resource.group.is_empty() {
        "core"
    } else {
        resource.group.split('.').next().unwrap_or_default()
    };
    let parts = [
        verb,
        &upper(group),
        &upper(resource.version),
        scope,
        resource.kind,
        &upper(subresource),
    ];
    parts.concat()
}

fn tag(resource: &Described<'_>) -> String {
    let group = if resource.group.is_empty() {
        "core"
    } else {
        resource.group.split('.').next().unwrap_or_default()
    };
    format!("{group}_{}", resource.version)
}

fn upper(word: &str) -> String {
    let mut letters = word.chars();
    letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect())
        .unwrap_or_default()
}

fn query(name: &str) -> Value {
    let type_ = match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "watch" | "allowWatchBookmarks" | "sendInitialEvents" | "orphanDependents" | "force" => "boolean",
        _ => "string",
    };
    json!({ "name": name, "in": "query", "schema": { "type": type_, "uniqueItems": true } })
}

fn path_parameters(namespaced: bool, named: bool) -> Value {
    let names = [("name", named), ("namespace", namespaced), ("pretty", true)];
    let present = names.into_iter().filter(|(_, present)| *present);
    let describe = |(name, _): (&str, bool)| {
        let place = if name == "pretty" { "query" } else { "path" };
        let mut parameter = json!({ "name": name, "in": place, "schema": { "type": "string", "uniqueItems": true } });
        if let (true, Some(map)) = (place == "path", parameter.as_object_mut()) {
            map.insert("required".to_owned(), true.into());
        }
        parameter
    };
    present.map(describe).collect()
}
