//! Into a container: `/exec`, `/attach`, `/portForward` and `/run`.
//!
//! What can be refused is refused before the connection is upgraded, in the kubelet's words; what the runtime refuses later
//! travels on the error stream.

use std::{sync::Arc, time::Duration};

use api::NamespacedName;
use axum::{
    Extension,
    extract::{Path, RawQuery, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cri::{ContainerId, ExecRequest, SandboxId, Streams};
use futures::FutureExt;
use serde::Deserialize;
use streaming::{Kind, Offer, Patience, Target};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{observed::Observed, pod::Pod, shared::Shared};

/// For a command of `/run`.
const RUN: Duration = Duration::from_secs(4 * 60 * 60);

/// Where sessions run.
#[derive(Clone)]
pub(super) struct Sessions {
    pub(super) tasks: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

/// A pod and one of its containers; the UID may be left out.
#[derive(Deserialize)]
pub(super) struct Place {
    namespace: String,
    pod: String,
    uid: Option<String>,
    container: Option<String>,
}

type Refusal = (StatusCode, String);

pub(super) async fn exec(
    State(shared): State<Arc<Shared>>,
    Extension(sessions): Extension<Sessions>,
    Path(place): Path<Place>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let asked = Asked::parse(query.as_deref().unwrap_or_default());
    let begin = running(&shared, &place).and_then(|id| {
        let streams = asked.streams()?;
        match asked.command.is_empty() {
            true => Err(bad_request("you must specify at least one command for the container")),
            false => Ok((id, streams)),
        }
    });
    let (id, streams) = match begin {
        Ok(begin) => begin,
        Err(refusal) => return refusal.into_response(),
    };
    let runtime = shared.runtime.clone();
    let command = asked.command;
    let begin = async move { runtime.exec(&id, ExecRequest { command, streams }).await };
    sessions.command(request, Kind::Exec, streams, begin)
}

pub(super) async fn attach(
    State(shared): State<Arc<Shared>>,
    Extension(sessions): Extension<Sessions>,
    Path(place): Path<Place>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let asked = Asked::parse(query.as_deref().unwrap_or_default());
    let begin = running(&shared, &place).and_then(|id| Ok((id, asked.streams()?)));
    let (id, streams) = match begin {
        Ok(begin) => begin,
        Err(refusal) => return refusal.into_response(),
    };
    let runtime = shared.runtime.clone();
    let begin = async move { runtime.attach(&id, streams).await };
    sessions.command(request, Kind::Attach, streams, begin)
}

pub(super) async fn port_forward(
    State(shared): State<Arc<Shared>>,
    Extension(sessions): Extension<Sessions>,
    Path(place): Path<Place>,
    RawQuery(query): RawQuery,
    mut request: Request,
) -> Response {
    let asked = Asked::parse(query.as_deref().unwrap_or_default());
    let (pod, sandbox) = match sandbox(&shared, &place) {
        Ok(found) => found,
        Err(refusal) => return refusal.into_response(),
    };
    let (response, accepted) = match Offer::PortForward.accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refused) => return refused.response(),
    };
    let ports = match asked.ports {
        Ok(ports) if ports.is_empty() && accepted.needs_ports() => {
            return bad_request("at least one port is needed: ?port=80").into_response();
        }
        Ok(ports) => ports,
        Err(wrong) => return bad_request(&format!("port \"{wrong}\" is not a port")).into_response(),
    };
    let runtime = shared.runtime.clone();
    let target = Target {
        pod: format!("{}_{}", pod.metadata.name, pod.metadata.namespace),
        uid: pod.metadata.uid.to_string(),
        connect: Box::new(move |port| {
            let (runtime, sandbox) = (runtime.clone(), sandbox.clone());
            async move { runtime.port_forward(&sandbox, port).await }.boxed()
        }),
    };
    sessions.spawn(async move { accepted.port_forward(&ports, target, Patience::default()).await });
    response
}

/// Runs a command without streams and answers what it said.
pub(super) async fn run(
    State(shared): State<Arc<Shared>>,
    Path(place): Path<Place>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let command = values(&query, "cmd").next().unwrap_or_default();
    let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
    if command.is_empty() {
        return bad_request("you must specify a command: ?cmd=").into_response();
    }
    let id = match running(&shared, &place) {
        Ok(id) => id,
        Err(refusal) => return refusal.into_response(),
    };
    match shared.runtime.exec_sync(&id, command, RUN).await {
        Ok(output) => {
            let mut said = output.stdout;
            said.extend_from_slice(&output.stderr);
            let code = match output.exit_code {
                0 => StatusCode::OK,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (code, said).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.chain()).into_response(),
    }
}

impl Sessions {
    fn command(
        &self,
        mut request: Request,
        kind: Kind,
        streams: Streams,
        begin: impl Future<Output = Result<cri::Session, cri::Error>> + Send + 'static,
    ) -> Response {
        match Offer::RemoteCommand.accept(&mut request) {
            Ok((response, accepted)) => {
                let served = accepted.remote_command(kind, streams, Patience::default(), begin);
                self.spawn(served);
                response
            }
            Err(refused) => refused.response(),
        }
    }

    fn spawn(&self, session: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        let session = Box::pin(session);
        self.tasks
            .spawn(async move { shutdown.run_until_cancelled(session).await });
    }
}

/// What the query asks for.
struct Asked {
    command: Vec<String>,
    streams: Streams,
    /// Or the first that is none.
    ports: Result<Vec<u16>, String>,
}

impl Asked {
    fn parse(query: &str) -> Self {
        let set = |name| values(query, name).any(|value| value == "1" || value == "true");
        let ports = values(query, "port").chain(values(query, "ports"));
        let ports = ports.flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>());
        let tty = set("tty");
        Self {
            command: values(query, "command").collect(),
            streams: Streams {
                stdin: set("input"),
                stdout: set("output"),
                // A terminal has one stream out.
                stderr: set("error") && !tty,
                tty,
            },
            ports: ports
                .map(|port| port.parse().ok().filter(|number| *number > 0).ok_or(port))
                .collect(),
        }
    }

    fn streams(&self) -> Result<Streams, Refusal> {
        let Streams {
            stdin, stdout, stderr, ..
        } = self.streams;
        match stdin || stdout || stderr {
            true => Ok(self.streams),
            false => Err(bad_request("you must specify at least 1 of stdin, stdout, stderr")),
        }
    }
}

fn bad_request(message: &str) -> Refusal {
    (StatusCode::BAD_REQUEST, message.to_owned())
}

/// The values of a query's parameter, decoded.
pub(super) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(move |(key, _)| *key == name)
        .map(|(_, value)| decode(value))
}

