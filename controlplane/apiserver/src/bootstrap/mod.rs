//! What every cluster holds from its first start: namespaces, default roles and bindings, the `kubernetes` Service. Pure
//! functions make the objects; [`reconcile`] writes what is missing and mends what has drifted, any number of times.

mod objects;
pub(crate) mod policy;
mod reconcile;

pub use objects::{
    Cluster, authentication, dns_service, kubernetes_endpoints, kubernetes_service, namespaces, priority_classes,
    runtime_classes, service_range, storage_classes,
};
pub use policy::policy;
pub(crate) use reconcile::flow_control;
pub use reconcile::{Error, reconcile, reconcile_endpoints};

#[cfg(test)]
mod tests;
