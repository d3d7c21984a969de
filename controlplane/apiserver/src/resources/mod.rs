//! The catalogue: every built-in kind, one file each. A new kind is one file and one line in [`catalogue`].

pub(crate) mod apiextensions;
mod apps;
mod coordination;
pub mod core;
pub(crate) mod defaults;
mod discovery;
mod networking;
mod node;
mod policy;
mod print;
mod rbac;
pub(crate) mod validation;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use api::Object;

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
        apps::deployment::resource(),
        apps::replica_set::resource(),
        coordination::lease::resource(),
        discovery::endpoint_slice::resource(deps),
        networking::ip_address::resource(),
        networking::service_cidr::resource(),
        node::runtime_class::resource(),
        policy::pod_disruption_budget::resource(),
        rbac::role::resource(),
        rbac::role_binding::resource(),
        rbac::cluster_role::resource(),
        rbac::cluster_role_binding::resource(),
        apiextensions::custom_resource_definition::resource(),
    ]
}

/// Makes `path` in `to` what it is in `from`, absent included: how a write is kept from touching what it may not.
pub(crate) fn copy_field(from: &Object, to: &mut Object, path: &str) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => drop(to.remove(path)),
    }
}