pub(super) fn decode(value: &str) -> String {
    let mut bytes = value.bytes();
    let mut decoded = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        let escaped = match byte {
            b'+' => Some(b' '),
            b'%' => {
                let mut rest = bytes.clone();
                let digits = [rest.next(), rest.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
                match digits {
                    [Some(high), Some(low)] => {
                        bytes = rest;
                        u8::try_from(high << 4 | low).ok()
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        decoded.push(escaped.unwrap_or(byte));
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn find(shared: &Shared, place: &Place) -> Result<(Arc<Pod>, Arc<Observed>), Refusal> {
    let missing = || (StatusCode::NOT_FOUND, "pod does not exist".to_owned());
    let name = NamespacedName::new(&place.namespace, &place.pod);
    let pod = shared.pods.get(&name).ok_or_else(missing)?;
    if place.uid.as_ref().is_some_and(|uid| **uid != *pod.metadata.uid) {
        return Err(missing());
    }
    let observed = shared.observer.pod(&shared.running_for(&pod).metadata.uid);
    Ok((pod, observed))
}

/// The container that runs under the name now.
fn running(shared: &Shared, place: &Place) -> Result<ContainerId, Refusal> {
    let (_, observed) = find(shared, place)?;
    let name = place.container.as_deref().unwrap_or_default();
    let container = observed.latest(name).filter(|container| container.is_running());
    let missing = || {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("container not found (\"{name}\")"),
        )
    };
    Ok(container.ok_or_else(missing)?.id.clone())
}

fn sandbox(shared: &Shared, place: &Place) -> Result<(Arc<Pod>, SandboxId), Refusal> {
    let (pod, observed) = find(shared, place)?;
    let ready = observed.latest_sandbox().filter(|sandbox| sandbox.ready);
    let missing = || {
        let message = format!("pod not found (\"{}_{}\")", place.pod, place.namespace);
        (StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    let sandbox = ready.ok_or_else(missing)?.id.clone();
    Ok((pod, sandbox))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_api_server_asks() {
        let asked = Asked::parse("command=sh&command=-c&command=echo+a%26b%3D%C3%BC%zz&input=1&output=1&error=1&tty=1");
        assert_eq!(asked.command, ["sh", "-c", "echo a&b=ü%zz"]);
        let Streams {
            stdin,
            stdout,
            stderr,
            tty,
        } = asked.streams;
        assert_eq!(
            [stdin, stdout, stderr, tty],
            [true, true, false, true],
            "a terminal has no stderr"
        );
        assert!(Asked::parse("command=ls").streams().is_err());
        assert!(Asked::parse("error=1").streams().is_ok());
    }

    #[test]
    fn reads_ports_however_they_are_listed() {
        assert_eq!(
            Asked::parse("port=80&port=443,8080&ports=1").ports,
            Ok(vec![80, 443, 8080, 1])
        );
        for wrong in ["0", "65536", "http", ""] {
            assert_eq!(Asked::parse(&format!("port={wrong}")).ports, Err(wrong.to_owned()));
        }
    }
}
