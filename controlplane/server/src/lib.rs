//! The control plane, composed: identity, store, API server, bootstrap objects, controllers and scheduler.
//!
//! [`Server::start`] returns once the API answers on its listeners; [`Server::stop`] ends everything in order. Nothing is
//! decided here: this crate reads a configuration, makes the parts and gives each what it needs.

mod files;
mod keys;
mod kubeconfig;
mod listen;
pub mod pki;
mod tls;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apiserver::{ApiServer, bootstrap, http::health::Check, registry::Deps, registry::virtuals::VirtualRoute};
use client::{Client, Clock, Informers};
use ipnet::Ipv4Net;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use store::encrypt::Encrypted;
use store_redb::Redb;
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{listen::Plan, pki::Pki};

pub use listen::{bind, primary_address};

/// The version of Kubernetes whose API is served.
pub const VERSION: &str = "v1.36.2+wherry";

/// How long the parts may take to end, each in its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Issuer of service account tokens, as Kubernetes has it where nothing else is configured.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Keys that hold Secrets.
const SECRETS: &str = "core/secrets/";

/// What a control plane is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the store, the keys and the certificates.
    pub data_dir: PathBuf,
    /// Where the API is served.
    pub api_bind: SocketAddr,
    /// Where the administrator's kubeconfig is written.
    pub kubeconfig: PathBuf,
    /// The node on this machine; its kubelet gets a certificate.
    pub node_name: String,
    /// Addresses of that node.
    pub node_addresses: Vec<IpAddr>,
    /// The node's own address on the pod network: where pods reach an API that is served on loopback.
    pub gateway: Ipv4Addr,
    pub cluster_range: Ipv4Net,
    pub service_range: Ipv4Net,
    /// Ports that Services of type NodePort may have.
    pub node_ports: RangeInclusive<u16>,
    /// Prefix length of a node's pod range.
    pub node_prefix: u8,
}

