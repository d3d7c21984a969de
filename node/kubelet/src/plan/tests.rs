//! A pod's life played through by the plan alone: a model of the runtime obeys the actions, the test moves time and lets
//! containers end.

mod laws;
mod lifecycle;

use cri::{ContainerState, SandboxId};
use jiff::SignedDuration;
use serde_json::Value;

use super::*;
use crate::{
    observed::{self, Observed},
    status::{Phase, State},
};

/// A pod, its runtime and its worker's memory.
pub(super) struct Sim {
    pub(super) pod: Pod,
    pub(super) observed: Observed,
    pub(super) memory: Memory,
    pub(super) reported: PodStatus,
    pub(super) now: Timestamp,
    /// The node's pod network stands.
    pub(super) network: bool,
    /// Every action taken, in short words.
    pub(super) journal: Vec<String>,
    /// Containers that do not end when they are stopped, until the test ends them.
    pub(super) stubborn: bool,
    /// What starting a container of this name fails with.
    pub(super) failing: Option<(String, Reason)>,
    /// What each sandbox was to hold.
    pub(super) contents: Vec<cri::Content>,
}

impl Sim {
    pub(super) fn new(spec: Value) -> Self {
        let now = Timestamp::from_second(1_000_000).expect("in range");
        let metadata = serde_json::json!({"name": "p", "namespace": "ns", "uid": "u", "generation": 1});
        let pod = serde_json::json!({"metadata": metadata, "spec": spec});
        Self {
            pod: serde_json::from_value(pod).expect("pod"),
            observed: Observed::default(),
            memory: Memory {
                first_seen: now,
                ..Memory::default()
            },
            reported: PodStatus::default(),
            now,
            network: true,
            journal: Vec::new(),
            stubborn: false,
            failing: None,
            contents: Vec::new(),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        let node = NodeFacts {
            host_ips: vec!["10.0.0.1".parse().expect("ip")],
            runtime: "fake".into(),
            platform: crate::make::Platform::default(),
        };
        plan(&Input {
            pod: &self.pod,
            observed: &self.observed,
            memory: &self.memory,
            reported: &self.reported,
            node: &node,
            network: self.network,
            now: self.now,
        })
    }

    /// Plans and obeys until the plan asks for nothing more. Every step is reported.
    pub(super) fn settle(&mut self) -> Plan {
        for _ in 0..100 {
            let plan = self.plan();
            self.reported = plan.status.clone();
            if plan.ending {
                self.memory.ending_since = self.memory.ending_since.or(Some(self.now));
            }
            if plan.actions.is_empty() {
                return plan;
            }
            for action in plan.actions {
                self.obey(action);
            }
        }
        panic!("the plan never comes to rest: {:#?}", self.journal);
    }

    /// Lets time pass until the plan wants to look again, and settles.
    pub(super) fn sleep(&mut self) -> SignedDuration {
        let plan = self.plan();
        let wake = plan.wake.expect("the plan waits for something");
        let slept = wake.duration_since(self.now);
        self.now = wake;
        self.settle();
        slept
    }

    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.settle();
    }

