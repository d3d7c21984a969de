//! The body of an answer: in one piece where the guest had finished, else as it comes.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Collected;
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error, p2::body::HyperOutgoingBody};

/// The body of an answer.
pub(crate) enum ResponseBody {
    Whole(Option<Bytes>),
    /// With trailers.
    Collected(Collected<Bytes>),
    Stream {
        body: HyperOutgoingBody,
        _alive: Alive,
    },
}

/// Lives as long as somebody may still read the body.
pub(crate) struct Alive {
    _dropped: oneshot::Sender<Infallible>,
}

impl Alive {
    /// The receiver is done when the client has all of the body, or has gone.
    pub(crate) fn new() -> (Self, oneshot::Receiver<Infallible>) {
        let (dropped, gone) = oneshot::channel();
        (Self { _dropped: dropped }, gone)
    }
}

impl ResponseBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    pub(crate) fn collected(body: Collected<Bytes>) -> Self {
        Self::Collected(body)
    }

    pub(crate) fn stream(body: HyperOutgoingBody, alive: Alive) -> Self {
        Self::Stream { body, _alive: alive }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Collected(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Stream { body, .. } => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Collected(body) => body.is_end_stream(),
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Collected(body) => body.size_hint(),
            Self::Stream { body, .. } => body.size_hint(),
        }
    }
}
