use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{net::UnixListener, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::{
    Kms,
    v2::{
        DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
        key_management_service_server::{KeyManagementService, KeyManagementServiceServer},
    },
};

/// A plugin whose "encryption" is to turn bits over, under a key that can be changed.
#[derive(Clone)]
pub(crate) struct Plugin {
    pub(crate) state: Arc<Mutex<State>>,
    pub(crate) endpoint: String,
    serving: Arc<JoinHandle<()>>,
}

pub(crate) struct State {
    pub(crate) key_id: String,
    pub(crate) healthz: String,
    pub(crate) asked: HashMap<&'static str, usize>,
}

impl Plugin {
    pub(crate) fn start(directory: &Path) -> Plugin {
        let socket: PathBuf = directory.join("kms.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state = Arc::new(Mutex::new(State {
            key_id: "first".into(),
            healthz: "ok".into(),
            asked: HashMap::new(),
        }));
        let service = KeyManagementServiceServer::new(Service(state.clone()));
        let serving = tokio::spawn(async move {
            let incoming = UnixListenerStream::new(listener);
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Plugin {
            state,
            endpoint: format!("unix://{}", socket.display()),
            serving: Arc::new(serving),
        }
    }

    pub(crate) fn asked(&self, what: &str) -> usize {
        self.state.lock().asked.get(what).copied().unwrap_or_default()
    }

    pub(crate) fn stop(&self) {
        self.serving.abort();
    }
}

struct Service(Arc<Mutex<State>>);

impl Service {
    fn count(&self, what: &'static str) {
        *self.0.lock().asked.entry(what).or_default() += 1;
    }
}

fn turned(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| !byte).collect()
}

#[tonic::async_trait]
impl KeyManagementService for Service {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.count("status");
        let state = self.0.lock();
        Ok(Response::new(StatusResponse {
            version: "v2".into(),
            healthz: state.healthz.clone(),
            key_id: state.key_id.clone(),
        }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        self.count("decrypt");
        let request = request.into_inner();
        match request.annotations.get("key.test") {
            Some(key) if *key == request.key_id.as_bytes() => Ok(Response::new(DecryptResponse {
                plaintext: turned(&request.ciphertext),
            })),
            _ => Err(Status::invalid_argument("no such key")),
        }
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        self.count("encrypt");
        let key_id = self.0.lock().key_id.clone();
        Ok(Response::new(EncryptResponse {
            ciphertext: turned(&request.into_inner().plaintext),
            annotations: HashMap::from([("key.test".to_owned(), key_id.clone().into_bytes())]),
            key_id,
        }))
    }
}

#[tokio::test]
async fn a_seed_comes_back_from_under_its_wrapping() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(directory.path());
    let kms = Kms::at(&plugin.endpoint).unwrap();
    assert_eq!(kms.key_id().await.unwrap(), "first");
    let wrapped = kms.wrap(&[7; 32]).await.unwrap();
    assert_eq!(wrapped.key_id, "first");
    plugin.state.lock().key_id = "second".into();
    assert_eq!(
        *kms.unwrap(&wrapped).await.unwrap(),
        [7; 32],
        "under the key that it names"
    );
    let mut other = wrapped.clone();
    other.key_id = "second".into();
    let error = kms.unwrap(&other).await.unwrap_err().to_string();
    assert!(error.contains("cannot decrypt: no such key"), "{error}");
}

#[tokio::test]
async fn says_what_is_wrong_with_the_plugin() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = Plugin::start(directory.path());
    let kms = Kms::at(&plugin.endpoint).unwrap();
    plugin.state.lock().healthz = "the vault is sealed".into();
    let error = kms.key_id().await.unwrap_err().to_string();
    assert!(
        error.contains("the vault is sealed") && error.contains("kms.sock"),
        "{error}"
    );
    plugin.state.lock().healthz = "ok".into();
    plugin.state.lock().key_id = String::new();
    assert!(kms.key_id().await.is_err());
    let away = Kms::at(&format!("unix://{}", directory.path().join("none").display())).unwrap();
    assert!(away.key_id().await.is_err());
    for endpoint in ["/tmp/kms.sock", "unix:kms.sock", "http://127.0.0.1:1"] {
        assert!(Kms::at(endpoint).is_err(), "{endpoint}");
    }
    plugin.stop();
}
