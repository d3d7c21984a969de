//! What another server says in OpenAPI v2 of the groups that it serves, taken out of its document and put into ours.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{V2Document, V2Format, gnostic};

const REFERENCE: &str = "#/definitions/";

/// The paths of a document below a prefix such as `/apis/example.com/v1`, with the definitions they lead to; `None` where
/// there are none.
pub fn relevant(document: &Value, prefix: &str) -> Option<Value> {
    let is_below = |path: &str| {
        path.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let paths = document.get("paths").and_then(Value::as_object)?.iter();
    let paths: Map<String, Value> = paths
        .filter(|(path, item)| is_below(path) && item.is_object())
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    if paths.is_empty() {
        return None;
    }
    let all = document.get("definitions").and_then(Value::as_object);
    let mut definitions = Map::new();
    let mut wanted: Vec<String> = Vec::new();
    paths.values().for_each(|item| references(item, &mut wanted));
    while let Some(name) = wanted.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        if let Some(found) = all.and_then(|all| all.get(&name)).filter(|found| found.is_object()) {
            references(found, &mut wanted);
            definitions.insert(name, found.clone());
        }
    }
    Some(json!({"paths": paths, "definitions": definitions}))
}

/// The names of the definitions that are referred to.
fn references(of: &Value, out: &mut Vec<String>) {
    match of {
        Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().and_then(|text| text.strip_prefix(REFERENCE)) {
                    Some(name) if key == "$ref" => out.push(name.to_owned()),
                    _ => references(value, out),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|item| references(item, out)),
        _ => {}
    }
}

/// Gives references their new names.
fn renamed(of: &mut Value, names: &BTreeMap<String, String>) {
    match of {
        Value::Object(map) => {
            for (key, value) in map {
                let name = value.as_str().and_then(|text| text.strip_prefix(REFERENCE));
                match name.and_then(|name| names.get(name)) {
                    Some(name) if key == "$ref" => *value = format!("{REFERENCE}{name}").into(),
                    _ => renamed(value, names),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| renamed(item, names)),
        _ => {}
    }
}

impl V2Document {
    /// Adds what is [`relevant`] of another server's document. Ours stays as it is: a path that is there already is left
    /// out, and a definition that has the name of another gets one of its own, as in Kubernetes.
    pub fn merge(&mut self, other: &Value) {
        let none = Map::new();
        let part = |name: &str| other.get(name).and_then(Value::as_object).unwrap_or(&none);
        let definitions = part("definitions");
        let names = self.new_names(definitions);
        for (name, definition) in definitions {
            let mut definition = definition.clone();
            renamed(&mut definition, &names);
            let bytes = self.encode(&definition, gnostic::schema);
            let name = names.get(name).unwrap_or(name);
            self.definitions.entry(name.clone()).or_insert(bytes);
        }
        for (path, item) in part("paths") {
            let mut item = item.clone();
            renamed(&mut item, &names);
            let bytes = self.encode(&item, gnostic::path_item);
            self.paths.entry(path.clone()).or_insert(bytes);
        }
    }

    fn encode(&self, value: &Value, protobuf: impl FnOnce(&Value) -> Vec<u8>) -> Vec<u8> {
        match self.format {
            V2Format::Json => value.to_string().into_bytes(),
            V2Format::Protobuf => protobuf(value),
        }
    }

    /// New names for definitions that are not what goes by their name here.
    fn new_names(&self, definitions: &Map<String, Value>) -> BTreeMap<String, String> {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        let mut names = BTreeMap::new();
        for (name, definition) in definitions {
            let Some(ours) = self.definitions.get(name) else {
                continue;
            };
            if *ours == self.encode(definition, gnostic::schema) {
                continue;
            }
            let is_free = |new: &String| {
                !self.definitions.contains_key(new) && !definitions.contains_key(new) && !taken.contains(new)
            };
            let new = (2..).map(|nth| format!("{name}_v{nth}")).find(is_free);
            if let Some(new) = new {
                taken.insert(new.clone());
                names.insert(name.clone(), new);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other() -> Value {
        let flunder = json!({"type": "object", "properties": {"metadata": {"$ref": "#/definitions/Meta"},
            "list": {"type": "array", "items": {"$ref": "#/definitions/Part"}}}});
        json!({
            "swagger": "2.0",
            "paths": {
                "/apis/example.com/v1/flunders": {"get": {"responses": {"200": {"description": "OK",
                    "schema": {"$ref": "#/definitions/Flunder"}}}}},
                "/apis/example.com/v1beta1/flunders": {"get": {}},
                "/apis/example.com/v10/": {"get": {}},
                "/version": {"get": {}}
            },
            "definitions": {"Flunder": flunder, "Meta": {"type": "object", "description": "theirs"},
                "Part": {"type": "object", "properties": {"flunder": {"$ref": "#/definitions/Flunder"}}},
                "Unused": {"type": "object"}}
        })
    }

    #[test]
    fn only_what_is_below_the_prefix_is_relevant() {
        let found = relevant(&other(), "/apis/example.com/v1").expect("a path");
        let keys = |part: &str| found[part].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("paths"), ["/apis/example.com/v1/flunders"]);
        assert_eq!(keys("definitions"), ["Flunder", "Meta", "Part"]);
        assert_eq!(relevant(&other(), "/apis/other.example.com/v1"), None);
        assert_eq!(relevant(&json!("no document"), "/apis"), None);
    }

    #[test]
    fn what_is_ours_stays_and_theirs_gets_another_name() {
        let mut ours = V2Document::new(V2Format::Json);
        let meta = json!({"type": "object", "description": "ours"});
        ours.definitions
            .insert("Meta".to_owned(), meta.to_string().into_bytes());
        let part = other()["definitions"]["Part"].clone();
        ours.definitions
            .insert("Part".to_owned(), part.to_string().into_bytes());
        ours.merge(&relevant(&other(), "/apis/example.com/v1").expect("a path"));
        let merged: Value = serde_json::from_slice(&ours.finish("v1")).expect("a document");
        let definitions = &merged["definitions"];
        assert_eq!(definitions["Meta"]["description"], "ours");
        assert_eq!(definitions["Meta_v2"]["description"], "theirs");
        let reference = &definitions["Flunder"]["properties"]["metadata"]["$ref"];
        assert_eq!(reference, "#/definitions/Meta_v2");
        assert_eq!(
            definitions.as_object().map(Map::len),
            Some(4),
            "what is the same is there once"
        );
        let schema = &merged["paths"]["/apis/example.com/v1/flunders"]["get"]["responses"]["200"]["schema"];
        assert_eq!(schema["$ref"], "#/definitions/Flunder");
    }

    #[test]
    fn what_is_merged_can_be_written_as_protobuf() {
        let mut ours = V2Document::new(V2Format::Protobuf);
        let before = V2Document::new(V2Format::Protobuf).finish("v1").len();
        ours.merge(&relevant(&other(), "/apis/example.com/v1").expect("a path"));
        let bytes = ours.finish("v1");
        assert!(bytes.len() > before);
        let holds = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("/apis/example.com/v1/flunders") && holds("#/definitions/Flunder"));
    }
}
