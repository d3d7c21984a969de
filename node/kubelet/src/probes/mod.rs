//! Liveness, readiness and startup probes: when they run and what their results mean (pure, [`state`]), and the
//! requests themselves.
//!
//! Deliberately absent: `exec` probes, which Wasm containers do not offer yet, and `grpc` probes; such a probe fails and
//! says so.

mod http;
mod state;
mod tcp;

use std::{net::IpAddr, time::Duration};

pub(crate) use http::get as http_get;
pub(crate) use state::{Kind, Prober, Verdict};

use crate::pod::{Container, Probe};

/// What one run of a probe gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    /// With the reason as events show it.
    Failure(String),
}

/// Runs a probe once.
pub(crate) async fn run(probe: &Probe, container: &Container, ip: Option<IpAddr>) -> Outcome {
    let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.max(1)).unwrap_or(1));
    let handler = &probe.handler;
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
    let kind = if handler.exec.is_some() { "exec" } else { "grpc" };
    Outcome::Failure(format!("{kind} probes are not supported for this container"))
}
