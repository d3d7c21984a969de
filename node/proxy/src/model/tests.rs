use serde_json::{Value, json};

use super::*;

fn service(spec: Value) -> Service {
    let metadata = json!({"namespace": "default", "name": "web"});
    serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
}

fn web() -> Service {
    service(json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [{"name": "http", "port": 80}]}))
}

fn slice(endpoints: Value) -> EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web-x", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints,
    }))
    .unwrap()
}

const HERE: Here<'_> = Here {
    node: "here",
    zone: "z1",
};

fn only(model: Model) -> Port {
    assert_eq!(model.len(), 1, "{model:?}");
    model.into_values().next().unwrap()
}

fn texts(endpoints: &BTreeSet<SocketAddr>) -> Vec<String> {
    endpoints.iter().map(SocketAddr::to_string).collect()
}

#[test]
fn ready_endpoints_are_used_and_serving_ones_where_there_is_none() {
    // Each endpoint: its node, and ready, serving and terminating as the API may have them.
    type Conditions = (Option<bool>, Option<bool>, Option<bool>);
    const READY: Conditions = (Some(true), Some(true), Some(false));
    const UNKNOWN: Conditions = (None, None, None);
    const STARTING: Conditions = (Some(false), Some(false), Some(false));
    const LEAVING: Conditions = (Some(false), Some(true), Some(true));
    const GONE: Conditions = (Some(false), Some(false), Some(true));
    type Endpoints = &'static [(&'static str, Conditions)];
    let cases: [(Endpoints, &[u8], &[u8]); 9] = [
        (&[], &[], &[]),
        (&[("here", READY), ("there", READY)], &[1, 2], &[1]),
        (&[("here", UNKNOWN), ("there", STARTING)], &[1], &[1]),
        (&[("here", STARTING), ("there", STARTING)], &[], &[]),
        (&[("here", READY), ("there", LEAVING)], &[1], &[1]),
        (&[("here", LEAVING), ("there", LEAVING)], &[1, 2], &[1]),
        // What is local is decided by what is local.
        (&[("here", LEAVING), ("there", READY)], &[2], &[1]),
        (&[("here", GONE), ("there", GONE)], &[], &[]),
        (&[("here", GONE), ("there", READY), ("here", LEAVING)], &[2], &[3]),
    ];
    for (endpoints, cluster, local) in cases {
        let listed: Vec<Value> = endpoints
            .iter()
            .zip(1..)
            .map(|((node, (ready, serving, terminating)), n)| {
                let conditions = json!({"ready": ready, "serving": serving, "terminating": terminating});
                json!({"addresses": [format!("10.128.0.{n}")], "nodeName": node, "conditions": conditions})
            })
            .collect();
        let port = only(build([&web()], [&slice(json!(listed))], HERE));
        let expected = |numbers: &[u8]| numbers.iter().map(|n| format!("10.128.0.{n}:8080")).collect::<Vec<_>>();
        assert_eq!(texts(&port.endpoints), expected(cluster), "{endpoints:?}");
        assert_eq!(texts(&port.local), expected(local), "{endpoints:?}, local");
    }
}

#[test]
fn endpoints_come_from_all_slices_of_the_service_and_no_others() {
    let one = slice(json!([{"addresses": ["10.128.0.1"]}, {"addresses": ["10.128.0.2"]}]));
    let two = slice(json!([{"addresses": ["10.128.0.2"]}, {"addresses": ["10.128.0.3", "10.128.0.4"]}]));
    let mut elsewhere = slice(json!([{"addresses": ["10.128.0.5"]}]));
    elsewhere.metadata.namespace = "other".into();
    let mut unlabelled = slice(json!([{"addresses": ["10.128.0.6"]}]));
    unlabelled.metadata.labels = Default::default();
    let mut headless = slice(json!([{"addresses": ["10.128.0.7"]}]));
    headless.metadata.labels = [
        ("kubernetes.io/service-name", "web"),
        ("service.kubernetes.io/headless", ""),
    ]
    .into_iter()
    .collect();
    let port = only(build([&web()], [&one, &two, &elsewhere, &unlabelled, &headless], HERE));
    // An endpoint has one address that counts; the others are the same endpoint's.
    assert_eq!(
        texts(&port.endpoints),
        ["10.128.0.1:8080", "10.128.0.2:8080", "10.128.0.3:8080"]
    );
}

