//! The worker against a runtime and an API in memory, on a paused clock.

use std::convert::Infallible;

use bytes::Bytes;
use client::{Client, Clock, Informers, Scope, events::Recorder, kinds};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{Barrier, mpsc};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{observer::Observer, status::NodeFacts, testing::FakeRuntime};

/// The API as one pod's worker sees it.
#[derive(Clone)]
struct Api {
    state: Arc<Mutex<ApiState>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct ApiState {
    pod: Value,
    revision: u64,
    /// Requests that change something, in order.
    writes: Vec<String>,
    patches: Vec<Value>,
    events: Vec<String>,
    config_map: Option<Value>,
    /// By name.
    secrets: Vec<Value>,
    refuse_reports: bool,
    /// Somebody else says that the pod is not ready, just before the next report arrives.
    meddle: bool,
    /// How many deletions are answered with a conflict.
    conflicts: u32,
    /// Where requests for tokens and for the config map meet: none is answered before all are there.
    meeting: Option<Arc<Barrier>>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).body(body).expect("response")
}

impl Api {
    fn serve(&self, request: &Request<()>, body: &[u8]) -> Answer {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let mut state = self.state.lock();
        match *request.method() {
            Method::GET if query.contains("watch=true") && path.ends_with("configmaps") => {
                let lines = futures::stream::once(self.clone().config_map_added());
                Response::new(StreamBody::new(lines.chain(futures::stream::pending())).boxed_unsync())
            }
            Method::GET if query.contains("watch=true") => {
                let silence = futures::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>();
                Response::new(StreamBody::new(silence).boxed_unsync())
            }
            Method::GET => {
                let maps = state.config_map.iter().filter(|_| path.ends_with("configmaps"));
                let secrets = state.secrets.iter().filter(|secret| {
                    let name = secret["metadata"]["name"].as_str().expect("named");
                    path.ends_with("secrets") && query.contains(&format!("metadata.name%3D{name}"))
                });
                let items: Vec<_> = maps.chain(secrets).collect();
                answer(
                    200,
                    &json!({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}),
                )
            }
            Method::PATCH if path.contains("/events/") => answer(200, &json!({})),
            Method::PATCH if state.refuse_reports => answer(
                503,
                &json!({"kind": "Status", "code": 503, "reason": "ServiceUnavailable", "message": "away"}),
            ),
            Method::PATCH => {
                let patch: Value = serde_json::from_slice(body).expect("json");
                if std::mem::take(&mut state.meddle) {
                    let conditions = state.pod["status"]["conditions"].as_array_mut().expect("list");
                    let ready = conditions.iter_mut().find(|c| c["type"] == "Ready");
                    ready.expect("was reported")["status"] = "False".into();
                }
                state
                    .writes
                    .push(format!("patch {}", path.rsplit('/').next().expect("name")));
                state.apply(&patch);
                state.patches.push(patch);
                self.changed.send_replace(state.revision);
                answer(200, &state.pod)
            }
            Method::DELETE if state.conflicts > 0 => {
                state.conflicts -= 1;
                answer(
                    409,
                    &json!({"kind": "Status", "code": 409, "reason": "Conflict", "message": "try again"}),
                )
            }
            Method::DELETE => {
                state.writes.push("delete".into());
                state.revision += 1;
                self.changed.send_replace(state.revision);
                answer(200, &json!({"kind": "Status", "status": "Success"}))
            }
            _ if path.ends_with("/token") => answer(201, &json!({"status": {"token": "t"}})),
            _ if path.ends_with("/events") => {
                let event: Value = serde_json::from_slice(body).expect("json");
                state.events.push(format!(
                    "{} {}",
                    event["reason"].as_str().unwrap_or_default(),
                    event["message"].as_str().unwrap_or_default()
                ));
                answer(201, &event)
            }
            _ => answer(405, &json!({"kind": "Status", "code": 405})),
        }
    }
}

impl Api {
    /// The line of a watch when the config map comes.
    async fn config_map_added(self) -> Result<http_body::Frame<Bytes>, Infallible> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(object) = self.state.lock().config_map.clone() {
                let line = json!({"type": "ADDED", "object": object}).to_string() + "\n";
                return Ok(http_body::Frame::data(Bytes::from(line)));
            }
            changed.changed().await.expect("lives");
        }
    }
}

