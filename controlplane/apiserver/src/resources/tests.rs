//! The catalogue is covered: every kind has valid objects, invalid ones with exact messages, defaults and a table.

use std::fmt::Write;

use api::Object;
use api::table::Column;
use serde_json::Value;

use super::testing::{Cases, context, messages, now, object};
use super::validation::merge;
use crate::registry::resource::{Operation, Resource};

/// One line per kind of the catalogue.
fn cases(resource: &Resource) -> Option<Cases> {
    let name = resource.group_resource().to_string();
    Some(match name.as_str() {
        "namespaces" => super::core::namespace::cases(),
        "nodes" => super::core::node::cases(),
        "pods" => super::core::pod::tests::cases(),
        "services" => super::core::service::tests::cases(),
        "endpoints" => super::core::endpoints::cases(),
        "configmaps" => super::core::config_map::cases(),
        "secrets" => super::core::secret::cases(),
        "serviceaccounts" => super::core::service_account::cases(),
        "events" => super::core::event::cases(),
        "replicationcontrollers" => super::core::replication_controller::cases(),
        "podtemplates" => super::core::pod_template::cases(),
        "persistentvolumes" => super::core::persistent_volume::cases(),
        "persistentvolumeclaims" => super::core::persistent_volume_claim::cases(),
        "resourcequotas" => super::core::resource_quota::cases(),
        "limitranges" => super::core::limit_range::cases(),
        "deployments.apps" => super::apps::deployment::cases(),
        "replicasets.apps" => super::apps::replica_set::cases(),
        "daemonsets.apps" => super::apps::daemon_set::cases(),
        "statefulsets.apps" => super::apps::stateful_set::cases(),
        "controllerrevisions.apps" => super::apps::controller_revision::cases(),
        "horizontalpodautoscalers.autoscaling" => super::autoscaling::horizontal_pod_autoscaler::tests::cases(),
        "jobs.batch" => super::batch::job::tests::cases(),
        "cronjobs.batch" => super::batch::cron_job::cases(),
        "leases.coordination.k8s.io" => super::coordination::lease::cases(),
        "endpointslices.discovery.k8s.io" => super::discovery::endpoint_slice::cases(),
        "ingresses.networking.k8s.io" => super::networking::ingress::cases(),
        "ingressclasses.networking.k8s.io" => super::networking::ingress_class::cases(),
        "networkpolicies.networking.k8s.io" => super::networking::network_policy::cases(),
        "priorityclasses.scheduling.k8s.io" => super::scheduling::priority_class::cases(),
        "ipaddresses.networking.k8s.io" => super::networking::ip_address::cases(),
        "servicecidrs.networking.k8s.io" => super::networking::service_cidr::cases(),
        "runtimeclasses.node.k8s.io" => super::node::runtime_class::cases(),
        "poddisruptionbudgets.policy" => super::policy::pod_disruption_budget::cases(),
        "roles.rbac.authorization.k8s.io" => super::rbac::role::cases(),
        "rolebindings.rbac.authorization.k8s.io" => super::rbac::role_binding::cases(),
        "clusterroles.rbac.authorization.k8s.io" => super::rbac::cluster_role::cases(),
        "clusterrolebindings.rbac.authorization.k8s.io" => super::rbac::cluster_role_binding::cases(),
        _ => return None,
    })
}

/// The catalogue over an empty store.
fn catalogue() -> Vec<Resource> {
    super::catalogue(&crate::resources::testing::deps(Vec::new()))
}

/// The way of a create through validation: static defaults, then the strategy and the schema.
fn create(resource: &Resource, value: Value) -> (Object, Vec<String>) {
    let mut new = object(value);
    let namespace = new.namespace().map(str::to_owned);
    schema::default(&mut new, resource.storage().schema());
    context(namespace.as_deref(), |cx| {
        resource.strategy.prepare(cx, &Operation::Create, &mut new);
        let by_kind = resource.strategy.validate(cx, &Operation::Create, &new);
        let found = merge(by_kind, schema::validate(&new, resource.storage().schema()));
        (new, messages(found))
    })
}

#[test]
fn every_kind_has_cases() {
    for resource in catalogue() {
        let name = resource.group_resource().to_string();
        let cases = cases(&resource).unwrap_or_else(|| panic!("{name} has no cases"));
        assert!(!cases.valid.is_empty(), "{name} has no valid case");
        assert!(!cases.invalid.is_empty(), "{name} has no invalid case");
        assert!(!cases.table.is_empty(), "{name} has no table case");
    }
}

/// `kubectl create KIND` sends it.
#[test]
fn every_kind_can_be_sent_as_protobuf() {
    for resource in catalogue() {
        for served in &resource.served {
            let known = |kind: &str| schema::protobuf::Message::of_kind(&served.api_version, kind).is_some();
            assert!(
                known(&resource.kind) && known(&resource.list_kind),
                "{} {} is not in the table",
                served.api_version,
                resource.kind
            );
        }
    }
}

#[test]
fn valid_objects_pass_and_get_their_defaults() {
    for resource in catalogue() {
        let name = resource.group_resource().to_string();
        let mut prepared = Vec::new();
        for value in cases(&resource).expect("cases").valid {
            let (new, found) = create(&resource, value);
            assert!(found.is_empty(), "{name}: {found:?}");
            prepared.push(new.into_value());
        }
        insta::assert_json_snapshot!(format!("defaults-{name}"), prepared);
    }
}

