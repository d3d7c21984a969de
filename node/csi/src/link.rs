//! The connection to a plugin: made when the first call is, made anew when it was lost.

use std::{
    error::Error as _,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
pub use tonic::Code;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    registration::registration_client::RegistrationClient,
    v1::{controller_client::ControllerClient, identity_client::IdentityClient, node_client::NodeClient},
};

/// A call that failed, in the words of the Go implementation of gRPC, by which users search.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rpc error: code = {} desc = {message}", word(*.code))]
pub struct Error {
    pub code: Code,
    pub message: String,
}

/// A plugin's socket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Link {
    socket: PathBuf,
    channel: Channel,
}

impl Link {
    /// Connects when the first call is made.
    pub fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        Self {
            socket: socket.to_owned(),
            // A host is needed for the header of HTTP/2, whatever the socket.
            channel: Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector),
        }
    }

    /// Where it is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who the driver is.
    pub fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.channel.clone())
    }

    /// What it does on this machine.
    pub fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.channel.clone())
    }

    /// What it does for the whole cluster.
    pub fn controller(&self) -> ControllerClient<Channel> {
        ControllerClient::new(self.channel.clone())
    }

    /// How a plugin makes itself known.
    pub fn registration(&self) -> RegistrationClient<Channel> {
        RegistrationClient::new(self.channel.clone())
    }

    /// A message with the time that its answer may take.
    pub fn request<M>(message: M, patience: Duration) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(patience);
        request
    }

    /// Waits for the answer to a call, at most for so long.
    ///
    /// # Errors
    /// What the plugin said, or why it said nothing.
    pub async fn call<T>(
        &self,
        patience: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        match timeout(patience, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_elapsed) => Err(Error {
                code: Code::DeadlineExceeded,
                message: "context deadline exceeded".into(),
            }),
        }
    }

    fn failure(&self, status: &Status) -> Error {
        let error = |code, message: String| Error { code, message };
        let mut cause = status.source();
        while let Some(source) = cause {
            if let Some(io) = source.downcast_ref::<std::io::Error>() {
                let why = match io.kind() {
                    std::io::ErrorKind::ConnectionRefused => "connection refused",
                    std::io::ErrorKind::NotFound => "no such file or directory",
                    _ => return error(Code::Unavailable, format!("error reading from server: {io}")),
                };
                let socket = self.socket.display();
                let dialing = format!("transport: Error while dialing: dial unix {socket}: connect: {why}");
                return error(Code::Unavailable, format!("connection error: desc = \"{dialing}\""));
            }
            cause = source.source();
        }
        // The time that was given along is kept by either side, and is worded by whichever sees it first.
        if status.code() == Code::Cancelled && status.message() == "Timeout expired" {
            return error(Code::DeadlineExceeded, "context deadline exceeded".into());
        }
        // What did not come from the plugin came from the connection to it.
        let lost = status.code() == Code::Unknown && status.source().is_some();
        let code = if lost { Code::Unavailable } else { status.code() };
        error(code, status.message().to_owned())
    }
}

impl Error {
    /// Nothing was heard of the plugin: it may have done what was asked, or not.
    pub fn is_silence(&self) -> bool {
        matches!(self.code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
    }
}

fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{NodeGetInfoRequest, NodeStageVolumeRequest};

    #[tokio::test]
    async fn says_which_socket_nobody_listens_on() {
        let dir = tempfile::tempdir().expect("dir");
        let socket = dir.path().join("csi.sock");
        let ask = async |link: &Link| {
            let mut node = link.node();
            let call = node.node_get_info(NodeGetInfoRequest {});
            link.call(Duration::from_secs(5), call)
                .await
                .expect_err("nobody there")
                .to_string()
        };
        let at = socket.display();
        let said = |why: &str| {
            format!(
                "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: dial unix {at}: connect: {why}\""
            )
        };
        assert_eq!(ask(&Link::new(&socket)).await, said("no such file or directory"));
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("binds"));
        assert_eq!(ask(&Link::new(&socket)).await, said("connection refused"));
    }

    #[tokio::test]
    async fn a_plugin_that_does_not_answer_is_given_up() {
        let dir = tempfile::tempdir().expect("dir");
        let socket = dir.path().join("csi.sock");
        let _deaf = std::os::unix::net::UnixListener::bind(&socket).expect("binds");
        let link = Link::new(&socket);
        let patience = Duration::from_millis(50);
        let mut node = link.node();
        let call = node.node_get_info(Link::request(NodeGetInfoRequest {}, patience));
        let error = link.call(patience, call).await.expect_err("no answer");
        assert_eq!(
            error.to_string(),
            "rpc error: code = DeadlineExceeded desc = context deadline exceeded"
        );
        assert!(error.is_silence());
    }

    #[test]
    fn secrets_are_not_printed() {
        let request = NodeStageVolumeRequest {
            volume_id: "v".into(),
            secrets: [("key".to_owned(), "hunter2".to_owned())].into(),
            ..NodeStageVolumeRequest::default()
        };
        assert_eq!(
            format!("{request:?}"),
            "NodeStageVolumeRequest { volume_id: \"v\", .. }"
        );
    }
}
