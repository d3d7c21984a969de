use std::sync::Arc;

use api::{Object, Status};
use serde_json::{Value, json};

use super::plan::{self, Claim};
use super::repair::{Held, repairs};
use crate::registry::resource::{Context, EffectsContext, Operation, Resource, Rollback};
use crate::resources::testing::deps;
use crate::resources::testing::{Cases, context, messages, now, object};

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "ns",
        "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec})
}

pub(crate) fn cases() -> Cases {
    Cases {
        valid: vec![
            service("web", json!({"selector": {"app": "web"}, "ports": [{"port": 80}]})),
            service(
                "np",
                json!({"type": "NodePort", "sessionAffinity": "ClientIP", "ports": [{"port": 80, "targetPort": "http"}]}),
            ),
            service("headless", json!({"clusterIP": "None"})),
            service("out", json!({"type": "ExternalName", "externalName": "example.com."})),
        ],
        invalid: vec![
            (service("web", json!({})), vec!["spec.ports: Required value"]),
            (
                service(
                    "web",
                    json!({"ports": [{"port": 0}, {"port": 80, "name": "a", "nodePort": 30000}]}),
                ),
                vec![
                    "spec.ports[0].name: Required value",
                    "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                    "spec.ports[1].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                ],
            ),
            (
                service(
                    "web",
                    json!({"type": "NodePort", "clusterIP": "None", "ports": [{"port": 80}]}),
                ),
                vec!["spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services"],
            ),
            (
                service("web", json!({"type": "ExternalName", "clusterIP": "10.96.0.9"})),
                vec![
                    "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
                    "spec.externalName: Required value",
                ],
            ),
            (
                service(
                    "web",
                    json!({"type": "Wrong", "externalTrafficPolicy": "Local", "sessionAffinity": "x",
                    "ports": [{"port": 80, "name": "a"}, {"port": 80, "name": "a"}]}),
                ),
                vec![
                    "spec.ports[1].name: Duplicate value: \"a\"",
                    "spec.sessionAffinity: Unsupported value: \"x\": supported values: \"ClientIP\", \"None\"",
                    "spec.type: Unsupported value: \"Wrong\": supported values: \"ClusterIP\", \"ExternalName\", \
                     \"LoadBalancer\", \"NodePort\"",
                    "spec.ports[1]: Duplicate value: {\"port\":80,\"protocol\":\"TCP\"}",
                    "spec.externalTrafficPolicy: Invalid value: \"Local\": may only be set for externally-accessible services",
                ],
            ),
        ],
        table: vec![
            service(
                "web",
                json!({"type": "NodePort", "clusterIPs": ["10.96.0.9"], "selector": {"a": "b", "c": "d"},
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
            ),
            service("out", json!({"type": "ExternalName", "externalName": "example.com"})),
            service(
                "lb",
                json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.10"], "ports": [{"port": 1, "protocol": "TCP"}]}),
            ),
            service("headless", json!({"type": "ClusterIP", "clusterIPs": ["None"]})),
        ],
    }
}

/// Runs a write up to its claims.
async fn begin(resource: &Resource, op: Operation<'_>, new: &mut Object) -> Result<Box<dyn Rollback>, Status> {
    let user = crate::authn::UserInfo::default();
    let cx = Context {
        user: &user,
        now: now(),
        namespace: Some("ns"),
        version: "v1",
        subresource: None,
        dry_run: false,
    };
    resource.strategy.prepare(&cx, &op, new);
    let deps = deps(Vec::new());
    let effects = resource.effects.as_ref().expect("services have effects");
    effects
        .begin(
            &EffectsContext {
                cx,
                reader: deps.reader.as_ref(),
            },
            &op,
            new,
        )
        .await
}

async fn create(resource: &Resource, name: &str, spec: Value) -> Result<Object, Status> {
    let mut new = object(service(name, spec));
    let undo = begin(resource, Operation::Create, &mut new).await?;
    undo.commit(&new).await;
    Ok(new)
}

#[tokio::test]
async fn gives_every_service_an_address_and_ports_of_its_own() {
    let deps = deps(Vec::new());
    let resource = super::resource(&deps);
    let spec = json!({"type": "NodePort", "ports": [{"port": 80}, {"port": 81, "name": "b"}]});
    let a = create(&resource, "a", spec.clone()).await.expect("created");
    let b = create(&resource, "b", spec).await.expect("created");
    let held = |s: &Object| plan::held(s.map_at("spec").expect("a spec"));
    assert_eq!(held(&a).len(), 3);
    assert!(held(&a).iter().all(|claim| !held(&b).contains(claim)));
    assert_eq!(a.list_at("spec.ipFamilies"), [json!("IPv4")]);
    assert_eq!(a.str_at("spec.ipFamilyPolicy"), Some("SingleStack"));
}

#[tokio::test]
async fn refuses_what_is_taken_or_out_of_range() {
    let deps = deps(Vec::new());
    let resource = super::resource(&deps);
    let ask =
        |ip: &str, port: u16| json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port}]});
    create(&resource, "a", ask("10.96.0.9", 30080)).await.expect("created");
    let refused = |spec: Value| async { create(&resource, "b", spec).await.expect_err("refused").message };
    assert_eq!(
        refused(ask("10.96.0.9", 30081)).await,
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: failed to allocate IP 10.96.0.9: provided \
         IP is already allocated"
    );
    assert_eq!(
        refused(ask("10.0.0.1", 30081)).await,
        "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.0.0.1\"]: failed to allocate IP 10.0.0.1: the \
         provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
    );
    assert_eq!(
        refused(ask("10.96.0.8", 30080)).await,
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"
    );
    assert_eq!(
        refused(ask("10.96.0.8", 80)).await,
        "Service \"b\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The \
         range of valid ports is 30000-32767"
    );
    create(&resource, "b", ask("10.96.0.8", 30081))
        .await
        .expect("a refused write gave its claims back");
}

