use serde_json::json;

use super::*;

fn web() -> Value {
    json!({"containers": [{"name": "web", "image": "i"}]})
}

fn with_policy(policy: &str) -> Value {
    json!({"containers": [{"name": "web", "image": "i"}], "restartPolicy": policy})
}

#[test]
fn a_pod_comes_up_and_is_ready() {
    let mut sim = Sim::new(web());
    let first = sim.plan();
    assert_eq!(first.status.phase, Phase::Pending);
    let name = "web".to_owned();
    assert_eq!(first.actions, [Action::MountVolumes, Action::Pull { name }]);
    sim.settle();
    assert_eq!(sim.told(), ["run s0", "start web/0"]);
    assert_eq!((sim.phase(), sim.reported.is_ready()), (Phase::Running, true));
    assert_eq!(
        (&*sim.reported.pod_ip, &*sim.reported.host_ip),
        ("10.128.0.2", "10.0.0.1")
    );
    assert_eq!(
        sim.reported.container("web").expect("status").container_id,
        "fake://web-0"
    );
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert_eq!(sim.condition(kind).0, "True", "{kind}");
    }
}

#[test]
fn a_pod_of_a_file_tells_of_no_generation() {
    let mut sim = Sim::new(web());
    sim.pod.metadata.generation = 0;
    sim.settle();
    let told = json!(sim.reported).to_string();
    assert!(
        sim.reported.is_ready() && !told.contains("observedGeneration"),
        "{told}"
    );
}

#[test]
fn containers_of_containerd_are_named_as_containerd_knows_them() {
    let mut sim = Sim::new(web());
    sim.settle();
    let as_containerds = |container: &mut observed::Container| container.id = ContainerId("containerd-01ab".into());
    sim.observed.containers.iter_mut().for_each(as_containerds);
    sim.settle();
    let id = |status: &PodStatus| status.container("web").expect("status").container_id.clone();
    assert_eq!(
        (id(&sim.reported), sim.reported.is_ready()),
        ("containerd://01ab".to_owned(), true)
    );
    sim.exit("web", 3);
    sim.settle();
    let status = sim.reported.container("web").expect("status").clone();
    let ended = status
        .last_state
        .terminated
        .or(status.state.terminated)
        .expect("an end");
    assert_eq!((ended.exit_code, &*ended.container_id), (3, "containerd://01ab"));
}

#[test]
fn the_sandbox_holds_what_the_images_are() {
    let pod = |names: &[&str]| {
        let containers: Vec<_> = names.iter().map(|name| json!({"name": name, "image": name})).collect();
        json!({"initContainers": containers[..1], "containers": containers[1..]})
    };
    let of = |names: &[&str]| {
        let mut sim = Sim::new(pod(names));
        sim.settle();
        sim.contents
    };
    assert_eq!(of(&["init", "web"]), [cri::Content::Wasm]);
    assert_eq!(of(&["init", "linux"]), [cri::Content::Linux]);
    assert_eq!(of(&["linux-init", "web"]), [cri::Content::Linux]);
    // One Linux image decides, whatever the others are; without one all have to be known.
    for (names, decided) in [(["linux", "web"], true), (["init", "web"], false)] {
        let mut sim = Sim::new(pod(&names));
        sim.failing = Some(("web".into(), Reason::ErrImagePull));
        sim.settle();
        assert_eq!(sim.contents.len(), usize::from(decided), "{names:?}");
        assert_eq!(sim.waiting("web").0, "ErrImagePull");
    }
    let mut sim = Sim::new(json!({"runtimeClassName": "c", "containers": [{"name": "web", "image": "i"}]}));
    assert!(
        sim.plan()
            .actions
            .iter()
            .any(|a| matches!(a, Action::RunSandbox { .. })),
        "the class decides"
    );
    sim.settle();
}

#[test]
fn a_sandbox_that_stands_is_not_decided_anew() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.memory.images.clear();
    assert_eq!(sim.settle().actions, []);
    assert_eq!(sim.told(), ["run s0", "start web/0"]);
}

