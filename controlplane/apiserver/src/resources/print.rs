//! Pieces that several kinds' rows are made of.

use api::table::Column;
use serde_json::Value;

use crate::registry::printer::column;

const NAME: &str = "Name of the object, unique within its namespace.";
const AGE: &str = "How long ago the object was created.";

/// Columns from one line each: `Name|type|format|description|wide`, the later parts optional.
pub(crate) fn columns(lines: &[&str]) -> Vec<Column> {
    lines.iter().map(|line| one_column(line)).collect()
}

fn one_column(line: &str) -> Column {
    let mut parts = line.split('|');
    let mut part = || parts.next().unwrap_or_default();
    let (name, type_, format, description) = (part(), part(), part(), part());
    let priority = i32::from(part() == "wide");
    let description = match (description, name) {
        ("", "Name") => NAME,
        ("", "Age") => AGE,
        (given, _) => given,
    };
    column(name, type_, format, description, priority)
}

/// A cell's text, or `<none>`.
pub(crate) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// Labels as `a=b,c=d`, or `<none>`.
pub(crate) fn label_list(labels: Option<&Value>) -> Value {
    let map = labels.and_then(Value::as_object).into_iter().flatten();
    let pairs: Vec<String> = map
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

/// A label selector as kubectl prints it, `<none>` when it selects everything.
pub(crate) fn selector(selector: Option<&Value>) -> Value {
    match selector.map(api::LabelSelector::from_json) {
        Some(Ok(selector)) => or_none(&selector.to_string()),
        Some(Err(_)) => "<error>".into(),
        None => "<none>".into(),
    }
}

/// Names and images of a template's containers, each joined by commas.
pub(crate) fn containers(containers: &[Value]) -> [Value; 2] {
    ["name", "image"].map(|field| {
        let found = containers.iter().filter_map(|c| c.get(field)).filter_map(Value::as_str);
        found.collect::<Vec<_>>().join(",").into()
    })
}

/// The first three items joined by commas, with a count of the rest; `empty` for none.
pub(crate) fn limited_list(items: &[String], empty: &str) -> Value {
    const SHOWN: usize = 3;
    let head: Vec<&str> = items.iter().take(SHOWN).map(String::as_str).collect();
    match items.len() {
        0 => empty.into(),
        count if count > SHOWN => format!("{} + {} more...", head.join(","), count - SHOWN).into(),
        _ => head.join(",").into(),
    }
}
