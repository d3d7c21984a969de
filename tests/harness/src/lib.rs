//! A whole cluster in one process, for tests: the real API server, controllers, scheduler and kubelets, over a store and
//! container runtimes in memory.
//!
//! Run on one thread with a paused clock and under [`entropy::seeded`], what a cluster does is a function of its seed.
//! [`weather`] says what fails. Every component can be killed and started again. Deliberately absent: sockets between the
//! components, the packet filter, and disks other than the kubelets' directories.

pub mod api;
pub mod entropy;
mod link;
pub mod node;
mod part;
pub mod store;
pub mod weather;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use client::{Client, Clock, Informers};
use jiff::{SignedDuration, Timestamp};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{api::Api, node::Node, part::Part, store::Weathered, weather::Weather};

/// When test clusters begin: 2026-01-01T00:00:00Z.
const BEGIN: i64 = 1_767_225_600;

/// The cluster.
pub struct Cluster {
    pub api: Arc<Api>,
    pub nodes: Vec<Node>,
    pub weather: Arc<Weather>,
    pub store: Weathered,
    clock: Clock,
    /// Seconds by which the wall clock is ahead of the time that has passed.
    ahead: Arc<AtomicI64>,
    controllers: Option<Part>,
    scheduler: Option<Part>,
}

impl Cluster {
    /// Starts a cluster with `nodes` nodes in fair weather, and returns when the API answers.
    pub async fn start(seed: u64, nodes: u8) -> Self {
        let (weather, ahead) = (Arc::new(Weather::new(seed)), Arc::new(AtomicI64::new(0)));
        let clock = wall_clock(ahead.clone());
        let store = Weathered::new(weather.clone());
        let mut cluster = Self {
            api: Api::new(store.clone(), clock.clone(), weather.clone()),
            nodes: (1..=nodes).map(|number| Node::new(number, &clock)).collect(),
            weather,
            store,
            clock,
            ahead,
            controllers: None,
            scheduler: None,
        };
        cluster.start_all().await;
        cluster
    }

    /// Starts whatever does not run.
    pub async fn start_all(&mut self) {
        while !self.api.start().await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.start_controllers();
        self.start_scheduler();
        for node in &mut self.nodes {
            node.start(&self.api, &self.clock);
        }
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Starts the kubelet of the node at `index`, unless it runs.
    pub fn start_node(&mut self, index: usize) {
        let node = self.nodes.get_mut(index).expect("such a node");
        node.start(&self.api, &self.clock);
    }

    /// Starts the controllers, unless they run.
    pub fn start_controllers(&mut self) {
        let (api, clock) = (self.api.clone(), self.clock.clone());
        self.controllers.get_or_insert_with(|| {
            let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
            let reader = api.client("system:kube-controller-manager", &[]);
            let informers = Informers::new(reader, tasks.clone(), quit.clone());
            let config = controllers::Config {
                cluster_range: "10.128.0.0/9".parse().expect("a range"),
                node_prefix: 24,
                root_ca: api::AUTHORITY.to_owned(),
                authority: None,
                own_node: None,
                clock,
            };
            let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
            let make_client = move |user: &str| api.client(user, &groups);
            tasks.spawn(controllers::run_all(make_client, informers, config, quit.clone()));
            Part { tasks, quit }
        });
    }

    /// Ends the controllers at whatever they are doing.
    pub async fn crash_controllers(&mut self) {
        if let Some(part) = self.controllers.take() {
            part.end().await;
        }
    }

    /// Starts the scheduler, unless it runs.
    pub fn start_scheduler(&mut self) {
        let (api, clock) = (self.api.clone(), self.clock.clone());
        self.scheduler.get_or_insert_with(|| {
            let (tasks, quit) = (TaskTracker::new(), CancellationToken::new());
            let client: Client = api.client("system:kube-scheduler", &[]);
            let config = scheduler::Config {
                informers: Informers::new(client.clone(), tasks.clone(), quit.clone()),
                client,
                scheduler_name: scheduler::DEFAULT_SCHEDULER.to_owned(),
                clock,
            };
            tasks.spawn(scheduler::run(config, quit.clone()));
            Part { tasks, quit }
        });
    }

    /// Ends the scheduler at whatever it is doing.
    pub async fn crash_scheduler(&mut self) {
        if let Some(part) = self.scheduler.take() {
            part.end().await;
        }
    }
}

fn wall_clock(ahead: Arc<AtomicI64>) -> Clock {
    let passed = Clock::anchored(Timestamp::from_second(BEGIN).expect("a time"));
    Clock::new(move || {
        let ahead = SignedDuration::from_secs(ahead.load(Ordering::Relaxed));
        passed.now().saturating_add(ahead).expect("a span of seconds")
    })
}
