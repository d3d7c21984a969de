//! Tables: how a list of objects looks to `kubectl get`.

use api::Object;
use api::table::Column;
use api::time::Timestamp;
use serde_json::Value;

/// The columns of a kind that has no printer of its own.
pub fn default_columns() -> Vec<Column> {
    vec![
        column(
            "Name",
            "string",
            "name",
            "Name of the object, unique within its namespace.",
            0,
        ),
        column("Created At", "date", "", "When the object was created.", 0),
    ]
}

/// The cells for [`default_columns`].
pub fn default_cells(object: &Object, _now: Timestamp) -> Vec<Value> {
    vec![
        object.name().into(),
        object.creation_timestamp().unwrap_or_default().into(),
    ]
}

/// One column; `priority` above 0 is shown with `-o wide` only.
pub fn column(name: &str, type_: &str, format: &str, description: &str, priority: i32) -> Column {
    Column {
        name: name.into(),
        type_: type_.into(),
        format: format.into(),
        description: description.into(),
        priority,
    }
}

/// The `Age` column's cell: how long ago a timestamp was, as kubectl prints it.
pub fn age(timestamp: Option<&str>, now: Timestamp) -> Value {
    match timestamp.and_then(api::time::parse) {
        Some(then) => api::time::human_duration(now.as_second() - then.as_second()).into(),
        None => "<unknown>".into(),
    }
}
