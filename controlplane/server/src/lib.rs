//! The control plane, composed: identity, store, API server, bootstrap objects, controllers and scheduler.
//!
//! [`Server::start`] returns once the API answers on its listeners; [`Server::stop`] ends everything in order. Nothing is
//! decided here: this crate reads a configuration, makes the parts and gives each what it needs.

mod asked;
mod authentication;
mod authorization;
pub mod backup;
mod control;
mod endpoints;
mod files;
mod history;
mod identity;
mod keys;
mod kms;
mod kubeconfig;
mod leading;
mod listen;
pub mod pki;
mod rotate;
mod stores;
mod tls;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use apiserver::http::dial::{Dialer, Direct};
use apiserver::{ApiServer, bootstrap, http::health::Check, registry::Deps, registry::virtuals::VirtualRoute};
use client::{Client, Clock, Informers};
use ipnet::Ipv4Net;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::task::AbortHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{endpoints::Keeper, leading::Turn, listen::Plan, pki::Pki, stores::Stores};

pub use apiserver::MaxInflight;
pub use apiserver::audit::{Config as AuditConfig, log::Output as AuditOutput, policy::Policy as AuditPolicy};
pub use apiserver::authn::oidc::{config as oidc, jwt::Algorithm as SigningAlgorithm};
pub use apiserver::authz::config as authorizers;
pub use apiserver::images::DOMAIN as IMAGE_DOMAIN;
pub use authentication::{Authentication, Issuers, SignIn, TokenWebhook};
pub use authorization::Authorization;
pub use identity::Token;
pub use image_registry::{Inspector, Limits as ImageLimits, Looked};
pub use listen::{bind, primary_address};
pub use store_etcd::{Options as EtcdOptions, Tls as EtcdTls};
pub use stores::Store;

/// The version of Kubernetes whose API is served.
pub const VERSION: &str = "v1.36.2+wherry";

/// How long the parts may take to end, each in its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Issuer of service account tokens, as Kubernetes has it where nothing else is configured.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Whom the link of `wherry up` signs in, as its kubeconfig does.
const ADMINISTRATOR: &str = "kubernetes-admin";
/// Where the images of the cluster's own registry are in a data directory.
const IMAGES: &str = "registry";
/// Keys that hold Secrets.
const SECRETS: &str = "core/secrets/";

/// Whether a value is encrypted at rest.
fn is_sealed(key: &str) -> bool {
    key.starts_with(SECRETS) || key.starts_with(image_registry::shared::PREFIX)
}

/// What a control plane is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Holds the keys and the certificates.
    pub data_dir: PathBuf,
    /// Holds the objects.
    pub store: Store,
    /// `unix:///PATH` of a key management plugin that wraps the keys of Secrets.
    pub kms_endpoint: Option<String>,
    /// Further names and addresses that the API server's certificate is for.
    pub tls_san: Vec<String>,
    /// Where nodes and pods reach this API server, if that is not where it listens.
    pub advertise: Option<IpAddr>,
    /// Where the API is served.
    pub api_bind: SocketAddr,
    /// How many requests it serves at once.
    pub max_inflight: MaxInflight,
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
    /// The images that it keeps for its nodes.
    pub images: Images,
    /// What is written down of requests, and where.
    pub audit: Option<AuditConfig>,
    /// Who may come, beside those with the cluster's own credentials.
    pub authentication: Authentication,
    /// Who is asked whether something may be done.
    pub authorization: Authorization,
}

/// The images that a control plane keeps.
#[derive(Clone, Debug)]
pub struct Images {
    pub limits: ImageLimits,
    /// Looks into programs before they are kept.
    pub inspector: Arc<dyn Inspector>,
}