#[test]
fn invalid_objects_earn_their_messages() {
    for resource in catalogue() {
        let name = resource.group_resource().to_string();
        for (value, expected) in cases(&resource).expect("cases").invalid {
            let (_, found) = create(&resource, value.clone());
            assert_eq!(found, expected, "{name}: {value}");
        }
    }
}

#[test]
fn tables_look_as_kubectl_users_know_them() {
    for resource in catalogue() {
        let mut text = row(resource.columns.iter().map(header));
        for value in cases(&resource).expect("cases").table {
            let cells = (resource.cells)(&object(value), now());
            assert_eq!(
                cells.len(),
                resource.columns.len(),
                "{} has a cell per column",
                resource.group_resource()
            );
            text.push_str(&row(cells.iter().map(cell)));
        }
        insta::assert_snapshot!(format!("table-{}", resource.group_resource()), text);
    }
}

#[test]
fn updating_with_what_is_stored_changes_nothing() {
    for resource in catalogue() {
        let name = resource.group_resource().to_string();
        for value in cases(&resource).expect("cases").valid {
            let (old, _) = create(&resource, value);
            let mut new = old.clone();
            let namespace = old.namespace().map(str::to_owned);
            let found = context(namespace.as_deref(), |cx| {
                let op = Operation::Update { old: &old };
                resource.strategy.prepare(cx, &op, &mut new);
                messages(resource.strategy.validate(cx, &op, &new))
            });
            assert!(found.is_empty(), "{name}: {found:?}");
            assert_eq!(new, old, "{name}");
        }
    }
}

fn header(column: &Column) -> String {
    let wide = if column.priority > 0 { "*" } else { "" };
    format!("{}{wide}", column.name.to_uppercase())
}

fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn row(cells: impl Iterator<Item = String>) -> String {
    let mut line = String::new();
    for cell in cells {
        write!(line, "{cell} | ").expect("strings take text");
    }
    format!("{}\n", line.trim_end_matches([' ', '|']))
}

/// `plural.group singular short-names categories subresources`, `-` for none; as Kubernetes 1.36 discovers them.
const DISCOVERED: &str = "\
namespaces namespace ns - finalize,status
nodes node no - status
pods pod po all binding,ephemeralcontainers,eviction,resize,status
services service svc all status
endpoints endpoints ep - -
configmaps configmap cm - -
secrets secret - - -
serviceaccounts serviceaccount sa - -
events event ev - -
replicationcontrollers replicationcontroller rc all scale,status
podtemplates podtemplate - - -
persistentvolumes persistentvolume pv - status
persistentvolumeclaims persistentvolumeclaim pvc - status
resourcequotas resourcequota quota - status
limitranges limitrange limits - -
deployments.apps deployment deploy all scale,status
replicasets.apps replicaset rs all scale,status
daemonsets.apps daemonset ds all status
statefulsets.apps statefulset sts all scale,status
controllerrevisions.apps controllerrevision - - -
horizontalpodautoscalers.autoscaling horizontalpodautoscaler hpa all status
jobs.batch job - all status
cronjobs.batch cronjob cj all status
leases.coordination.k8s.io lease - - -
endpointslices.discovery.k8s.io endpointslice - - -
ingresses.networking.k8s.io ingress ing - status
ingressclasses.networking.k8s.io ingressclass - - -
networkpolicies.networking.k8s.io networkpolicy netpol - -
ipaddresses.networking.k8s.io ipaddress ip - -
servicecidrs.networking.k8s.io servicecidr - - status
runtimeclasses.node.k8s.io runtimeclass - - -
poddisruptionbudgets.policy poddisruptionbudget pdb - status
priorityclasses.scheduling.k8s.io priorityclass pc - -
roles.rbac.authorization.k8s.io role - - -
rolebindings.rbac.authorization.k8s.io rolebinding - - -
clusterroles.rbac.authorization.k8s.io clusterrole - - -
clusterrolebindings.rbac.authorization.k8s.io clusterrolebinding - - -";

#[test]
fn kinds_are_discovered_as_in_kubernetes() {
    let list = |mut items: Vec<String>| {
        items.sort_unstable();
        if items.is_empty() {
            "-".to_owned()
        } else {
            items.join(",")
        }
    };
    let line = |r: &Resource| {
        let names = |names: &[crate::registry::resource::Name]| list(names.iter().map(ToString::to_string).collect());
        let subresources = list(r.subresources.iter().map(|s| s.name().to_owned()).collect());
        let (short, categories) = (names(&r.short_names), names(&r.categories));
        format!(
            "{} {} {short} {categories} {subresources}",
            r.group_resource(),
            r.singular
        )
    };
    let found: Vec<String> = catalogue().iter().map(line).collect();
    assert_eq!(found, DISCOVERED.lines().collect::<Vec<_>>());
    let no_collection = catalogue()
        .into_iter()
        .filter(|r| !r.verbs.contains(&"deletecollection"));
    assert_eq!(no_collection.map(|r| r.plural).collect::<Vec<_>>(), ["namespaces"]);
}
