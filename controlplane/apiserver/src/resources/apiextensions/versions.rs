//! The versions of a CustomResourceDefinition: their names, schemas, columns, subresources and selectable fields.

use api::{FieldError, FieldErrors, Object, Path};
use schema::structural;
use serde_json::Value;

use super::spec::version_name;
use crate::resources::validation::At;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const MAX_SELECTABLE: usize = 8;

pub(super) fn validate(versions: &At<'_>, old: Option<&Object>, errors: &mut FieldErrors) {
    let all = versions.items();
    for version in &all {
        let schema = version.child("schema").child("openAPIV3Schema");
        if !schema.is_set() {
            errors.push(schema.required(""));
        }
    }
    for version in &all {
        version_name(&version.child("name"), errors);
        deprecation(version, errors);
        let unchanged = old.is_some_and(|old| schema_of(old, version.child("name").str()) == schema_at(version));
        if !unchanged {
            check_schema(version, errors);
        }
        scale(&version.child("subresources").child("scale"), errors);
        for column in version.child("additionalPrinterColumns").items() {
            printer_column(&column, errors);
        }
        selectable_fields(version, errors);
    }
    let shown = || versions.value().cloned().unwrap_or_default();
    let names: Vec<&str> = all.iter().map(|version| version.child("name").str()).collect();
    if names
        .iter()
        .enumerate()
        .any(|(nth, name)| names.iter().take(nth).any(|earlier| earlier == name))
    {
        errors.push(versions.invalid_as(shown(), "must contain unique version names"));
    }
    if all.iter().filter(|version| version.child("storage").bool()).count() != 1 {
        errors.push(versions.invalid_as(shown(), "must have exactly one version marked as storage version"));
    }
}

fn schema_at<'a>(version: &At<'a>) -> Option<&'a Value> {
    version.child("schema").child("openAPIV3Schema").value()
}

fn schema_of<'a>(definition: &'a Object, version: &str) -> Option<&'a Value> {
    let mut versions = definition.list_at("spec.versions").iter();
    let found = versions.rfind(|v| v.get("name").and_then(Value::as_str) == Some(version));
    found?.pointer("/schema/openAPIV3Schema")
}

fn check_schema(version: &At<'_>, errors: &mut FieldErrors) {
    let schema = version.child("schema").child("openAPIV3Schema");
    let status = version.child("subresources").child("status").is_set();
    if let Some(value) = schema.value() {
        errors.extend(structural::check(value, schema.path(), status));
    }
}

fn deprecation(version: &At<'_>, errors: &mut FieldErrors) {
    let words = version.child("deprecationWarning");
    if !words.is_set() {
        return;
    }
    if !version.child("deprecated").bool() {
        errors.push(words.invalid("can only be set for deprecated versions"));
        return;
    }
    if words.str().len() > 256 {
        errors.push(words.invalid("must be <= 256 characters long"));
    }
    if words.str().is_empty() {
        errors.push(words.invalid("must not be an empty string"));
    }
    if let Some((at, _)) = words.str().char_indices().find(|(_, c)| c.is_control()) {
        errors.push(words.invalid(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        )));
    }
}

/// The paths of a Scale lead into the spec or the status.
fn scale(scale: &At<'_>, errors: &mut FieldErrors) {
    if !scale.is_set() {
        return;
    }
    let paths: [(&str, bool, &[&str], &str); 3] = [
        (
            "specReplicasPath",
            true,
            &[".spec."],
            "should be a json path under .spec",
        ),
        (
            "statusReplicasPath",
            true,
            &[".status."],
            "should be a json path under .status",
        ),
        (
            "labelSelectorPath",
            false,
            &[".spec.", ".status."],
            "should be a json path under either .spec or .status",
        ),
    ];
    for (field, is_required, roots, words) in paths {
        let at = scale.child(field);
        match at.str() {
            "" if is_required => errors.push(at.required("")),
            "" => {}
            text if !text.starts_with('.') => errors.push(at.invalid("must be a simple json path starting with .")),
            text if !roots.iter().any(|root| text.starts_with(root)) => errors.push(at.invalid(words)),
            _ => {}
        }
    }
}

fn printer_column(column: &At<'_>, errors: &mut FieldErrors) {
    let name = column.child("name");
    if name.is_empty() {
        errors.push(name.required(""));
    }
    let (type_, words) = (
        column.child("type"),
        format!("must be one of {}", COLUMN_TYPES.join(",")),
    );
    if type_.is_empty() {
        errors.push(type_.required(&words));
    } else if !COLUMN_TYPES.contains(&type_.str()) {
        errors.push(type_.invalid(words));
    }
    let format = column.child("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.str()) {
        errors.push(format.invalid(format!("must be one of {}", COLUMN_FORMATS.join(","))));
    }
    // Kubernetes names this field as its older versions had it.
    let path = column.path().child("JSONPath");
    match column.child("jsonPath").str() {
        "" => errors.push(FieldError::required(&path, "")),
        text if !text.starts_with('.') => {
            errors.push(FieldError::invalid(
                &path,
                text,
                "must be a simple json path starting with .",
            ));
        }
        _ => {}
    }
}

fn selectable_fields(version: &At<'_>, errors: &mut FieldErrors) {
    let list = version.child("selectableFields");
    let Some(schema) = schema_at(version) else { return };
    let mut known: Vec<String> = Vec::new();
    for item in list.items() {
        let path = item.child("jsonPath");
        if path.is_empty() {
            errors.push(path.required(""));
            continue;
        }
        let (name, found) = match structural::field_at(schema, path.str()) {
            Ok(found) => found,
            Err(why) => {
                errors.push(path.invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if name == "metadata" || name.starts_with("metadata.") {
            errors.push(path.invalid("must not point to fields in metadata"));
        }
        let type_ = found.get("type").and_then(Value::as_str).unwrap_or_default();
        if !matches!(type_, "string" | "boolean" | "integer") {
            errors.push(path.invalid(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                 are allowed.",
            ));
        }
        if known.contains(&name) {
            errors.push(path.duplicate());
        } else {
            known.push(name);
        }
    }
    if known.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(
            &Path::root(list.path().as_str()),
            known.len(),
            MAX_SELECTABLE,
        ));
    }
}
