//! From the words of OpenAPI v3 to those of v2: bodies are parameters, media types stand beside the operation, references
//! lead to `#/definitions/`, and a schema has one type.

use serde_json::{Map, Value, json};

type Tree = Map<String, Value>;

const V3: &str = "#/components/schemas/";
const V2: &str = "#/definitions/";
const METHODS: [&str; 4] = ["get", "put", "post", "patch"];

/// A path with its operations and parameters.
pub(super) fn path_item(item: Value) -> Value {
    let Value::Object(item) = item else { return item };
    let part = |(key, value): (String, Value)| {
        let lowered = match (key.as_str(), value) {
            ("parameters", Value::Array(list)) => list.into_iter().map(parameter).collect(),
            (method, Value::Object(operation)) if method == "delete" || METHODS.contains(&method) => {
                Value::Object(self::operation(operation))
            }
            (_, value) => value,
        };
        (key, lowered)
    };
    Value::Object(item.into_iter().map(part).collect())
}

fn operation(mut operation: Tree) -> Tree {
    let mut parameters: Vec<Value> = Vec::new();
    let body = operation.remove("requestBody");
    let consumes = body.as_ref().and_then(media);
    if let Some(mut body) = body {
        let required = body.get("required") == Some(&json!(true));
        let mut parameter = json!({ "name": "body", "in": "body", "schema": content_schema(&mut body) });
        if let (true, Some(map)) = (required, parameter.as_object_mut()) {
            map.insert("required".to_owned(), true.into());
        }
        parameters.push(parameter);
    }
    if let Some(Value::Array(list)) = operation.remove("parameters") {
        parameters.extend(list.into_iter().map(parameter));
    }
    let mut produces = None;
    if let Some(Value::Object(responses)) = operation.get_mut("responses") {
        for response in responses.values_mut() {
            produces = media(response).or(produces);
            let schema = content_schema(response);
            if let Some(map) = response.as_object_mut() {
                map.remove("content");
                map.insert("schema".to_owned(), schema);
            }
        }
        responses.insert("401".to_owned(), json!({ "description": "Unauthorized" }));
    }
    operation.insert("schemes".to_owned(), json!(["https"]));
    operation.insert("consumes".to_owned(), consumes.unwrap_or_else(|| json!(["*/*"])));
    operation.insert(
        "produces".to_owned(),
        produces.unwrap_or_else(|| json!(["application/json"])),
    );
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), parameters.into());
    }
    operation
}

/// The media types of a body or response.
fn media(of: &Value) -> Option<Value> {
    let content = of.get("content")?.as_object()?;
    Some(content.keys().map(|media| json!(media)).collect())
}

/// The schema of a `content`, which is the same for all its media types.
fn content_schema(of: &mut Value) -> Value {
    let content = of.get_mut("content").and_then(Value::as_object_mut);
    let schema = content.and_then(|content| content.values_mut().next()?.get_mut("schema").map(Value::take));
    let mut schema = schema.unwrap_or_else(|| json!({ "type": "object" }));
    lower(&mut schema);
    schema
}

/// A parameter whose type stands in it.
fn parameter(mut parameter: Value) -> Value {
    if let Some(map) = parameter.as_object_mut()
        && let Some(Value::Object(schema)) = map.remove("schema")
    {
        map.extend(schema);
    }
    parameter
}

/// A definition by its name.
pub(super) fn definition(name: &str, mut schema: Value) -> Value {
    let format = match name.strip_prefix("io.k8s.apimachinery.pkg.") {
        Some("util.intstr.IntOrString") => Some(Some("int-or-string")),
        Some("api.resource.Quantity") => Some(None),
        _ => None,
    };
    match (format, schema.as_object_mut()) {
        (Some(format), Some(map)) => {
            map.remove("oneOf");
            map.insert("type".to_owned(), "string".into());
            if let Some(format) = format {
                map.insert("format".to_owned(), format.into());
            }
        }
        _ => lower(&mut schema),
    }
    schema
}

/// The definition of a custom resource, whose author's words stay as far as v2 has them. Of one that keeps what it does
/// not know nothing is said: older clients would take a list of fields for the whole of it.
pub(super) fn custom(mut schema: Value) -> Value {
    const KIND: &str = "x-kubernetes-group-version-kind";
    if keeps_unknown(&schema) {
        return json!({ "type": "object", KIND: schema.get(KIND) });
    }
    let metadata = schema.pointer_mut("/properties/metadata").map(Value::take);
    lower_structural(&mut schema);
    if let Some(mut metadata) = metadata {
        lower(&mut metadata);
        if let Some(place) = schema.pointer_mut("/properties/metadata") {
            *place = metadata;
        }
    }
    schema
}

fn keeps_unknown(schema: &Value) -> bool {
    schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true))
}

fn is_nullable(schema: &Value) -> bool {
    schema.get("nullable") == Some(&Value::Bool(true))
}

fn lower_structural(schema: &mut Value) {
    let (nullable, open) = (is_nullable(schema), keeps_unknown(schema));
    let Some(map) = schema.as_object_mut() else { return };
    for word in ["allOf", "anyOf", "oneOf", "not", "nullable"] {
        map.remove(word);
    }
    let loose: &[&str] = match (nullable, open) {
        (true, _) => &["type", "items", "properties", "additionalProperties"],
        (false, true) => &["items", "properties"],
        (false, false) => &[],
    };
    for word in loose {
        map.remove(*word);
    }
    let fields = map.get("properties").and_then(Value::as_object);
    let nullable: Vec<String> = fields
        .into_iter()
        .flatten()
        .filter(|(_, field)| is_nullable(field))
        .map(|(name, _)| name.clone())
        .collect();
    if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_none_or(|name| !nullable.iter().any(|own| own == name)));
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            lower_structural(inner);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(lower_structural);
    }
}

fn lower(schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    // In v2 a reference may stand beside other words.
    if let Some(Value::Array(all)) = map.remove("allOf")
        && let Some(Value::Object(only)) = all.into_iter().next()
    {
        map.extend(only);
    }
    if let Some(Value::String(target)) = map.get_mut("$ref") {
        *target = target.replacen(V3, V2, 1);
    }
    if map.remove("oneOf").is_some() && !map.contains_key("type") {
        map.insert("type".to_owned(), "object".into());
    }
    // What v2 has no words for: combinations, and nulls, which leave no type to be sure of.
    for word in ["anyOf", "not"] {
        map.remove(word);
    }
    if map.remove("nullable") == Some(Value::Bool(true)) {
        for word in ["type", "items", "properties", "additionalProperties"] {
            map.remove(word);
        }
    }
    // Defaults and enums are v3's alone in Kubernetes: older clients stumble over defaults beside references.
    for word in ["default", "enum"] {
        map.remove(word);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(inner) {
            lower(inner);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(lower);
    }
}