#[tokio::test]
async fn releases_with_the_type_and_with_the_object() {
    let deps = deps(Vec::new());
    let resource = super::resource(&deps);
    let ask = json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]});
    let old = create(&resource, "a", ask.clone()).await.expect("created");

    let mut new = old.clone();
    new.set("spec.type", "ClusterIP");
    let undo = begin(&resource, Operation::Update { old: &old }, &mut new)
        .await
        .expect("updated");
    undo.commit(&new).await;
    assert_eq!(new.str_at("spec.clusterIP"), Some("10.96.0.9"));
    assert!(new.list_at("spec.ports")[0].get("nodePort").is_none());
    create(
        &resource,
        "b",
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
    )
    .await
    .expect("port is free");

    let mut gone = new.clone();
    let undo = begin(&resource, Operation::Delete { old: &new }, &mut gone)
        .await
        .expect("deleted");
    undo.commit(&gone).await;
    create(
        &resource,
        "c",
        json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}),
    )
    .await
    .expect("address is free");
}

#[tokio::test]
async fn load_balancers_that_keep_to_the_node_get_a_port_to_ask_it_at() {
    let deps = deps(Vec::new());
    let resource = super::resource(&deps);
    let spec = |policy: &str, more: Value| {
        let mut spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": policy, "ports": [{"port": 80}]});
        spec.as_object_mut()
            .expect("a map")
            .extend(more.as_object().cloned().expect("a map"));
        spec
    };
    let old = create(&resource, "a", spec("Local", json!({}))).await.expect("created");
    let port = old.i64_at("spec.healthCheckNodePort").expect("a port");
    assert!((30000..=32767).contains(&port));
    let taken = create(&resource, "b", spec("Local", json!({"healthCheckNodePort": port}))).await;
    assert_eq!(
        taken.expect_err("taken").message,
        format!(
            "Service \"b\" is invalid: spec.healthCheckNodePort: Invalid value: {port}: provided port is already allocated"
        )
    );
    let cluster = create(&resource, "c", spec("Cluster", json!({})))
        .await
        .expect("created");
    assert_eq!(cluster.i64_at("spec.healthCheckNodePort"), None);

    let mut new = object(service("a", spec("Local", json!({}))));
    let undo = begin(&resource, Operation::Update { old: &old }, &mut new)
        .await
        .expect("updated");
    undo.commit(&new).await;
    assert_eq!(new.i64_at("spec.healthCheckNodePort"), Some(port), "it is kept");
    context(Some("ns"), |cx| {
        let mut changed = new.clone();
        changed.set("spec.healthCheckNodePort", 31_999);
        let op = Operation::Update { old: &new };
        let expected = "spec.healthCheckNodePort: Invalid value: 31999: field is immutable";
        assert_eq!(messages(resource.strategy.validate(cx, &op, &changed)), [expected]);
        let mut wrong = cluster.clone();
        wrong.set("spec.healthCheckNodePort", 31_999);
        let expected = "spec.healthCheckNodePort: Invalid value: 31999: may only be set when `type` is 'LoadBalancer' and \
             `externalTrafficPolicy` is 'Local'";
        assert_eq!(
            messages(resource.strategy.validate(cx, &Operation::Create, &wrong)),
            [expected]
        );
    });

    let before = new.clone();
    new.set("spec.externalTrafficPolicy", "Cluster");
    let undo = begin(&resource, Operation::Update { old: &before }, &mut new)
        .await
        .expect("updated");
    undo.commit(&new).await;
    assert_eq!(new.i64_at("spec.healthCheckNodePort"), None);
    create(&resource, "d", spec("Local", json!({"healthCheckNodePort": port})))
        .await
        .expect("the port is free again");
}

