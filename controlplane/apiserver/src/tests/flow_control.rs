//! Priority and fairness over the request path: who is served while the server has all it can do.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::*;
use crate::MaxInflight;
use crate::registry::virtuals::{Passing, Request as Asked, Response as Told, Virtual, VirtualContext, VirtualRoute};

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const GATE: &str = "/apis/test.example.com/v1/gates";

/// Lets requests through one by one, and writes down whose they were.
struct Gate {
    open: Semaphore,
    begun: Mutex<Vec<String>>,
}

#[async_trait]
impl Virtual for Arc<Gate> {
    async fn call(&self, cx: VirtualContext, _request: Asked) -> Result<Told, api::Status> {
        self.begun.lock().push(cx.user.username.clone());
        self.open.acquire().await.expect("it is not closed").forget();
        Ok(Told::new(Body::chunks(
            [Bytes::from_static(b"a"), Bytes::from_static(b"b")].into_iter(),
            2,
        )))
    }
}

fn route(gate: Arc<Gate>) -> VirtualRoute {
    VirtualRoute {
        group: "test.example.com",
        version: "v1",
        resource: "gates",
        subresource: None,
        namespaced: false,
        kind: "Gate",
        kind_group_version: None,
        definition: None,
        verbs: &["list"],
        passing: Passing::Unseen,
        handler: Arc::new(gate),
    }
}

struct World {
    fixture: Fixture,
    gate: Arc<Gate>,
}

type Answering = Pin<Box<dyn Future<Output = Answer>>>;

