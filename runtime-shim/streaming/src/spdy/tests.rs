//! Frames survive the wire in whatever pieces they come; connections keep their streams apart.

use std::time::Duration;

use bytes::BytesMut;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{Decoder, Encoder, Error, Event, Frame, Headers, Incoming, Setting, client, server};

const IDLE: Duration = Duration::from_secs(60);

fn headers() -> impl Strategy<Value = Headers> {
    prop::collection::vec(("[a-z-]{1,12}", "[ -~]{0,40}"), 0..6).prop_map(Headers)
}

fn event() -> impl Strategy<Value = Event> {
    let id = 1_u32..0x8000_0000;
    let setting =
        (any::<u8>(), 0_u32..0x100_0000, any::<u32>()).prop_map(|(flags, id, value)| Setting { flags, id, value });
    let frame = prop_oneof![
        (id.clone(), headers(), any::<bool>(), any::<bool>()).prop_map(|(stream, headers, fin, unidirectional)| {
            Frame::SynStream {
                stream,
                headers,
                fin,
                unidirectional,
            }
        }),
        (id.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynReply {
            stream,
            headers,
            fin
        }),
        (id.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::Headers {
            stream,
            headers,
            fin
        }),
        (id.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
        (id.clone(), any::<u32>()).prop_map(|(last_stream, status)| Frame::GoAway { last_stream, status }),
        (id.clone(), 0_u32..0x8000_0000).prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
        any::<u32>().prop_map(Frame::Ping),
        prop::collection::vec(setting, 0..4).prop_map(Frame::Settings),
    ];
    prop_oneof![
        frame.prop_map(Event::Frame),
        (id, prop::collection::vec(any::<u8>(), 0..300), any::<bool>()).prop_map(|(stream, bytes, fin)| Event::Data {
            stream,
            bytes: bytes.into(),
            fin
        }),
    ]
}

fn encode(events: &[Event]) -> BytesMut {
    let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
    for event in events {
        match event {
            Event::Frame(frame) => encoder.control(frame, &mut wire),
            Event::Data { stream, bytes, fin } => encoder.data(*stream, bytes, *fin, &mut wire),
        }
    }
    wire
}

/// Decodes what comes in pieces of one size; pieces of one data frame are joined again.
fn decode(wire: &[u8], piece: usize) -> Vec<Event> {
    let (mut decoder, mut buffer, mut events) = (Decoder::default(), BytesMut::new(), Vec::new());
    let mut joined: Option<(u32, Vec<u8>, usize)> = None;
    for bytes in wire.chunks(piece) {
        buffer.extend_from_slice(bytes);
        while let Some(event) = decoder.next(&mut buffer).expect("good frames") {
            match event {
                Event::Data { stream, bytes, fin } => {
                    let (_, all, _) = joined.get_or_insert((stream, Vec::new(), 0));
                    all.extend_from_slice(&bytes);
                    if decoder.between_frames() {
                        let (stream, all, _) = joined.take().expect("data");
                        events.push(Event::Data {
                            stream,
                            bytes: all.into(),
                            fin,
                        });
                    }
                }
                frame => events.push(frame),
            }
        }
    }
    events
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(events in prop::collection::vec(event(), 0..12), piece in 1_usize..400) {
        prop_assert_eq!(decode(&encode(&events), piece), events);
    }

    #[test]
    fn bytes_of_any_kind_do_no_harm(wire in prop::collection::vec(any::<u8>(), 0..600), control in any::<bool>()) {
        let mut buffer = BytesMut::from(&wire[..]);
        if control && buffer.len() > 8 {
            buffer[0] = 0x80;
            buffer[1] = 3;
            buffer[2] = 0;
            buffer[3] %= 10;
            buffer[5] = 0;
        }
        let mut decoder = Decoder::default();
        while let Ok(Some(_)) = decoder.next(&mut buffer) {}
    }
}

#[test]
fn refuses_what_is_not_spdy() {
    let cases: [(&str, &[u8]); 4] = [
        ("another version", &[0x80, 2, 0, 1, 0, 0, 0, 0]),
        ("data of no stream", &[0, 0, 0, 0, 0, 0, 0, 0]),
        ("a frame too large", &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff]),
        ("a frame cut short", &[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1]),
    ];
    for (name, bytes) in cases {
        let result = Decoder::default().next(&mut BytesMut::from(bytes));
        assert!(matches!(result, Err(Error::Protocol(_))), "{name}: {result:?}");
    }
}

fn stream_type(name: &str) -> Vec<(String, String)> {
    vec![("streamType".to_owned(), name.to_owned())]
}

