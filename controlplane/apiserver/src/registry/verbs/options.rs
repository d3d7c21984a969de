//! Options of writes, from the query string and, for deletes, from the body.

use std::borrow::Cow;

use api::field::Path;
use api::names::GroupKind;
use api::{FieldError, Object, Status};
use schema::FieldValidation;
use serde_json::{Map, Value, json};

use crate::http::query::Query;

/// Options of create, update and patch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
    /// Of an apply: takes fields from others.
    pub(crate) force: bool,
}

impl WriteOptions {
    /// Reads the options of a create or update; `kind` is the options kind that an error is worded with.
    pub(crate) fn parse(query: &Query<'_>, kind: &str) -> Result<Self, Status> {
        Self::read(query, kind, Vec::new())
    }

    /// Reads the options of a patch. An apply must name its manager, and nothing else may use force.
    pub(crate) fn of_patch(query: &Query<'_>, apply: bool) -> Result<Self, Status> {
        let mut errors = Vec::new();
        if apply && query.get("fieldManager").is_none() {
            errors.push(FieldError::required(
                &Path::root("fieldManager"),
                "is required for apply patch",
            ));
        }
        if !apply && query.present("force") {
            errors.push(FieldError::forbidden(
                &Path::root("force"),
                "may not be specified for non-apply patch",
            ));
        }
        Self::read(query, "PatchOptions", errors)
    }

    fn read(query: &Query<'_>, kind: &str, mut errors: Vec<FieldError>) -> Result<Self, Status> {
        let path = Path::root("fieldManager");
        errors.extend(wrong_manager(query.get("fieldManager").unwrap_or_default(), &path));
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
        Ok(WriteOptions {
            dry_run,
            validation,
            force: query.flag("force"),
        })
    }
}

/// The options of a write as admission shows them.
pub(crate) fn write_options(query: &Query<'_>, kind: &str) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    let Some(map) = options.as_object_mut() else {
        return options;
    };
    for name in ["fieldManager", "fieldValidation"] {
        if let Some(text) = query.get(name) {
            map.insert(name.to_owned(), text.into());
        }
    }
    let dry_run: Vec<&str> = query.all("dryRun").collect();
    if !dry_run.is_empty() {
        map.insert("dryRun".to_owned(), dry_run.into());
    }
    if kind == "PatchOptions" && query.present("force") {
        map.insert("force".to_owned(), query.flag("force").into());
    }
    options
}

/// As long as a manager's name may be, in bytes.
const MAX_MANAGER: usize = 128;

/// What is wrong with a manager's name.
pub(crate) fn wrong_manager(name: &str, path: &Path) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if name.len() > MAX_MANAGER {
        errors.push(FieldError::too_long(path, MAX_MANAGER));
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !api::text::prints(*c)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        errors.push(FieldError::invalid(path, name, why));
    }
    errors
}

/// Who changes fields by a request: the manager that it names, else what its user agent says before the first slash.
pub(crate) fn manager<'a>(named: Option<&'a str>, agent: Option<&'a str>) -> Cow<'a, str> {
    if let Some(name) = named {
        return Cow::Borrowed(name);
    }
    let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
    if name.len() <= MAX_MANAGER && name.chars().all(api::text::prints) {
        return Cow::Borrowed(name);
    }
    let mut short = String::new();
    for c in name.chars().filter(|c| api::text::prints(*c)) {
        if short.len() + c.len_utf8() > MAX_MANAGER {
            break;
        }
        short.push(c);
    }
    Cow::Owned(short)
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

impl DeleteOptions {
    /// As admission shows them.
    pub(crate) fn json(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        let Some(map) = options.as_object_mut() else {
            return options;
        };
        if let Some(grace) = self.grace {
            map.insert("gracePeriodSeconds".to_owned(), grace.into());
        }
        let policy = match self.propagation {
            None => None,
            Some(Propagation::Orphan) => Some("Orphan"),
            Some(Propagation::Background) => Some("Background"),
            Some(Propagation::Foreground) => Some("Foreground"),
        };
        if let Some(policy) = policy {
            map.insert("propagationPolicy".to_owned(), policy.into());
        }
        let given = [("uid", &self.uid), ("resourceVersion", &self.resource_version)];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value.clone()?.into())));
        let preconditions: Map<String, Value> = given.collect();
        if !preconditions.is_empty() {
            map.insert("preconditions".to_owned(), preconditions.into());
        }
        if self.dry_run {
            map.insert("dryRun".to_owned(), json!(["All"]));
        }
        options
    }
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
    fn names_a_manager_by_what_the_caller_says_of_itself() {
        let long = "x".repeat(200);
        let cases = [
            (Some("me"), Some("kubectl/v1.36"), "me"),
            (None, Some("kubectl/v1.36 (linux/amd64)"), "kubectl"),
            (None, Some("Go-http-client/1.1"), "Go-http-client"),
            (None, Some("a\u{7}b c/1"), "ab c"),
            (None, Some(&*long), &long[..128]),
            (None, Some(""), ""),
            (None, None, ""),
        ];
        for (named, agent, want) in cases {
            assert_eq!(manager(named, agent), want, "{named:?} {agent:?}");
        }
    }

    #[test]
    fn patches_name_their_manager_and_use_force_as_they_may() {
        let cases = [
            (true, "", "fieldManager: Required value: is required for apply patch"),
            (
                true,
                "fieldManager=",
                "fieldManager: Required value: is required for apply patch",
            ),
            (
                false,
                "force=true",
                "force: Forbidden: may not be specified for non-apply patch",
            ),
            (
                false,
                "fieldManager=a%09b",
                "fieldManager: Invalid value: \"a\\tb\": invalid character U+0009 (at position 1)",
            ),
        ];
        for (apply, query, message) in cases {
            let status = WriteOptions::of_patch(&Query::parse(query), apply).unwrap_err();
            assert_eq!(
                status.message,
                format!("PatchOptions.meta.k8s.io \"\" is invalid: {message}")
            );
        }
        let long = format!("fieldManager={}", "x".repeat(129));
        let status = WriteOptions::parse(&Query::parse(&long), "UpdateOptions").unwrap_err();
        assert!(
            status
                .message
                .ends_with("fieldManager: Too long: may not be more than 128 bytes"),
            "{status:?}"
        );
        assert!(
            WriteOptions::of_patch(&Query::parse("fieldManager=a&force=true"), true)
                .unwrap()
                .force
        );
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