#[test]
fn an_ephemeral_container_runs_once_and_changes_nothing_else() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.told();
    sim.pod.spec.ephemeral_containers =
        serde_json::from_value(json!([{"name": "debug", "image": "d"}])).expect("containers");
    sim.settle();
    assert_eq!(sim.told(), ["start debug/0"]);
    assert!(sim.reported.is_ready());
    sim.exit("debug", 1);
    sim.settle();
    assert_eq!(sim.told(), Vec::<String>::new());
    let status = &sim.reported.ephemeral_container_statuses[0];
    assert_eq!(status.state.terminated.as_ref().map(|t| t.exit_code), Some(1));
    assert_eq!((sim.phase(), sim.reported.is_ready()), (Phase::Running, true));
    sim.delete(1);
    sim.settle();
    assert!(sim.told().contains(&"finish".to_owned()));
}

#[test]
fn rules_by_exit_code_come_before_the_policy() {
    let rules = |operator: &str| json!([{"action": "Restart", "exitCodes": {"operator": operator, "values": [42]}}]);
    for (operator, code, restarts) in [
        ("In", 42, true),
        ("In", 1, false),
        ("NotIn", 42, false),
        ("NotIn", 1, true),
    ] {
        let container =
            json!({"name": "web", "image": "i", "restartPolicy": "Never", "restartPolicyRules": rules(operator)});
        let mut sim = Sim::new(json!({"containers": [container]}));
        sim.settle();
        sim.exit("web", code);
        sim.settle();
        let again = sim.told().contains(&"start web/1".to_owned());
        assert_eq!(
            (again, sim.phase() == Phase::Failed),
            (restarts, !restarts),
            "{operator} {code}"
        );
    }
}

#[test]
fn a_pod_that_the_node_refuses_fails_before_anything_is_made() {
    let sysctls = json!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    let mut sim = Sim::new(json!({"containers": [{"name": "web", "image": "i"}], "securityContext": sysctls}));
    sim.settle();
    assert_eq!((sim.phase(), &*sim.reported.reason), (Phase::Failed, "SysctlForbidden"));
    assert_eq!(
        sim.reported.message,
        "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted"
    );
    assert_eq!(sim.told(), Vec::<String>::new());
}

#[test]
fn what_a_container_left_is_told_with_its_end() {
    let mut sim = Sim::new(with_policy("Never"));
    sim.settle();
    sim.exit("web", 1);
    let id = sim.observed.latest("web").expect("observed").id.clone();
    sim.memory.last_words.insert(id, "DONE".into());
    sim.settle();
    let ended = sim.state("web").terminated.as_ref().expect("ended");
    assert_eq!((ended.exit_code, &*ended.message), (1, "DONE"));
}

#[test]
fn a_running_container_is_resized_in_place_or_restarted_as_its_policy_says() {
    let container = |memory: &str| {
        json!({
            "name": "web", "image": "i", "resources": {"limits": {"cpu": "1", "memory": memory}},
            "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}],
        })
    };
    let mut sim = Sim::new(json!({"containers": [container("1Mi")]}));
    sim.settle();
    sim.told();
    let has = |sim: &Sim| {
        sim.reported
            .container("web")
            .expect("status")
            .resources
            .clone()
            .expect("told")
    };
    let cpu = |resources: &crate::pod::Resources| resources.limits.get("cpu").expect("limit").0.clone();
    assert_eq!(&*cpu(&has(&sim)), "1");
    sim.pod.spec.containers[0].resources.limits =
        serde_json::from_value(json!({"cpu": "2", "memory": "1Mi"})).expect("limits");
    assert_eq!(
        sim.plan().status.condition("PodResizeInProgress").map(|c| &*c.status),
        Some("True")
    );
    sim.settle();
    assert_eq!(sim.told(), ["resize web"]);
    assert_eq!(&*cpu(&has(&sim)), "2");
    assert_eq!(sim.reported.condition("PodResizeInProgress"), None);
    sim.pod.spec.containers = serde_json::from_value(json!([container("2Mi")])).expect("containers");
    sim.settle();
    assert_eq!(sim.told(), ["stop web in 30", "start web/1"]);
    sim.memory.resize_pending = Some(crate::resize::Pending::Deferred("no room".into()));
    assert!(sim.settle().wake.is_some());
    assert_eq!(sim.condition("PodResizePending"), ("True", "Deferred", "no room"));
}