#[test]
fn ports_meet_by_name_and_protocol() {
    let service = service(json!({"clusterIP": "10.96.0.9", "ports": [
        {"name": "http", "port": 80, "nodePort": 30080},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
        {"name": "sctp", "port": 7, "protocol": "SCTP"},
        {"name": "new", "port": 8, "protocol": "QUIC"},
    ]}));
    let mut slice = slice(json!([{"addresses": ["10.128.0.1"]}]));
    slice.ports = serde_json::from_value(json!([
        {"name": "http", "port": 8080},
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 5353, "protocol": "UDP"},
        {"name": "sctp", "port": null, "protocol": "SCTP"},
    ]))
    .unwrap();
    let model = build([&service], [&slice], HERE);
    let found: Vec<_> = model
        .values()
        .map(|port| (port.id.to_string(), port.port, port.node_port, texts(&port.endpoints)))
        .collect();
    let none: Vec<String> = Vec::new();
    assert_eq!(
        found,
        [
            ("default/web/dns/udp".into(), 53, None, vec!["10.128.0.1:5353".into()]),
            ("default/web/dns-tcp/tcp".into(), 53, None, none.clone()),
            (
                "default/web/http/tcp".into(),
                80,
                Some(30080),
                vec!["10.128.0.1:8080".into()]
            ),
            ("default/web/sctp/sctp".into(), 7, None, none),
        ]
    );
}

#[test]
fn an_unnamed_port_meets_an_unnamed_port() {
    let service = service(json!({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}));
    let mut slice = slice(json!([{"addresses": ["10.128.0.1"]}]));
    slice.ports = serde_json::from_value(json!([{"name": "", "port": 8080}])).unwrap();
    let port = only(build([&service], [&slice], HERE));
    assert_eq!(
        (port.id.to_string(), port.endpoints.len()),
        ("default/web//tcp".into(), 1)
    );
}

#[test]
fn services_without_addresses_or_with_another_proxy_are_left_out() {
    let ports = json!([{"name": "http", "port": 80}]);
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": ports}),
        json!({"type": "ExternalName", "externalName": "example.org", "ports": ports}),
        json!({"clusterIP": "", "ports": ports}),
        json!({"clusterIP": "10.96.0.9"}),
    ] {
        assert_eq!(build([&service(spec.clone())], [], HERE), Model::new(), "{spec}");
    }
    let mut other = web();
    other.metadata.labels = [("service.kubernetes.io/service-proxy-name", "mesh")]
        .into_iter()
        .collect();
    assert_eq!(build([&other], [], HERE), Model::new());
}

#[test]
fn names_that_are_none_never_become_rules() {
    for name in ["web; flush ruleset", "web\nadd", "Web", "a b", "a/b", "ü"] {
        let mut service = web();
        service.spec.ports.as_mut().unwrap()[0].name = Some(name.into());
        assert_eq!(build([&service], [], HERE), Model::new(), "{name:?}");
        let mut service = web();
        service.metadata.name = name.into();
        assert_eq!(build([&service], [], HERE), Model::new(), "{name:?}");
    }
}

