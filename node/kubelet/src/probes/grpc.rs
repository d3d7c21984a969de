//! gRPC probes: one call of the standard health service (`grpc.health.v1.Health/Check`).

use std::{net::IpAddr, time::Duration};

use http::uri::PathAndQuery;
use tonic::{
    Code, Request,
    client::Grpc as Caller,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use super::Outcome;
use crate::pod::Grpc;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

/// Of `HealthCheckResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl ServingStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Serving => "SERVING",
            Self::NotServing => "NOT_SERVING",
            Self::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks once.
pub(super) async fn check(grpc: &Grpc, ip: Option<IpAddr>, timeout: Duration) -> Outcome {
    let Some(ip) = ip else {
        return Outcome::Failure("the pod has no address yet".into());
    };
    let address = std::net::SocketAddr::new(ip, grpc.port);
    match tokio::time::timeout(timeout, ask(address, grpc.service.clone().unwrap_or_default(), timeout)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Outcome::Failure(format!(
            "timeout: health rpc did not complete within {}s",
            timeout.as_secs()
        )),
    }
}

async fn ask(address: std::net::SocketAddr, service: String, timeout: Duration) -> Outcome {
    let channel = match connect(address, timeout).await {
        Ok(channel) => channel,
        Err(error) => {
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let within = timeout.as_secs();
            return Outcome::Failure(format!(
                "timeout: failed to connect service \"{address}\" within {within}s: {why}"
            ));
        }
    };
    let mut caller = Caller::new(channel);
    if let Err(error) = caller.ready().await {
        return Outcome::Failure(format!("error: health rpc probe failed: {error}"));
    }
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let request = Request::new(HealthCheckRequest { service });
    match caller.unary(request, path, codec).await {
        Ok(answer) => match answer.into_inner().status() {
            ServingStatus::Serving => Outcome::Success,
            other => Outcome::Failure(format!("service unhealthy (responded with \"{}\")", other.as_str())),
        },
        Err(status) if status.code() == Code::Unimplemented => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Err(status) => Outcome::Failure(format!("error: health rpc probe failed: {}", status.message())),
    }
}

async fn connect(address: std::net::SocketAddr, timeout: Duration) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}"))?
        .user_agent("kube-probe/1.36")?
        .connect_timeout(timeout)
        .connect()
        .await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Response};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::net::TcpListener;

    use super::*;

    /// A health service that gives every caller this answer.
    async fn served(status: Option<u8>, code: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("address").port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            let service = hyper::service::service_fn(move |_request| async move {
                let message = status.map(|status| Bytes::from(vec![0, 0, 0, 0, 2, 8, status]));
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", code.parse().expect("value"));
                let frames = message.map(Frame::data).into_iter().chain([Frame::trailers(trailers)]);
                let body = StreamBody::new(futures::stream::iter(frames.map(Ok::<_, std::convert::Infallible>)));
                Response::builder()
                    .header("content-type", "application/grpc")
                    .body(body)
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await; // ends with the client
        });
        port
    }

    #[tokio::test]
    async fn the_health_services_word_counts() {
        let ask = async |port| {
            let grpc = Grpc { port, service: None };
            check(&grpc, Some(IpAddr::from([127, 0, 0, 1])), Duration::from_secs(5)).await
        };
        assert_eq!(ask(served(Some(1), "0").await).await, Outcome::Success);
        assert_eq!(
            ask(served(Some(2), "0").await).await,
            Outcome::Failure("service unhealthy (responded with \"NOT_SERVING\")".into())
        );
        let Outcome::Failure(why) = ask(served(None, "12").await).await else {
            panic!("it does not implement the protocol")
        };
        assert!(
            why.starts_with("error: this server does not implement the grpc health protocol"),
            "{why}"
        );
    }

    #[tokio::test]
    async fn nobody_listening_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let grpc = Grpc { port, service: None };
        let outcome = check(&grpc, Some(IpAddr::from([127, 0, 0, 1])), Duration::from_secs(2)).await;
        let Outcome::Failure(why) = outcome else {
            panic!("nobody listens")
        };
        assert!(why.starts_with("timeout: failed to connect service"), "{why}");
    }
}
