//! Laws that hold for every kind.

use std::thread;

use k8s_openapi::{
    Resource,
    api::{
        admissionregistration, apps, autoscaling, batch, coordination, core, discovery, events, networking, node,
        policy, rbac, scheduling, storage,
    },
    apiextensions_apiserver::pkg::apis::apiextensions,
};
use schemars::JsonSchema;
use serde_json::json;

use crate::{Schema, check, compile, default, facts, model::Type, validate};

fn of<T: JsonSchema + Resource>() -> (String, Schema) {
    let definition: &'static str = Box::leak(T::schema_name().into_owned().into_boxed_str());
    (definition.to_owned(), Schema::of::<T>(definition))
}

fn kinds() -> Vec<(String, Schema)> {
    vec![
        of::<core::v1::Pod>(),
        of::<core::v1::Node>(),
        of::<core::v1::Namespace>(),
        of::<core::v1::Service>(),
        of::<core::v1::Endpoints>(),
        of::<core::v1::ConfigMap>(),
        of::<core::v1::Secret>(),
        of::<core::v1::ServiceAccount>(),
        of::<core::v1::Event>(),
        of::<core::v1::PersistentVolume>(),
        of::<core::v1::PersistentVolumeClaim>(),
        of::<core::v1::LimitRange>(),
        of::<core::v1::ResourceQuota>(),
        of::<core::v1::ReplicationController>(),
        of::<events::v1::Event>(),
        of::<apps::v1::Deployment>(),
        of::<apps::v1::ReplicaSet>(),
        of::<apps::v1::StatefulSet>(),
        of::<apps::v1::DaemonSet>(),
        of::<apps::v1::ControllerRevision>(),
        of::<batch::v1::Job>(),
        of::<batch::v1::CronJob>(),
        of::<autoscaling::v2::HorizontalPodAutoscaler>(),
        of::<coordination::v1::Lease>(),
        of::<discovery::v1::EndpointSlice>(),
        of::<networking::v1::Ingress>(),
        of::<networking::v1::NetworkPolicy>(),
        of::<networking::v1::IPAddress>(),
        of::<networking::v1::ServiceCIDR>(),
        of::<node::v1::RuntimeClass>(),
        of::<policy::v1::PodDisruptionBudget>(),
        of::<rbac::v1::Role>(),
        of::<rbac::v1::ClusterRole>(),
        of::<rbac::v1::RoleBinding>(),
        of::<rbac::v1::ClusterRoleBinding>(),
        of::<scheduling::v1::PriorityClass>(),
        of::<storage::v1::StorageClass>(),
        of::<storage::v1::CSIDriver>(),
        of::<admissionregistration::v1::ValidatingWebhookConfiguration>(),
        of::<apiextensions::v1::CustomResourceDefinition>(),
    ]
}

#[test]
fn every_kind_compiles_defaults_and_validates_when_empty() {
    for (name, schema) in kinds() {
        let mut tree = json!({"metadata": {"name": "a"}});
        assert_eq!(check(&mut tree, &schema).unwrap(), [""; 0], "{name}");
        let mut object = api::Object::from_value(tree).unwrap();
        default(&mut object, &schema);
        validate(&object, &schema);
        let mut tree = object.clone().into_value();
        assert_eq!(
            check(&mut tree, &schema).unwrap(),
            [""; 0],
            "{name}: its defaults fit its schema"
        );
        assert_eq!(tree, object.into_value(), "{name}: its defaults are canonical");
    }
}

#[test]
fn a_definition_is_compiled_once_for_all_kinds() {
    let template = |schema: &Schema| {
        let spec = schema
            .root()
            .definition()
            .unwrap()
            .body()
            .field("spec")
            .unwrap()
            .type_
            .definition()
            .unwrap();
        match &spec.body().field("template").unwrap().type_ {
            Type::Struct(link) => link.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (_, deployment) = of::<apps::v1::Deployment>();
    let (_, replica_set) = of::<apps::v1::ReplicaSet>();
    assert!(std::sync::Arc::ptr_eq(&template(&deployment), &template(&replica_set)));
}

#[test]
fn many_threads_may_meet_a_kind_first() {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for (_, schema) in kinds() {
                    let mut object = api::Object::from_value(json!({"spec": {}})).unwrap();
                    default(&mut object, &schema);
                }
            });
        }
    });
}

#[test]
fn facts_speak_of_fields_that_exist() {
    let mut seen = 0;
    for (name, schema) in kinds() {
        let Some(definition) = schema.root().definition() else {
            panic!("{name} is no struct")
        };
        let Some(facts) = facts::of(&name) else { continue };
        for field in facts.fields.keys() {
            assert!(definition.body().field(field).is_some(), "{name}.{field}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
    let mut generator = compile::generator();
    generator.subschema_for::<core::v1::Pod>();
    generator.subschema_for::<apps::v1::Deployment>();
    for (name, schema) in generator.definitions() {
        for field in facts::of(name).into_iter().flat_map(|facts| facts.fields.keys()) {
            assert!(schema["properties"].get(*field).is_some(), "{name}.{field}");
        }
    }
}
