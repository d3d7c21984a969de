//! What load balancers ask: whether this node has endpoints of a Service whose traffic may not go on to other nodes
//! (`healthCheckNodePort`). Answered as kube-proxy does, by the agent itself: where it is away, a load balancer does well to
//! send new connections elsewhere, and those there are go on.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::model::Health;

/// Connections to one port at a time, and how long one may take to ask.
const AT_ONCE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait after the system has refused to accept.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Where the answers are given.
#[derive(Debug)]
pub(crate) struct Checks {
    ips: Vec<IpAddr>,
    listening: BTreeMap<SocketAddr, Listener>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Listener {
    health: watch::Sender<Health>,
    _stop: DropGuard,
}

/// A port that cannot be had.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) at: SocketAddr,
    pub(crate) health: Health,
    pub(crate) source: io::Error,
}

impl Checks {
    /// Answers nothing yet; at these addresses later.
    pub(crate) fn new(ips: Vec<IpAddr>, tasks: TaskTracker) -> Self {
        Checks {
            ips,
            listening: BTreeMap::new(),
            tasks,
        }
    }

    /// Makes the answers be these; returns what cannot be listened on, which is tried again the next time.
    pub(crate) fn sync(&mut self, checks: &BTreeMap<u16, Health>) -> Vec<Refused> {
        self.listening.retain(|at, _| checks.contains_key(&at.port()));
        let mut refused = Vec::new();
        for (port, health) in checks {
            for ip in &self.ips {
                let at = SocketAddr::new(*ip, *port);
                if let Some(listener) = self.listening.get(&at) {
                    listener.health.send_if_modified(|told| {
                        let is_news = told != health;
                        told.clone_from(health);
                        is_news
                    });
                    continue;
                }
                match listen(at, health.clone(), &self.tasks) {
                    Ok(listener) => drop(self.listening.insert(at, listener)),
                    Err(source) => refused.push(Refused {
                        at,
                        health: health.clone(),
                        source,
                    }),
                }
            }
        }
        refused
    }
}

fn listen(at: SocketAddr, health: Health, tasks: &TaskTracker) -> io::Result<Listener> {
    let listener = std::net::TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (stop, (health, known)) = (CancellationToken::new(), watch::channel(health));
    let (until, connections) = (stop.clone(), tasks.clone());
    tasks.spawn(async move {
        until
            .run_until_cancelled(accept(listener, known, connections, until.clone()))
            .await
    });
    Ok(Listener {
        health,
        _stop: stop.drop_guard(),
    })
}

async fn accept(listener: TcpListener, health: watch::Receiver<Health>, tasks: TaskTracker, until: CancellationToken) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(EXHAUSTED).await;
            continue;
        };
        // One too many is closed: who asks for health asks again.
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            continue;
        };
        let (health, until) = (health.clone(), until.clone());
        tasks.spawn(async move {
            let _permit = permit;
            until.run_until_cancelled(serve(stream, health)).await
        });
    }
}

async fn serve(stream: TcpStream, health: watch::Receiver<Health>) {
    let answer = service_fn(|_request: Request<Incoming>| {
        let response = answer(&health.borrow());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "a load balancer\'s connection broke"
        );
    }
}

/// The whole of an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(flatten)]
    health: &'a Health,
    service_proxy_healthy: bool,
}

fn answer(health: &Health) -> Response<Full<Bytes>> {
    let body = Body {
        health,
        service_proxy_healthy: true,
    };
    let status = match health.local_endpoints {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::OK,
    };
    let body = serde_json::to_vec_pretty(&body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        header::HeaderValue::from_static("nosniff"),
    );
    headers.insert("x-load-balancing-endpoint-weight", health.local_endpoints.into());
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::model::Named;

    fn health(local_endpoints: usize) -> Health {
        Health {
            service: Named {
                namespace: "ns".into(),
                name: "web".into(),
            },
            local_endpoints,
        }
    }

    async fn ask(at: SocketAddr) -> io::Result<String> {
        let mut stream = TcpStream::connect(at).await?;
        let request = b"GET / HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut said = String::new();
        stream.read_to_string(&mut said).await?;
        Ok(said)
    }

    #[tokio::test]
    async fn a_load_balancer_is_told_whether_there_are_endpoints() {
        let at: SocketAddr = "127.77.9.1:31000".parse().unwrap();
        let mut checks = Checks::new(vec![at.ip()], TaskTracker::new());
        let mut now = BTreeMap::from([(at.port(), health(2))]);
        assert!(checks.sync(&now).is_empty());
        let said = ask(at).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(said.contains("x-load-balancing-endpoint-weight: 2\r\n"), "{said}");
        let body: serde_json::Value = serde_json::from_str(said.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(
            body,
            serde_json::json!({"service": {"namespace": "ns", "name": "web"}, "localEndpoints": 2,
                "serviceProxyHealthy": true})
        );
        now.insert(at.port(), health(0));
        assert!(checks.sync(&now).is_empty());
        assert!(
            ask(at)
                .await
                .unwrap()
                .starts_with("HTTP/1.1 503 Service Unavailable\r\n")
        );
        assert!(checks.sync(&BTreeMap::new()).is_empty());
        checks.tasks.close();
        tokio::time::timeout(PATIENCE, checks.tasks.wait()).await.unwrap();
        assert!(ask(at).await.is_err(), "nobody is asked any more");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_told_and_had_later() {
        let at: SocketAddr = "127.77.9.2:31000".parse().unwrap();
        let taken = std::net::TcpListener::bind(at).unwrap();
        let mut checks = Checks::new(vec![at.ip()], TaskTracker::new());
        let now = BTreeMap::from([(at.port(), health(1))]);
        let refused = checks.sync(&now);
        assert_eq!(refused.iter().map(|refused| refused.at).collect::<Vec<_>>(), [at]);
        drop(taken);
        assert!(checks.sync(&now).is_empty());
        assert!(ask(at).await.unwrap().contains("200 OK"));
    }
}