impl ApiState {
    fn apply(&mut self, patch: &Value) {
        assert_eq!(patch["metadata"]["uid"], self.pod["metadata"]["uid"]);
        for (field, value) in patch["status"].as_object().expect("status") {
            match field.as_str() {
                _ if value.is_null() => {
                    self.pod["status"].as_object_mut().expect("status").remove(field);
                }
                "conditions" => {
                    for condition in value.as_array().expect("list") {
                        let conditions = &mut self.pod["status"]["conditions"];
                        let list = conditions.as_array_mut().expect("list");
                        list.retain(|old| old["type"] != condition["type"]);
                        let mut condition = condition.clone();
                        // What is null is to go.
                        condition
                            .as_object_mut()
                            .expect("an object")
                            .retain(|_, value| !value.is_null());
                        list.push(condition);
                    }
                }
                "podIPs" | "hostIPs" => {
                    let kept = value
                        .as_array()
                        .expect("list")
                        .iter()
                        .filter(|ip| ip.get("$patch").is_none());
                    self.pod["status"][field] = kept.cloned().collect();
                }
                _ => self.pod["status"][field] = value.clone(),
            }
        }
        self.revision += 1;
        self.pod["metadata"]["resourceVersion"] = self.revision.to_string().into();
    }
}

/// A worker, everything around it, and the means to change that.
struct Fixture {
    api: Api,
    runtime: FakeRuntime,
    inbox: watch::Sender<Desired>,
    worker: Option<tokio::task::JoinHandle<()>>,
    shared: Arc<Shared>,
    wake: Arc<Notify>,
    quit: CancellationToken,
    _dir: tempfile::TempDir,
}

