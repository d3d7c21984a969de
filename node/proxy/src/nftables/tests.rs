//! The rules in the kernel, with traffic, in network namespaces of this test; where it may not make any, it says so and
//! passes.

use std::io;
use std::net::UdpSocket;
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::*;
use crate::conntrack;
use crate::model::{Policy, Port, PortId, Protocol};
use crate::rules::tests::any_ruleset;
use crate::rules::{Family, ruleset};
use crate::world::{A, B, BEYOND, GATEWAY, NODE, Net, VIP, World, addresses, can_run, web};

fn is_refused(asked: &io::Result<String>) -> bool {
    asked
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

#[tokio::test]
async fn services_answer_from_everywhere() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.pods.serve("a", A);
    world.apply([web(&[A])]).await;
    let World { node, pods, beyond, .. } = &world;
    let node_port = format!("{NODE}:30080");
    for (who, asked, expected) in [
        (
            "the node, by cluster address",
            node.ask(None, VIP),
            format!("a {GATEWAY}"),
        ),
        ("another pod", pods.ask(Some("10.128.1.9"), VIP), "a 10.128.1.9".into()),
        (
            "the pod itself",
            pods.ask(Some("10.128.1.2"), VIP),
            "a 10.128.1.2".into(),
        ),
        (
            "a pod, by node port",
            pods.ask(Some("10.128.1.9"), &node_port),
            "a 10.128.1.9".into(),
        ),
        // The answer must come back through the node, so it is the node that asks.
        (
            "beyond, by node port",
            beyond.ask(None, &node_port),
            format!("a {GATEWAY}"),
        ),
        (
            "beyond, by cluster address",
            beyond.ask(None, VIP),
            format!("a {GATEWAY}"),
        ),
    ] {
        assert_eq!(
            asked.unwrap_or_else(|error| panic!("{who}: {error}")),
            expected,
            "{who}"
        );
    }
    assert!(
        node.ask(None, &node_port).unwrap().starts_with("a "),
        "the node, by node port"
    );
}

#[tokio::test]
async fn the_node_itself_can_be_an_endpoint() {
    if !can_run() {
        return;
    }
    // As the Service `kubernetes` has it.
    let mut world = World::new();
    world.node.serve("api", "10.128.0.1:6443");
    world.apply([web(&["10.128.0.1:6443"])]).await;
    let World { node, pods, beyond, .. } = &world;
    for (who, asked) in [
        ("the node", node.ask(None, VIP)),
        ("a pod", pods.ask(Some("10.128.1.9"), VIP)),
        ("beyond", beyond.ask(None, VIP)),
    ] {
        let said = asked.unwrap_or_else(|error| panic!("{who}: {error}"));
        assert!(said.starts_with("api "), "{who}: {said}");
    }
}

#[tokio::test]
async fn what_nobody_serves_is_refused_at_once() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.apply([web(&[])]).await;
    let World { node, pods, beyond, .. } = &world;
    for (who, asked) in [
        ("the node, without endpoints", node.ask(None, VIP)),
        ("a pod, without endpoints", pods.ask(Some("10.128.1.9"), VIP)),
        ("beyond, without endpoints", beyond.ask(None, VIP)),
        ("beyond, by node port", beyond.ask(None, &format!("{NODE}:30080"))),
        ("a pod, another port", pods.ask(Some("10.128.1.9"), "10.96.0.9:81")),
        ("the node, another address", node.ask(None, "10.96.7.7:80")),
    ] {
        assert!(is_refused(&asked), "{who}: {asked:?}");
    }
}

