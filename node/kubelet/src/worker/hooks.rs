//! postStart and preStop hooks: HTTP requests and sleeps.
//!
//! Deliberately absent: `exec`, which Wasm containers do not offer yet; such a hook fails and says so.

use std::{net::IpAddr, time::Duration};

use crate::{
    pod::{Container, Handler},
    probes,
};

/// How long an HTTP hook may take to answer.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a hook of a container whose pod has this address.
///
/// # Errors
/// Why the hook failed, in words for an event.
pub(super) async fn run(hook: &Handler, container: &Container, ip: Option<IpAddr>) -> Result<(), String> {
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    if let Some(get) = &hook.http_get {
        return match probes::http_get(get, container, ip, HTTP_TIMEOUT).await {
            Ok(_status) => Ok(()),
            Err(why) => Err(why),
        };
    }
    if hook.exec.is_some() {
        return Err("exec hooks are not supported for this container".into());
    }
    Err("invalid handler: no action is set that is supported".into())
}