fn pod(spec: Value) -> Value {
    let metadata = json!({"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "1", "generation": 1});
    json!({"metadata": metadata, "spec": spec, "status": {"conditions": [], "phase": "Pending"}})
}

impl Fixture {
    fn new(spec: Value) -> Self {
        Self::with(ApiState {
            pod: pod(spec),
            revision: 1,
            ..ApiState::default()
        })
    }

    fn with(state: ApiState) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let clock = Clock::anchored(Timestamp::from_second(1_000_000).expect("time"));
        let api = Api {
            state: Arc::new(Mutex::new(state)),
            changed: watch::Sender::new(1),
        };
        let served = api.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = served.clone();
            async move {
                let (parts, body) = request.into_parts();
                let (path, watches) = (
                    parts.uri.path(),
                    parts.uri.query().is_some_and(|q| q.contains("watch=")),
                );
                let meeting = api.state.lock().meeting.clone();
                if let Some(meeting) =
                    meeting.filter(|_| path.ends_with("/token") || path.ends_with("maps") && !watches)
                {
                    meeting.wait().await;
                }
                let body = body.collect().await.expect("body").to_bytes();
                Ok::<_, Infallible>(api.serve(&Request::from_parts(parts, ()), &body))
            }
        });
        let client = Client::new(kube::Client::new(service, "default"));
        let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
        let informers = Informers::new(client.clone(), tasks.clone(), quit.clone());
        let runtime = FakeRuntime::new(clock.clone(), &["i"]);
        let (observer, changes) = Observer::new(Arc::new(runtime.clone()));
        let shared = Arc::new(Shared {
            recorder: Recorder::new(client.clone(), "kubelet", "n1", clock.clone(), &tasks, quit.clone()),
            pods: informers.get(&kinds::POD, Scope::All),
            statics: watch::channel(crate::static_pods::StaticPods::default()).1,
            services: informers.get(&kinds::SERVICE, Scope::All),
            classes: informers.get(&kinds::RUNTIME_CLASS, Scope::All),
            client,
            informers,
            runtime: Arc::new(runtime.clone()),
            observer: observer.clone(),
            clock,
            warm: crate::objects::Warm::default(),
            node_name: "n1".into(),
            data_dir: dir.path().to_owned(),
            node: NodeFacts {
                host_ips: vec!["10.0.0.1".parse().expect("ip")],
                runtime: "fake".into(),
                platform: make::Platform::default(),
            },
            network: watch::channel(true).1,
            capacity: Capacity::default(),
            dns: crate::dns::Dns::default(),
            metrics: Vec::new(),
            cgroups: None,
            csi: crate::csi::Csi::new(dir.path().to_owned()),
            history: Default::default(),
            thresholds: crate::Thresholds::default(),
            strain: Arc::new(crate::node::Strain::new(std::time::Duration::ZERO)),
            evictions: crate::eviction::Evictions::default(),
            images: crate::images::Images::default(),
            probes: crate::probes::Tally::default(),
            users: crate::user_namespaces::UserNamespaces::default(),
        });
        let first = Arc::new(api.pod());
        let (inbox, wake) = (watch::Sender::new(Desired::Pod(first)), Arc::new(Notify::new()));
        tokio::spawn(observer.run(quit.clone()));
        tokio::spawn(wake_on(changes, wake.clone()));
        tokio::spawn(follow(api.clone(), inbox.clone(), quit.clone()));
        let mut fixture = Self {
            api,
            runtime,
            inbox,
            worker: None,
            shared,
            wake,
            quit,
            _dir: dir,
        };
        fixture.start();
        fixture
    }

    /// Starts a worker as a fresh agent would.
    fn start(&mut self) {
        if let Some(old) = self.worker.take() {
            old.abort();
        }
        let (shared, pod, inbox) = (self.shared.clone(), Arc::new(self.api.pod()), self.inbox.subscribe());
        let (wake, quit) = (self.wake.clone(), self.quit.clone());
        self.worker = Some(tokio::spawn(async move {
            shared.observer.fresh().await;
            Worker::new(shared, pod, inbox, wake).run(quit).await;
        }));
    }

    /// Waits until the pod in the API is as `accept` wants it.
    async fn until(&self, accept: impl Fn(&PodStatus) -> bool) -> PodStatus {
        let mut changed = self.api.changed.subscribe();
        let wait = async {
            loop {
                changed.mark_unchanged();
                let status = self.api.pod().status;
                if accept(&status) {
                    return status;
                }
                changed.changed().await.expect("lives");
            }
        };
        let patient = tokio::time::timeout(std::time::Duration::from_secs(3600), wait).await;
        patient.unwrap_or_else(|_| {
            panic!(
                "never came: {:#?}\n{:#?}",
                self.api.pod().status,
                self.runtime.journal()
            )
        })
    }

    async fn ready(&self) -> PodStatus {
        self.until(PodStatus::is_ready).await
    }
}

impl Api {
    fn pod(&self) -> Pod {
        serde_json::from_value(self.state.lock().pod.clone()).expect("pod")
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock();
        change(&mut state.pod);
        state.revision += 1;
        let revision = state.revision;
        state.pod["metadata"]["resourceVersion"] = revision.to_string().into();
        self.changed.send_replace(revision);
    }

    fn writes(&self) -> Vec<String> {
        self.state.lock().writes.clone()
    }
}

async fn wake_on(mut changes: mpsc::UnboundedReceiver<Arc<str>>, wake: Arc<Notify>) {
    while changes.recv().await.is_some() {
        wake.notify_one();
    }
}

/// Passes the API's pod on, as the informer does.
async fn follow(api: Api, inbox: watch::Sender<Desired>, quit: CancellationToken) {
    let mut changed = api.changed.subscribe();
    while let Some(Ok(())) = quit.run_until_cancelled(changed.changed()).await {
        if matches!(*inbox.borrow(), Desired::Pod(_)) {
            inbox.send_replace(Desired::Pod(Arc::new(api.pod())));
        }
    }
}