#[tokio::test]
async fn endpoints_come_and_go_by_differences() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.pods.serve("a", A);
    world.pods.serve("b", B);
    let steps: [(&[&str], &[&str]); 6] = [
        (&[A], &["a"]),
        (&[A, B], &["a", "b"]),
        (&[B], &["b"]),
        (&[], &[]),
        (&[A, B], &["a", "b"]),
        (&[A], &["a"]),
    ];
    for (endpoints, expected) in steps {
        world.apply([web(endpoints)]).await;
        let mut seen = std::collections::BTreeSet::new();
        // A fair coin shows one side forty times in a row less than once in 10^12.
        for _ in 0..40 {
            match world.node.ask(None, VIP) {
                Ok(said) => drop(seen.insert(said.split(' ').next().unwrap().to_owned())),
                refused => assert!(
                    is_refused(&refused) && expected.is_empty(),
                    "{refused:?} of {endpoints:?}"
                ),
            }
            if seen.len() == expected.len() && !endpoints.is_empty() && endpoints.len() > 1 {
                break;
            }
        }
        assert!(seen.iter().eq(expected), "{seen:?} of {endpoints:?}");
    }
    world.apply([]).await;
    assert!(is_refused(&world.node.ask(None, VIP)), "the Service is gone");
}

#[tokio::test]
async fn affinity_holds_through_changes_and_restarts() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.pods.serve("a", A);
    world.pods.serve("b", B);
    let sticky = |endpoints: &[&str]| Port {
        affinity: Some(100),
        ..web(endpoints)
    };
    world.apply([sticky(&[A, B])]).await;
    let ask = |world: &World| world.pods.ask(Some("10.128.1.9"), VIP).unwrap();
    let first = ask(&world);
    for _ in 0..20 {
        assert_eq!(ask(&world), first);
    }
    world.apply([sticky(&[A, B, "10.128.1.4:8080"])]).await;
    assert_eq!(ask(&world), first, "one endpoint more");
    for (_, table) in &mut world.tables {
        table.doubt();
    }
    world.apply([sticky(&[A, B])]).await;
    for _ in 0..20 {
        assert_eq!(ask(&world), first, "another process took over");
    }
    let other = if first.starts_with('a') { B } else { A };
    world.apply([sticky(&[other])]).await;
    assert_ne!(ask(&world), first, "its endpoint is gone");
}

#[tokio::test]
async fn external_policy_local_keeps_the_client_and_stays_here() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.pods.serve("a", A);
    world.pods.serve("b", B);
    let node_port = format!("{NODE}:30080");
    let local = |endpoints: &[&str]| Port {
        external: Policy::Local,
        local: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        ..web(&[A, B])
    };
    world.apply([local(&[A])]).await;
    for _ in 0..10 {
        assert_eq!(world.beyond.ask(None, &node_port).unwrap(), format!("a {BEYOND}"));
    }
    world.apply([local(&[])]).await;
    let asked = world.beyond.ask(None, &node_port);
    assert!(
        asked
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::TimedOut),
        "dropped: {asked:?}"
    );
    assert!(
        world.node.ask(None, &node_port).is_ok(),
        "the node is served by any endpoint"
    );
    assert!(
        world.pods.ask(Some("10.128.1.9"), &node_port).is_ok(),
        "and so are pods"
    );
}

#[tokio::test]
async fn datagrams_find_their_way() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    let id = PortId {
        protocol: Protocol::Udp,
        ..web(&[]).id
    };
    world.apply([Port { id, ..web(&[A]) }]).await;
    let server = world.pods.run(|| UdpSocket::bind(A).unwrap());
    let client = world.pods.run(|| UdpSocket::bind("10.128.1.2:0").unwrap());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    client.send_to(b"ping", VIP).unwrap();
    let mut datagram = [0; 16];
    let (length, from) = server.recv_from(&mut datagram).unwrap();
    assert_eq!(
        (&datagram[..length], from),
        (&b"ping"[..], client.local_addr().unwrap())
    );
    server.send_to(b"pong", from).unwrap();
    let (length, from) = client.recv_from(&mut datagram).unwrap();
    assert_eq!((&datagram[..length], from), (&b"pong"[..], VIP.parse().unwrap()));
}