#[test]
fn an_evicted_pod_fails_soon_and_says_why() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.told();
    let eviction = crate::eviction::Eviction {
        message: "The node was low on resource: memory. ".into(),
        grace: Some(1),
    };
    sim.memory.evicted = Some(std::sync::Arc::new(eviction));
    sim.settle();
    assert_eq!(sim.told(), ["stop web in 1", "stop s0"]);
    assert_eq!((sim.phase(), &*sim.reported.reason), (Phase::Failed, "Evicted"));
    assert_eq!(sim.condition("DisruptionTarget").1, "TerminationByKubelet");
}

#[test]
fn a_sandbox_waits_for_the_network_it_needs() {
    let host = json!({"containers": [{"name": "web", "image": "i"}], "hostNetwork": true});
    for (spec, want) in [(web(), &[][..]), (host, &["run s0", "start web/0"])] {
        let mut sim = Sim::new(spec);
        sim.network = false;
        sim.settle();
        assert_eq!(sim.told(), want);
    }
    let mut sim = Sim::new(web());
    sim.network = false;
    let plan = sim.settle();
    assert_eq!(
        (sim.phase(), sim.waiting("web").0),
        (Phase::Pending, "ContainerCreating")
    );
    assert_eq!(plan.wake, None, "it waits for no particular time");
    sim.network = true;
    sim.settle();
    assert_eq!(sim.told(), ["run s0", "start web/0"]);
    sim.network = false;
    sim.exit("web", 1);
    sim.settle();
    assert_eq!(sim.told(), ["start web/1"], "a sandbox that stands is enough");
}

#[test]
fn what_is_not_ready_is_named() {
    let mut sim = Sim::new(json!({"containers": [
        {"name": "web", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}, {"name": "b", "image": "i"}]}));
    let fresh = sim.plan().status;
    assert_eq!(
        fresh.condition("Ready").expect("condition").message,
        "containers with unready status: [web b]"
    );
    sim.settle();
    let unready = ("False", "ContainersNotReady", "containers with unready status: [web]");
    assert_eq!(
        (sim.condition("Ready"), sim.condition("ContainersReady")),
        (unready, unready)
    );
    sim.probed("web", |h| h.ready = Some(true));
    sim.settle();
    assert!(sim.reported.is_ready());
    sim.probed("web", |h| h.ready = Some(false));
    sim.settle();
    assert_eq!(sim.condition("Ready"), unready);
    assert_eq!(
        sim.told(),
        ["run s0", "start web/0", "start b/0"],
        "readiness restarts nothing"
    );
}

#[test]
fn a_crashing_container_backs_off() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.exit("web", 1);
    sim.settle();
    assert_eq!(
        sim.told(),
        ["run s0", "start web/0", "start web/1"],
        "the first restart is immediate"
    );
    assert_eq!(sim.restarts("web"), 1);
    let mut waits = Vec::new();
    for _ in 0..7 {
        sim.exit("web", 1);
        sim.settle();
        assert_eq!(sim.waiting("web").0, "CrashLoopBackOff");
        waits.push(sim.sleep().as_secs());
    }
    assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(sim.restarts("web"), 8);
    sim.exit("web", 3);
    sim.settle();
    let message = "back-off 5m0s restarting failed container=web pod=p_ns(u)";
    assert_eq!((sim.waiting("web").1, sim.phase()), (message, Phase::Running));
    let last = sim
        .reported
        .container("web")
        .expect("status")
        .last_state
        .terminated
        .clone()
        .expect("ended");
    assert_eq!(
        (last.exit_code, &*last.reason, &*last.container_id),
        (3, "Error", "fake://web-8")
    );
}

#[test]
fn ten_good_minutes_clear_the_back_off() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.exit("web", 1);
    sim.settle();
    sim.pass(601);
    sim.exit("web", 1);
    sim.settle();
    assert_eq!(sim.restarts("web"), 2, "no wait");
}

