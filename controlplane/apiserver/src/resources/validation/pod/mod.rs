//! The rules over a pod's spec, as a Pod has it and as a template has it. One file per part; this one is the table of
//! contents, in the order in which Kubernetes reports.

mod container;
mod dns;
mod downward;
mod env;
mod probe;
mod scheduling;
mod security;
pub(crate) mod update;
mod volume;
mod warnings;

use api::FieldErrors;

use super::labels::labels;
use super::names::{is_dns1123_label, is_dns1123_subdomain};
use super::{At, meta, quantity};

pub(crate) use scheduling::{node_selector_terms, taint_effect, tolerations};
pub(crate) use warnings::{current_node_label, node_label, warnings};

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];

/// A pod's spec at `at`; `metadata` of the pod is needed for nothing, so a template's spec is checked alike.
pub(crate) fn spec(at: &At<'_>, errors: &mut FieldErrors) {
    let volumes = volume::volumes(&at.child("volumes"), errors);
    let grace = at.child("terminationGracePeriodSeconds").i64();
    container::containers(at, &volumes, grace, errors);
    at.child("restartPolicy").require_one_of(errors, RESTART_POLICIES);
    dns::policy(at, errors);
    labels(&at.child("nodeSelector"), errors);
    security::pod(at, errors);
    for secret in at.child("imagePullSecrets").items() {
        secret.child("name").require(errors, |_| Vec::new());
    }
    scheduling::affinity(&at.child("affinity"), errors);
    dns::config(at, errors);
    scheduling::gates(at, errors);
    scheduling::topology_spread(&at.child("topologySpreadConstraints"), errors);
    at.child("serviceAccountName")
        .check_if_set(errors, is_dns1123_subdomain);
    at.child("nodeName").check_if_set(errors, is_dns1123_subdomain);
    at.child("activeDeadlineSeconds").within(errors, 1, i64::from(i32::MAX));
    at.child("hostname").check_if_set(errors, is_dns1123_label);
    at.child("subdomain").check_if_set(errors, is_dns1123_label);
    tolerations(&at.child("tolerations"), errors);
    dns::host_aliases(&at.child("hostAliases"), errors);
    at.child("priorityClassName").check_if_set(errors, is_dns1123_subdomain);
    at.child("runtimeClassName").check_if_set(errors, is_dns1123_subdomain);
    at.child("preemptionPolicy")
        .one_of(errors, &["Never", "PreemptLowerPriority"]);
    quantity::amounts(&at.child("overhead"), errors);
    if at.child("os").is_set() {
        at.child("os")
            .child("name")
            .require_one_of(errors, &["linux", "windows"]);
    }
}

/// A `PodTemplateSpec`.
pub(crate) fn template(at: &At<'_>, errors: &mut FieldErrors) {
    labels(&at.child("metadata").child("labels"), errors);
    meta::annotations(&at.child("metadata").child("annotations"), errors);
    spec(&at.child("spec"), errors);
    if !at.child("spec").child("ephemeralContainers").is_empty() {
        let ephemeral = at.child("spec").child("ephemeralContainers");
        errors.push(ephemeral.forbidden("ephemeral containers not allowed in pod template"));
    }
}