/// Where a node's files are by which it shows itself to the API: PEM.
#[derive(Clone, Debug)]
pub struct NodeCredentials {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Why a control plane does not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Pki(#[from] pki::Error),
    #[error("the cluster's authority cannot sign")]
    Authority(#[from] controllers::AuthorityError),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error(transparent)]
    Listen(#[from] listen::Error),
    #[error(transparent)]
    Store(#[from] store_redb::OpenError),
    #[error(transparent)]
    Etcd(#[from] store_etcd::OpenError),
    #[error(transparent)]
    Identity(#[from] identity::Error),
    #[error("the encryption keys were replaced by another control plane meanwhile; try again")]
    Rotating,
    #[error(
        "a new key seals Secrets from now on, but not all that were sealed with older ones are sealed anew; try again"
    )]
    Reseal(#[source] store::Error),
    #[error("cannot keep this API server among the endpoints of the others")]
    Endpoints(#[source] Box<endpoints::Failed>),
    #[error("cannot start the API server")]
    ApiServer(#[from] apiserver::StartError),
    #[error(transparent)]
    Images(#[from] image_registry::OpenError),
    #[error(transparent)]
    Authentication(#[from] authentication::Error),
    #[error(transparent)]
    Authorization(#[from] authorization::Error),
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
    store: Arc<Stores>,
    pki: Pki,
    /// Signs requests for certificates.
    authority: Arc<controllers::Authority>,
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
        let plan = match config.advertise {
            Some(address) => Plan::advertising(bound, address),
            None => Plan::new(bound, config.gateway, primary_address()),
        };
        let for_pods = plan.for_pods.map(|address| bind(address, true)).transpose()?;

        // With a shared store, the authorities come from it.
        let store = Stores::open(&config.store, config.kms_endpoint.as_deref(), &config.data_dir, &clock).await?;
        let store = Arc::new(store);
        let pki = Pki::ensure(
            &config.data_dir.join("pki"),
            &names(&config, &plan, kubernetes_address),
            clock.now(),
        )?;
        let backend = store.backend();
        let caches = (TaskTracker::new(), CancellationToken::new());
        let authentication = config.authentication.start(&caches.0, &caches.1)?;
        let authorization = config.authorization.start(&caches.0, &caches.1)?;
        let bootstrapped = Arc::new(AtomicBool::new(false));
        let components = Arc::new(Components::default());
        let images = images(&config, &store, &clock).await?;
        let kept = control::Kept {
            stores: store.clone(),
            images: images.clone(),
        };
        caches.0.spawn(images.clone().run(caches.1.clone()));
        let api = ApiServer::start(
            apiserver::Config {
                backend,
                version: VERSION.to_owned(),
                clock: api_clock(&clock),
                client_ca: tls::certificates(&pki.ca)?,
                proxy_client: Some(apiserver::ProxyClient {
                    certificates: tls::certificates(&pki.front_proxy.certificate)?,
                    key: tls::private_key(&pki.front_proxy)?,
                }),
                max_inflight: config.max_inflight,
                authentication,
                authorization,
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
                admission: vec![Arc::new(image_registry::admission::Images)],
                virtuals: virtuals(&pki, &clock, &caches, components.clone(), images)?,
                checks: store
                    .check()
                    .into_iter()
                    .chain([bootstrap_check(bootstrapped.clone())])
                    .collect(),
                audit: config.audit.clone(),
                sign_in: config.authentication.sign_in()?,
                pages: pages(),
            },
            caches.0.clone(),
            caches.1.clone(),
        )
        .await?;
        api.wait_ready().await;

        let server = Self {
            authority: Arc::new(controllers::Authority::new(&pki.ca, &pki.ca_key)?),
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
        server.store.keep(&server.serving.0, &server.serving.1);
        if let Err(error) = control::serve(kept, &server.serving.0, &server.serving.1) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "backups cannot be taken while this runs"
            );
        }
        kubeconfig::write(&config.kubeconfig, server.address, &server.pki)?;
        let shared = server.store.is_shared();
        let cluster = bootstrap::Cluster {
            advertise: (!shared).then_some(plan.advertise).into_iter().collect(),
            advertise_port: plan.bind.port(),
            service_range: config.service_range,
            kubernetes_address,
            client_ca: server.pki.ca.clone(),
            front_proxy_ca: server.pki.front_proxy_ca.clone(),
        };
        let admin = server.api.as_user("system:apiserver", &["system:masters"]);
        bootstrap::reconcile(&admin, &cluster).await?;
        if shared {
            server.keep_endpoints(admin, cluster, plan.advertise).await?;
        }
        bootstrapped.store(true, Ordering::Release);
        server.run_components(&config, &components);
        Ok(server)
    }

    /// A client in this process that acts as a user.
    pub fn client(&self, user: &str, groups: &[&str]) -> Client {
        Client::new(self.api.as_user(user, groups))
    }

    /// Where a browser on this machine finds the dashboard, signed in as the administrator: once, and soon. Where the build
    /// holds none, a page there says how to add it, to everybody.
    pub fn sign_in_link(&self) -> Option<String> {
        pages()?;
        if !has_dashboard() {
            return Some(format!("https://{}/ui/", self.address));
        }
        let code = self.api.sign_in_code(ADMINISTRATOR, &["system:masters"])?;
        Some(format!("https://{}/ui/#/signin/{code}", self.address))
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

    /// By what the node on this machine shows itself where it is not in this process.
    pub fn node_credentials(&self) -> NodeCredentials {
        let file = |name: &str| self.store.data_dir.join("pki").join(name);
        NodeCredentials {
            authority: file("ca.crt"),
            certificate: file("node.crt"),
            key: file("node.key"),
        }
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

    /// Shows this server to the others and to pods, from now on.
    async fn keep_endpoints(
        &self,
        admin: kube::Client,
        cluster: bootstrap::Cluster,
        address: IpAddr,
    ) -> Result<(), Error> {
        let keeper = Keeper {
            backend: self.store.backend(),
            client: admin,
            cluster,
            address,
            clock: self.clock.clone(),
        };
        keeper
            .renew()
            .await
            .map_err(|error| Error::Endpoints(Box::new(error)))?;
        self.loops.0.spawn(keeper.run(self.loops.1.clone()));
        Ok(())
    }

    fn run_components(&self, config: &Config, components: &Components) {
        let identity = leading::identity(&config.node_name);
        let turn = |lease: &'static str, user: &str| match self.store.is_shared() {
            true => Turn::elected(lease, &identity, self.client(user, &[])),
            false => Turn::Alone,
        };
        let (tasks, shutdown) = &self.loops;
        let (clock, api) = (self.clock.clone(), self.api.clone());
        let (scheduling, end) = (turn("kube-scheduler", "system:kube-scheduler"), shutdown.clone());
        let running = tasks.spawn(async move {
            let scheduler = |tasks, end| run_scheduler(&api, &clock, tasks, end);
            scheduling.run(&clock, end, scheduler).await;
        });
        let _ = components.scheduler.set(running.abort_handle());
        let (clock, api) = (self.clock.clone(), self.api.clone());
        let settings = controllers::Config {
            cluster_range: config.cluster_range,
            node_prefix: config.node_prefix,
            root_ca: self.pki.ca.clone(),
            authority: Some(self.authority.clone()),
            // A control plane alone has none.
            own_node: (!config.node_addresses.is_empty()).then(|| controllers::OwnNode {
                name: config.node_name.clone(),
                addresses: config.node_addresses.clone(),
            }),
            clock: clock.clone(),
        };
        let (controlling, end) = (
            turn("kube-controller-manager", "system:kube-controller-manager"),
            shutdown.clone(),
        );
        let running = tasks.spawn(async move {
            let controllers = |tasks, end| run_controllers(&api, settings.clone(), tasks, end);
            controlling.run(&clock, end, controllers).await;
        });
        let _ = components.controllers.set(running.abort_handle());
    }
}

fn run_scheduler(
    api: &ApiServer,
    clock: &Clock,
    tasks: TaskTracker,
    end: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let client = Client::new(api.as_user("system:kube-scheduler", &[]));
    let config = scheduler::Config {
        informers: Informers::new(client.clone(), tasks, end.clone()),
        client,
        scheduler_name: scheduler::DEFAULT_SCHEDULER.to_owned(),
        clock: clock.clone(),
    };
    scheduler::run(config, end)
}

fn run_controllers(
    api: &Arc<ApiServer>,
    config: controllers::Config,
    tasks: TaskTracker,
    end: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let reads = Client::new(api.as_user("system:kube-controller-manager", &[]));
    let api = api.clone();
    let service_account = move |user: &str| {
        Client::new(api.as_user(user, &["system:serviceaccounts", "system:serviceaccounts:kube-system"]))
    };
    controllers::run_all(service_account, Informers::new(reads, tasks, end.clone()), config, end)
}

/// An error with its causes, in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
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
                live: false,
            }
        };
        vec![
            check("controller-manager", |components| &components.controllers),
            check("scheduler", |components| &components.scheduler),
        ]
    }
}

/// The dashboard, where it is part of this build.
#[cfg(feature = "web-ui")]
fn pages() -> Option<apiserver::Pages> {
    Some(Arc::new(dashboard::answer))
}

#[cfg(not(feature = "web-ui"))]
fn pages() -> Option<apiserver::Pages> {
    None
}

/// Whether there was Node.js where this was built.
#[cfg(feature = "web-ui")]
fn has_dashboard() -> bool {
    dashboard::is_built()
}

#[cfg(not(feature = "web-ui"))]
fn has_dashboard() -> bool {
    false
}

/// The image registry: in the data directory, or in the store where others share that.
async fn images(
    config: &Config,
    store: &Stores,
    clock: &Clock,
) -> Result<image_registry::Registry, image_registry::OpenError> {
    let sharing = store.is_shared().then(|| image_registry::shared::Sharing {
        backend: store.backend(),
        clock: api_clock(clock),
    });
    let config = image_registry::Config {
        directory: config.data_dir.join(IMAGES),
        limits: config.images.limits,
        inspector: config.images.inspector.clone(),
        sharing,
    };
    image_registry::Registry::open(config).await
}

/// Endpoints that reach beyond the store.
fn virtuals(
    pki: &Pki,
    clock: &Clock,
    (tasks, shutdown): &(TaskTracker, CancellationToken),
    components: Arc<Components>,
    images: image_registry::Registry,
) -> Result<apiserver::Virtuals, tls::Error> {
    let kubelets = tls::client(&pki.kubelet_client, &pki.ca)?;
    let (clock, tasks, shutdown) = (api_clock(clock), tasks.clone(), shutdown.clone());
    Ok(Box::new(move |deps: &Deps| -> Vec<VirtualRoute> {
        let dialer: Arc<dyn Dialer> = Arc::new(Direct::new(deps.reader.clone(), kubelets));
        let mut routes = vec![
            apiserver::components::route(deps.backend.clone(), components.checks()),
            apiserver::pods::log::route(dialer.clone(), tasks.clone()),
        ];
        routes.extend(apiserver::pods::stream::routes(&dialer, &tasks));
        routes.extend(apiserver::proxy::routes(&dialer, &tasks));
        routes.extend(apiserver::history::routes(&dialer, &tasks, &shutdown));
        routes.extend(apiserver::usage::routes(&deps.reader, &dialer, clock, &tasks, shutdown));
        routes.push(images.route());
        routes
    }))
}

fn names(config: &Config, plan: &Plan, kubernetes_address: Ipv4Addr) -> pki::Names {
    let mut api_addresses: Vec<IpAddr> = vec![
        IpAddr::V4(kubernetes_address),
        Ipv4Addr::LOCALHOST.into(),
        plan.advertise,
    ];
    if !plan.bind.ip().is_unspecified() {
        api_addresses.push(plan.bind.ip());
    }
    let mut api_names = Vec::new();
    for name in &config.tls_san {
        match name.parse() {
            Ok(address) => api_addresses.push(address),
            Err(_) => api_names.push(name.clone()),
        }
    }
    api_addresses.sort_unstable();
    api_addresses.dedup();
    pki::Names {
        api_addresses,
        api_names,
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
        live: false,
    }
}
