//! The catalogue: every built-in kind, one file each. A new kind is one file and one line in [`catalogue`].

mod admissionregistration;
pub(crate) mod apiextensions;
mod apiregistration;
mod apps;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
pub mod core;
pub(crate) mod defaults;
mod discovery;
pub(crate) mod flowcontrol;
mod networking;
mod node;
mod policy;
mod print;
mod rbac;
mod resource;
pub(crate) mod scheduling;
mod storage;
pub(crate) mod validation;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::Object;
use serde_json::Value;

use crate::registry::Deps;
use crate::registry::resource::{Operation, Resource};

/// All built-in kinds.
pub fn catalogue(deps: &Deps) -> Vec<Resource> {
    vec![
        core::namespace::resource(),
        core::node::resource(),
        core::pod::resource(),
        core::service::resource(deps),
        core::endpoints::resource(deps),
        core::config_map::resource(),
        core::secret::resource(),
        core::service_account::resource(),
        core::event::resource(),
        core::replication_controller::resource(),
        core::pod_template::resource(),
        core::persistent_volume::resource(),
        core::persistent_volume_claim::resource(),
        core::resource_quota::resource(),
        core::limit_range::resource(),
        apps::deployment::resource(),
        apps::replica_set::resource(),
        apps::daemon_set::resource(),
        apps::stateful_set::resource(),
        apps::controller_revision::resource(),
        autoscaling::horizontal_pod_autoscaler::resource(),
        batch::job::resource(),
        batch::cron_job::resource(),
        coordination::lease::resource(),
        discovery::endpoint_slice::resource(deps),
        networking::ingress::resource(),
        networking::ingress_class::resource(),
        networking::network_policy::resource(),
        networking::ip_address::resource(),
        networking::service_cidr::resource(),
        node::runtime_class::resource(),
        policy::pod_disruption_budget::resource(),
        scheduling::priority_class::resource(),
        rbac::role::resource(),
        rbac::role_binding::resource(),
        rbac::cluster_role::resource(),
        rbac::cluster_role_binding::resource(),
        storage::storage_class::resource(),
        storage::volume_attachment::resource(),
        storage::csi_driver::resource(),
        storage::csi_node::resource(),
        storage::csi_storage_capacity::resource(),
        storage::volume_attributes_class::resource(),
        certificates::certificate_signing_request::resource(),
        admissionregistration::validating_webhook_configuration::resource(),
        admissionregistration::mutating_webhook_configuration::resource(),
        admissionregistration::validating_admission_policy::resource(),
        admissionregistration::validating_admission_policy_binding::resource(),
        admissionregistration::mutating_admission_policy::resource(),
        admissionregistration::mutating_admission_policy_binding::resource(),
        apiregistration::api_service::resource(),
        flowcontrol::flow_schema::resource(),
        flowcontrol::priority_level_configuration::resource(),
        resource::device_class::resource(),
        resource::resource_claim::resource(),
        resource::resource_claim_template::resource(),
        resource::resource_slice::resource(),
        apiextensions::custom_resource_definition::resource(),
    ]
}

/// Whether two maps differ in more than the fields named.
pub(crate) fn unlike(old: Option<&Value>, new: Option<&Value>, but: &[&str]) -> bool {
    fields(old, but) != fields(new, but)
}

fn fields<'a>(map: Option<&'a Value>, but: &[&str]) -> BTreeMap<&'a String, &'a Value> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter(|(key, _)| !but.contains(&key.as_str())).collect()
}

pub(crate) use certificates::request::der as certificate_request_der;
#[cfg(test)]
pub(crate) use certificates::request::testing::field as certificate_request_field;
pub(crate) use storage::storage_class::is_default as is_default_storage_class;

/// Keeps `status` the business of the `status` endpoint: a create gets `first`, an update what is stored.
pub(crate) fn keep_status_apart(op: &Operation<'_>, new: &mut Object, first: impl FnOnce() -> Value) {
    match op {
        Operation::Create => new.set("status", first()),
        Operation::Update { old } => copy_field(old, new, "status"),
        Operation::UpdateStatus { .. } | Operation::Delete { .. } => {}
    }
}

/// Makes `path` in `to` what it is in `from`, absent included: how a write is kept from touching what it may not.
pub(crate) fn copy_field(from: &Object, to: &mut Object, path: &str) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => drop(to.remove(path)),
    }
}