#[test]
fn restart_policies_decide_what_an_end_means() {
    let cases = [
        ("Always", 0, Phase::Running, true),
        ("OnFailure", 0, Phase::Succeeded, false),
        ("OnFailure", 1, Phase::Running, true),
        ("Never", 0, Phase::Succeeded, false),
        ("Never", 1, Phase::Failed, false),
    ];
    for (policy, code, phase, restarted) in cases {
        let mut sim = Sim::new(with_policy(policy));
        sim.settle();
        sim.exit("web", code);
        sim.settle();
        assert_eq!(
            (sim.phase(), sim.restarts("web") == 1),
            (phase, restarted),
            "{policy} after exit {code}"
        );
        if !restarted {
            let ended = sim.state("web").terminated.as_ref().expect("terminated");
            assert_eq!(ended.reason, if code == 0 { "Completed" } else { "Error" });
            let reason = if code == 0 { "PodCompleted" } else { "PodFailed" };
            assert_eq!(sim.condition("Ready"), ("False", reason, ""));
            assert_eq!(
                sim.told().last().map(String::as_str),
                Some("stop s0"),
                "the address is given back"
            );
            assert_eq!(sim.reported.pod_ip, "10.128.0.2", "but stays in the status");
        }
    }
}

#[test]
fn init_containers_run_in_order_then_the_app() {
    let mut sim = Sim::new(json!({
        "initContainers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
        "containers": [{"name": "web", "image": "i"}]}));
    sim.settle();
    assert_eq!(sim.told(), ["run s0", "start a/0"]);
    assert_eq!((sim.phase(), sim.waiting("web").0), (Phase::Pending, "PodInitializing"));
    assert_eq!(
        sim.condition("Initialized"),
        (
            "False",
            "ContainersNotInitialized",
            "containers with incomplete status: [a b]"
        )
    );
    sim.exit("a", 0);
    sim.settle();
    assert_eq!(sim.told(), ["start b/0"]);
    sim.exit("b", 0);
    sim.settle();
    assert_eq!(sim.told(), ["start web/0"]);
    assert_eq!((sim.phase(), sim.reported.is_ready()), (Phase::Running, true));
    assert!(sim.reported.container("a").expect("status").ready);
}

#[test]
fn a_failing_init_container_is_retried_or_fails_the_pod() {
    for (policy, phase, next) in [
        ("Always", Phase::Pending, vec!["start a/1"]),
        ("Never", Phase::Failed, vec!["stop s0"]),
    ] {
        let mut sim = Sim::new(json!({
            "initContainers": [{"name": "a", "image": "i"}],
            "containers": [{"name": "web", "image": "i"}], "restartPolicy": policy}));
        sim.settle();
        sim.told();
        sim.exit("a", 1);
        sim.settle();
        assert_eq!(
            (sim.phase(), sim.told()),
            (phase, next.into_iter().map(str::to_owned).collect()),
            "{policy}"
        );
    }
}

#[test]
fn sidecars_start_before_the_app_restart_always_and_end_last() {
    let mut sim = Sim::new(json!({
        "initContainers": [
            {"name": "one", "image": "i", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}},
            {"name": "two", "image": "i", "restartPolicy": "Always"}],
        "containers": [{"name": "job", "image": "i"}], "restartPolicy": "Never"}));
    sim.settle();
    assert_eq!(sim.told(), ["run s0", "start one/0"], "waits for its startup probe");
    sim.probed("one", |h| h.started = Some(true));
    sim.settle();
    assert_eq!(sim.told(), ["start two/0", "start job/0"]);
    sim.exit("two", 0);
    sim.settle();
    assert_eq!(sim.told(), ["start two/1"]);
    sim.exit("job", 0);
    sim.settle();
    assert_eq!(sim.told(), ["stop two in 30", "stop one in 30", "stop s0"]);
    assert_eq!(sim.phase(), Phase::Succeeded);
}

#[test]
fn deletion_stops_reports_and_finishes() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.told();
    sim.delete(5);
    sim.settle();
    assert_eq!(sim.told(), ["stop web in 5", "stop s0", "finish", "remove s0"]);
    assert_eq!(sim.phase(), Phase::Failed, "exit code 143");
    sim.memory.removed = true;
    assert!(sim.settle().done);
    assert_eq!(sim.told(), ["purge"]);
}

#[test]
fn a_deleted_pod_is_finished_only_after_its_final_status_is_reported() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.delete(0);
    for _ in 0..6 {
        let plan = sim.plan();
        assert!(!plan.actions.contains(&Action::Finish), "nothing is reported here");
        plan.actions.into_iter().for_each(|action| sim.obey(action));
    }
    assert_eq!(sim.plan().actions, []);
    sim.reported = sim.plan().status;
    assert_eq!(sim.plan().actions, [Action::Finish]);
}

