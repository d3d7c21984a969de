//! How a guest's end is told: exit code, reason and message as the pod's status shows them.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::memory::Refused;

/// As after `SIGKILL`: the limit, or the grace period, was passed.
const KILLED: i32 = 137;
/// As after `SIGTERM`: asked to end, it did.
const TERMINATED: i32 = 143;
/// As after `SIGABRT`, which is what toolchains turn a trap into.
const ABORTED: i32 = 134;
/// Frames of a trap that are shown.
const FRAMES: usize = 6;

/// The end of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    /// CamelCase.
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Exit {
    /// It ended by itself.
    pub(crate) fn with_code(code: i32) -> Self {
        Self {
            code,
            reason: if code == 0 { "Completed" } else { "Error" },
            message: String::new(),
        }
    }

    /// It was asked to end, and did.
    pub(crate) fn stopped() -> Self {
        Self::with_code(TERMINATED)
    }

    /// A service was asked to end, and has answered what had been asked of it.
    pub(crate) fn drained() -> Self {
        Self::with_code(0)
    }

    /// The grace period was too short for it.
    pub(crate) fn killed() -> Self {
        Self::with_code(KILLED)
    }

    /// The host could not go on with it.
    pub(crate) fn failed(message: String) -> Self {
        Self {
            code: 1,
            reason: "Error",
            message,
        }
    }

    /// Its program failed with an error.
    pub(crate) fn of_error(error: &wasmtime::Error, refused: Option<Refused>, limit: Option<u64>) -> Self {
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return Self::with_code(exit.0);
        }
        if refused.is_some() {
            let limit = match limit {
                Some(limit) => format!("its memory limit of {limit} bytes"),
                None => "the 4 GiB that a Wasm memory can have".to_owned(),
            };
            let message = format!("the guest reached {limit} and could not go on: {}", describe(error));
            return Self {
                code: KILLED,
                reason: "OOMKilled",
                message,
            };
        }
        let reason = if error.downcast_ref::<Trap>().is_some() {
            "Trap"
        } else {
            "Error"
        };
        Self {
            code: ABORTED,
            reason,
            message: describe(error),
        }
    }
}

/// The cause and the innermost frames, e.g. `wasm trap: integer divide by zero, in hello!handle < hello!main`.
pub(crate) fn describe(error: &wasmtime::Error) -> String {
    let cause = match error.downcast_ref::<Trap>() {
        Some(trap) => format!("wasm trap: {}", trap.to_string().trim_start_matches("wasm trap: ")),
        None => error.root_cause().to_string(),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(frames).unwrap_or_default();
    if frames.is_empty() {
        cause
    } else {
        format!("{cause}, in {}", frames.join(" < "))
    }
}

fn frames(trace: &WasmBacktrace) -> Vec<String> {
    let name = |frame: &wasmtime::FrameInfo| match frame.func_name() {
        Some(name) => name.to_owned(),
        None => format!("function {}", frame.func_index()),
    };
    let mut frames: Vec<_> = trace.frames().iter().take(FRAMES).map(name).collect();
    let rest = trace.frames().len().saturating_sub(FRAMES);
    if rest > 0 {
        frames.push(format!("{rest} more"));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_survive() {
        let error = wasmtime::Error::from(I32Exit(3));
        assert_eq!(Exit::of_error(&error, None, None), Exit::with_code(3));
    }

    #[test]
    fn a_trap_after_refused_memory_is_an_oom_kill() {
        let error = wasmtime::Error::from(Trap::UnreachableCodeReached);
        let exit = Exit::of_error(&error, Some(Refused::Alone), Some(65536));
        assert_eq!((exit.code, exit.reason), (137, "OOMKilled"));
        assert!(exit.message.contains("65536"), "{}", exit.message);
    }

    #[test]
    fn a_trap_is_named_in_words() {
        let exit = Exit::of_error(&wasmtime::Error::from(Trap::IntegerDivisionByZero), None, None);
        assert_eq!((exit.code, exit.reason), (134, "Trap"));
        assert_eq!(exit.message, "wasm trap: integer divide by zero");
    }
}
