//! The connection to containerd: one channel over its unix socket, and what is known of its health.
//!
//! While containerd is away calls fail at once, with the reason; a task keeps looking whether it is back (`watch`). It asks
//! for the status, which containerd answers only when it can run pods. A call that fails in transport or takes too long
//! has the health looked at, so that a containerd that hangs is noticed by whoever meets it first.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cri::{Condition, Error, Version};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use proto::{
    Attempt,
    v1::{
        StatusRequest, StatusResponse, VersionRequest, image_service_client::ImageServiceClient,
        runtime_service_client::RuntimeServiceClient,
    },
};
use tokio::{
    net::UnixStream,
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint, Uri},
};

/// Most calls.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Until a containerd that answered before counts as hanging.
const HANGS: Duration = Duration::from_secs(10);
/// For a first answer, and for one of a containerd that was away.
const RETURNS: Duration = Duration::from_secs(3);
/// Between looks at its health.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_WHILE_AWAY: Duration = Duration::from_millis(500);
/// The largest answer: a list of all containers.
const LARGEST_ANSWER: usize = 64 << 20;
/// The containerd namespace that CRI lives in.
const NAMESPACE: &str = "k8s.io";

/// What is known of containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not asked yet.
    Unknown,
    /// With the conditions that it tells itself.
    Up(Vec<Condition>),
    Away(Arc<str>),
}

/// What containerd tells of its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where it looks for network configurations.
    pub(crate) network_directory: Option<PathBuf>,
}

/// The connection.
#[derive(Debug)]
pub(crate) struct Link {
    socket: PathBuf,
    channel: Channel,
    health: watch::Sender<Health>,
    settings: Mutex<Settings>,
    version: Mutex<Option<Version>>,
    doubt: Notify,
}

impl Link {
    /// Connects when the first call is made.
    pub(crate) fn new(socket: &Path) -> Self {
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        Self {
            socket: socket.to_owned(),
            channel: Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector),
            health: watch::Sender::new(Health::Unknown),
            settings: Mutex::default(),
            version: Mutex::default(),
            doubt: Notify::new(),
        }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    pub(crate) fn health_changes(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings.lock().clone()
    }

    /// Name and version, once containerd has told them.
    pub(crate) fn version(&self) -> Option<Version> {
        self.version.lock().clone()
    }

    pub(crate) fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    pub(crate) fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    /// Makes a call.
    pub(crate) async fn call<T>(
        &self,
        attempt: Attempt<'_>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.gate()?;
        let timed_out = || Error::Timeout {
            what: attempt.doing,
            after: attempt.patience,
        };
        match timeout(attempt.patience, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if is_transport(&status) => Err(self.lost(&status)),
            Ok(Err(status)) => Err(attempt.error(&status)),
            Err(_) => {
                self.doubt.notify_one();
                Err(timed_out())
            }
        }
    }