#[test]
fn a_shorter_grace_period_overtakes_a_longer_one() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.told();
    sim.stubborn = true;
    sim.delete(30);
    sim.settle();
    sim.pass(10);
    assert_eq!(sim.told(), ["stop web in 30"], "said once");
    sim.delete(1);
    sim.settle();
    assert_eq!(sim.told(), ["stop web in 0"], "ten seconds have passed already");
    sim.exit("web", 137);
    sim.settle();
    assert_eq!(sim.told(), ["stop s0", "finish", "remove s0"]);
}

#[test]
fn a_pod_that_vanished_from_the_api_is_ended_without_reports() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.told();
    sim.memory.removed = true;
    assert!(sim.settle().done);
    assert_eq!(sim.told(), ["stop web in 30", "stop s0", "remove s0", "purge"]);
}

#[test]
fn a_failed_liveness_probe_restarts_the_container() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.told();
    let unhealthy = Unhealthy {
        message: "Container web failed liveness probe, will be restarted".into(),
        grace: Some(3),
    };
    sim.probed("web", |h| h.unhealthy = Some(unhealthy));
    sim.settle();
    assert_eq!(sim.told(), ["stop web in 3", "start web/1"]);
    assert_eq!((sim.restarts("web"), sim.reported.is_ready()), (1, true));
}

#[test]
fn an_agent_that_comes_back_adopts_what_runs() {
    let mut sim = Sim::new(json!({"containers": [
        {"name": "web", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}, "startupProbe": {"tcpSocket": {"port": 1}}}]}));
    sim.settle();
    sim.probed("web", |h| (h.started, h.ready) = (Some(true), Some(true)));
    sim.settle();
    assert!(sim.reported.is_ready());
    sim.told();
    let before = sim.reported.clone();
    sim.memory = Memory {
        first_seen: sim.now + SignedDuration::from_secs(60),
        ..Memory::default()
    };
    sim.pass(60);
    assert_eq!(sim.told(), Vec::<String>::new());
    assert_eq!(
        sim.reported, before,
        "nothing is reported anew, readiness is kept until a probe says otherwise"
    );
}

#[test]
fn a_lost_sandbox_is_replaced_and_restarts_are_counted() {
    let mut sim = Sim::new(json!({
        "initContainers": [{"name": "a", "image": "i"}], "containers": [{"name": "web", "image": "i"}]}));
    sim.settle();
    sim.exit("a", 0);
    sim.settle();
    sim.told();
    sim.observed.sandboxes[0].ready = false;
    sim.observed
        .containers
        .iter_mut()
        .filter(|c| c.is_running())
        .for_each(|c| c.state = ContainerState::Unknown);
    sim.settle();
    assert_eq!(
        sim.told(),
        ["stop s0", "run s1", "start a/1"],
        "init containers run again"
    );
    sim.exit("a", 0);
    sim.settle();
    assert_eq!(sim.told(), ["start web/1"]);
    assert_eq!((sim.restarts("web"), &*sim.reported.pod_ip), (1, "10.128.0.3"));
    let last = sim
        .reported
        .container("web")
        .expect("status")
        .last_state
        .terminated
        .clone()
        .expect("ended");
    assert_eq!((last.exit_code, &*last.reason), (137, "ContainerStatusUnknown"));
}

#[test]
fn after_a_reboot_without_records_counts_go_on_and_finished_work_is_not_repeated() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.exit("web", 1);
    sim.settle();
    sim.told();
    (sim.observed, sim.memory) = (Observed::default(), Memory::default());
    sim.settle();
    assert_eq!(sim.told(), ["run s0", "start web/2"]);
    assert_eq!(sim.restarts("web"), 2);

    let mut sim = Sim::new(json!({"restartPolicy": "OnFailure", "containers": [
        {"name": "done", "image": "i"}, {"name": "busy", "image": "i"}]}));
    sim.settle();
    sim.exit("done", 0);
    sim.settle();
    sim.told();
    (sim.observed, sim.memory) = (Observed::default(), Memory::default());
    sim.settle();
    assert_eq!(sim.told(), ["run s0", "start busy/1"]);
}

