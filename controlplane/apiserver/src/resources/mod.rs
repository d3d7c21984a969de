//! The catalogue: every built-in kind, one file each. A new kind is one file and one line in [`catalogue`].

mod apps;
mod autoscaling;
mod batch;
mod coordination;
pub mod core;
pub(crate) mod defaults;
mod discovery;
mod networking;
mod node;
mod policy;
mod print;
mod rbac;
pub(crate) mod scheduling;
pub(crate) mod validation;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use api::Object;
use serde_json::Value;

use crate::registry::Deps;
use crate::registry::resource::Resource;

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

/// Makes `path` in `to` what it is in `from`, absent included: how a write is kept from touching what it may not.
pub(crate) fn copy_field(from: &Object, to: &mut Object, path: &str) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => drop(to.remove(path)),
    }
}
