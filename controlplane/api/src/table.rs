//! Tables as the API server prints them for `kubectl get`: `meta.k8s.io/v1` Table.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One column. Those with a priority above 0 show only with `-o wide`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// An OpenAPI type: `string`, `integer`, `number`, `boolean`, `date`.
    #[serde(rename = "type")]
    pub type_: String,
    /// An OpenAPI format, or `name` for the column that identifies the object.
    pub format: String,
    pub description: String,
    pub priority: i32,
}

impl Column {
    /// A column without a format that always shows.
    pub fn new(name: &str, type_: &str, description: &str) -> Self {
        Self {
            name: name.to_owned(),
            type_: type_.to_owned(),
            format: String::new(),
            description: description.to_owned(),
            priority: 0,
        }
    }

    /// The column that identifies the object.
    pub fn name() -> Self {
        Self::new("Name", "string", "Name of the object, unique within its namespace.").format("name")
    }

    /// Sets the format.
    #[must_use]
    pub fn format(mut self, format: &str) -> Self {
        format.clone_into(&mut self.format);
        self
    }

    /// Shows the column only with `-o wide`.
    #[must_use]
    pub fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }
}

/// One object's cells, in the order of the columns, and what of the object goes along (`Value::Null` for nothing).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub cells: Vec<Value>,
    pub object: Value,
}

/// A table and the list metadata it carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    pub resource_version: Option<String>,
    pub continue_token: Option<String>,
    pub remaining_item_count: Option<i64>,
}

impl Table {
    /// The `meta.k8s.io/v1` JSON. Later events of a watch leave the columns empty, as Kubernetes does.
    pub fn to_json(&self) -> Value {
        let mut metadata = Map::new();
        if let Some(version) = &self.resource_version {
            metadata.insert("resourceVersion".to_owned(), json!(version));
        }
        if let Some(token) = &self.continue_token {
            metadata.insert("continue".to_owned(), json!(token));
        }
        if let Some(count) = self.remaining_item_count {
            metadata.insert("remainingItemCount".to_owned(), json!(count));
        }
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": self.columns,
            "rows": self.rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_a_table_as_the_meta_group_defines_it() {
        let table = Table {
            columns: vec![Column::name(), Column::new("Node", "string", "Where it runs.").wide()],
            rows: vec![Row {
                cells: vec![json!("a"), json!("n1")],
                object: json!({"kind": "PartialObjectMetadata"}),
            }],
            resource_version: Some("7".to_owned()),
            ..Table::default()
        };
        insta::assert_json_snapshot!(table.to_json());
    }
}
