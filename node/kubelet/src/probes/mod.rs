//! Liveness, readiness and startup probes: when they run and what their results mean (pure, [`state`]), and the
//! requests and commands themselves.

mod exec;
mod grpc;
mod http;
mod state;
mod tally;
mod tcp;

use std::{net::IpAddr, sync::Arc, time::Duration};

pub(crate) use exec::hook as exec_hook;
pub(crate) use http::get as http_get;
pub(crate) use state::{Kind, Prober, Verdict};
pub(crate) use tally::Tally;

use crate::pod::{Container, Probe};

/// What one run of a probe gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// With the reason as events show it.
    Failure(String),
    /// The probe itself could not run: nothing is known, and nothing counts.
    Error(String),
}

/// The container that is probed, and where.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) runtime: Arc<dyn cri::Runtime>,
    pub(crate) id: cri::ContainerId,
    /// The pod's address.
    pub(crate) ip: Option<IpAddr>,
}

/// Runs a probe once.
pub(crate) async fn run(probe: &Probe, container: &Container, target: &Target) -> Outcome {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.max(1)).unwrap_or(1));
    let (handler, ip) = (&probe.handler, target.ip);
    if let Some(exec) = &handler.exec {
        return exec::probe(&*target.runtime, &target.id, exec, timeout).await;
    }
    if let Some(get) = &handler.http_get {
        return match http_get(get, container, ip, timeout).await {
            Ok(status) if (200..400).contains(&status) => Outcome::Success,
            Ok(status) => Outcome::Failure(format!("HTTP probe failed with statuscode: {status}")),
            Err(why) => Outcome::Failure(why),
        };
    }
    if let Some(socket) = &handler.tcp_socket {
        return match tcp::connect(socket, container, ip, timeout).await {
            Ok(()) => Outcome::Success,
            Err(why) => Outcome::Failure(why),
        };
    }
    match &handler.grpc {
        Some(grpc) => grpc::check(grpc, ip, timeout).await,
        None => Outcome::Failure("missing probe handler".into()),
    }
}
