//! This node's own certificates: asked of the cluster by CertificateSigningRequests, kept in the data directory, and replaced
//! in time, without a connection noticing.
//!
//! As on any Kubernetes node there are two: `pki/kubelet-server-current.pem`, by which the kubelet API is known (signer
//! `kubernetes.io/kubelet-serving`), and `pki/kubelet-client-current.pem`, by which the node's own programs are known to the
//! API (signer `kubernetes.io/kube-apiserver-client-kubelet`). Each file holds a certificate and its key, and is its owner's
//! alone. When to ask is decided in [`held`], pure; until the first serving certificate is there, and while one cannot be
//! had, the kubelet API has the one that it was given.

mod ask;
mod held;
mod resolver;
mod store;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Client, Clock};
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

pub(crate) use held::Held;
pub(crate) use resolver::Resolver;

/// When it is tried again, the first time; then twice as late each time.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(15 * 60);
/// How often it is looked whether a certificate is due: a machine that slept does not notice how long.
const LOOK: Duration = Duration::from_secs(60 * 60);

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Client,
    Serving,
}

impl Purpose {
    fn signer(self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving => "kubernetes.io/kubelet-serving",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Client => "client auth",
            Self::Serving => "server auth",
        }
    }

    fn file(self, data_dir: &Path) -> PathBuf {
        data_dir.join("pki").join(match self {
            Self::Client => "kubelet-client-current.pem",
            Self::Serving => "kubelet-server-current.pem",
        })
    }
}

/// Who this node is.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// Where it is reached; a serving certificate is for these.
    pub(crate) addresses: Vec<IpAddr>,
    /// Whose certificates count.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    pub(crate) data_dir: PathBuf,
}

impl Node {
    fn user(&self) -> String {
        format!("system:node:{}", self.name)
    }

    /// The names that a certificate must carry.
    fn names(&self, purpose: Purpose) -> Vec<String> {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let mut names: Vec<String> = match purpose {
            Purpose::Client => Vec::new(),
            Purpose::Serving => [self.name.clone()].into_iter().chain(addresses).collect(),
        };
        names.sort();
        names
    }

    /// The certificate that was kept, if it is one of this node's.
    pub(crate) fn kept(&self, purpose: Purpose) -> Option<Held> {
        let text = store::read(&purpose.file(&self.data_dir)).ok()??;
        let held = Held::parse(&text)?;
        let wanted = (self.user(), self.names(purpose));
        (held.user == wanted.0 && held.names == wanted.1 && held.is_signed_by(&self.authorities)).then_some(held)
    }
}

/// Keeps one certificate, until `shutdown`; each new one is given to `take`.
pub(crate) async fn keep(
    node: Node,
    purpose: Purpose,
    client: Client,
    clock: Clock,
    take: impl Fn(&Held),
    shutdown: CancellationToken,
) {
    let keeping = async {
        let mut held = node.kept(purpose);
        let mut retry = FIRST_RETRY;
        loop {
            let now = clock.now();
            let due = held.as_ref().map(Held::renew_at).filter(|due| *due > now);
            if let Some(due) = due {
                let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
                tokio::time::sleep(left.min(LOOK)).await;
                continue;
            }
            match ask::ask(&node, purpose, &client).await {
                Ok(new) => {
                    take(&new);
                    tracing::info!(signer = purpose.signer(), until = %new.until, "this node has a new certificate");
                    held = Some(new);
                    retry = FIRST_RETRY;
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        signer = purpose.signer(),
                        "this node has no new certificate yet"
                    );
                    tokio::time::sleep(retry).await;
                    retry = (retry * 2).min(LAST_RETRY);
                }
            }
        }
    };
    shutdown.run_until_cancelled(Box::pin(keeping)).await;
}

/// Both certificates, each kept by a task of its own; the serving one goes to the kubelet API as soon as it is there.
pub(crate) fn tasks(
    node: &Node,
    client: &Client,
    clock: &Clock,
    resolver: &Arc<Resolver>,
    shutdown: &CancellationToken,
) -> [futures::future::BoxFuture<'static, ()>; 2] {
    let of = |purpose| (node.clone(), purpose, client.clone(), clock.clone(), shutdown.clone());
    let serving = resolver.clone();
    let (node, purpose, client, clock, quit) = of(Purpose::Serving);
    let serve = keep(node, purpose, client, clock, move |held| serving.replace(held), quit);
    let (node, purpose, client, clock, quit) = of(Purpose::Client);
    [
        Box::pin(serve),
        Box::pin(keep(node, purpose, client, clock, |_| {}, quit)),
    ]
}

#[cfg(test)]
mod tests;
