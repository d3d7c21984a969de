//! Printer columns of custom resources.

use std::sync::Arc;

use api::Object;
use api::table::Column;
use api::time::Timestamp;
use serde_json::{Map, Value};

use super::jsonpath::JsonPath;
use crate::registry::printer::{age, column};
use crate::registry::resource::Cells;

const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may \
                    allow a client to request the generation of an appropriate name automatically. Name is primarily \
                    intended for creation idempotence and configuration definition. Cannot be updated. More info: \
                    https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
                   guaranteed to be set in happens-before order across separate operations. Clients may not set this \
                   value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for \
                   lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// One column: how its cell is found, and of what type it is.
struct Cell {
    path: JsonPath,
    kind: Box<str>,
}

/// The columns of a version, and how their cells are made. Without columns of its own it shows an age.
pub(super) fn of(version: &Value) -> (Vec<Column>, Cells) {
    let mut columns = vec![column("Name", "string", "name", NAME, 0)];
    let mut cells = Vec::new();
    let given = version.get("additionalPrinterColumns").and_then(Value::as_array);
    match given.filter(|given| !given.is_empty()) {
        None => {
            columns.push(column("Age", "date", "", AGE, 0));
            cells.extend(JsonPath::parse(".metadata.creationTimestamp").map(|path| Cell {
                path,
                kind: "date".into(),
            }));
        }
        Some(given) => {
            for definition in given {
                let text = |name: &str| definition.get(name).and_then(Value::as_str).unwrap_or_default();
                // As Kubernetes: a path that cannot be read is the end of the table.
                let Some(path) = JsonPath::parse(text("jsonPath")) else {
                    break;
                };
                let described = match text("description") {
                    "" => format!(
                        "Custom resource definition column (in JSONPath format): {}",
                        text("jsonPath")
                    ),
                    given => given.to_owned(),
                };
                let priority = definition.get("priority").and_then(Value::as_i64).unwrap_or_default();
                let priority = i32::try_from(priority).unwrap_or_default();
                columns.push(column(text("name"), text("type"), text("format"), &described, priority));
                cells.push(Cell {
                    path,
                    kind: text("type").into(),
                });
            }
        }
    }
    let make = move |object: &Object, now: Timestamp| {
        let rest = cells.iter().map(|cell| cell.of(object.map(), now));
        std::iter::once(Value::from(object.name())).chain(rest).collect()
    };
    (columns, Arc::new(make))
}

impl Cell {
    fn of(&self, object: &Map<String, Value>, now: Timestamp) -> Value {
        let found = self.path.find(object);
        let Some(value) = found.first() else { return Value::Null };
        match (&*self.kind, value) {
            (_, Value::Null) => Value::Null,
            ("integer", value) => integer(value),
            ("number", value) => value.as_f64().map_or(Value::Null, Value::from),
            ("boolean", Value::Bool(value)) => (*value).into(),
            ("string", value) => printed(value).into(),
            ("date", Value::String(text)) => match api::time::parse(text) {
                Some(_) => age(Some(text), now),
                None => "<invalid>".into(),
            },
            _ => Value::Null,
        }
    }
}

fn integer(value: &Value) -> Value {
    let whole = value.as_i64().or_else(|| value.as_f64().map(|float| float as i64));
    whole.map_or(Value::Null, Value::from)
}

/// As kubectl prints a value: text as it is, everything else as JSON.
fn printed(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
