//! The API server as a value: what it is made of, how it starts, and how callers in this process reach it.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::time::Timestamp;
use rustls_pki_types::CertificateDer;
use store::Backend;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::admission::dynamic::{Dynamic, plans};
use crate::aggregation::{self, Aggregator, ProxyClient};
use crate::audit::log::Log;
use crate::audit::{self, Audit};
use crate::authn::certificate::Certificates;
use crate::authn::oidc::keys::Pace;
use crate::authn::outside::{self, Outside};
use crate::authn::{self, AUTHENTICATED, FirstOf, TokenAuthenticator, UserInfo};
use crate::authz::{self, Authorizer};
use crate::extensions;
use crate::flowcontrol::{self, FlowControl, MaxInflight};
use crate::http::body::Body;
use crate::http::discovery::Discovery;
use crate::http::health::{self, Check};
use crate::http::metrics::Metrics;
use crate::http::openapi::OpenApi;
use crate::http::pipeline::{Caller, handle};
use crate::http::published::Published;
use crate::registry::Deps;
use crate::registry::cached::CacheReader;
use crate::registry::catalog::Registry;
use crate::registry::reader::Reader;
use crate::registry::resource::Resource;
use crate::registry::virtuals::VirtualRoute;
use crate::resources::core::service::repair;
use crate::sessions::{self, Sessions, sign_in};
use crate::webhook;

/// Where the server reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Makes endpoints over what the server itself reads from.
pub type Virtuals = Box<dyn FnOnce(&Deps) -> Vec<VirtualRoute> + Send>;

/// Answers requests for pages that are no part of the API and open to everybody; `None` for all others.
pub type Pages = Arc<dyn Fn(&http::request::Parts) -> Option<http::Response<bytes::Bytes>> + Send + Sync>;

/// What a server is given.
pub struct Config {
    pub backend: Arc<dyn Backend>,
    /// As `/version` says it, e.g. `v1.36.2+wherry`.
    pub version: String,
    pub clock: Clock,
    /// Who signs client certificates; several while one is being replaced.
    pub client_ca: Vec<CertificateDer<'static>>,
    /// Shown to aggregated servers.
    pub proxy_client: Option<ProxyClient>,
    /// How many requests are served at once.
    pub max_inflight: MaxInflight,
    pub authentication: authn::Config,
    pub authorization: authz::Config,
    pub service_accounts: crate::tokens::Config,
    pub service_range: ipnet::Ipv4Net,
    pub kubernetes_address: Ipv4Addr,
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// Admission plugins beyond the built-in ones.
    pub admission: Vec<Arc<dyn Admission>>,
    /// Endpoints that need more than the store, such as logs.
    pub virtuals: Virtuals,
    /// What `/readyz` asks beyond the server's own checks.
    pub checks: Vec<Check>,
    /// What is written down of requests, and where.
    pub audit: Option<audit::Config>,
    /// How people sign in to the dashboard at an issuer.
    pub sign_in: Option<sign_in::Config>,
    /// The dashboard's files.
    pub pages: Option<Pages>,
}

/// The replaceable parts of a server.
pub(crate) struct Parts {
    pub(crate) resources: Vec<Resource>,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tokens: Option<Arc<dyn TokenAuthenticator>>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) virtuals: Vec<VirtualRoute>,
    pub(crate) published: Vec<Published>,
    pub(crate) sessions: Option<sessions::Shared>,
}

/// What is there before the parts are.
pub(crate) struct Beginning<'s> {
    pub(crate) config: &'s Config,
    pub(crate) deps: &'s Deps,
    pub(crate) tasks: &'s TaskTracker,
    pub(crate) shutdown: &'s CancellationToken,
}

