//! What the agent and its sandbox hosts say to each other.

use serde::{Serialize, de::DeserializeOwned};
use wasm::protocol::{FromHost, ToHost, frame};

/// Frames come out the same however the bytes arrive.
pub fn frames(input: &[u8]) {
    let whole = cut(&[input]);
    let bytewise: Vec<&[u8]> = input.chunks(3).collect();
    assert_eq!(whole, cut(&bytewise));
}

fn cut(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<frame::FrameError>) {
    let (mut decoder, mut payloads) = (frame::Decoder::<()>::default(), Vec::new());
    for piece in pieces {
        if let Err(error) = decoder.push(piece, std::iter::empty()) {
            return (payloads, Some(error));
        }
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => payloads.push(frame.payload.to_vec()),
                Ok(None) => break,
                Err(error) => return (payloads, Some(error)),
            }
        }
    }
    (payloads, None)
}

/// A message that was read is written and read as the same.
fn stable<M: Serialize + DeserializeOwned + std::fmt::Debug>(input: &[u8]) {
    let Ok(message) = serde_json::from_slice::<M>(input) else {
        return;
    };
    let text = serde_json::to_vec(&message).expect("a message can be written");
    let again: M = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(format!("{again:?}"), format!("{message:?}"));
}

pub fn requests(input: &[u8]) {
    stable::<ToHost>(input);
}

pub fn answers(input: &[u8]) {
    stable::<FromHost>(input);
}