    /// Makes a call that changes nothing: it is given up as soon as containerd counts as away, so that nobody waits for the
    /// answer of one that hangs.
    pub(crate) async fn read<T>(
        &self,
        attempt: Attempt<'_>,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        tokio::select! {
            answer = self.call(attempt, call) => answer,
            error = self.until_away() => Err(error),
        }
    }

    async fn until_away(&self) -> Error {
        let mut health = self.health.subscribe();
        let known = health.wait_for(|health| matches!(health, Health::Away(_))).await;
        let reason = known.ok().and_then(|health| match &*health {
            Health::Away(reason) => Some(Arc::clone(reason)),
            Health::Unknown | Health::Up(_) => None,
        });
        match reason {
            Some(reason) => self.away(&reason),
            // Nobody looks any more: the agent ends.
            None => std::future::pending().await,
        }
    }

    /// Fails while containerd is known to be away.
    fn gate(&self) -> Result<(), Error> {
        match &*self.health.borrow() {
            Health::Away(reason) => Err(self.away(reason)),
            Health::Unknown | Health::Up(_) => Ok(()),
        }
    }

    fn away(&self, reason: &str) -> Error {
        let doing = format!("containerd at {} does not answer", self.socket.display());
        Error::failed(doing, reason.to_owned())
    }

    /// The connection broke or cannot be made.
    fn lost(&self, status: &Status) -> Error {
        self.doubt.notify_one();
        self.away(&in_full(status))
    }

    /// Looks at containerd's health until `quit`.
    pub(crate) async fn watch(self: Arc<Self>, quit: CancellationToken) {
        loop {
            self.look().await;
            let pause = match *self.health.borrow() {
                Health::Away(_) => LOOK_WHILE_AWAY,
                Health::Unknown | Health::Up(_) => LOOK,
            };
            tokio::select! {
                () = quit.cancelled() => return,
                () = self.doubt.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks once.
    pub(crate) async fn look(&self) -> Health {
        let patience = match *self.health.borrow() {
            Health::Up(_) => HANGS,
            Health::Unknown | Health::Away(_) => RETURNS,
        };
        let asked = timeout(patience, self.ask()).await;
        let health = match asked {
            Ok(Ok(conditions)) => Health::Up(conditions),
            Ok(Err(status)) => Health::Away(why(&status).into()),
            Err(_) => Health::Away(format!("no answer within {} s", patience.as_secs()).into()),
        };
        self.health.send_if_modified(|known| {
            let changed = *known != health;
            match (&*known, &health) {
                (Health::Away(_), Health::Away(_)) => {}
                (_, Health::Away(reason)) => {
                    tracing::warn!(socket = %self.socket.display(), %reason, "containerd is away");
                }
                (Health::Up(_), Health::Up(_)) => {}
                (_, Health::Up(_)) => tracing::info!(socket = %self.socket.display(), "containerd answers"),
                (_, Health::Unknown) => {}
            }
            *known = health.clone();
            changed
        });
        health
    }

    async fn ask(&self) -> Result<Vec<Condition>, Status> {
        // A containerd that comes (back) may be another, or configured anew.
        let verbose = !matches!(*self.health.borrow(), Health::Up(_));
        let status = self.runtime().status(StatusRequest { verbose }).await?.into_inner();
        if verbose {
            *self.settings.lock() = settings(&status);
            let told = self.runtime().version(VersionRequest::default()).await?.into_inner();
            *self.version.lock() = Some(told.into());
        }
        let conditions = status.status.unwrap_or_default().conditions;
        Ok(conditions.into_iter().map(Into::into).collect())
    }

    /// containerd's own API.
    pub(crate) fn own(&self) -> Result<Own<'_>, Error> {
        self.gate()?;
        Ok(Own(self))
    }
}

/// Status' verbose part holds the configuration as JSON.
fn settings(status: &StatusResponse) -> Settings {
    let config = status.info.get("config").map(String::as_str).unwrap_or_default();
    let config: serde_json::Value = serde_json::from_str(config).unwrap_or_default();
    let directory = config.pointer("/cni/confDir").and_then(serde_json::Value::as_str);
    Settings {
        network_directory: directory.filter(|path| !path.is_empty()).map(PathBuf::from),
    }
}

/// Why containerd cannot be used, for people.
fn why(status: &Status) -> String {
    match status.code() {
        Code::Unimplemented => {
            "it serves no CRI v1; is \"cri\" among the disabled_plugins of its configuration?".to_owned()
        }
        _ => in_full(status),
    }
}

/// What a server answers has no cause: that is an error on the way to it.
fn is_transport(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// A status with the last of its causes, which says what happened.
fn in_full(status: &Status) -> String {
    let mut last: Option<&dyn std::error::Error> = std::error::Error::source(status);
    while let Some(next) = last.and_then(std::error::Error::source) {
        last = Some(next);
    }
    match last {
        Some(cause) => cause.to_string(),
        None => status.message().to_owned(),
    }
}

/// containerd's own API, in the namespace of CRI.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Own<'a>(&'a Link);

impl Own<'_> {
    pub(crate) fn channel(&self) -> Channel {
        self.0.channel.clone()
    }

    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let namespace = MetadataValue::from_static(NAMESPACE);
        request.metadata_mut().insert("containerd-namespace", namespace);
        request
    }

    /// A request whose effects a lease keeps.
    pub(crate) fn leased<T>(&self, lease: &str, message: T) -> Request<T> {
        let mut request = self.request(message);
        if let Ok(lease) = MetadataValue::try_from(lease) {
            request.metadata_mut().insert("containerd-lease", lease);
        }
        request
    }

    /// Makes a call; what it is refused with is for the caller.
    pub(crate) async fn attempt<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<Result<T, Status>, Error> {
        match timeout(PATIENCE, call).await {
            Ok(Ok(answer)) => Ok(Ok(answer.into_inner())),
            Ok(Err(status)) if is_transport(&status) => Err(self.0.lost(&status)),
            Ok(Err(status)) => Ok(Err(status)),
            Err(_) => Err(Error::Timeout {
                what: "containerd",
                after: PATIENCE,
            }),
        }
    }

    /// Makes a call.
    pub(crate) async fn call<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Error> {
        self.attempt(call).await?.map_err(|status| self.failed(doing, status))
    }

    pub(crate) fn failed(&self, doing: &'static str, status: Status) -> Error {
        match is_transport(&status) {
            true => self.0.lost(&status),
            false => Error::failed(doing, status.message().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_directory_stands_in_the_verbose_status() {
        let config = r#"{"cni": {"binDir": "/usr/lib/cni", "confDir": "/etc/cni/net.d"}}"#;
        let status = StatusResponse {
            info: [("config".to_owned(), config.to_owned())].into(),
            ..StatusResponse::default()
        };
        let read = settings(&status);
        assert_eq!(read.network_directory.as_deref(), Some(Path::new("/etc/cni/net.d")));
        assert_eq!(settings(&StatusResponse::default()), Settings::default());
    }

    #[tokio::test]
    async fn who_only_asks_does_not_wait_for_one_that_hangs() {
        let directory = tempfile::tempdir().unwrap();
        let link = Link::new(&directory.path().join("none.sock"));
        let attempt = Attempt {
            doing: "listing",
            what: "sandbox",
            id: "",
            patience: PATIENCE,
        };
        let never = std::future::pending::<Result<Response<()>, Status>>();
        let (answer, health) = tokio::join!(link.read(attempt, never), link.look());
        assert!(matches!(health, Health::Away(_)));
        let refused = answer.unwrap_err().chain();
        assert!(refused.contains("does not answer"), "{refused}");
    }

    #[tokio::test]
    async fn a_socket_without_anybody_is_away_and_calls_fail_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let link = Link::new(&directory.path().join("none.sock"));
        let attempt = Attempt {
            doing: "listing",
            what: "sandbox",
            id: "",
            patience: PATIENCE,
        };
        let Health::Away(reason) = link.look().await else {
            panic!("nobody is there")
        };
        assert!(reason.contains("No such file"), "{reason}");
        let never = std::future::pending::<Result<Response<()>, Status>>();
        let refused = link.call(attempt, never).await.unwrap_err().chain();
        assert!(
            refused.contains("does not answer") && refused.contains("No such file"),
            "{refused}"
        );
    }
}
