use cri::{ContainerConfig, SandboxConfig};
use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::ZERO;

fn model() -> Model {
    let mut model = Model::new(Addresses::of("127.64.0.0/24".parse().unwrap()));
    model.set_pod_range("10.0.0.0/24".parse().unwrap());
    model
}

fn origin(host: &str) -> Origin {
    Origin {
        host: host.into(),
        tenant: "default".into(),
    }
}

fn config(name: &str, attempt: u32) -> SandboxConfig {
    let (name, namespace) = (name.to_owned(), "default".to_owned());
    SandboxConfig {
        uid: format!("uid-{name}"),
        name,
        namespace,
        attempt,
        ..SandboxConfig::default()
    }
}

fn begin(model: &mut Model, config: &SandboxConfig, id: &str) -> Creation<Sandbox, Pending> {
    begin_at(model, config, id, NOW).unwrap()
}

fn begin_at(
    model: &mut Model,
    config: &SandboxConfig,
    id: &str,
    now: Duration,
) -> Result<Creation<Sandbox, Pending>, NetworkError> {
    let network = |model: &mut Model| {
        let (address, loopback) = model.take_addresses(now)?;
        let dialable_loopback = Vec::new();
        Ok(Network::Pod {
            address,
            loopback,
            dialable_loopback,
        })
    };
    model.begin_sandbox(config, || SandboxId(id.to_owned()), network)
}

fn record(config: &SandboxConfig, pending: &Pending, state: SandboxState) -> SandboxRecord {
    let sandbox = Sandbox {
        id: pending.id.clone(),
        config: config.clone(),
        state,
        ips: Vec::new(),
        created_at: 1,
        handler: String::new(),
        network_namespace: None,
    };
    SandboxRecord {
        sandbox,
        network: pending.network.clone(),
    }
}

fn told(record: SandboxRecord) -> Change {
    Change::Sandbox(Box::new(record))
}

/// A sandbox that host `h1` holds.
fn held(model: &mut Model, name: &str) -> SandboxRecord {
    let config = config(name, 0);
    let Creation::Make(pending) = begin(model, &config, name) else {
        panic!("made before")
    };
    let record = record(&config, &pending, SandboxState::Ready);
    assert!(model.apply(&origin("h1"), told(record.clone()), NOW).unwrap().is_some());
    record
}

fn container(sandbox: &SandboxRecord, name: &str, state: ContainerState) -> ContainerRecord {
    let sandbox = &sandbox.sandbox;
    let container = Container {
        id: ContainerId(format!("{}-{name}", sandbox.id)),
        sandbox: sandbox.id.clone(),
        pod_uid: sandbox.config.uid.clone(),
        config: ContainerConfig {
            name: name.to_owned(),
            ..ContainerConfig::default()
        },
        state,
        created_at: 1,
        started_at: 0,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
        user: None,
    };
    ContainerRecord {
        container,
        code_key: String::new(),
    }
}

#[test]
fn a_repeated_creation_gets_the_id_and_address_of_the_first() {
    let mut model = model();
    let pod = config("a", 0);
    let Creation::Make(first) = begin(&mut model, &pod, "first") else {
        panic!()
    };
    let Creation::Make(second) = begin(&mut model, &pod, "second") else {
        panic!()
    };
    assert_eq!(first, second);
    model
        .apply(&origin("h1"), told(record(&pod, &first, SandboxState::Ready)), NOW)
        .unwrap();
    let Creation::Exists(sandbox) = begin(&mut model, &pod, "third") else {
        panic!()
    };
    assert_eq!(sandbox.id, first.id);
    let Creation::Make(next) = begin(&mut model, &config("a", 1), "next") else {
        panic!()
    };
    assert_ne!(next.network, first.network);
}

