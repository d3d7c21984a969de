//! `AuthorizationConfiguration` of apiserver.config.k8s.io: who is asked whether something may be done, in which order. Read,
//! checked in Kubernetes' words and compiled; pure but for the files it names, which the caller reads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::field::Path;
use api::names::is_dns1123_subdomain;
use api::{FieldError, field};
use serde::Deserialize;

use super::webhook::{Conditions, Webhook};
use crate::webhook::endpoint::Endpoint;

const MAX_CONDITIONS: usize = 64;
const MAX_TIMEOUT: Duration = Duration::from_secs(30);
const TYPES: [&str; 3] = ["Node", "RBAC", "Webhook"];

/// A configuration as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Configuration {
    pub api_version: String,
    pub kind: String,
    pub authorizers: Vec<Entry>,
}

/// One that is asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    pub r#type: String,
    pub name: String,
    pub webhook: Option<WebhookEntry>,
}

/// A program that is asked; times as Go writes them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct WebhookEntry {
    #[serde(rename = "authorizedTTL")]
    pub authorized_ttl: String,
    #[serde(rename = "unauthorizedTTL")]
    pub unauthorized_ttl: String,
    pub cache_authorized_requests: Option<bool>,
    pub cache_unauthorized_requests: Option<bool>,
    pub timeout: String,
    pub subject_access_review_version: String,
    pub match_condition_subject_access_review_version: String,
    pub failure_policy: String,
    pub connection_info: ConnectionInfo,
    pub match_conditions: Vec<Condition>,
}

/// Where it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectionInfo {
    pub r#type: String,
    pub kube_config_file: Option<String>,
}

/// What must hold of a request for the program to be asked about it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    pub expression: String,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("it is not an AuthorizationConfiguration of apiserver.config.k8s.io/v1: {0}")]
    Decode(String),
    #[error("its kind must be AuthorizationConfiguration of apiserver.config.k8s.io/v1, not {kind} of {version}")]
    Kind { kind: String, version: String },
    #[error("{}", field::aggregate(.0))]
    Invalid(Vec<FieldError>),
}

/// Who is asked, in that order; administrators before all.
#[derive(Debug)]
pub struct Settings(pub(crate) Vec<Step>);

impl Default for Settings {
    fn default() -> Self {
        Settings(vec![Step::Node, Step::Rbac])
    }
}

#[derive(Debug)]
pub(crate) enum Step {
    Node,
    Rbac,
    Webhook(Arc<Webhook>),
}

impl Configuration {
    /// Reads a configuration from YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let read: Self = serde_saphyr::from_str(text).map_err(|error| Error::Decode(error.to_string()))?;
        let group = read.api_version.strip_prefix("apiserver.config.k8s.io/");
        let known = matches!(group, Some("v1" | "v1beta1" | "v1alpha1"));
        match known && read.kind == "AuthorizationConfiguration" {
            true => Ok(read),
            false => Err(Error::Kind {
                kind: read.kind,
                version: read.api_version,
            }),
        }
    }

    /// Checks and compiles it; `open` makes of the path of a kubeconfig file what is asked there, or says why it cannot.
    pub fn compile(&self, mut open: impl FnMut(&str) -> Result<Endpoint, String>) -> Result<Settings, Error> {
        let (root, mut errors) = (Path::root("authorizers"), Vec::new());
        if self.authorizers.is_empty() {
            let detail = "at least one authorization mode must be defined";
            errors.push(FieldError::required(&root, detail));
        }
        let (mut types, mut names, mut steps) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (index, entry) in self.authorizers.iter().enumerate() {
            let (at, of_type) = (root.index(index), entry.r#type.as_str());
            if of_type.is_empty() {
                errors.push(FieldError::required(&at.child("type"), ""));
                continue;
            }
            if !TYPES.contains(&of_type) {
                errors.push(FieldError::not_supported(&at.child("type"), of_type, &TYPES));
                continue;
            }
            if !types.insert(of_type) && of_type != "Webhook" {
                errors.push(FieldError::duplicate(&at.child("type"), of_type));
                continue;
            }
            check_name(
                &entry.name,
                &at.child("name"),
                !names.insert(entry.name.as_str()),
                &mut errors,
            );
            match (of_type, &entry.webhook) {
                ("Webhook", None) => {
                    errors.push(FieldError::required(&at.child("webhook"), "required when type=Webhook"));
                }
                ("Webhook", Some(webhook)) => {
                    let compiled = webhook.compile(&at.child("webhook"), &mut open, &mut errors);
                    steps.extend(compiled.map(|webhook| Step::Webhook(Arc::new(webhook))));
                }
                (_, Some(_)) => {
                    let detail = "may only be specified when type=Webhook";
                    errors.push(FieldError::invalid(&at.child("webhook"), "non-null", detail));
                }
                ("Node", None) => steps.push(Step::Node),
                (_, None) => steps.push(Step::Rbac),
            }
        }
        match errors.is_empty() {
            true => Ok(Settings(steps)),
            false => Err(Error::Invalid(errors)),
        }
    }
}