#[tokio::test]
async fn a_client_of_datagrams_is_led_to_the_new_endpoint() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    let dns = |endpoints: &[&str]| Port {
        id: PortId {
            protocol: Protocol::Udp,
            ..web(&[]).id
        },
        ..web(endpoints)
    };
    let leads = |port: Port| conntrack::leads(&[(port.id.clone(), port)].into(), &[]);
    let servers = [A, B].map(|at| world.pods.run(|| UdpSocket::bind(at).unwrap()));
    let client = world.pods.run(|| UdpSocket::bind("10.128.1.9:0").unwrap());
    let mut datagram = [0; 16];
    for socket in &servers {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    }
    world.apply([dns(&[A])]).await;
    client.send_to(b"one", VIP).unwrap();
    assert_eq!(servers[0].recv_from(&mut datagram).unwrap().0, 3);
    world.apply([dns(&[B])]).await;
    client.send_to(b"two", VIP).unwrap();
    assert_eq!(
        servers[0].recv_from(&mut datagram).unwrap().0,
        3,
        "the flow goes on as it began"
    );
    let changed = conntrack::changed(&leads(dns(&[A])), &leads(dns(&[B])));
    let forget = || conntrack::forget_astray(Some(world.pods.path()), &changed).unwrap();
    assert_eq!((forget(), forget()), (1, 0));
    client.send_to(b"three", VIP).unwrap();
    assert_eq!(servers[1].recv_from(&mut datagram).unwrap().0, 5, "it was forgotten");
    assert_eq!(forget(), 0, "and the new one leads where it should");
}

#[tokio::test]
async fn the_kernel_takes_every_difference_and_adopts_every_table() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    let name = || TableName("ip wherry-test-services".into());
    let mut table = Table::new(name(), Some(net.path()));
    let mut runner = TestRunner::deterministic();
    for n in 0..40 {
        let wanted = any_ruleset().new_tree(&mut runner).unwrap().current();
        if n % 4 == 3 {
            table = Table::new(name(), Some(net.path()));
        }
        table.apply(wanted.clone()).await.unwrap();
        assert!(matches!(&table.known, Known::Applied(applied) if *applied == wanted));
        let expected = Names {
            sets: wanted.sets.keys().cloned().collect(),
            chains: wanted.chains.keys().cloned().collect(),
        };
        assert_eq!(table.nft.names(&name()).await.unwrap(), expected);
    }
    table.remove().await.unwrap();
    table.remove().await.unwrap();
    assert_eq!(table.nft.tables().await.unwrap(), []);
}

#[tokio::test]
async fn a_table_that_was_changed_or_removed_by_others_is_made_right() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.pods.serve("a", A);
    world.apply([web(&[A])]).await;
    for harm in [
        "flush ruleset",
        "flush table ip wherry-test-services",
        // A definition of the same name that is not ours cannot be adopted.
        "delete table ip wherry-test-services\nadd table ip wherry-test-services\n\
         add map ip wherry-test-services services { type ipv4_addr : verdict; }",
    ] {
        for (_, table) in &world.tables {
            table.nft.load(&format!("{harm}\n")).await.unwrap();
        }
        assert!(world.node.ask(None, VIP).is_err(), "{harm} does harm");
        for (place, table) in &mut world.tables {
            table.doubt();
            let model = [web(&[A])].map(|port| (port.id.clone(), port)).into();
            let wanted = ruleset(&model, &addresses(), Family::V4, *place);
            if table.apply(wanted.clone()).await.is_err() {
                table.apply(wanted).await.unwrap();
            }
        }
        assert!(world.node.ask(None, VIP).is_ok(), "after {harm}");
    }
}

#[tokio::test]
async fn a_table_that_is_gone_is_noticed_without_a_doubt() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.pods.serve("a", A);
    world.apply([web(&[A])]).await;
    for (_, table) in &world.tables {
        table.nft.load("flush ruleset\n").await.unwrap();
    }
    assert!(world.node.ask(None, VIP).is_err());
    world.apply([web(&[A])]).await;
    assert!(world.node.ask(None, VIP).is_ok());
}

#[tokio::test]
async fn a_refusal_says_why_and_changes_nothing() {
    if !can_run() {
        return;
    }
    let net = Net::new();
    let nft = Nft {
        namespace: Some(net.path()),
    };
    let error = nft
        .load("add table ip a\nadd rule ip a missing accept\n")
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("nft refused: /dev/stdin:2"), "{error}");
    assert_eq!(nft.tables().await.unwrap(), []);
    let nowhere = Nft {
        namespace: Some("/nowhere/netns".into()),
    };
    let error = nowhere.load("").await.unwrap_err();
    assert_eq!(error.to_string(), "cannot run nft in the namespace \"/nowhere/netns\"");
}