#[test]
fn an_abandoned_creation_gives_its_addresses_back() {
    let mut model = model();
    let pod = config("a", 0);
    let Creation::Make(pending) = begin(&mut model, &pod, "a") else {
        panic!()
    };
    assert!(model.is_taken(&pending.network));
    model.abandon_sandbox(&pod, NOW);
    assert!(!model.is_taken(&pending.network));
    let sandbox = held(&mut model, "b");
    model.abandon_sandbox(&sandbox.sandbox.config, NOW);
    assert!(model.is_taken(&sandbox.network), "a record keeps its address");
}

#[test]
fn without_a_range_nothing_is_given_out() {
    let mut model = Model::new(Addresses::of("127.64.0.0/24".parse().unwrap()));
    assert_eq!(model.take_addresses(NOW), Err(NetworkError::NoRange));
}

#[test]
fn addresses_of_adopted_sandboxes_are_taken_before_the_range_is_known_and_after() {
    let mut old = model();
    let sandbox = held(&mut old, "a");
    let mut new = Model::new(Addresses::of("127.64.0.0/24".parse().unwrap()));
    new.apply(&origin("h1"), told(sandbox.clone()), NOW).unwrap();
    new.set_pod_range("10.0.0.0/24".parse().unwrap());
    assert!(new.is_taken(&sandbox.network));
}

#[test]
fn a_stopped_sandbox_frees_its_address_and_stays_listed() {
    let mut model = model();
    let mut sandbox = held(&mut model, "a");
    sandbox.sandbox.state = SandboxState::NotReady;
    assert!(
        model
            .apply(&origin("h1"), told(sandbox.clone()), NOW)
            .unwrap()
            .is_some()
    );
    assert!(!model.is_taken(&sandbox.network));
    assert_eq!(model.sandboxes().count(), 1);
    assert_eq!(
        model.apply(&origin("h1"), told(sandbox.clone()), NOW).unwrap(),
        None,
        "nothing changed"
    );
    model
        .apply(&origin("h1"), Change::SandboxRemoved(sandbox.sandbox.id), NOW)
        .unwrap();
    assert!(model.is_empty(&"h1".into()));
}

#[test]
fn removing_a_stopped_sandbox_leaves_its_address_with_the_next_owner() {
    let mut model = model();
    model.set_pod_range("10.0.0.0/30".parse().unwrap());
    let mut old = held(&mut model, "old");
    old.sandbox.state = SandboxState::NotReady;
    model.apply(&origin("h1"), told(old.clone()), NOW).unwrap();
    let (pod, later) = (config("new", 0), NOW + super::super::addresses::REST);
    let Ok(Creation::Make(pending)) = begin_at(&mut model, &pod, "new", later) else {
        panic!("the only address is free again")
    };
    let new = record(&pod, &pending, SandboxState::Ready);
    model.apply(&origin("h1"), told(new.clone()), later).unwrap();
    assert!(model.apply(&origin("h1"), told(old.clone()), later).is_ok());
    model
        .apply(&origin("h1"), Change::SandboxRemoved(old.sandbox.id), later)
        .unwrap();
    assert!(model.is_taken(&new.network));
}

#[test]
fn a_host_is_not_believed_what_it_cannot_hold() {
    let mut model = model();
    let mine = held(&mut model, "a");
    let pod = container(&mine, "c", ContainerState::Running);
    model
        .apply(&origin("h1"), Change::Container(Box::new(pod.clone())), NOW)
        .unwrap();
    let changed = |edit: fn(&mut SandboxRecord)| {
        let mut record = mine.clone();
        edit(&mut record);
        told(record)
    };
    let foreign = Change::Container(Box::new({
        let mut record = pod.clone();
        record.container.id = ContainerId("other".into());
        record.container.config.name = "other".into();
        record.container.pod_uid = "another-pod".into();
        record
    }));
    for (host, change, why) in [
        ("h2", told(mine.clone()), "a sandbox that is another one"),
        (
            "h2",
            Change::SandboxRemoved(mine.sandbox.id.clone()),
            "what another host holds",
        ),
        (
            "h2",
            Change::ContainerRemoved(pod.container.id.clone()),
            "what another host holds",
        ),
        (
            "h2",
            Change::Container(Box::new(pod.clone())),
            "what another host holds",
        ),
        (
            "h1",
            changed(|r| r.sandbox.config.namespace = "kube-system".into()),
            "a pod of another namespace",
        ),
        (
            "h1",
            changed(|r| r.sandbox.id = SandboxId("x".into())),
            "a pod that another sandbox holds",
        ),
        (
            "h1",
            changed(|r| r.network = Network::Node),
            "a sandbox that is another one",
        ),
        (
            "h1",
            changed(|r| {
                r.sandbox.id = SandboxId("x".into());
                r.sandbox.config.name = "x".into();
            }),
            "an address that another sandbox has",
        ),
        ("h1", foreign, "a container of another pod"),
    ] {
        let error = model.apply(&origin(host), change, NOW).unwrap_err();
        assert!(error.to_string().contains(why), "{error}: {why}");
    }
    assert_eq!(model.sandbox(&mine.sandbox.id).map(|held| held.record), Some(mine));
}