#[test]
fn affinity_and_policies_have_the_defaults_of_the_api() {
    let ports = json!([{"name": "http", "port": 80}]);
    let cases = [
        (json!({}), (None, Policy::Cluster, Policy::Cluster)),
        (
            json!({"sessionAffinity": "None"}),
            (None, Policy::Cluster, Policy::Cluster),
        ),
        (
            json!({"sessionAffinity": "ClientIP"}),
            (Some(10_800), Policy::Cluster, Policy::Cluster),
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}}),
            (Some(5), Policy::Cluster, Policy::Cluster),
        ),
        (
            json!({"internalTrafficPolicy": "Local"}),
            (None, Policy::Local, Policy::Cluster),
        ),
        (
            json!({"externalTrafficPolicy": "Local"}),
            (None, Policy::Cluster, Policy::Local),
        ),
    ];
    for (mut spec, expected) in cases {
        spec["clusterIP"] = json!("10.96.0.9");
        spec["ports"] = ports.clone();
        let port = only(build([&service(spec.clone())], [], HERE));
        assert_eq!((port.affinity, port.internal, port.external), expected, "{spec}");
    }
}

#[test]
fn the_nearest_endpoints_are_preferred_where_all_are_hinted() {
    let hinted = |zone: &str, node: Option<&str>| {
        let nodes = node.map(|name| json!([{"name": name}]));
        json!({"forZones": [{"name": zone}], "forNodes": nodes})
    };
    let (near, far) = (hinted("z1", None), hinted("z2", None));
    let (own, other) = (hinted("z1", Some("here")), hinted("z1", Some("there")));
    for (hints, ready, used) in [
        (vec![near.clone(), far.clone()], vec![true, true], vec![1]),
        (
            vec![near.clone(), far.clone(), near.clone()],
            vec![true, true, true],
            vec![1, 3],
        ),
        // One without a hint is enough to heed none.
        (vec![near.clone(), Value::Null], vec![true, true], vec![1, 2]),
        // Nothing is near.
        (vec![far.clone(), far.clone()], vec![true, true], vec![1, 2]),
        (vec![near.clone(), far.clone()], vec![false, true], vec![2]),
        (vec![own.clone(), other.clone()], vec![true, true], vec![1]),
        (
            vec![own.clone(), other.clone(), far.clone()],
            vec![false, true, true],
            vec![2],
        ),
        (
            vec![other.clone(), near.clone(), far.clone()],
            vec![true, true, true],
            vec![1, 2],
        ),
    ] {
        let listed: Vec<Value> = hints
            .iter()
            .zip(&ready)
            .zip(1..)
            .map(|((hints, ready), n)| {
                json!({"addresses": [format!("10.0.0.{n}")], "hints": hints, "nodeName": "there",
                    "conditions": {"ready": ready}})
            })
            .collect();
        let port = only(build([&web()], [&slice(json!(listed))], HERE));
        let expected: Vec<String> = used.iter().map(|n: &u8| format!("10.0.0.{n}:8080")).collect();
        assert_eq!(texts(&port.endpoints), expected, "{hints:?}");
    }
    let nowhere = Here { node: "here", zone: "" };
    let listed = json!([{"addresses": ["10.0.0.1"], "hints": near}, {"addresses": ["10.0.0.2"], "hints": far}]);
    assert_eq!(only(build([&web()], [&slice(listed)], nowhere)).endpoints.len(), 2);
}

#[test]
fn a_load_balancer_is_told_how_many_endpoints_are_here() {
    let mut checked = web();
    checked.spec.health_check_node_port = Some(31000);
    let endpoints = json!([
        {"addresses": ["10.0.0.1"], "nodeName": "here"},
        {"addresses": ["10.0.0.2"], "nodeName": "there"},
        {"addresses": ["10.0.0.3"], "nodeName": "here", "conditions": {"ready": false}},
    ]);
    let model = build([&checked], [&slice(endpoints)], HERE);
    let checks = health_checks([&checked], &model);
    let told: Vec<_> = checks
        .iter()
        .map(|(port, health)| (*port, health.local_endpoints))
        .collect();
    assert_eq!(told, [(31000, 1)]);
    assert!(health_checks([&web()], &model).is_empty());
}
