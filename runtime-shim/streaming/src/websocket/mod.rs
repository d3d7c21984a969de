//! WebSockets (RFC 6455) as Kubernetes uses them: messages that begin with the number of a channel, or a tunnel of bytes.

mod channels;
mod tunnel;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Role, WebSocketConfig},
};

pub(crate) use channels::{Encoding, channels};
pub(crate) use tunnel::Tunnel;

/// The largest message taken: clients send a whole file at once.
const MESSAGE: usize = 16 * 1024 * 1024;

async fn open<T: AsyncRead + AsyncWrite + Unpin>(io: T) -> WebSocketStream<T> {
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE))
        .max_frame_size(Some(MESSAGE))
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await
}
