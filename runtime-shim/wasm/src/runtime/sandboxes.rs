//! Making, stopping and removing sandboxes.
//!
//! A sandbox's address is written down by its host before the host answers; until then it is pending here. So a process
//! that ends in between leaves either a record with the address or neither.

use std::sync::Arc;

use cri::{Error, Sandbox, SandboxConfig, SandboxId, SandboxState};

use super::{
    Runtime,
    containers::remove_views,
    directory::Place,
    errors::from_call,
    hosts::Host,
    link::{CallError, PATIENCE},
    model::{Creation, HostId, Model, NetworkError, Pending},
};
use crate::protocol::{Answer, Call, Network, RunSandbox};

/// The handlers of RuntimeClasses that this runtime is.
pub(super) const HANDLERS: [&str; 2] = ["", "wasm"];

impl Runtime {
    pub(super) async fn run(&self, config: SandboxConfig, handler: &str) -> Result<Sandbox, Error> {
        if !HANDLERS.contains(&handler) {
            return Err(Error::InvalidConfig {
                message: format!("no runtime for \"{handler}\" is configured"),
            });
        }
        let creation = self.shared.model.lock().begin_sandbox(
            &config,
            || SandboxId(format!("wasm-{}", uuid::Uuid::new_v4().simple())),
            |model| self.network(&config, model),
        )?;
        let pending = match creation {
            Creation::Exists(sandbox) => return Ok(sandbox),
            Creation::Make(pending) => pending,
        };
        let result = self.run_pending(config.clone(), handler, pending).await;
        if result.is_err() {
            // Unless the record has arrived all the same.
            self.shared.model.lock().abandon_sandbox(&config, self.shared.uptime());
        }
        result
    }

    fn network(&self, config: &SandboxConfig, model: &mut Model) -> Result<Network, NetworkError> {
        // In a namespace of another's, all of the network is the pod's.
        if config.host_network || config.join.is_some() {
            return Ok(Network::Node);
        }
        let (address, loopback) = model.take_addresses(self.shared.uptime())?;
        let dialable = self.shared.config.dialable_loopback.iter().copied();
        Ok(Network::Pod {
            address,
            loopback,
            dialable_loopback: dialable.chain(model.loopback_pods()).collect(),
        })
    }

    async fn run_pending(&self, config: SandboxConfig, handler: &str, pending: Pending) -> Result<Sandbox, Error> {
        let host = self.hosts.for_pod(&config.namespace, Place::of(&config)).await?;
        let doing = format!("creating a sandbox for pod \"{}/{}\"", config.namespace, config.name);
        let Pending { id, network } = pending;
        let (handler, created_at) = (handler.to_owned(), self.shared.now());
        let call = Call::RunSandbox(Box::new(RunSandbox {
            id,
            config,
            handler,
            network,
            created_at,
        }));
        match host.link().call(call, Vec::new(), PATIENCE).await {
            Ok(Answer::Sandbox(record)) => Ok(record.sandbox),
            Ok(_) => Err(from_call(doing, CallError::Unfitting)),
            Err(error) => Err(from_call(doing, error)),
        }
    }

    pub(super) async fn stop(&self, id: &SandboxId) -> Result<(), Error> {
        let Some((host, state)) = self.holder(id) else {
            return Ok(());
        };
        if state == SandboxState::NotReady {
            return Ok(());
        }
        let call = Call::StopSandbox { sandbox: id.clone() };
        self.order_sandbox(&host, id, "stopping", call).await
    }

    pub(super) async fn remove(&self, id: &SandboxId) -> Result<(), Error> {
        let Some((host, _)) = self.holder(id) else {
            return Ok(());
        };
        let call = Call::RemoveSandbox { sandbox: id.clone() };
        self.order_sandbox(&host, id, "removing", call).await?;
        if let Some(host) = self.hosts.get(&host) {
            remove_views(&host.all_views(id));
            if host.file.place.is_joined() {
                // Nobody else comes to it, and it holds the pod's namespace.
                self.hosts.retire(&host).await;
            }
        }
        let forgotten = self.hosts.forget_sandbox(&host, id);
        forgotten.map_err(|error| Error::failed(format!("removing sandbox \"{id}\""), error))
    }

    fn holder(&self, id: &SandboxId) -> Option<(HostId, SandboxState)> {
        let model = self.shared.model.lock();
        model.sandbox(id).map(|held| (held.host, held.record.sandbox.state))
    }

    /// Orders it of the host that holds the sandbox; a host that has ended has stopped everything already.
    async fn order_sandbox(&self, host: &HostId, id: &SandboxId, doing: &str, call: Call) -> Result<(), Error> {
        let Some(host) = self.hosts.get(host) else {
            return Ok(());
        };
        let result = host.link().order(call, Vec::new(), PATIENCE).await;
        result.map_err(|error| from_call(format!("{doing} sandbox \"{id}\""), error))
    }

    /// The host of a sandbox that can hold running containers.
    pub(super) fn ready_host(&self, id: &SandboxId) -> Result<(Arc<Host>, SandboxConfig), Error> {
        let not_found = || Error::NotFound {
            what: "sandbox",
            id: id.to_string(),
        };
        let (host, sandbox) = {
            let model = self.shared.model.lock();
            let held = model.sandbox(id).ok_or_else(not_found)?;
            (held.host, held.record.sandbox)
        };
        match self.hosts.get(&host) {
            Some(host) if sandbox.state == SandboxState::Ready => Ok((host, sandbox.config)),
            _ => Err(Error::Start {
                reason: format!("sandbox \"{id}\" is not ready"),
            }),
        }
    }
}