#[test]
fn a_stopped_sandbox_cannot_come_back() {
    let mut model = model();
    let ready = held(&mut model, "a");
    let mut stopped = ready.clone();
    stopped.sandbox.state = SandboxState::NotReady;
    model.apply(&origin("h1"), told(stopped), NOW).unwrap();
    assert!(model.apply(&origin("h1"), told(ready), NOW).is_err());
}

#[test]
fn a_snapshot_removes_what_it_does_not_show() {
    let mut model = model();
    let (kept, gone) = (held(&mut model, "kept"), held(&mut model, "gone"));
    let inside = container(&gone, "c", ContainerState::Running);
    model
        .apply(&origin("h1"), Change::Container(Box::new(inside)), NOW)
        .unwrap();
    let mut seen = Seen::default();
    assert!(seen.note(&told(kept.clone())));
    assert!(!seen.note(&told(kept.clone())), "told before");
    let events = model.sweep(&origin("h1"), &seen, NOW);
    assert_eq!(events.len(), 2);
    assert_eq!(
        model.sandboxes().map(|s| s.id.clone()).collect::<Vec<_>>(),
        [kept.sandbox.id]
    );
    assert_eq!(model.containers().count(), 0);
}

#[test]
fn after_a_loss_an_exit_stays_and_the_rest_is_unknown() {
    let mut model = model();
    let sandbox = held(&mut model, "a");
    let mut exited = container(&sandbox, "c", ContainerState::Exited);
    exited.container.exit_code = 3;
    assert_eq!(after_loss(exited.clone(), 7, "killed by signal 9"), exited);
    for state in [ContainerState::Created, ContainerState::Running] {
        let lost = after_loss(container(&sandbox, "c", state), 7, "killed by signal 9").container;
        assert_eq!(lost.state, ContainerState::Unknown);
        assert_eq!(
            (lost.finished_at, lost.exit_code, lost.reason.as_str()),
            (7, 255, "ContainerStatusUnknown")
        );
        assert!(lost.message.ends_with("killed by signal 9"));
    }
}

