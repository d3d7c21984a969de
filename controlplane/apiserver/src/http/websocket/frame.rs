//! Frames of RFC 6455, section 5: the server writes whole messages, and reads what clients say of themselves.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The most that a ping, pong or close may carry, in bytes.
const CONTROL: u64 = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    /// More of the message before.
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn of(byte: u8) -> Option<Self> {
        let all = [
            Opcode::Continuation,
            Opcode::Text,
            Opcode::Binary,
            Opcode::Close,
            Opcode::Ping,
            Opcode::Pong,
        ];
        all.into_iter().find(|opcode| *opcode as u8 == byte & 0x0f)
    }

    fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

/// A whole message as one frame from the server, which does not mask.
pub(super) fn encode(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode as u8);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(medium)) => {
            frame.push(126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// Reads a frame of a client. The content is kept of control frames only: of others it is passed over, since nobody
/// asked for any.
///
/// # Errors
/// The connection has ended, or the client does not keep to the rules.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<(Opcode, Vec<u8>)> {
    let broken = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    let [first, second] = take::<2>(from).await?;
    let opcode = Opcode::of(first).ok_or_else(|| broken("an unknown opcode"))?;
    if second & 0x80 == 0 {
        return Err(broken("a client's frame that is not masked"));
    }
    let length = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(take(from).await?)),
        127 => u64::from_be_bytes(take(from).await?),
        short => u64::from(short),
    };
    let mask = take::<4>(from).await?;
    let mut content = from.take(length);
    if !opcode.is_control() {
        let passed = tokio::io::copy(&mut content, &mut tokio::io::sink()).await?;
        return if passed == length {
            Ok((opcode, Vec::new()))
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        };
    }
    if length > CONTROL {
        return Err(broken("a control frame that is too long"));
    }
    let mut payload = Vec::new();
    content.read_to_end(&mut payload).await?;
    if payload.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((opcode, payload))
}

async fn take<const N: usize>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a client sends it.
    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = encode(Opcode::Binary, payload);
        frame[0] = 0x80 | opcode;
        frame[1] |= 0x80;
        let head = frame.len() - payload.len();
        let mask = [1, 2, 3, 4];
        let content = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [&frame[..head], &mask, &content.collect::<Vec<u8>>()].concat()
    }

    async fn read_all(mut bytes: &[u8]) -> Vec<Result<(Opcode, Vec<u8>), io::ErrorKind>> {
        let mut found = Vec::new();
        loop {
            let frame = read(&mut bytes).await.map_err(|error| error.kind());
            let ended = frame.is_err();
            found.push(frame);
            if ended {
                return found;
            }
        }
    }

    #[test]
    fn lengths_are_written_in_the_shortest_way() {
        let head = |length: usize| encode(Opcode::Binary, &vec![0; length])[..4].to_vec();
        assert_eq!(head(125)[..2], [0x82, 125]);
        assert_eq!(head(126), [0x82, 126, 0, 126]);
        assert_eq!(head(65535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(head(65536)[..2], [0x82, 127]);
        assert_eq!(encode(Opcode::Close, &[3, 232]), [0x88, 2, 3, 232]);
    }

    #[tokio::test]
    async fn control_frames_are_read_and_others_passed_over() {
        let bytes = [
            masked(1, b"text"),
            masked(2, &[7; 70_000]),
            masked(9, b"ping"),
            masked(8, &[]),
        ]
        .concat();
        let expected = [
            Ok((Opcode::Text, vec![])),
            Ok((Opcode::Binary, vec![])),
            Ok((Opcode::Ping, b"ping".to_vec())),
            Ok((Opcode::Close, vec![])),
            Err(io::ErrorKind::UnexpectedEof),
        ];
        assert_eq!(read_all(&bytes).await, expected);
    }

    #[tokio::test]
    async fn who_breaks_the_rules_is_not_listened_to() {
        for bytes in [masked(3, b""), encode(Opcode::Ping, b"unmasked"), masked(9, &[0; 126])] {
            assert_eq!(read_all(&bytes).await, [Err(io::ErrorKind::InvalidData)]);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(read_all(&bytes));
        }
    }
}