impl Beginning<'_> {
    /// Whom the operator's configuration has one believe.
    pub(crate) fn outside(&self, pace: Pace) -> Arc<Outside> {
        let settings = self.config.authentication.settings.borrow().clone();
        let (clock, tasks, shutdown) = (self.config.clock.clone(), self.tasks.clone(), self.shutdown.clone());
        Arc::new(Outside::new(&settings, clock, pace, tasks, shutdown))
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the client certificate authorities cannot be used")]
    ClientCa(#[source] rustls::server::VerifierBuilderError),
    #[error("the certificate of a client certificate authority cannot be used")]
    Certificate(#[source] rustls::Error),
    #[error("the audit log cannot be written; see --audit-log-path")]
    AuditLog(#[source] std::io::Error),
    #[error("service account tokens cannot be made or checked")]
    Tokens(#[source] crate::tokens::Error),
}

/// What every request sees.
pub(crate) struct Shared {
    pub(crate) registry: Arc<Registry>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) admission: Vec<Arc<dyn Admission>>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tokens: Option<Arc<dyn TokenAuthenticator>>,
    pub(crate) outside: Arc<Outside>,
    pub(crate) certificates: Option<Certificates>,
    pub(crate) virtuals: Vec<VirtualRoute>,
    pub(crate) published: Vec<Published>,
    pub(crate) sessions: Option<sessions::Shared>,
    pub(crate) pages: Option<Pages>,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) webhooks: Arc<webhook::Caller>,
    /// Admission that users bring along.
    pub(crate) dynamic: Dynamic,
    pub(crate) aggregator: Arc<Aggregator>,
    pub(crate) flow_control: FlowControl,
    pub(crate) metrics: Metrics,
    pub(crate) checks: Vec<Check>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) version: String,
    clock: Clock,
    /// Cancelled when watches are to end.
    pub(crate) ending: CancellationToken,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// A running API server. Cheap to clone by its `Arc`; ends with the token it was started with.
pub struct ApiServer {
    pub(crate) shared: Arc<Shared>,
}

impl ApiServer {
    /// Starts the caches; returns at once, [`ApiServer::wait_ready`] tells when they are filled. Everything spawned
    /// belongs to `tasks` and ends with `shutdown`.
    pub async fn start(
        config: Config,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<Arc<ApiServer>, StartError> {
        let clock = config.clock.clone();
        let server = Self::assemble(config, tasks.clone(), shutdown.clone(), built_in)?;
        tasks.spawn(aggregation::run(server.shared.clone(), shutdown.clone()));
        tasks.spawn(flowcontrol::run(server.shared.clone(), shutdown.clone()));
        tasks.spawn(mend_claims(server.shared.clone(), clock.clone(), shutdown.clone()));
        tasks.spawn(count_quotas(server.shared.clone(), clock, shutdown));
        Ok(server)
    }

    /// Starts a server of other than the built-in parts.
    pub(crate) fn assemble(
        config: Config,
        tasks: TaskTracker,
        shutdown: CancellationToken,
        parts: impl FnOnce(Beginning<'_>) -> Result<Parts, StartError>,
    ) -> Result<Arc<ApiServer>, StartError> {
        let reader = Arc::new(CacheReader::new(tasks.clone(), shutdown.clone()));
        let deps = Deps {
            reader: reader.clone(),
            backend: config.backend.clone(),
            service_range: config.service_range,
            kubernetes_address: config.kubernetes_address,
            node_ports: config.node_ports.clone(),
        };
        let parts = parts(Beginning {
            config: &config,
            deps: &deps,
            tasks: &tasks,
            shutdown: &shutdown,
        })?;
        tasks.spawn(outside::run(
            parts.outside.clone(),
            config.authentication.settings,
            shutdown.clone(),
        ));
        let registry = Arc::new(Registry::start(parts.resources, &config.backend, &tasks, &shutdown));
        reader.attach(registry.clone());
        let certificates = match config.client_ca.is_empty() {
            true => None,
            false => Some(Certificates::new(config.client_ca)?),
        };
        let audit = match config.audit {
            None => None,
            Some(wanted) => Some(Arc::new(Audit {
                log: Log::open(wanted.output, config.clock.clone(), &tasks, shutdown.clone())
                    .map_err(StartError::AuditLog)?,
                policy: wanted.policy,
                clock: config.clock.clone(),
            })),
        };
        let metrics = Metrics::new();
        audit.iter().for_each(|audit| metrics.show_audit(audit.log.counters()));
        let webhooks = Arc::new(webhook::Caller::new(reader.clone()));
        let aggregator = Aggregator::new(config.proxy_client, webhooks.clone(), tasks.clone());
        let aggregator = Arc::new(aggregator);
        let virtuals = [parts.virtuals, (config.virtuals)(&deps)].concat();
        let documents = parts.published.iter().map(|document| document.path().to_owned());
        let paths = health::paths(&config.checks).into_iter().chain(documents).collect();
        let shared = Shared {
            discovery: Discovery::new(&registry, &virtuals, &aggregator, paths),
            openapi: OpenApi::new(&registry, &virtuals),
            registry,
            webhooks,
            dynamic: Dynamic::new(),
            aggregator,
            flow_control: FlowControl::new(config.max_inflight, tasks.clone()),
            backend: config.backend,
            reader,
            admission: parts.admission.into_iter().chain(config.admission).collect(),
            authorizer: parts.authorizer,
            tokens: parts.tokens,
            outside: parts.outside,
            certificates,
            virtuals,
            published: parts.published,
            sessions: parts.sessions,
            pages: config.pages,
            metrics,
            checks: config.checks,
            audit,
            version: config.version,
            clock: config.clock,
            ending: shutdown.child_token(),
        };
        let shared = Arc::new(shared);
        tasks.spawn(plans::run(shared.clone(), shutdown.clone()));
        tasks.spawn(extensions::run(shared.clone(), shutdown));
        Ok(Arc::new(ApiServer { shared }))
    }

    /// Returns when every cache has its first listing.
    pub async fn wait_ready(&self) {
        self.shared.registry.ready().await;
    }

    /// Whether every cache has its first listing.
    pub fn ready(&self) -> bool {
        self.shared.registry.is_ready()
    }

    /// What the server itself reads from.
    pub fn reader(&self) -> Arc<dyn Reader> {
        self.shared.reader.clone()
    }

    /// A code by which the dashboard signs a user in, once and soon; `None` where there are no sessions.
    pub fn sign_in_code(&self, user: &str, groups: &[&str]) -> Option<String> {
        let sessions = self.shared.sessions.as_ref()?;
        let groups = [groups, &[AUTHENTICATED]].concat();
        Some(sessions.link(user, &groups, self.shared.now()))
    }

    /// A client in this process that acts as a user: the same request path, less TLS and authentication. The group
    /// `system:authenticated` is added to `groups`.
    pub fn as_user(&self, name: &str, groups: &[&str]) -> kube::Client {
        let groups = groups
            .iter()
            .copied()
            .chain([AUTHENTICATED])
            .map(str::to_owned)
            .collect();
        let user = Arc::new(UserInfo {
            username: name.to_owned(),
            groups,
            ..UserInfo::default()
        });
        in_process(self.shared.clone(), user)
    }
}

/// A client in this process.
pub(crate) fn in_process(shared: Arc<Shared>, user: Arc<UserInfo>) -> kube::Client {
    let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
        let (shared, caller) = (shared.clone(), Caller::Internal(user.clone()));
        async move { Ok::<_, Infallible>(handle(shared, caller, request.map(Body::wrap)).await) }
    });
    kube::Client::new(service, "default")
}

/// Frees and takes what Services hold, once the caches know all Services.
async fn mend_claims(shared: Arc<Shared>, clock: Clock, shutdown: CancellationToken) {
    tokio::select! {
        () = shared.registry.ready() => {}
        () = shutdown.cancelled() => return,
    }
    repair::run(shared.reader.clone(), shared.backend.clone(), clock, shutdown).await;
}

/// Counts what quotas' namespaces use, once the caches know everything there is.
async fn count_quotas(shared: Arc<Shared>, clock: Clock, shutdown: CancellationToken) {
    tokio::select! {
        () = shared.registry.ready() => {}
        () = shutdown.cancelled() => return,
    }
    crate::quota::recount::run(shared.reader.clone(), shared.backend.clone(), clock, shutdown).await;
}

/// The parts a cluster runs with.
fn built_in(beginning: Beginning<'_>) -> Result<Parts, StartError> {
    let (deps, config) = (beginning.deps, beginning.config);
    let settings = config.authorization.settings.clone();
    let authorizer = Arc::new(authz::Configured::new(deps, &settings.borrow()));
    let (tasks, shutdown) = (beginning.tasks, beginning.shutdown.clone());
    tasks.spawn(authz::run(authorizer.clone(), settings, shutdown));
    let tokens =
        crate::tokens::start(&config.service_accounts, deps, config.clock.clone()).map_err(StartError::Tokens)?;
    let published = tokens.published();
    let mut virtuals = authz::virtuals(authorizer.clone());
    let bootstrap = Arc::new(crate::tokens::bootstrap::Bootstrap {
        reader: deps.reader.clone(),
        clock: config.clock.clone(),
    });
    let outside = beginning.outside(Pace::default());
    let mut others: Vec<Arc<dyn TokenAuthenticator>> = vec![bootstrap, outside.clone()];
    if let Some(webhook) = config.authentication.webhook.clone() {
        let audiences = config.service_accounts.audiences.clone();
        others.push(Arc::new(authn::webhook::Reviewer::new(webhook, audiences)));
    }
    let others = Arc::new(FirstOf(others));
    virtuals.extend(tokens.virtuals(others.clone()));
    virtuals.push(crate::pods::bindings());
    let sessions = Arc::new(Sessions::new(config.service_accounts.key.as_bytes()));
    let sign_in = config.sign_in.clone();
    let sign_in = sign_in.map(|config| Arc::new(sign_in::SignIn::new(config, outside.clone())));
    virtuals.push(sessions::routes(sessions.clone(), sign_in));
    Ok(Parts {
        resources: crate::resources::catalogue(deps),
        admission: crate::admission::plugins(deps, authorizer.clone()),
        authorizer,
        tokens: Some(Arc::new(FirstOf(vec![tokens, others]))),
        outside,
        virtuals,
        published,
        sessions: Some(sessions),
    })
}