fn web() -> Value {
    json!({"containers": [{"name": "web", "image": "i"}]})
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_starts_well_costs_one_report() {
    let fixture = Fixture::new(web());
    let begun = tokio::time::Instant::now();
    let status = fixture.ready().await;
    assert_eq!(fixture.api.writes(), ["patch status"]);
    assert!(
        begun.elapsed() < std::time::Duration::from_millis(25),
        "took {:?}",
        begun.elapsed()
    );
    assert_eq!(status.pod_ip, "127.0.0.1");
    assert_eq!(
        fixture.runtime.journal(),
        ["run sandbox-u-0", "create web-u-0", "start web-u-0"]
    );
}

#[tokio::test(start_paused = true)]
async fn everything_that_a_volume_needs_is_asked_for_at_once() {
    let token = |audience| json!({"serviceAccountToken": {"path": audience, "audience": audience}});
    let ca = json!({"configMap": {"name": "kube-root-ca.crt"}});
    let volume = json!({"name": "access", "projected": {"sources": [token("api"), token("vault"), ca]}});
    let metadata = json!({"name": "kube-root-ca.crt", "namespace": "ns", "resourceVersion": "1"});
    let fixture = Fixture::with(ApiState {
        pod: pod(json!({"containers": [{"name": "web", "image": "i"}], "volumes": [volume]})),
        revision: 1,
        config_map: Some(json!({"metadata": metadata, "data": {"ca.crt": "x"}})),
        meeting: Some(Arc::new(Barrier::new(3))),
        ..ApiState::default()
    });
    let begun = tokio::time::Instant::now();
    fixture.ready().await;
    let took = begun.elapsed();
    assert!(took < std::time::Duration::from_millis(25), "took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_report_that_fails_is_repeated_and_nothing_is_ended_meanwhile() {
    let fixture = Fixture::new(web());
    fixture.api.state.lock().refuse_reports = true;
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    assert_eq!(
        fixture.runtime.journal(),
        ["run sandbox-u-0", "create web-u-0", "start web-u-0"]
    );
    fixture.api.state.lock().refuse_reports = false;
    fixture.ready().await;
}

#[tokio::test(start_paused = true)]
async fn what_others_make_of_the_status_is_set_right() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.api.change(|pod| {
        for condition in pod["status"]["conditions"].as_array_mut().expect("list") {
            if condition["type"] == "Ready" {
                condition["status"] = "False".into();
            }
        }
    });
    fixture.ready().await;
    assert_eq!(fixture.api.writes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_others_write_beside_a_report_is_set_right() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.api.state.lock().meddle = true;
    fixture
        .api
        .change(|pod| pod["status"]["message"] = "of somebody else".into());
    fixture
        .until(|status| status.is_ready() && !fixture.api.state.lock().meddle)
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_crashing_container_is_restarted_and_told_of() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.runtime.exit("u", "web", 1);
    fixture
        .until(|s| s.is_ready() && s.container_statuses[0].restart_count == 1)
        .await;
    fixture.runtime.exit("u", "web", 1);
    fixture
        .until(|s| {
            s.container_statuses[0]
                .state
                .waiting
                .as_ref()
                .is_some_and(|w| w.reason == "CrashLoopBackOff")
        })
        .await;
    fixture
        .until(|s| s.is_ready() && s.container_statuses[0].restart_count == 2)
        .await;
    assert_eq!(fixture.runtime.most_copies(), 1);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let events = fixture.api.state.lock().events.clone();
    let told = |text: &str| events.iter().any(|event| event == text);
    assert!(
        told("BackOff Back-off restarting failed container web in pod p_ns(u)"),
        "{events:#?}"
    );
    assert!(
        told("Pulled Container image \"i\" already present on machine"),
        "{events:#?}"
    );
    assert!(told("Started Started container web"), "{events:#?}");
}

#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_run_says_why_and_is_tried_again() {
    let fixture = Fixture::new(web());
    fixture
        .runtime
        .refuse("i", Some("it imports wasi:nn/graph, which is not offered"));
    let status = fixture
        .until(|s| {
            s.container_statuses.first().is_some_and(|c| {
                c.state
                    .waiting
                    .as_ref()
                    .is_some_and(|w| w.reason == "CreateContainerError")
            })
        })
        .await;
    let message = status.container_statuses[0]
        .state
        .waiting
        .as_ref()
        .expect("waits")
        .message
        .clone();
    assert_eq!(
        message,
        "image \"i\" cannot run: it imports wasi:nn/graph, which is not offered"
    );
    fixture.runtime.refuse("i", None);
    fixture.ready().await;
}

#[tokio::test(start_paused = true)]
async fn deletion_gives_the_grace_period_and_ends_with_the_object() {
    let mut fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.runtime.make_stubborn();
    fixture.api.change(|pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-20T11:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    });
    let begun = tokio::time::Instant::now();
    fixture
        .until(|_| fixture.api.writes().last().is_some_and(|w| w == "delete"))
        .await;
    assert_eq!(begun.elapsed().as_secs(), 5);
    assert_eq!(fixture.api.writes(), ["patch status", "patch status", "delete"]);
    let status = fixture.api.pod().status;
    assert_eq!((status.phase, status.is_ready()), (Phase::Failed, false));
    fixture.inbox.send_replace(Desired::Removed);
    fixture.worker.take().expect("runs").await.expect("ends");
    assert_eq!(
        fixture.runtime.journal().split_off(3),
        ["stop web-u-0 in 5s", "stop sandbox-u-0", "remove sandbox-u-0"]
    );
    assert!(!volumes::pod_dir(&fixture.shared.data_dir, "u").exists());
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_meets_a_conflict_is_tried_again() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.api.state.lock().conflicts = 2;
    fixture.api.change(|pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-20T11:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    });
    fixture
        .until(|_| fixture.api.writes().last().is_some_and(|w| w == "delete"))
        .await;
    assert_eq!(fixture.api.state.lock().conflicts, 0);
}

