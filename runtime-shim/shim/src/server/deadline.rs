//! Calls end at the time that their callers give, with the status that the gRPC protocol has for that. The transport keeps
//! such times as well, but answers as if the call had been cancelled; here they pass a moment earlier.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

const HEADER: &str = "grpc-timeout";
/// Before the transport's: its timers are exact to a millisecond.
const MARGIN: Duration = Duration::from_millis(2);

/// Keeps deadlines for all services.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines;

impl<S> Layer<S> for Deadlines {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadline { inner }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Deadline<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Deadline<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let limit = request
            .headers()
            .get(HEADER)
            .and_then(|value| parse(value.to_str().ok()?));
        let answer = self.inner.call(request);
        match limit {
            None => Box::pin(answer),
            Some(limit) => Box::pin(async move {
                let in_time = tokio::time::timeout(limit.saturating_sub(MARGIN), answer).await;
                in_time.unwrap_or_else(|_| Ok(Status::deadline_exceeded("the call's time is over").into_http()))
            }),
        }
    }
}

/// The form of gRPC over HTTP/2: at most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::ServiceExt;

    use super::*;

    #[test]
    fn reads_what_the_protocol_writes() {
        assert_eq!(parse("12m"), Some(Duration::from_millis(12)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for wrong in ["", "1", "m", "123456789S", "1x", "1\u{b5}"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_in_time_and_says_why() {
        let takes = |seconds| {
            Deadlines.layer(tower::service_fn(move |_: Request<()>| async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }))
        };
        let request = |limit: &str| Request::builder().header(HEADER, limit).body(()).unwrap();
        let late = takes(5).oneshot(request("2S")).await.unwrap();
        assert_eq!(late.headers()["grpc-status"], "4");
        let at_once = takes(5).oneshot(request("1m")).await.unwrap();
        assert_eq!(at_once.headers()["grpc-status"], "4");
        let soon = takes(5).oneshot(request("6S")).await.unwrap();
        assert_eq!(soon.headers().get("grpc-status"), None);
    }
}