/// Why a control plane does not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    Store(#[from] store_redb::OpenError),
    #[error("cannot start the API server")]
    ApiServer(#[from] apiserver::StartError),
    #[error("cannot use the cluster's certificates")]
    Tls(#[from] tls::Error),
    #[error("the Service range {0} is too small; give --service-cidr at least a /28")]
    ServiceRange(Ipv4Net),
    #[error("cannot write the default objects; is the disk full?")]
    Bootstrap(#[source] Box<bootstrap::Error>),
}

impl From<bootstrap::Error> for Error {
    fn from(error: bootstrap::Error) -> Self {
        Self::Bootstrap(Box::new(error))
    }
}

/// A running control plane.
pub struct Server {
    api: Arc<ApiServer>,
    store: Arc<Redb>,
    pki: Pki,
    address: SocketAddr,
    clock: Clock,
    /// Components, and the API they use: ended in this order.
    loops: (TaskTracker, CancellationToken),
    serving: (TaskTracker, CancellationToken),
    caches: (TaskTracker, CancellationToken),
}

/// A kubelet's certificate and key, and the authorities of its clients; DER.
pub struct KubeletIdentity {
    pub certificates: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub authorities: Vec<CertificateDer<'static>>,
}

impl Server {
    /// Starts everything; when this returns, `/readyz` answers `ok`.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let clock = Clock::system();
        let kubernetes_address = config
            .service_range
            .hosts()
            .next()
            .ok_or(Error::ServiceRange(config.service_range))?;
        let listener = bind(config.api_bind, false)?;
        let bound = SocketAddr::new(
            config.api_bind.ip(),
            listener.local_addr().map_or(config.api_bind.port(), |a| a.port()),
        );
        let plan = Plan::new(bound, config.gateway, primary_address());
        let for_pods = plan.for_pods.map(|address| bind(address, true)).transpose()?;

        let pki = Pki::ensure(
            &config.data_dir.join("pki"),
            &names(&config, &plan, kubernetes_address),
            clock.now(),
        )?;
        let (store, backend) = open_store(&config.data_dir)?;
        let caches = (TaskTracker::new(), CancellationToken::new());
        let bootstrapped = Arc::new(AtomicBool::new(false));
        let components = Arc::new(Components::default());
        let api = ApiServer::start(
            apiserver::Config {
                backend,
                version: VERSION.to_owned(),
                clock: api_clock(&clock),
                client_ca: tls::certificates(&pki.ca)?,
                service_accounts: apiserver::tokens::Config {
                    key: pki.service_account_key.clone(),
                    issuer: ISSUER.to_owned(),
                    audiences: vec![ISSUER.to_owned()],
                    jwks_uri: format!(
                        "https://{}/openid/v1/jwks",
                        SocketAddr::new(plan.advertise, plan.bind.port())
                    ),
                },
                service_range: config.service_range,
                kubernetes_address,
                node_ports: config.node_ports.clone(),
                admission: Vec::new(),
                virtuals: virtuals(&pki, &caches.0, components.clone())?,
                checks: vec![bootstrap_check(bootstrapped.clone())],
            },
            caches.0.clone(),
            caches.1.clone(),
        )
        .await?;
        api.wait_ready().await;

        let server = Self {
            address: plan.local_address(),
            clock,
            loops: Default::default(),
            serving: Default::default(),
            caches,
            api,
            store,
            pki,
        };
        server.serve(std::iter::once(listener).chain(for_pods))?;
        kubeconfig::write(&config.kubeconfig, server.address, &server.pki)?;
        let cluster = bootstrap::Cluster {
            advertise: plan.advertise,
            advertise_port: plan.bind.port(),
            service_range: config.service_range,
            kubernetes_address,
            client_ca: server.pki.ca.clone(),
        };
        bootstrap::reconcile(&server.api.as_user("system:apiserver", &["system:masters"]), &cluster).await?;
        bootstrapped.store(true, Ordering::Release);
        server.run_components(&config, &components);
        Ok(server)
    }

    /// A client in this process that acts as a user.
    pub fn client(&self, user: &str, groups: &[&str]) -> Client {
        Client::new(self.api.as_user(user, groups))
    }

    /// What the kubelet on this machine serves its API with.
    pub fn kubelet_identity(&self) -> Result<KubeletIdentity, Error> {
        let identity = &self.pki.kubelet_serving;
        Ok(KubeletIdentity {
            certificates: tls::certificates(&identity.certificate)?,
            key: tls::private_key(identity)?,
            authorities: tls::certificates(&self.pki.ca)?,
        })
    }

    /// Where clients on this machine reach the API.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends components, then connections, then caches, then the store; each gets a deadline.
    pub async fn stop(self) {
        for (what, (tasks, token)) in [
            ("components", &self.loops),
            ("connections", &self.serving),
            ("caches", &self.caches),
        ] {
            token.cancel();
            tasks.close();
            if tokio::time::timeout(PATIENCE, tasks.wait()).await.is_err() {
                tracing::warn!(what, left = tasks.len(), "did not end in time");
            }
        }
        self.store.close().await;
    }

    fn serve(&self, listeners: impl Iterator<Item = tokio::net::TcpListener>) -> Result<(), tls::Error> {
        let config = tls::server(&self.pki.apiserver)?;
        for listener in listeners {
            let (api, config, shutdown) = (self.api.clone(), config.clone(), self.serving.1.clone());
            self.serving
                .0
                .spawn(async move { api.serve(listener, config, shutdown).await });
        }
        Ok(())
    }

    fn run_components(&self, config: &Config, components: &Components) {
        let (tasks, shutdown) = &self.loops;
        let informers = |client: Client| Informers::new(client, tasks.clone(), shutdown.clone());
        let scheduler = self.client("system:kube-scheduler", &[]);
        let running = tasks.spawn(scheduler::run(
            scheduler::Config {
                informers: informers(scheduler.clone()),
                client: scheduler,
                scheduler_name: scheduler::DEFAULT_SCHEDULER.to_owned(),
                clock: self.clock.clone(),
            },
            shutdown.clone(),
        ));
        let _ = components.scheduler.set(running.abort_handle());
        let api = self.api.clone();
        let service_account = move |user: &str| {
            Client::new(api.as_user(user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"]))
        };
        let running = tasks.spawn(controllers::run_all(
            service_account,
            informers(self.client("system:kube-controller-manager", &[])),
            controllers::Config {
                cluster_range: config.cluster_range,
                node_prefix: config.node_prefix,
                root_ca: self.pki.ca.clone(),
                clock: self.clock.clone(),
            },
            shutdown.clone(),
        ));
        let _ = components.controllers.set(running.abort_handle());
    }
}

/// Opens the store, with its Secrets encrypted.
fn open_store(data_dir: &Path) -> Result<(Arc<Redb>, Arc<dyn store::Backend>), Error> {
    let path = data_dir.join("store.redb");
    let keys = keys::ensure(&data_dir.join("keys"), path.exists())?;
    let store = Arc::new(Redb::open(&path, store_redb::Options::default())?);
    let backend = Arc::new(Encrypted::new(store.clone(), keys, |key| key.starts_with(SECRETS)));
    Ok((store, backend))
}

/// The components of the control plane beside its API, once they have been started.
#[derive(Default)]
struct Components {
    scheduler: OnceLock<AbortHandle>,
    controllers: OnceLock<AbortHandle>,
}

impl Components {
    fn checks(self: &Arc<Self>) -> Vec<Check> {
        let check = |name, component: fn(&Self) -> &OnceLock<AbortHandle>| {
            let components = self.clone();
            let passes = move || component(&components).get().is_some_and(|task| !task.is_finished());
            Check {
                name,
                passes: Arc::new(passes),
            }
        };
        vec![
            check("controller-manager", |components| &components.controllers),
            check("scheduler", |components| &components.scheduler),
        ]
    }
}

/// Endpoints that reach beyond the store.
fn virtuals(pki: &Pki, tasks: &TaskTracker, components: Arc<Components>) -> Result<apiserver::Virtuals, tls::Error> {
    let kubelets = tls::client(&pki.kubelet_client, &pki.ca)?;
    let tasks = tasks.clone();
    Ok(Box::new(move |deps: &Deps| -> Vec<VirtualRoute> {
        let dialer = Arc::new(apiserver::http::dial::Direct::new(deps.reader.clone(), kubelets));
        vec![
            apiserver::pods::log::route(dialer, tasks),
            apiserver::components::route(deps.backend.clone(), components.checks()),
        ]
    }))
}

fn names(config: &Config, plan: &Plan, kubernetes_address: Ipv4Addr) -> pki::Names {
    let mut api_addresses = vec![
        IpAddr::V4(kubernetes_address),
        Ipv4Addr::LOCALHOST.into(),
        plan.advertise,
    ];
    if !plan.bind.ip().is_unspecified() {
        api_addresses.push(plan.bind.ip());
    }
    api_addresses.sort_unstable();
    api_addresses.dedup();
    pki::Names {
        api_addresses,
        api_names: Vec::new(),
        node_name: config.node_name.clone(),
        node_addresses: config.node_addresses.clone(),
    }
}

fn api_clock(clock: &Clock) -> apiserver::Clock {
    let clock = clock.clone();
    Arc::new(move || clock.now())
}

fn bootstrap_check(done: Arc<AtomicBool>) -> Check {
    Check {
        name: "poststarthook/rbac/bootstrap-roles",
        passes: Arc::new(move || done.load(Ordering::Acquire)),
    }
}