#[tokio::test(start_paused = true)]
async fn a_new_agent_adopts_the_pod_and_writes_nothing() {
    let mut fixture = Fixture::new(web());
    fixture.ready().await;
    let before = fixture.runtime.journal();
    fixture.start();
    tokio::time::sleep(std::time::Duration::from_secs(60)).await;
    assert_eq!((fixture.runtime.journal(), fixture.api.writes().len()), (before, 1));
}

#[tokio::test(start_paused = true)]
async fn lost_sandboxes_are_made_anew() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.runtime.lose_sandboxes();
    fixture
        .until(|s| s.is_ready() && s.container_statuses[0].restart_count == 1)
        .await;
    assert_eq!(fixture.runtime.most_copies(), 1);
    assert!(fixture.runtime.journal().contains(&"run sandbox-u-1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_missing_config_map_is_named_and_its_coming_starts_the_container() {
    let reference = json!({"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}});
    let fixture = Fixture::new(json!({"containers": [{"name": "web", "image": "i", "env": [reference]}]}));
    let status = fixture
        .until(|s| {
            s.container_statuses.first().is_some_and(|c| {
                c.state
                    .waiting
                    .as_ref()
                    .is_some_and(|w| w.reason == "CreateContainerConfigError")
            })
        })
        .await;
    let waiting = status.container_statuses[0].state.waiting.clone().expect("waits");
    assert_eq!(waiting.message, "configmap \"cm\" not found");
    let metadata = json!({"name": "cm", "namespace": "ns", "resourceVersion": "2"});
    fixture.api.state.lock().config_map = Some(json!({"metadata": metadata, "data": {"k": "v"}}));
    fixture.api.change(|_| {});
    fixture.ready().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_told_of_an_image_while_a_container_is_made_is_passed_on() {
    let fixture = Fixture::new(web());
    fixture.runtime.make_slow("i", "Compiling image \"i\"");
    fixture.ready().await;
    let events = fixture.api.state.lock().events.clone();
    let told = events.iter().filter(|event| event.starts_with("Compiling "));
    assert_eq!(told.collect::<Vec<_>>(), ["Compiling Compiling image \"i\""]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_that_did_nothing_is_tried_again() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    fixture.runtime.make_deaf(true);
    fixture.api.change(|pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-20T11:00:00Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    });
    tokio::time::sleep(std::time::Duration::from_secs(120)).await;
    let stops = fixture
        .runtime
        .journal()
        .iter()
        .filter(|call| call.starts_with("stop web"))
        .count();
    assert!((10..20).contains(&stops), "{stops} stops in two minutes");
    fixture.runtime.make_deaf(false);
    fixture
        .until(|_| fixture.api.writes().last().is_some_and(|w| w == "delete"))
        .await;
}

impl Fixture {
    /// Waits until the API has been told this event.
    async fn told(&self, event: &str) {
        let wait = async {
            while !self.api.state.lock().events.iter().any(|told| told == event) {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        waited.unwrap_or_else(|_| panic!("not told {event:?}: {:#?}", self.api.state.lock().events));
    }

    fn pulls(&self) -> Vec<String> {
        let journal = self.runtime.journal().into_iter();
        journal.filter(|line| line.starts_with("pull ")).collect()
    }
}

fn pull_secret(name: &str) -> Value {
    let config = json!({"auths": {"docker.io": {"username": name, "password": "p"}}}).to_string();
    let config = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, config);
    let metadata = json!({"name": name, "namespace": "ns", "resourceVersion": "1"});
    json!({"metadata": metadata, "type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": config}})
}

#[tokio::test(start_paused = true)]
async fn pull_secrets_are_tried_in_their_order_until_one_works() {
    let names = ["wrong", "absent", "right", "spare"].map(|name| json!({"name": name}));
    let container = json!({"name": "web", "image": "docker.io/library/i", "imagePullPolicy": "Always"});
    let spec = json!({"containers": [container], "imagePullSecrets": names});
    let fixture = Fixture::with(ApiState {
        pod: pod(spec),
        revision: 1,
        secrets: ["wrong", "right", "spare"].map(pull_secret).into(),
        ..ApiState::default()
    });
    let image = "docker.io/library/i";
    let content = cri::ImportContent::Bytes(Bytes::new());
    cri::Runtime::import_image(&fixture.runtime, image, content)
        .await
        .expect("imports");
    fixture.runtime.require_user(image, "right");
    fixture.ready().await;
    assert_eq!(
        fixture.pulls(),
        [
            format!("pull {image} as \"wrong\""),
            format!("pull {image} as \"right\"")
        ]
    );
    for event in [
        format!("Pulling Pulling image \"{image}\""),
        "FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (absent); attempting to pull the \
         image may not succeed."
            .to_owned(),
        format!("Pulled Successfully pulled image \"{image}\" in 1.2s (1.2s including waiting). Image size: 0 bytes."),
    ] {
        fixture.told(&event).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_that_fails_is_tried_again_ever_later_and_told_in_kubernetes_words() {
    let fixture = Fixture::new(json!({"containers": [{"name": "web", "image": "gone"}]}));
    let waits = |status: &PodStatus, reason: &str| {
        let waiting = status.container_statuses.first().and_then(|c| c.state.waiting.clone());
        waiting
            .filter(|waiting| waiting.reason == reason)
            .map(|waiting| waiting.message)
    };
    let refused = "failed to pull image \"gone\": no such image";
    let status = fixture.until(|s| waits(s, "ErrImagePull").is_some()).await;
    assert_eq!(waits(&status, "ErrImagePull").as_deref(), Some(refused));
    let status = fixture.until(|s| waits(s, "ImagePullBackOff").is_some()).await;
    let expected = format!("Back-off pulling image \"gone\": ErrImagePull: {refused}");
    assert_eq!(waits(&status, "ImagePullBackOff"), Some(expected));
    for event in [
        &format!("Failed Failed to pull image \"gone\": {refused}"),
        "Failed Error: ErrImagePull",
        "BackOff Back-off pulling image \"gone\"",
        "Failed Error: ImagePullBackOff",
    ] {
        fixture.told(event).await;
    }
    let mut counts = Vec::new();
    tokio::time::sleep(std::time::Duration::from_secs(1_000)).await;
    counts.push(fixture.pulls().len());
    tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    counts.push(fixture.pulls().len());
    // At 0, 10, 30, 70, 150, 310 and 610 and 910 seconds, then every 300.
    assert_eq!(counts, [8, 10]);
    let content = cri::ImportContent::Bytes(Bytes::new());
    cri::Runtime::import_image(&fixture.runtime, "gone", content)
        .await
        .expect("imports");
    fixture.until(PodStatus::is_ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_linux_image_makes_a_linux_pod_with_everything_it_asks_for() {
    let container = json!({
        "name": "web", "image": "linux", "securityContext": {"capabilities": {"drop": ["ALL"]}},
        "lifecycle": {"stopSignal": "SIGUSR1"},
    });
    let spec = json!({"containers": [container], "shareProcessNamespace": true, "hostname": "h"});
    let fixture = Fixture::new(spec);
    fixture.runtime.make_linux("linux", Some(cri::ImageUser::Id(7)));
    fixture.ready().await;
    let (sandbox, handler) = fixture.runtime.sandbox("u").expect("made");
    assert_eq!((handler.as_str(), sandbox.hostname.as_str()), ("", "h"));
    let linux = sandbox.linux.expect("of Linux containers");
    assert_eq!(linux.namespaces.pid, cri::PidNamespace::Pod);
    let made = fixture.runtime.config("u", "web").expect("made");
    assert_eq!(made.security.run_as_user, Some(7));
    let linux = made.linux.expect("a Linux container");
    assert_eq!(
        (linux.capabilities.drop, linux.stop_signal),
        (vec!["ALL".to_owned()], "SIGUSR1".to_owned())
    );
    let paths: Vec<_> = made.mounts.iter().map(|m| m.container_path.as_str()).collect();
    assert_eq!(paths, ["/etc/hosts", "/dev/termination-log"]);
}

#[tokio::test(start_paused = true)]
async fn a_wasm_pod_asks_for_its_own_sandbox() {
    let fixture = Fixture::new(web());
    fixture.ready().await;
    let (sandbox, handler) = fixture.runtime.sandbox("u").expect("made");
    assert_eq!((handler.as_str(), sandbox.linux), ("wasm", None));
}

#[tokio::test(start_paused = true)]
async fn a_user_that_may_be_root_is_refused_until_the_image_changes() {
    let spec = json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "web", "image": "linux"}]});
    let fixture = Fixture::new(spec);
    fixture.runtime.make_linux("linux", None);
    let refused = |status: &PodStatus| {
        let waiting = status.container_statuses.first().and_then(|c| c.state.waiting.clone());
        waiting.is_some_and(|w| {
            w.reason == "CreateContainerConfigError"
                && w.message
                    == "container has runAsNonRoot and image will run as root (pod: \"p_ns(u)\", container: web)"
        })
    };
    fixture.until(refused).await;
    fixture.runtime.make_linux("linux", Some(cri::ImageUser::Id(7)));
    fixture.ready().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_linux_container_wrote_last_is_its_message() {
    let container = json!({"name": "web", "image": "linux"});
    let fixture = Fixture::new(json!({"containers": [container], "restartPolicy": "Never"}));
    fixture.runtime.make_linux("linux", None);
    fixture.ready().await;
    let made = fixture.runtime.config("u", "web").expect("made");
    let words = made.mounts.iter().find(|m| m.container_path == "/dev/termination-log");
    std::fs::write(&words.expect("mounted").host_path, "OK").expect("writes");
    fixture.runtime.exit("u", "web", 0);
    let status = fixture.until(|s| s.phase == Phase::Succeeded).await;
    let ended = status.container_statuses[0].state.terminated.clone().expect("ended");
    assert_eq!(ended.message, "OK");
}

#[tokio::test(start_paused = true)]
async fn commands_probe_the_container_and_are_its_hooks() {
    let probe = json!({"exec": {"command": ["cat", "/ready"]}, "periodSeconds": 1});
    let hooks = json!({
        "postStart": {"exec": {"command": ["begin"]}},
        "preStop": {"exec": {"command": ["end"]}},
    });
    let container = json!({"name": "web", "image": "i", "readinessProbe": probe, "lifecycle": hooks});
    let fixture = Fixture::new(json!({"containers": [container]}));
    for command in ["begin", "end"] {
        fixture.runtime.answer(command, 0, "");
    }
    fixture.runtime.answer("cat /ready", 1, "cat: no such file");
    fixture
        .told("Unhealthy Readiness probe failed: cat: no such file")
        .await;
    fixture.runtime.answer("cat /ready", 0, "");
    fixture.ready().await;
    fixture.api.change(|pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-20T11:26:41Z".into();
        pod["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    });
    fixture.until(|s| s.phase.is_terminal()).await;
    let journal = fixture.runtime.journal();
    let at = |what: &str| journal.iter().position(|call| call.starts_with(what)).expect(what);
    assert!(at("start web-u-0") < at("exec begin in web-u-0"), "{journal:?}");
    assert!(at("exec end in web-u-0") < at("stop web-u-0"), "{journal:?}");
}
