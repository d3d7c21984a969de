//! SPDY, as clients of `kubectl exec` and the streaming servers of runtimes speak it.

use bytes::BytesMut;
use streaming::spdy::{Decoder, Encoder, Event};

/// The events of some bytes, those of one data frame joined; and whether they end in an error.
fn events(input: &[u8], piece: usize) -> (Vec<Event>, bool) {
    let (mut decoder, mut buffer, mut events) = (Decoder::default(), BytesMut::new(), Vec::<Event>::new());
    for bytes in input.chunks(piece) {
        buffer.extend_from_slice(bytes);
        loop {
            match decoder.next(&mut buffer) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(_) => return (join(events), true),
            }
        }
    }
    (join(events), false)
}

fn join(events: Vec<Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (
                Some(Event::Data {
                    stream: last,
                    bytes: before,
                    fin: done @ false,
                }),
                Event::Data { stream, bytes, fin },
            ) if *last == stream => {
                *before = [&before[..], &bytes[..]].concat().into();
                *done = fin;
            }
            (_, event) => joined.push(event),
        }
    }
    joined
}

/// However the bytes arrive, the frames are the same; what was read can be written, and is read as the same again.
pub fn spdy(input: &[u8]) {
    let (whole, failed) = events(input, usize::MAX);
    assert_eq!((whole.clone(), failed), events(input, 3));
    let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
    let mut written = Vec::new();
    for event in whole {
        match &event {
            Event::Frame(streaming::spdy::Frame::Unknown(_)) => continue,
            Event::Frame(frame) => encoder.control(frame, &mut wire),
            Event::Data { stream, bytes, fin } => encoder.data(*stream, bytes, *fin, &mut wire),
        }
        written.push(event);
    }
    let again = events(&wire, usize::MAX);
    let lowered = |events: Vec<Event>| -> Vec<String> {
        // Names travel in lower case.
        join(events)
            .iter()
            .map(|event| format!("{event:?}").to_lowercase())
            .collect()
    };
    assert_eq!((lowered(again.0), again.1), (lowered(written), false));
}