#[test]
fn a_pod_past_its_deadline_fails_and_ends() {
    let mut sim = Sim::new(json!({"activeDeadlineSeconds": 60, "containers": [{"name": "web", "image": "i"}]}));
    sim.settle();
    sim.told();
    assert_eq!(sim.sleep().as_secs(), 60);
    assert_eq!(sim.told(), ["stop web in 30", "stop s0"]);
    assert_eq!(
        (sim.phase(), &*sim.reported.reason),
        (Phase::Failed, "DeadlineExceeded")
    );
    sim.pass(60);
    assert_eq!(
        (sim.phase(), &*sim.reported.reason),
        (Phase::Failed, "DeadlineExceeded")
    );
}

#[test]
fn failures_to_start_are_waiting_reasons_that_are_tried_again() {
    let cases = [
        (Reason::CreateContainerConfigError, "CreateContainerConfigError", 1),
        (Reason::CreateContainerError, "CreateContainerError", 1),
        (Reason::RunContainerError, "RunContainerError", 1),
        (Reason::InvalidImageName, "InvalidImageName", 1),
    ];
    for (reason, word, wait) in cases {
        let mut sim = Sim::new(web());
        sim.failing = Some(("web".into(), reason));
        sim.settle();
        assert_eq!((sim.waiting("web"), sim.phase()), ((word, "because"), Phase::Pending));
        assert_eq!(sim.sleep().as_secs(), wait);
        sim.failing = None;
        sim.sleep();
        assert!(sim.reported.is_ready(), "{word}");
        assert_eq!(sim.restarts("web"), 0);
    }
}

#[test]
fn a_failed_pull_turns_into_a_back_off() {
    let mut sim = Sim::new(web());
    sim.failing = Some(("web".into(), Reason::ErrImagePull));
    sim.settle();
    assert_eq!(sim.waiting("web"), ("ErrImagePull", "because"));
    sim.sleep();
    assert_eq!(
        sim.waiting("web"),
        (
            "ImagePullBackOff",
            "Back-off pulling image \"i\": ErrImagePull: because"
        )
    );
    sim.told();
    sim.sleep();
    assert_eq!(sim.told(), ["fail web"], "tried again after ten seconds");
    assert_eq!(sim.now.duration_since(sim.memory.first_seen).as_secs(), 10);
}

#[test]
fn a_cured_configuration_is_tried_at_once() {
    let mut sim = Sim::new(web());
    sim.failing = Some(("web".into(), Reason::CreateContainerConfigError));
    sim.settle();
    sim.failing = None;
    sim.memory.ops.retry_configuration();
    sim.settle();
    assert!(sim.reported.is_ready());
}

#[test]
fn only_the_last_two_containers_of_a_name_are_kept() {
    let mut sim = Sim::new(web());
    sim.settle();
    for _ in 0..4 {
        sim.exit("web", 1);
        sim.settle();
        if sim.plan().wake.is_some() {
            sim.sleep();
        }
    }
    let kept: Vec<u32> = sim.observed.containers.iter().map(|c| c.attempt).collect();
    assert_eq!(kept, [3, 4]);
}

#[test]
fn readiness_gates_hold_a_pod_back() {
    let mut sim =
        Sim::new(json!({"containers": [{"name": "web", "image": "i"}], "readinessGates": [{"conditionType": "x/y"}]}));
    sim.settle();
    let missing = "corresponding condition of pod readiness gate \"x/y\" does not exist.";
    assert_eq!(sim.condition("Ready"), ("False", "ReadinessGatesNotReady", missing));
    assert_eq!(sim.condition("ContainersReady").0, "True");
    let open = status::Condition {
        kind: "x/y".into(),
        status: "True".into(),
        ..Default::default()
    };
    sim.pod.status.conditions.push(open);
    sim.settle();
    assert!(sim.reported.is_ready());
}

#[test]
fn expiring_tokens_are_renewed_without_touching_containers() {
    let mut sim = Sim::new(web());
    sim.settle();
    sim.memory.renew_at = Some(sim.now + SignedDuration::from_secs(100));
    assert_eq!(sim.plan().wake, sim.memory.renew_at);
    sim.now += SignedDuration::from_secs(100);
    assert_eq!(sim.plan().actions, [Action::MountVolumes]);
}
