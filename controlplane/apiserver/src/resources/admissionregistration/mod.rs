//! Kinds of this group; see each file.

mod binding;
mod conditions;
mod expressions;
pub(crate) mod mutating_admission_policy;
pub(crate) mod mutating_admission_policy_binding;
pub(crate) mod mutating_webhook_configuration;
mod policy;
mod rules;
pub(crate) mod validating_admission_policy;
pub(crate) mod validating_admission_policy_binding;
pub(crate) mod validating_webhook_configuration;
mod webhook;

/// What failure may mean.
const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
/// Whether requests to other versions of a kind match.
const MATCH_POLICIES: &[&str] = &["Equivalent", "Exact"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];
/// Such names belong to configurations that are read from files.
const STATIC_SUFFIX: &str = ".static.k8s.io";

/// A warning about a name that the API does not manage.
fn static_name(object: &api::Object) -> Vec<String> {
    if !object.name().ends_with(STATIC_SUFFIX) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with {STATIC_SUFFIX:?} are reserved for static manifest-based configurations and cannot be \
         managed via the API"
    )]
}
