//! One body type for requests and responses, so that nothing on the request path is generic over it.
//!
//! Lists are chunked lazily from the cache's bytes and watches are streams: neither is ever joined into one buffer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use futures::stream::BoxStream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

/// Why a body broke off.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A request's or response's content.
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Incoming(hyper::body::Incoming),
    Chunks {
        chunks: Box<dyn Iterator<Item = Bytes> + Send>,
        about: usize,
    },
    Stream(BoxStream<'static, Result<Bytes, BodyError>>),
    Other(UnsyncBoxBody<Bytes, BodyError>),
}

impl Body {
    pub fn empty() -> Self {
        Body(Kind::Full(None))
    }

    /// Chunks that are made when the connection has room for them, `about` so many bytes in all.
    pub fn chunks(chunks: impl Iterator<Item = Bytes> + Send + 'static, about: usize) -> Self {
        Body(Kind::Chunks {
            chunks: Box::new(chunks),
            about,
        })
    }

    /// A stream that lasts as long as its source.
    pub fn stream(stream: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> Self {
        Body(Kind::Stream(Box::pin(stream)))
    }

    /// A body of another library.
    pub fn wrap<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BodyError>,
    {
        Body(Kind::Other(body.map_err(Into::into).boxed_unsync()))
    }

    /// How long the content is, roughly; `None` where it is not known beforehand.
    pub(crate) fn about(&self) -> Option<usize> {
        match &self.0 {
            Kind::Full(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Kind::Chunks { about, .. } => Some(*about),
            _ => None,
        }
    }

    /// The content as chunks, where nothing has to be waited for.
    pub(crate) fn into_chunks(self) -> Result<Box<dyn Iterator<Item = Bytes> + Send>, Body> {
        match self.0 {
            Kind::Full(bytes) => Ok(Box::new(bytes.into_iter())),
            Kind::Chunks { chunks, .. } => Ok(chunks),
            other => Err(Body(other)),
        }
    }

    /// The same, with something that is dropped when the last chunk has been taken, or nobody wants any more. Content that
    /// is no sequence of chunks holds nothing.
    pub(crate) fn holding<G: Send + 'static>(self, guard: G) -> Body {
        match self.0 {
            Kind::Chunks { chunks, about } => {
                let guard = Some(guard);
                Body::chunks(Holding { chunks, guard }, about)
            }
            other => Body(other),
        }
    }

    /// The whole content, where it is in memory already.
    pub(crate) fn as_full(&self) -> Option<&Bytes> {
        match &self.0 {
            Kind::Full(bytes) => bytes.as_ref(),
            _ => None,
        }
    }
}

/// Chunks, and what is held until they are taken.
struct Holding<G> {
    chunks: Box<dyn Iterator<Item = Bytes> + Send>,
    guard: Option<G>,
}

impl<G> Iterator for Holding<G> {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let next = self.chunks.next();
        if next.is_none() {
            self.guard = None;
        }
        next
    }
}

impl From<hyper::body::Incoming> for Body {
    fn from(body: hyper::body::Incoming) -> Self {
        Body(Kind::Incoming(body))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Body(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Chunks { chunks, .. } => Poll::Ready(chunks.next().map(|b| Ok(Frame::data(b)))),
            Kind::Stream(stream) => stream.as_mut().poll_next(cx).map_ok(Frame::data),
            Kind::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Other(body) => body.is_end_stream(),
            Kind::Chunks { .. } | Kind::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Other(body) => body.size_hint(),
            Kind::Chunks { .. } | Kind::Stream(_) => SizeHint::default(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Body")
    }
}
