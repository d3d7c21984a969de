//! `wherry controlplane`: the control plane alone, on a store of its own or one that it shares; and what is done to its
//! data: backup, restore, a new encryption key.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use server::{EtcdOptions, EtcdTls, Server, Store, Token};

use crate::{
    cli,
    datadir::{self, DataDir, require_cluster},
    footprint, kept_images, machine,
    notify::{Manager, State},
    rootless, up,
};

/// Runs a control plane until SIGTERM.
pub(crate) async fn run(options: cli::ControlPlane) -> anyhow::Result<()> {
    let manager = Manager::from_environment();
    rootless::check_ranges(options.ranges.cluster_cidr, options.ranges.service_cidr)?;
    let store = store(&options)?;
    let directory = DataDir::hold(&options.data.path()?)?;
    let gateway = agent::gateway(machine::first_subnet(options.ranges.cluster_cidr, up::NODE_PREFIX)?);
    let store = store.unwrap_or_else(|| Store::Redb(default_store(directory.path())));
    let images = kept_images::config(&options.images, matches!(store, Store::Etcd { .. }));
    let server = Server::start(server::Config {
        data_dir: directory.path().to_owned(),
        store,
        kms_endpoint: options.kms_endpoint,
        tls_san: options.tls_san,
        advertise: options.advertise_address,
        api_bind: options.api_bind,
        max_inflight: options.inflight.limits(),
        kubeconfig: options
            .kubeconfig
            .unwrap_or_else(|| directory.path().join("kubeconfig")),
        node_name: machine::host_name(),
        node_addresses: Vec::new(),
        gateway,
        cluster_range: options.ranges.cluster_cidr,
        service_range: options.ranges.service_cidr,
        node_ports: options.ranges.service_node_port_range.ports(),
        node_prefix: up::NODE_PREFIX,
        images,
        audit: options.audit.config()?,
        authentication: options.authentication.config()?,
        authorization: options.authorization.config()?,
    });
    let server = Box::pin(server).await?;
    tracing::info!(address = %server.address(), "the API answers");
    cli::say("ready");
    manager.tell(State::Ready);
    let stopped = tokio::select! {
        stopped = up::stopped(&manager) => stopped,
        never = footprint::stay_small() => match never {},
    };
    server.stop().await;
    stopped.map(drop)
}

/// Writes a backup, of the running control plane or of what lies there.
pub(crate) fn backup(options: &cli::Backup) -> anyhow::Result<()> {
    let path = options.data.path()?;
    require_cluster(&path)?;
    let summary = match datadir::holder(&path)? {
        Some(_) => server::backup::take_running(&path, &options.file)?,
        None => {
            let directory = DataDir::hold(&path)?;
            let store = file_of(options.store.as_ref(), directory.path())?;
            server::backup::take_stopped(directory.path(), &store, &options.file)?
        }
    };
    cli::say(&format!(
        "{}: {} keys at revision {}{}; it holds the cluster's keys, keep it secret",
        options.file.display(),
        summary.keys,
        summary.revision,
        with_images(&summary)
    ));
    Ok(())
}

/// Makes a store of a backup.
pub(crate) fn restore(options: &cli::Restore) -> anyhow::Result<()> {
    let directory = DataDir::hold(&options.data.path()?)?;
    let store = file_of(options.store.as_ref(), directory.path())?;
    let summary = server::backup::restore(&options.file, directory.path(), &store)?;
    cli::say(&format!(
        "{}: {} keys{}; the store goes on at revision {}",
        store.display(),
        summary.keys,
        with_images(&summary),
        summary.revision
    ));
    Ok(())
}

/// What is said of a backup's images, if there are any.
fn with_images(summary: &server::backup::Summary) -> String {
    match summary.images {
        Some(images) if images.images > 0 => format!(" and {} images ({} bytes)", images.images, images.bytes),
        _ => String::new(),
    }
}

/// Has the running control plane seal Secrets with a new key.
pub(crate) fn rotate_encryption_key(options: &cli::RotateEncryptionKey) -> anyhow::Result<()> {
    let path = options.data.path()?;
    require_cluster(&path)?;
    if datadir::holder(&path)?.is_none() {
        bail!(
            "no control plane runs on {}; start it first: keys are replaced while it runs",
            path.display()
        );
    }
    cli::say(&server::backup::ask(&path, "rotate-encryption-key")?);
    Ok(())
}

/// The store that was asked for; `None` for the default.
fn store(options: &cli::ControlPlane) -> anyhow::Result<Option<Store>> {
    match &options.store {
        None | Some(cli::Store::Redb(_)) if options.etcd_cafile.is_some() => {
            bail!("--etcd-cafile is for --store etcd:https://HOST:PORT,...")
        }
        None => Ok(None),
        Some(cli::Store::Redb(path)) => Ok(Some(Store::Redb(std::path::absolute(path)?))),
        Some(cli::Store::Etcd(endpoints)) => {
            let Some(token) = &options.token else {
                bail!(
                    "a store that is shared needs the cluster's token: give --token, the same to every control plane; \
                     make one with: openssl rand -hex 32"
                );
            };
            let tls = options.etcd_cafile.as_deref().map(|authority| tls(options, authority));
            Ok(Some(Store::Etcd {
                options: EtcdOptions {
                    tls: tls.transpose()?,
                    ..EtcdOptions::new(endpoints.iter().cloned())
                },
                token: Token::new(token)?,
            }))
        }
    }
}

fn tls(options: &cli::ControlPlane, authority: &Path) -> anyhow::Result<EtcdTls> {
    let read = |path: &Path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let identity = match (&options.etcd_certfile, &options.etcd_keyfile) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(EtcdTls {
        authority: read(authority)?,
        identity,
    })
}

/// The embedded store of a data directory if nobody says otherwise.
pub(crate) fn default_store(directory: &Path) -> PathBuf {
    directory.join("store.redb")
}

fn file_of(store: Option<&cli::Store>, directory: &Path) -> anyhow::Result<PathBuf> {
    match store {
        None => Ok(default_store(directory)),
        Some(cli::Store::Redb(path)) => Ok(std::path::absolute(path)?),
        Some(cli::Store::Etcd(_)) => bail!(
            "a store on etcd is backed up and restored there, with: etcdctl snapshot save FILE; the cluster's keys are in it, \
             sealed by the token"
        ),
    }
}
