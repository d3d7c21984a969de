//! Commands of probes and hooks, run in the container itself.

use std::time::Duration;

use cri::ContainerId;

use super::Outcome;
use crate::pod::Exec;

/// As much of a command's output as events show.
const SHOWN: usize = 10 << 10;

/// What both streams said.
fn said(output: &cri::ExecOutput) -> String {
    let bytes = [&*output.stdout, &*output.stderr].concat();
    let shown = bytes.get(..SHOWN).unwrap_or(&bytes);
    String::from_utf8_lossy(shown).into_owned()
}

/// Runs a probe's command.
pub(super) async fn probe(runtime: &dyn cri::Runtime, id: &ContainerId, exec: &Exec, timeout: Duration) -> Outcome {
    match runtime.exec_sync(id, exec.command.clone(), timeout).await {
        Ok(output) if output.exit_code == 0 => Outcome::Success,
        Ok(output) => Outcome::Failure(said(&output)),
        Err(cri::Error::Timeout { .. }) => Outcome::Failure(format!(
            "command timed out: {:?} timed out after {}s",
            exec.command.join(" "),
            timeout.as_secs()
        )),
        // What can never succeed must not pass for a probe that found nothing wrong.
        Err(error @ cri::Error::Unsupported { .. }) => Outcome::Failure(error.chain()),
        Err(error) => Outcome::Error(error.chain()),
    }
}

/// Runs a hook's command.
///
/// # Errors
/// Why the hook failed, in words for an event.
pub(crate) async fn hook(
    runtime: &dyn cri::Runtime,
    id: &ContainerId,
    exec: &Exec,
    timeout: Duration,
) -> Result<(), String> {
    match runtime.exec_sync(id, exec.command.clone(), timeout).await {
        Ok(output) if output.exit_code == 0 => Ok(()),
        Ok(output) => Err(format!(
            "command '{}' exited with {}: {}",
            exec.command.join(" "),
            output.exit_code,
            said(&output)
        )),
        Err(error) => Err(format!("command '{}': {}", exec.command.join(" "), error.chain())),
    }
}
