//! Options of writes, from the query string and, for deletes, from the body.

use api::field::Path;
use api::names::GroupKind;
use api::{FieldError, Object, Status};
use schema::FieldValidation;

use crate::http::query::Query;

/// Options of create, update and patch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads `dryRun` and `fieldValidation`; `kind` is the options kind that an error is worded with.
    pub(crate) fn parse(query: &Query<'_>, kind: &str) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let dry_run = dry_run(query.all("dryRun"), &mut errors);
        let validation = match query.get("fieldValidation") {
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            None | Some("Warn") => FieldValidation::Warn,
            Some(other) => {
                let path = Path::root("fieldValidation");
                errors.push(FieldError::not_supported(&path, other, &["Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        refuse(kind, errors)?;
        Ok(WriteOptions { dry_run, validation })
    }
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: bool,
    pub(crate) grace: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

/// What becomes of the objects an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Orphan,
    Background,
    Foreground,
}

const POLICIES: [&str; 4] = ["Foreground", "Background", "Orphan", "nil"];

impl DeleteOptions {
    /// Reads the options from the body if there is one, else from the query.
    pub(crate) fn parse(query: &Query<'_>, body: Option<&Object>) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let mut options = DeleteOptions::default();
        let (policy, orphan) = match body {
            Some(body) => {
                check_kind(body)?;
                let asked = body.list_at("dryRun").iter().filter_map(|v| v.as_str());
                options.dry_run = dry_run(asked, &mut errors);
                options.grace = body.i64_at("gracePeriodSeconds");
                options.uid = body.str_at("preconditions.uid").map(str::to_owned);
                options.resource_version = body.str_at("preconditions.resourceVersion").map(str::to_owned);
                (
                    body.str_at("propagationPolicy").map(str::to_owned),
                    body.bool_at("orphanDependents"),
                )
            }
            None => {
                options.dry_run = dry_run(query.all("dryRun"), &mut errors);
                options.grace = query.int("gracePeriodSeconds")?;
                (
                    query.get("propagationPolicy").map(str::to_owned),
                    query.bool("orphanDependents"),
                )
            }
        };
        options.propagation = propagation(policy.as_deref(), orphan, &mut errors);
        refuse("DeleteOptions", errors)?;
        Ok(options)
    }
}

fn check_kind(body: &Object) -> Result<(), Status> {
    match body.kind() {
        "" | "DeleteOptions" => Ok(()),
        other => Err(Status::bad_request(format!(
            "decoded object cannot be converted to DeleteOptions: the body holds a {other}"
        ))),
    }
}

fn propagation(policy: Option<&str>, orphan: Option<bool>, errors: &mut Vec<FieldError>) -> Option<Propagation> {
    let path = Path::root("propagationPolicy");
    if let (Some(policy), Some(_)) = (policy, orphan) {
        let detail = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(FieldError::invalid(&path, policy, detail));
    }
    match (policy, orphan) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (None, None) => None,
        (Some(other), _) => {
            errors.push(FieldError::not_supported(&path, other, &POLICIES));
            None
        }
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let mut asked = false;
    for value in values {
        asked = true;
        if value != "All" {
            errors.push(FieldError::not_supported(&Path::root("dryRun"), value, &["All"]));
        }
    }
    asked
}

fn refuse(kind: &str, errors: Vec<FieldError>) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", errors))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_delete_options_from_the_body_before_the_query() {
        let body = Object::from_value(json!({
            "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 3, "propagationPolicy": "Foreground",
            "preconditions": {"uid": "u"}, "dryRun": ["All"],
        }))
        .expect("an object");
        let options = DeleteOptions::parse(&Query::parse("gracePeriodSeconds=9"), Some(&body)).expect("valid");
        let expected = DeleteOptions {
            dry_run: true,
            grace: Some(3),
            propagation: Some(Propagation::Foreground),
            uid: Some("u".into()),
            resource_version: None,
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn refuses_options_it_does_not_know() {
        let cases = [
            (
                "dryRun=Some",
                "dryRun: Unsupported value: \"Some\": supported values: \"All\"",
            ),
            (
                "propagationPolicy=Never",
                "propagationPolicy: Unsupported value: \"Never\"",
            ),
            ("propagationPolicy=Orphan&orphanDependents=true", "cannot be both set"),
        ];
        for (query, message) in cases {
            let status = DeleteOptions::parse(&Query::parse(query), None).unwrap_err();
            assert!(status.message.contains(message), "{query}: {}", status.message);
            assert_eq!(status.code, 422);
        }
    }
}
