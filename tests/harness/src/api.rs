//! The API server of a test cluster: killed and started again over the same store, any number of times.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use apiserver::{ApiServer, bootstrap};
use client::{Client, Clock};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{link::Link, store::Weathered, weather::Weather};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SERVICE_RANGE: &str = "10.96.0.0/16";
const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The API server, or the place where it would be.
pub struct Api {
    store: Weathered,
    clock: Clock,
    weather: Arc<Weather>,
    keys: Keys,
    current: Mutex<Option<Arc<Running>>>,
    started: AtomicU64,
}

/// What clients are told to trust. Its text stands in objects, so it is no certificate made at random.
pub(crate) const AUTHORITY: &str = "-----BEGIN CERTIFICATE-----\nd2hlcnJ5\n-----END CERTIFICATE-----\n";

/// Keys and a certificate, made at random: nothing of them stands in an object.
pub(crate) struct Keys {
    pub(crate) service_accounts: String,
    pub(crate) serving: (Vec<u8>, Vec<u8>),
}

impl Keys {
    fn make() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let authority = params.self_signed(&key).expect("authority");
        Self {
            service_accounts: KeyPair::generate().expect("key").serialize_pem(),
            serving: (authority.der().to_vec(), key.serialize_der()),
        }
    }
}

/// One life of the API server.
pub(crate) struct Running {
    pub(crate) number: u64,
    pub(crate) api: Arc<ApiServer>,
    /// Cancelled at the moment it dies: nothing that is under way is answered.
    pub(crate) killed: CancellationToken,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Api {
    /// A store and no server yet.
    pub fn new(store: Weathered, clock: Clock, weather: Arc<Weather>) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            weather,
            keys: Keys::make(),
            current: Mutex::new(None),
            started: AtomicU64::new(0),
        })
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn current(&self) -> Option<Arc<Running>> {
        self.current.lock().clone()
    }

    /// A way to the API as `user`, through the weather; it leads to whichever server is up.
    pub fn client(self: &Arc<Self>, user: &str, groups: &[&str]) -> Client {
        self.client_in(self.weather.clone(), user, groups)
    }

    /// The administrator's way, on which the weather is always fair.
    pub fn administrator(self: &Arc<Self>) -> Client {
        self.client_in(Arc::new(Weather::new(0)), "kubernetes-admin", &["system:masters"])
    }

    fn client_in(self: &Arc<Self>, weather: Arc<Weather>, user: &str, groups: &[&str]) -> Client {
        let link = Link {
            api: self.clone(),
            weather,
            user: user.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            inner: Arc::default(),
        };
        Client::new(kube::Client::new(link, "default"))
    }

    /// Kills the server: what is under way is cut off wherever it is. Without one, nothing happens.
    pub async fn kill(&self) {
        let Some(running) = self.current.lock().take() else {
            return;
        };
        running.killed.cancel();
        running.shutdown.cancel();
        running.tasks.close();
        running.tasks.wait().await;
    }

    /// Starts a server over the store, unless one is up. The default objects are written before this returns, unless
    /// the weather kept them from it: then the server is killed and it is for the caller to try again.
    pub async fn start(&self) -> bool {
        if self.current.lock().is_some() {
            return true;
        }
        let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let clock = self.clock.clone();
        let config = apiserver::Config {
            backend: Arc::new(self.store.clone()),
            version: "v1.36.2+wherry".into(),
            clock: Arc::new(move || clock.now()),
            client_ca: Vec::new(),
            proxy_client: None,
            max_inflight: apiserver::MaxInflight::default(),
            authentication: apiserver::authn::Config::fixed(Default::default()),
            authorization: apiserver::authz::Config::fixed(Default::default()),
            service_accounts: apiserver::tokens::Config {
                key: self.keys.service_accounts.clone(),
                issuer: ISSUER.into(),
                jwks_uri: "https://192.0.2.1:6443/openid/v1/jwks".into(),
                audiences: vec![ISSUER.into()],
            },
            service_range: SERVICE_RANGE.parse().expect("a range"),
            kubernetes_address: KUBERNETES,
            node_ports: 30000..=32767,
            admission: Vec::new(),
            virtuals: Box::new(|_| Vec::new()),
            checks: Vec::new(),
            audit: None,
            sign_in: None,
            pages: None,
        };
        let api = ApiServer::start(config, tasks.clone(), shutdown.clone())
            .await
            .expect("the API server starts");
        api.wait_ready().await;
        let cluster = bootstrap::Cluster {
            advertise: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            advertise_port: 6443,
            service_range: SERVICE_RANGE.parse().expect("a range"),
            kubernetes_address: KUBERNETES,
            client_ca: AUTHORITY.to_owned(),
            front_proxy_ca: AUTHORITY.to_owned(),
        };
        let running = Running {
            number: self.started.fetch_add(1, Ordering::Relaxed),
            killed: CancellationToken::new(),
            api,
            tasks,
            shutdown,
        };
        let written =
            bootstrap::reconcile(&running.api.as_user("system:apiserver", &["system:masters"]), &cluster).await;
        *self.current.lock() = Some(Arc::new(running));
        if let Err(error) = &written {
            tracing::info!(
                error = error as &dyn std::error::Error,
                "the API server did not come up"
            );
            self.kill().await;
        }
        written.is_ok()
    }
}