#[test]
fn an_update_keeps_what_the_writer_left_out() {
    let deps = deps(Vec::new());
    let resource = super::resource(&deps);
    let old = object(service(
        "a",
        json!({"type": "NodePort", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"],
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None", "externalTrafficPolicy": "Cluster",
        "internalTrafficPolicy": "Cluster", "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP", "targetPort": 80}]}),
    ));
    let mut new = object(service("a", json!({"type": "NodePort", "ports": [{"port": 80}]})));
    context(Some("ns"), |cx| {
        let op = Operation::Update { old: &old };
        resource.strategy.prepare(cx, &op, &mut new);
        assert_eq!(
            messages(resource.strategy.validate(cx, &op, &new)),
            Vec::<String>::new()
        );
        assert_eq!(new.at("spec"), old.at("spec"));
        new.set("spec.clusterIPs", json!(["10.96.0.10"]));
        new.set("spec.clusterIP", "10.96.0.10");
        assert_eq!(
            messages(resource.strategy.validate(cx, &op, &new)),
            ["spec.clusterIPs[0]: Invalid value: [\"10.96.0.10\"]: may not change once set"]
        );
    });
}

#[test]
fn candidates_are_a_permutation() {
    let mut found: Vec<u32> = plan::candidates(10, 19, "ns/a").collect();
    assert_eq!(found.len(), 10);
    found.sort_unstable();
    assert_eq!(found, (10..=19).collect::<Vec<_>>());
    assert_eq!(plan::candidates(5, 4, "x").count(), 0);
}

#[test]
fn repair_frees_old_orphans_and_takes_what_is_missing() {
    let held = |claim: Claim, name: &str, claimed: &str| Held {
        claim,
        holder: Some(("ns".to_owned(), name.to_owned())),
        claimed: api::time::parse(claimed),
        revision: store::Revision(1),
    };
    let ip = |last: u8| Claim::Address([10, 96, 0, last].into());
    let (old, young) = ("2026-01-01T00:00:00Z", "2026-01-01T01:59:30Z");
    let claims = [
        held(ip(1), "a", old),
        held(ip(2), "gone", old),
        held(ip(3), "coming", young),
    ];
    let a = json!({"type": "NodePort", "clusterIPs": ["10.96.0.1"], "ports": [{"nodePort": 30080}]});
    let services = [Arc::new(object(service("a", a)))];
    let found = repairs(&claims, &services, now());
    assert_eq!(found.free, [claims[1].clone()]);
    assert_eq!(
        found.take,
        [(Claim::NodePort(30080), ("ns".to_owned(), "a".to_owned()))]
    );
}

#[tokio::test]
async fn a_pass_of_repair_frees_what_a_crash_left_behind() {
    let deps = deps(Vec::new());
    let resource = super::resource(&deps);
    let ask = || json!({"type": "NodePort", "clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30080}]});
    // The claims are made, the Service never is.
    create(&resource, "lost", ask()).await.expect("claimed");
    super::repair::pass(deps.reader.as_ref(), &deps.backend, now())
        .await
        .expect("a pass");
    create(&resource, "early", ask())
        .await
        .expect_err("the claims are young");
    let later = now() + jiff::SignedDuration::from_mins(2);
    super::repair::pass(deps.reader.as_ref(), &deps.backend, later)
        .await
        .expect("a pass");
    create(&resource, "next", ask()).await.expect("the claims are free");
}