    pub(super) fn obey(&mut self, action: Action) {
        let key = action.key();
        self.memory.ops.begin(key.clone());
        match action {
            Action::MountVolumes => self.memory.volumes = Volumes::Ready,
            Action::UnmountVolumes => self.memory.volumes = Volumes::Removed,
            Action::Pull { name } => {
                let failing = self.failing.clone().filter(|(failing, reason)| {
                    *failing == name && matches!(reason, Reason::ErrImagePull | Reason::InvalidImageName)
                });
                if let Some((_, reason)) = failing {
                    self.journal.push(format!("fail {name}"));
                    self.memory.ops.failed(&key, reason, "because".into(), self.now);
                    return;
                }
                let content = match name.starts_with("linux") {
                    true => cri::Content::Linux,
                    false => cri::Content::Wasm,
                };
                self.memory.images.insert(name, Resolved { content, image: None });
            }
            Action::RunSandbox { attempt, content } => {
                self.run_sandbox(attempt);
                self.contents.push(content);
            }
            Action::Start {
                name,
                attempt,
                sandbox,
                crash,
            } => {
                if crash.is_some() {
                    self.memory.containers.entry(name.clone()).or_default().crash = crash;
                }
                if let Some((_, reason)) = self.failing.clone().filter(|(failing, _)| *failing == name) {
                    self.journal.push(format!("fail {name}"));
                    self.memory.ops.failed(&key, reason, "because".into(), self.now);
                    return;
                }
                self.start(&name, attempt, &sandbox);
            }
            Action::Stop { name, id, grace, .. } => {
                self.journal.push(format!("stop {name} in {grace}"));
                let until = self.now + SignedDuration::from_secs(grace);
                self.memory.health_mut(&name, &id).stopping_until = Some(until);
                if self.stubborn {
                    return;
                }
                self.exit(&name, 143);
            }
            Action::Resize { name, id, limits } => {
                self.journal.push(format!("resize {name}"));
                self.memory.health_mut(&name, &id).limits = Some(limits);
            }
            Action::StopSandbox { id } => {
                self.journal.push(format!("stop {id}"));
                self.observed
                    .sandboxes
                    .iter_mut()
                    .filter(|s| s.id == id)
                    .for_each(|s| s.ready = false);
                let inside: Vec<String> = self
                    .observed
                    .containers
                    .iter()
                    .filter(|c| c.sandbox == id)
                    .map(|c| c.name.clone())
                    .collect();
                inside.iter().for_each(|name| self.exit(name, 137));
                self.memory.stopped.insert(id);
            }
            Action::RemoveContainer { id, name, attempt } => {
                self.journal.push(format!("remove {name}/{attempt}"));
                self.observed.containers.retain(|c| c.id != id);
            }
            Action::RemoveSandbox { id } => {
                self.journal.push(format!("remove {id}"));
                self.observed.sandboxes.retain(|s| s.id != id);
                self.observed.containers.retain(|c| c.sandbox != id);
            }
            Action::Finish => {
                self.journal.push("finish".into());
                self.memory.finished = true;
            }
            Action::Purge => {
                self.journal.push("purge".into());
                self.memory.purged = true;
            }
        }
        self.memory.ops.succeeded(&key);
    }

    fn run_sandbox(&mut self, attempt: u32) {
        let id = SandboxId(format!("s{attempt}"));
        self.journal.push(format!("run {id}"));
        self.observed.sandboxes.push(observed::Sandbox {
            id,
            attempt,
            ready: true,
            ips: vec![format!("10.128.0.{}", attempt + 2).parse().expect("ip")],
            grace: None,
            log_directory: String::new(),
        });
    }

    fn start(&mut self, name: &str, attempt: u32, sandbox: &SandboxId) {
        self.journal.push(format!("start {name}/{attempt}"));
        self.observed
            .containers
            .retain(|c| !(c.name == name && c.attempt == attempt));
        self.observed.containers.push(observed::Container {
            id: ContainerId(format!("{name}-{attempt}")),
            sandbox: sandbox.clone(),
            name: name.into(),
            attempt,
            image: "i".into(),
            image_id: "sha256:i".into(),
            user: None,
            limits: resources::for_runtime(
                self.pod
                    .container(name)
                    .map(|(_, c)| c)
                    .unwrap_or(&Container::default()),
            ),
            state: ContainerState::Running,
            started_at: Some(self.now),
            finished_at: None,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            log_path: String::new(),
        });
        self.observed.containers.sort_by_key(|c| c.attempt);
    }

    /// The running container of this name ends.
    pub(super) fn exit(&mut self, name: &str, code: i32) {
        let now = self.now;
        for container in self
            .observed
            .containers
            .iter_mut()
            .filter(|c| c.name == name && c.state == ContainerState::Running)
        {
            container.state = ContainerState::Exited;
            container.exit_code = code;
            container.finished_at = Some(now);
        }
    }

    /// A probe's verdict about the running container of this name.
    pub(super) fn probed(&mut self, name: &str, set: impl FnOnce(&mut memory::Health)) {
        let id = self.observed.latest(name).expect("observed").id.clone();
        set(self.memory.health_mut(name, &id));
    }

    pub(super) fn delete(&mut self, grace: i64) {
        self.pod.metadata.deletion_timestamp = Some(self.now);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace);
    }

    /// The journal since the last call.
    pub(super) fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.journal)
    }

    pub(super) fn phase(&self) -> Phase {
        self.reported.phase
    }

    pub(super) fn state(&self, name: &str) -> &State {
        &self.reported.container(name).expect("status").state
    }

    pub(super) fn restarts(&self, name: &str) -> u32 {
        self.reported.container(name).expect("status").restart_count
    }

    pub(super) fn waiting(&self, name: &str) -> (&str, &str) {
        let waiting = self.state(name).waiting.as_ref().expect("waits");
        (&waiting.reason, &waiting.message)
    }

    pub(super) fn condition(&self, kind: &str) -> (&str, &str, &str) {
        let condition = self.reported.condition(kind).expect("condition");
        (&condition.status, &condition.reason, &condition.message)
    }
}