async fn echo(mut incoming: Incoming) {
    let mut echoes = tokio::task::JoinSet::new();
    while let Some((_, stream)) = incoming.next().await {
        echoes.spawn(async move {
            let (mut from, mut to) = tokio::io::split(stream);
            if tokio::io::copy(&mut from, &mut to).await.is_ok() {
                let _ = to.shutdown().await;
            }
        });
    }
    echoes.join_all().await;
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let (near, far) = duplex(10_000);
    let (driver, opener) = client(near, IDLE);
    let (serving, incoming) = server(far, IDLE);
    let serving = tokio::spawn(serving.run());
    let driving = tokio::spawn(driver.run());
    let echoing = tokio::spawn(echo(incoming));
    let mut streams = tokio::task::JoinSet::new();
    for index in 0..200_u32 {
        let stream = opener.open(stream_type("data")).await.expect("a stream");
        streams.spawn(async move {
            let said: Vec<u8> = index.to_be_bytes().repeat(20_000);
            let (mut from, mut to) = tokio::io::split(stream);
            let mut heard = Vec::new();
            let send = async {
                to.write_all(&said).await.expect("room");
                to.shutdown().await.expect("an end");
            };
            let (_, read) = tokio::join!(send, from.read_to_end(&mut heard));
            read.expect("an echo");
            assert!(heard == said, "stream {index} heard another");
        });
    }
    while let Some(result) = streams.join_next().await {
        result.expect("an echo");
    }
    drop(opener);
    driving.await.expect("no panic").expect("a farewell");
    serving.await.expect("no panic").expect("a farewell");
    echoing.await.expect("no panic");
}

#[tokio::test]
async fn a_dropped_stream_breaks_at_the_other_side() {
    let (near, far) = duplex(10_000);
    let (driver, opener) = client(near, IDLE);
    let (serving, mut incoming) = server(far, IDLE);
    tokio::spawn(serving.run());
    tokio::spawn(driver.run());
    let first = opener.open(stream_type("data")).await.expect("a stream");
    let (headers, mut accepted) = incoming.next().await.expect("a stream");
    assert_eq!(headers.get("StreamType"), Some("data"));
    drop(first);
    let error = accepted.read_u8().await.expect_err("broken");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(
        accepted.write_all(b"x").await.expect_err("broken").kind(),
        std::io::ErrorKind::BrokenPipe
    );
    let mut second = opener.open(stream_type("data")).await.expect("the connection goes on");
    let (_, mut accepted) = incoming.next().await.expect("a stream");
    second.write_all(b"hello").await.expect("room");
    second.shutdown().await.expect("an end");
    let mut heard = String::new();
    accepted.read_to_string(&mut heard).await.expect("text");
    assert_eq!(heard, "hello");
}

#[tokio::test]
async fn a_connection_that_goes_breaks_its_streams() {
    let (near, far) = duplex(10_000);
    let (driver, opener) = client(near, IDLE);
    let (serving, mut incoming) = server(far, IDLE);
    tokio::spawn(serving.run());
    let driving = tokio::spawn(driver.run());
    let _stream = opener.open(stream_type("data")).await.expect("a stream");
    let (_, mut accepted) = incoming.next().await.expect("a stream");
    driving.abort();
    assert!(accepted.read_u8().await.is_err());
    assert!(incoming.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let (near, far) = duplex(10_000);
    let (driver, opener) = client(near, Duration::from_secs(3600));
    let (serving, _incoming) = server(far, IDLE);
    tokio::spawn(driver.run());
    let serving = tokio::spawn(serving.run());
    let _stream = opener.open(stream_type("data")).await.expect("a stream");
    let error = serving.await.expect("no panic").expect_err("idle");
    assert!(matches!(error, Error::Idle(IDLE)), "{error}");
}

#[tokio::test]
async fn pings_are_answered() {
    let (mut near, far) = duplex(10_000);
    let (serving, _incoming) = server(far, IDLE);
    tokio::spawn(serving.run());
    let mut wire = encode(&[Event::Frame(Frame::Ping(2)), Event::Frame(Frame::Ping(7))]);
    near.write_all_buf(&mut wire).await.expect("room");
    let (mut decoder, mut buffer) = (Decoder::default(), BytesMut::new());
    let answer = loop {
        if let Some(event) = decoder.next(&mut buffer).expect("a frame") {
            break event;
        }
        assert!(near.read_buf(&mut buffer).await.expect("bytes") > 0);
    };
    assert_eq!(answer, Event::Frame(Frame::Ping(7)), "2 is the server's own number");
}
