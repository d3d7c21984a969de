//! postStart and preStop hooks: commands, HTTP requests and sleeps.

use std::time::Duration;

use crate::{
    pod::{Container, Handler},
    probes::{self, Target},
};

/// How long an HTTP hook may take to answer.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a hook of a container; a command for `longest` at most.
///
/// # Errors
/// Why the hook failed, in words for an event.
pub(super) async fn run(
    hook: &Handler,
    container: &Container,
    target: &Target,
    longest: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return probes::exec_hook(&*target.runtime, &target.id, exec, longest).await;
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    if let Some(get) = &hook.http_get {
        return match probes::http_get(get, container, target.ip, HTTP_TIMEOUT).await {
            Ok(_status) => Ok(()),
            Err(why) => Err(why),
        };
    }
    Err("invalid handler: no action is set that is supported".into())
}