fn check_name(name: &str, at: &Path, is_taken: bool, errors: &mut Vec<FieldError>) {
    let wrong = is_dns1123_subdomain(name);
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else if is_taken {
        errors.push(FieldError::duplicate(at, name));
    } else if !wrong.is_empty() {
        let detail = format!("authorizer name is invalid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(at, name, detail));
    }
}

impl WebhookEntry {
    fn compile(
        &self,
        at: &Path,
        open: &mut impl FnMut(&str) -> Result<Endpoint, String>,
        errors: &mut Vec<FieldError>,
    ) -> Option<Webhook> {
        let before = errors.len();
        let timeout = time(&self.timeout, &at.child("timeout"), Some(MAX_TIMEOUT), errors);
        let authorized = time(&self.authorized_ttl, &at.child("authorizedTTL"), None, errors);
        let unauthorized = time(&self.unauthorized_ttl, &at.child("unauthorizedTTL"), None, errors);
        let version = match self.subject_access_review_version.as_str() {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            other => {
                let at = at.child("subjectAccessReviewVersion");
                errors.push(one_of(other, &at, &["v1", "v1beta1"]));
                ""
            }
        };
        match (
            self.match_condition_subject_access_review_version.as_str(),
            self.match_conditions.is_empty(),
        ) {
            ("v1", _) | ("", true) => {}
            (other, _) => {
                let at = at.child("matchConditionSubjectAccessReviewVersion");
                errors.push(match other {
                    "" => FieldError::required(&at, "required if match conditions are specified"),
                    other => FieldError::not_supported(&at, other, &["v1"]),
                });
            }
        }
        if !matches!(self.failure_policy.as_str(), "NoOpinion" | "Deny") {
            let at = at.child("failurePolicy");
            errors.push(one_of(&self.failure_policy, &at, &["NoOpinion", "Deny"]));
        }
        let conditions = self.conditions(&at.child("matchConditions"), errors);
        let endpoint = self.connection_info.open(&at.child("connectionInfo"), open, errors);
        let endpoint = endpoint.filter(|_| errors.len() == before)?;
        let ttl = |ttl: Duration, wanted: Option<bool>| if wanted == Some(false) { Duration::ZERO } else { ttl };
        Some(Webhook::new(super::webhook::Config {
            endpoint,
            version,
            timeout,
            authorized_ttl: ttl(authorized, self.cache_authorized_requests),
            unauthorized_ttl: ttl(unauthorized, self.cache_unauthorized_requests),
            denies_on_failure: self.failure_policy == "Deny",
            conditions,
        }))
    }

    fn conditions(&self, at: &Path, errors: &mut Vec<FieldError>) -> Conditions {
        let mut conditions = Conditions::default();
        if self.match_conditions.len() > MAX_CONDITIONS {
            errors.push(FieldError::too_many(at, self.match_conditions.len(), MAX_CONDITIONS));
            return conditions;
        }
        let mut seen = BTreeSet::new();
        for (index, condition) in self.match_conditions.iter().enumerate() {
            let (at, expression) = (at.index(index).child("expression"), condition.expression.as_str());
            if expression.trim().is_empty() {
                errors.push(FieldError::required(&at, ""));
            } else if !seen.insert(expression) {
                errors.push(FieldError::duplicate(&at, expression));
            } else if let Err(why) = conditions.add(expression) {
                errors.push(FieldError::invalid(&at, expression, why));
            }
        }
        conditions
    }
}

impl ConnectionInfo {
    fn open(
        &self,
        at: &Path,
        open: &mut impl FnMut(&str) -> Result<Endpoint, String>,
        errors: &mut Vec<FieldError>,
    ) -> Option<Endpoint> {
        if self.r#type != "KubeConfigFile" {
            errors.push(one_of(&self.r#type, &at.child("type"), &["KubeConfigFile"]));
            return None;
        }
        let at = at.child("kubeConfigFile");
        let path = self.kube_config_file.as_deref().unwrap_or_default();
        let opened = match path {
            "" => Err(FieldError::required(&at, "")),
            path if !path.starts_with('/') => Err(FieldError::invalid(&at, path, "must be an absolute path")),
            path => open(path).map_err(|why| FieldError::invalid(&at, path, format!("error loading file: {why}"))),
        };
        opened.map_err(|error| errors.push(error)).ok()
    }
}

fn one_of(value: &str, at: &Path, known: &[&str]) -> FieldError {
    match value {
        "" => FieldError::required(at, ""),
        other => FieldError::not_supported(at, other, known),
    }
}

/// A time as Go writes it, such as `1m30s`, which must be more than nothing.
fn time(text: &str, at: &Path, most: Option<Duration>, errors: &mut Vec<FieldError>) -> Duration {
    let parsed: Option<jiff::SignedDuration> = text.parse().ok();
    let parsed = parsed.map(|parsed| (parsed, Duration::try_from(parsed).unwrap_or_default()));
    match (text, parsed) {
        ("" | "0" | "0s", _) => errors.push(FieldError::required(at, "")),
        (_, Some((_, time))) if !time.is_zero() && most.is_none_or(|most| time <= most) => return time,
        (_, Some(_)) => {
            let detail = if most.is_some() {
                "must be > 0s and <= 30s"
            } else {
                "must be > 0s"
            };
            errors.push(FieldError::invalid(at, text, detail));
        }
        (_, None) => errors.push(FieldError::invalid(at, text, "must be a duration such as 30s or 5m")),
    }
    Duration::ZERO
}