proptest! {
    /// Whatever sequence of creations, stops, removals and restarts: two ready sandboxes never share an address.
    #[test]
    fn no_two_ready_sandboxes_share_an_address(steps in proptest::collection::vec((0u8..5, 0usize..6), 1..120)) {
        let (mut model, mut held) = (model(), HashMap::<usize, SandboxRecord>::new());
        let mut now = NOW;
        for (attempt, (action, which)) in (0..).zip(steps) {
            now += Duration::from_secs(3);
            let (pod, id) = (config(&which.to_string(), attempt), format!("{which}-{attempt}"));
            match (action, held.get_mut(&which)) {
                (0, None) => {
                    let Ok(Creation::Make(pending)) = begin_at(&mut model, &pod, &id, now) else { continue };
                    let record = record(&pod, &pending, SandboxState::Ready);
                    model.apply(&origin("h1"), told(record.clone()), now).unwrap();
                    held.insert(which, record);
                }
                (1, None) if begin_at(&mut model, &pod, &id, now).is_ok() => model.abandon_sandbox(&pod, now),
                (2, Some(record)) if record.sandbox.state == SandboxState::Ready => {
                    record.sandbox.state = SandboxState::NotReady;
                    model.apply(&origin("h1"), told(record.clone()), now).unwrap();
                }
                (3, Some(record)) => {
                    let id = record.sandbox.id.clone();
                    model.apply(&origin("h1"), Change::SandboxRemoved(id), now).unwrap();
                    held.remove(&which);
                }
                (4, _) => {
                    // The agent starts anew, with a range that is easily used up.
                    model = Model::new(Addresses::of("127.64.0.0/24".parse().unwrap()));
                    model.set_pod_range("10.0.0.0/28".parse().unwrap());
                    for record in held.values() {
                        model.apply(&origin("h1"), told(record.clone()), now).unwrap();
                    }
                }
                _ => {}
            }
            let ready = model.sandboxes.values().filter_map(|kept| held_addresses(&kept.record.unpack()?));
            let (pods, loopbacks): (Vec<_>, Vec<_>) = ready.unzip();
            let distinct = |list: &[Ipv4Addr]| list.iter().collect::<BTreeSet<_>>().len() == list.len();
            prop_assert!(distinct(&pods) && distinct(&loopbacks));
            prop_assert_eq!(pods.len(), held.values().filter(|r| r.sandbox.state == SandboxState::Ready).count());
        }
    }
}

#[test]
fn pods_on_loopback_addresses_may_dial_each_other_but_not_what_stands_for_127_0_0_1_in_them() {
    let mut model = Model::new(Addresses::of("127.64.0.0/24".parse().unwrap()));
    model.set_node_range("127.32.0.0/17".parse().unwrap());
    let dialable = model.loopback_pods().unwrap();
    for _ in 0..100 {
        let (pod, loopback) = model.take_addresses(Duration::ZERO).unwrap();
        assert!(dialable.contains(&pod), "{pod}");
        assert!(!dialable.contains(&loopback) && loopback.is_loopback(), "{loopback}");
    }
    assert!(!dialable.contains(&Ipv4Addr::LOCALHOST));

    let mut model = Model::new(Addresses::of("127.64.0.0/24".parse().unwrap()));
    model.set_node_range("10.128.0.0/17".parse().unwrap());
    assert_eq!(
        model.loopback_pods(),
        None,
        "pods of a network of their own dial no loopback address"
    );
}

#[test]
fn ports_of_the_node_lead_to_a_sandbox_while_it_is_ready() {
    let mut model = model();
    let port = |host_port| cri::PortMapping {
        protocol: "TCP".to_owned(),
        container_port: 8080,
        host_port,
        host_ip: String::new(),
    };
    let mut led = model.host_ports();
    held(&mut model, "without");
    assert!(!led.has_changed().unwrap());
    for last in [SandboxState::NotReady, SandboxState::Ready] {
        let config = SandboxConfig {
            ports: vec![port(0), port(80)],
            ..config("web", u32::from(last == SandboxState::Ready))
        };
        let Creation::Make(pending) = begin(&mut model, &config, &format!("web {last:?}")) else {
            panic!("made before")
        };
        let mut tell = |change| model.apply(&origin("h1"), change, NOW).unwrap();
        let ready = record(&config, &pending, SandboxState::Ready);
        tell(told(ready.clone()));
        assert!(led.has_changed().unwrap());
        let expected = HostPorts {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: "uid-web".to_owned(),
            ip: held_addresses(&ready).unwrap().0.into(),
            ports: vec![port(80)],
        };
        assert_eq!(led.borrow_and_update().values().collect::<Vec<_>>(), [&expected]);
        tell(told(ready));
        assert!(!led.has_changed().unwrap(), "it is the same");
        tell(match last {
            SandboxState::NotReady => told(record(&config, &pending, last)),
            SandboxState::Ready => Change::SandboxRemoved(pending.id.clone()),
        });
        assert!(led.borrow_and_update().is_empty(), "{last:?}");
    }
}