impl World {
    /// A server that serves so many requests at once, whose level `busy` has nearly all of them.
    async fn new(seats: u32) -> Self {
        let gate = Arc::new(Gate {
            open: Semaphore::new(0),
            begun: Mutex::default(),
        });
        let handler = gate.clone();
        let virtuals: crate::Virtuals = Box::new(move |_| vec![route(handler)]);
        let max = MaxInflight {
            requests: seats,
            mutating: 0,
        };
        let fixture = Fixture::made(Given {
            virtuals,
            max_inflight: max,
            ..Given::default()
        })
        .await;
        let world = World { fixture, gate };
        let level = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
            "metadata": {"name": "busy"}, "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1000,
            "borrowingLimitPercent": 0, "limitResponse": {"type": "Queue",
            "queuing": {"queues": 64, "handSize": 4, "queueLengthLimit": 50}}}}});
        let everybody = json!([{"kind": "Group", "group": {"name": "system:authenticated"}}]);
        let all = json!([{"verbs": ["list"], "apiGroups": ["test.example.com"], "resources": ["gates"], "clusterScope": true}]);
        let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
            "metadata": {"name": "gates"}, "spec": {"priorityLevelConfiguration": {"name": "busy"},
            "matchingPrecedence": 100, "distinguisherMethod": {"type": "ByUser"},
            "rules": [{"subjects": everybody, "resourceRules": all}]}});
        for (plural, object) in [("prioritylevelconfigurations", level), ("flowschemas", schema)] {
            let answer = world.fixture.post(&format!("{FLOW}/{plural}"), object).await;
            assert_eq!(answer.code, StatusCode::CREATED, "{answer:?}");
        }
        world.sync().await;
        world
    }

    /// Has what is stored come into force.
    async fn sync(&self) {
        for plural in ["prioritylevelconfigurations", "flowschemas"] {
            let kind = api::names::GroupResource::new("flowcontrol.apiserver.k8s.io", plural);
            self.fixture
                .server
                .reader()
                .fresh(&kind)
                .await
                .expect("the store answers");
        }
        crate::flowcontrol::sync(&self.fixture.server.shared).await;
    }

    fn asked(&self, who: Caller) -> Answering {
        let shared = self.fixture.server.shared.clone();
        Box::pin(async move {
            let request = Request::get(GATE).body(Body::empty()).expect("a request");
            let response = handle(shared, who, request).await;
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.expect("the body is whole").to_bytes();
            Answer {
                code: parts.status,
                headers: parts.headers,
                bytes,
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_keeps_its_seat_until_it_is_sent_or_for_a_minute() {
    let world = World::new(2).await;
    world.gate.open.add_permits(100);
    let head = || async {
        let request = Request::get(GATE).body(Body::empty()).expect("a request");
        handle(world.fixture.server.shared.clone(), user("slow"), request).await
    };
    let (one, two) = (head().await, head().await);
    let mut next = world.asked(user("next"));
    assert!(begin(&mut next).is_none(), "both seats are taken while nobody reads");
    assert_eq!(one.into_body().collect().await.expect("it is whole").to_bytes(), "ab");
    assert_eq!(next.await.code, StatusCode::OK, "a seat is free when the list is sent");
    let three = head().await;
    let mut late = world.asked(user("late"));
    assert!(begin(&mut late).is_none());
    drop(three);
    assert_eq!(late.await.code, StatusCode::OK, "or when nobody wants it any more");
    let four = head().await;
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(
        world.asked(user("later")).await.code,
        StatusCode::OK,
        "or after a minute"
    );
    drop((two, four));
}

/// Lets a request come as far as it comes by itself.
fn begin(request: &mut Answering) -> Option<Answer> {
    match request
        .as_mut()
        .poll(&mut Context::from_waker(std::task::Waker::noop()))
    {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_noisy_client_does_not_starve_a_quiet_one() {
    let world = World::new(2).await;
    let mut noisy: Vec<Answering> = (0..150).map(|_| world.asked(user("noisy"))).collect();
    let refused: Vec<Answer> = noisy.iter_mut().filter_map(begin).collect();
    assert_eq!(refused.len(), 0);
    assert_eq!(world.gate.begun.lock().len(), 2);
    let mut quiet = world.asked(user("quiet"));
    assert!(begin(&mut quiet).is_none());
    // Each that is let through makes room for one more.
    let mut served = 0;
    while !world.gate.begun.lock().iter().any(|who| who == "quiet") {
        tokio::time::advance(Duration::from_millis(5)).await;
        world.gate.open.add_permits(1);
        noisy.retain_mut(|request| begin(request).is_none());
        assert!(begin(&mut quiet).is_none());
        served += 1;
        assert!(
            served <= 4,
            "the quiet client waits for {served} others: more than a hand"
        );
    }
    world.gate.open.add_permits(1000);
    // Together: a seat may go to any of them, and one that nobody polls keeps it.
    for answer in futures::future::join_all(noisy.into_iter().chain([quiet])).await {
        assert_eq!(answer.code, StatusCode::OK);
    }
}

#[tokio::test]
async fn beyond_its_queues_a_client_is_asked_to_come_back() {
    let world = World::new(1).await;
    let mut noisy: Vec<Answering> = (0..202).map(|_| world.asked(user("noisy"))).collect();
    let refused: Vec<Answer> = noisy.iter_mut().filter_map(begin).collect();
    // One is served, and four queues hold fifty each.
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].code, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused[0].headers["retry-after"], "1");
    assert_eq!(refused[0].bytes, "Too many requests, please try again later.\n");
    let schema = world.fixture.get(&format!("{FLOW}/flowschemas/gates")).await;
    assert_eq!(
        refused[0].headers["x-kubernetes-pf-flowschema-uid"],
        schema.at("/metadata/uid").as_str().expect("a uid")
    );
    // Others have room, and administrators never wait.
    assert!(begin(&mut world.asked(user("quiet"))).is_none());
    let masters = Caller::Internal(Arc::new(UserInfo {
        username: "admin".to_owned(),
        groups: vec!["system:masters".to_owned(), AUTHENTICATED.to_owned()],
        ..UserInfo::default()
    }));
    let mut exempt = world.asked(masters);
    assert!(begin(&mut exempt).is_none());
    assert_eq!(world.gate.begun.lock().last().map(String::as_str), Some("admin"));
}

#[tokio::test]
async fn who_goes_away_leaves_the_queue_and_the_seat() {
    let world = World::new(1).await;
    let mut first = world.asked(user("a"));
    let mut second = world.asked(user("b"));
    let mut third = world.asked(user("c"));
    for request in [&mut first, &mut second, &mut third] {
        assert!(begin(request).is_none());
    }
    drop(second);
    drop(first);
    assert!(begin(&mut third).is_none());
    assert_eq!(*world.gate.begun.lock(), ["a", "c"]);
    let dump = world
        .fixture
        .get("/debug/api_priority_and_fairness/dump_priority_levels")
        .await;
    let dump = String::from_utf8(dump.bytes.to_vec()).expect("text");
    let busy = dump
        .lines()
        .find(|line| line.starts_with("busy"))
        .expect("the level")
        .split_whitespace();
    let busy: Vec<&str> = busy.collect();
    assert_eq!(
        busy,
        ["busy,", "0,", "false,", "false,", "0,", "1,", "2,", "1,", "0,", "1"],
        "{dump}"
    );
    let metrics = world.fixture.get("/metrics").await;
    let metrics = String::from_utf8(metrics.bytes.to_vec()).expect("text");
    assert!(
        metrics.contains("apiserver_flowcontrol_current_executing_requests{priority_level=\"busy\"} 1\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn schemas_say_what_became_of_their_level() {
    let world = World::new(10).await;
    let condition = |answer: &Answer| {
        (
            answer.at("/status/conditions/0/type"),
            answer.at("/status/conditions/0/status"),
        )
    };
    let schema = world.fixture.get(&format!("{FLOW}/flowschemas/gates")).await;
    assert_eq!(condition(&schema), (json!("Dangling"), json!("False")));
    world
        .fixture
        .delete(&format!("{FLOW}/prioritylevelconfigurations/busy"))
        .await;
    world.sync().await;
    let schema = world.fixture.get(&format!("{FLOW}/flowschemas/gates")).await;
    assert_eq!(condition(&schema), (json!("Dangling"), json!("True")));
    assert_eq!(
        schema.at("/status/conditions/0/message"),
        "This FlowSchema references the PriorityLevelConfiguration object named \"busy\" but there is no such object"
    );
    // What it was about belongs to the last resort by now.
    world.gate.open.add_permits(1);
    let answer = world.asked(user("a")).now_or_never().expect("nobody is before it");
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], "");
}
