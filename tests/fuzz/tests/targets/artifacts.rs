//! Wasm binaries as they come from a registry, and what the process that compiles them answers.

use wasm::{inspect, protocol::compiled};

pub fn wasm(input: &[u8]) {
    if let Err(refusal) = inspect(input) {
        drop(refusal.to_string());
    }
}

pub fn compiled(input: &[u8]) {
    let mut code = Vec::new();
    if let Ok(outcome) = compiled::read(input, &mut code) {
        let mut written = Vec::new();
        compiled::write(&mut written, &outcome, &code).expect("memory takes everything");
        let mut again = Vec::new();
        let read = compiled::read(&written[..], &mut again).expect("what was written can be read");
        assert_eq!((format!("{read:?}"), again), (format!("{outcome:?}"), code));
    }
}
