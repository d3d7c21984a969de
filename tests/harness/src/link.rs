//! A client's way to the API server, with weather on it: requests and answers get lost, watches break, go silent, expire.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{api::Api, weather::Weather};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Frames = stream::BoxStream<'static, Result<Frame<Bytes>, BoxError>>;

/// How long a watch that went silent takes to break.
const SILENCE: Duration = Duration::from_secs(45);
/// What a client without a server waits before it is refused.
const CONNECT: Duration = Duration::from_millis(5);

/// One user's way to whichever API server is up.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) api: Arc<Api>,
    pub(crate) weather: Arc<Weather>,
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    /// The client of the server last used, with that server's number.
    pub(crate) inner: Arc<Mutex<Option<(u64, kube::Client)>>>,
}

impl tower::Service<Request<Body>> for Link {
    type Response = Response<StreamBody<Frames>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let link = self.clone();
        async move { link.exchange(request).await }.boxed()
    }
}

impl Link {
    async fn exchange(&self, request: Request<Body>) -> Result<Response<StreamBody<Frames>>, BoxError> {
        let Some((client, killed)) = self.connect() else {
            tokio::time::sleep(CONNECT).await;
            return Err("connection refused".into());
        };
        self.weather.delay().await;
        if let Some(refusal) = self.refusal(&request)? {
            return Ok(refusal);
        }
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let answer = killed.run_until_cancelled(client.send(request)).await;
        let answer = answer.ok_or("connection reset by peer")??;
        if self.weather.strikes(|climate| climate.lose) {
            return Err("connection reset by peer".into());
        }
        let (head, body) = answer.into_parts();
        let frames = match watch && head.status.is_success() {
            true => self.watch(body, killed),
            false => {
                let read = killed.run_until_cancelled(body.collect()).await;
                let bytes = read.ok_or("connection reset by peer")??.to_bytes();
                self.weather.delay().await;
                whole(bytes)
            }
        };
        Ok(Response::from_parts(head, StreamBody::new(frames)))
    }

    fn connect(&self) -> Option<(kube::Client, CancellationToken)> {
        let server = self.api.current()?;
        let mut inner = self.inner.lock();
        if inner.as_ref().is_none_or(|(number, _)| *number != server.number) {
            let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
            *inner = Some((server.number, server.api.as_user(&self.user, &groups)));
        }
        let (_, client) = inner.as_ref()?;
        Some((client.clone(), server.killed.clone()))
    }

    /// What is answered instead of the server.
    fn refusal(&self, request: &Request<Body>) -> Result<Option<Response<StreamBody<Frames>>>, BoxError> {
        if self.weather.strikes(|climate| climate.refuse) {
            return Err("connection reset by peer".into());
        }
        let reading = matches!(*request.method(), Method::GET | Method::HEAD);
        if !reading && self.weather.strikes(|climate| climate.conflict) {
            return status(StatusCode::CONFLICT, "Conflict").map(Some);
        }
        if self.weather.strikes(|climate| climate.unavailable) {
            let (code, reason) = match self.weather.pick(3) {
                0 => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
                1 => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            };
            return status(code, reason).map(Some);
        }
        let resumes = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        if resumes && self.weather.strikes(|climate| climate.expire) {
            return status(StatusCode::GONE, "Expired").map(Some);
        }
        Ok(None)
    }

    /// The events of a watch, as far as they arrive.
    fn watch(&self, body: Body, killed: CancellationToken) -> Frames {
        let weather = self.weather.clone();
        let state = (body.into_data_stream(), weather, killed, false);
        stream::unfold(state, |(mut body, weather, killed, over)| async move {
            if over {
                return None;
            }
            let event = killed.run_until_cancelled(body.next()).await.flatten()?.ok()?;
            weather.delay().await;
            let (frame, over) = if weather.strikes(|climate| climate.stall) {
                let _ = killed.run_until_cancelled(tokio::time::sleep(SILENCE)).await;
                return None;
            } else if weather.strikes(|climate| climate.cut) {
                (event.slice(..weather.pick(event.len())), true)
            } else if weather.strikes(|climate| climate.expire) {
                (expired_event(), true)
            } else {
                (event, killed.is_cancelled())
            };
            Some((Ok(Frame::data(frame)), (body, weather, killed, over)))
        })
        .boxed()
    }
}

fn whole(bytes: Bytes) -> Frames {
    stream::iter([Ok(Frame::data(bytes))]).boxed()
}

fn failure(code: StatusCode, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "code": code.as_u16(), "message": "the weather is bad"})
}

fn expired_event() -> Bytes {
    let event = json!({"type": "ERROR", "object": failure(StatusCode::GONE, "Expired")});
    Bytes::from(format!("{event}\n"))
}

fn status(code: StatusCode, reason: &str) -> Result<Response<StreamBody<Frames>>, BoxError> {
    let body = whole(failure(code, reason).to_string().into());
    let response = Response::builder()
        .status(code)
        .header("content-type", "application/json");
    Ok(response.body(StreamBody::new(body))?)
}
