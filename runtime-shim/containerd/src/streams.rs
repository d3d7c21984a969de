//! Streams into containers: containerd gives an URL of its streaming server, which is then spoken to.
//!
//! That server listens where its configuration says, by default on a loopback address of the node; the URL holds a token
//! that is good for one connection.

use cri::{Connection, ContainerId, Error, ExecRequest, SandboxId, Session, Streams};
use proto::{Attempt, v1};
use streaming::{Client, ClientError};

use crate::{
    link::{Link, PATIENCE},
    records::own_id,
};

fn attempt<'a>(doing: &'static str, what: &'static str, id: &'a str) -> Attempt<'a> {
    Attempt {
        doing,
        what,
        id,
        patience: PATIENCE,
    }
}

fn unreached(doing: &'static str) -> impl FnOnce(ClientError) -> Error {
    move |error| Error::failed(doing, error)
}

/// Runs a command in a container.
pub(crate) async fn exec(
    link: &Link,
    client: &Client,
    id: &ContainerId,
    request: ExecRequest,
) -> Result<Session, Error> {
    let streams = request.streams;
    let own = ContainerId(own_id(&id.0).to_owned());
    let asked: v1::ExecRequest = (own, request).into();
    let told = link.call(attempt("exec in", "container", &id.0), async {
        link.runtime().exec(asked).await
    });
    let url = told.await?.url;
    let session = client.remote_command(&url, streams).await;
    session.map_err(unreached("reaching containerd's streaming server"))
}

/// Connects to a container's own streams.
pub(crate) async fn attach(link: &Link, client: &Client, id: &ContainerId, streams: Streams) -> Result<Session, Error> {
    let own = ContainerId(own_id(&id.0).to_owned());
    let asked: v1::AttachRequest = (own, streams).into();
    let told = link.call(attempt("attaching to", "container", &id.0), async {
        link.runtime().attach(asked).await
    });
    let url = told.await?.url;
    let session = client.remote_command(&url, streams).await;
    session.map_err(unreached("reaching containerd's streaming server"))
}

/// Connects to a port of a sandbox.
pub(crate) async fn port_forward(link: &Link, client: &Client, id: &SandboxId, port: u16) -> Result<Connection, Error> {
    let asked = v1::PortForwardRequest {
        pod_sandbox_id: own_id(&id.0).to_owned(),
        port: vec![port.into()],
    };
    let told = link.call(attempt("forwarding a port of", "sandbox", &id.0), async {
        link.runtime().port_forward(asked).await
    });
    let url = told.await?.url;
    let connection = client.port_forward(&url, port).await;
    connection.map_err(unreached("reaching containerd's streaming server"))
}
