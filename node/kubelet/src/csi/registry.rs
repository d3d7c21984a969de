//! Drivers come and go with the sockets of their registrars, in a directory that is looked at every second.
//!
//! A driver is known as soon as it has said who it is and what it can. What the cluster is told of it follows, and is told
//! again until it has been heard. A socket that stays while nobody answers leaves the driver known: it is expected back.

use std::{
    collections::BTreeMap,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use ::csi::{
    Link,
    registration::{InfoRequest, PluginInfo, RegistrationStatus},
    v1::{
        ControllerGetCapabilitiesRequest, GetPluginCapabilitiesRequest, NodeGetCapabilitiesRequest, NodeGetInfoRequest,
        controller_service_capability,
        node_service_capability::{Type, rpc},
        plugin_capability,
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Driver, announce, mount::blocking, place};
use crate::shared::Shared;

/// How often the directory is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// How long a plugin may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause after a failure doubles from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between looks at what is staged and no pod has.
const SWEEP: Duration = Duration::from_secs(30);
/// More sockets than a node has drivers: no directory is read without end.
const MOST_SOCKETS: usize = 256;

/// The plugins that are drivers.
const KIND: &str = "CSIPlugin";

/// Tells a socket from one that has replaced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    changed: (i64, i64),
}

type Sockets = BTreeMap<PathBuf, Stamp>;

/// What became of a socket.
#[derive(Clone, Debug)]
enum State {
    /// The driver of this name registered by it.
    Driver(String),
    /// It is no driver's.
    Ignored,
    Failed {
        count: u32,
        until: Instant,
    },
}

type Known = BTreeMap<PathBuf, (Stamp, State)>;

/// What is to be done about the sockets that are there.
#[derive(Debug, Default, PartialEq, Eq)]
struct Steps {
    ask: Vec<PathBuf>,
    forget: Vec<PathBuf>,
}

/// Pure.
fn steps(known: &Known, found: &Sockets, now: Instant) -> Steps {
    let gone = known.keys().filter(|path| !found.contains_key(*path));
    let due = found.iter().filter(|(path, stamp)| match known.get(*path) {
        Some((seen, _)) if seen != *stamp => true,
        Some((_, State::Failed { until, .. })) => *until <= now,
        Some(_) => false,
        None => true,
    });
    Steps {
        ask: due.map(|(path, _)| path.clone()).collect(),
        forget: gone.cloned().collect(),
    }
}

/// Follows the directory until `shutdown`; drivers stay registered with the cluster.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: CancellationToken) {
    let root = shared.csi.root().to_owned();
    let made = blocking(move || {
        std::fs::create_dir_all(place::registry(&root))?;
        std::fs::create_dir_all(place::plugins(&root))
    });
    if let Err(error) = made.await {
        tracing::warn!(%error, "cannot make the directories of storage drivers");
    }
    shutdown.run_until_cancelled(follow(&shared)).await;
}

async fn follow(shared: &Shared) {
    let (mut known, mut told, mut swept) = (Known::new(), None, Instant::now());
    loop {
        look(shared, &mut known).await;
        let drivers = shared.csi.drivers.borrow().clone();
        let whole = !known.values().any(|(_, state)| matches!(state, State::Failed { .. }));
        let state: Vec<_> = drivers.values().map(announce::Entry::of).collect();
        if told.as_ref() != Some(&(state.clone(), whole)) {
            match announce::tell(shared, &state, whole).await {
                Ok(()) => told = Some((state, whole)),
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "cannot tell the cluster which storage drivers there are"
                    );
                }
            }
        }
        if swept.elapsed() >= SWEEP {
            shared.csi.sweep().await;
            swept = Instant::now();
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// One look at the directory.
async fn look(shared: &Shared, known: &mut Known) {
    let directory = place::registry(shared.csi.root());
    let Ok(found) = blocking(move || sockets(&directory)).await else {
        return;
    };
    let todo = steps(known, &found, Instant::now());
    for path in todo.forget {
        if let Some((_, State::Driver(name))) = known.remove(&path) {
            // The same driver may have registered by another socket meanwhile.
            if !known
                .values()
                .any(|(_, state)| matches!(state, State::Driver(other) if *other == name))
            {
                tracing::info!(driver = name, "a storage driver is gone");
                shared.csi.drivers.send_modify(|drivers| drop(drivers.remove(&name)));
            }
        }
    }
    let asked = todo.ask.into_iter().map(async |path| {
        let answer = ask(&path).await;
        (path, answer)
    });
    for (path, answer) in futures::future::join_all(asked).await {
        let Some(stamp) = found.get(&path).copied() else {
            continue;
        };
        let state = match answer {
            Ok(Some(driver)) => {
                tracing::info!(
                    driver = driver.name,
                    node = driver.node_id,
                    "a storage driver has registered"
                );
                let name = driver.name.clone();
                let driver = Arc::new(driver);
                shared
                    .csi
                    .drivers
                    .send_modify(|drivers| drop(drivers.insert(name.clone(), driver)));
                State::Driver(name)
            }
            Ok(None) => State::Ignored,
            Err(why) => {
                let count = match known.get(&path) {
                    Some((seen, State::Failed { count, .. })) if *seen == stamp => count.saturating_add(1),
                    _ => 1,
                };
                if count == 1 {
                    tracing::warn!(socket = %path.display(), why, "a plugin cannot be registered");
                }
                let pause = FIRST_PAUSE.saturating_mul(1 << (count - 1).min(6)).min(LONGEST_PAUSE);
                let until = Instant::now() + pause;
                State::Failed { count, until }
            }
        };
        known.insert(path, (stamp, state));
    }
}

/// The sockets of a directory and of those in it. Blocking.
fn sockets(directory: &Path) -> io::Result<Sockets> {
    let mut found = Sockets::new();
    let mut left = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = left.pop() {
        for entry in std::fs::read_dir(directory)?.flatten() {
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            let Ok(metadata) = entry.metadata() else { continue };
            let kind = metadata.file_type();
            if kind.is_dir() && depth == 0 && !hidden {
                left.push((entry.path(), 1));
            } else if kind.is_socket() && !hidden && found.len() < MOST_SOCKETS {
                let stamp = Stamp {
                    inode: metadata.ino(),
                    changed: (metadata.ctime(), metadata.ctime_nsec()),
                };
                found.insert(entry.path(), stamp);
            }
        }
    }
    Ok(found)
}

/// Asks a plugin who it is and, if it is a driver, what it can; and tells it what came of that. `None`: no driver.
async fn ask(socket: &Path) -> Result<Option<Driver>, String> {
    let link = Link::new(socket);
    let mut plugin = link.registration();
    let call = plugin.get_info(Link::request(InfoRequest {}, PATIENCE));
    let info = link.call(PATIENCE, call).await.map_err(|e| e.to_string())?;
    if info.r#type != KIND {
        return Ok(None);
    }
    let driver = meet(socket, &info).await;
    let status = RegistrationStatus {
        plugin_registered: driver.is_ok(),
        error: driver.as_ref().err().cloned().unwrap_or_default(),
    };
    let call = plugin.notify_registration_status(Link::request(status, PATIENCE));
    if let Err(error) = link.call(PATIENCE, call).await {
        tracing::debug!(socket = %socket.display(), %error, "a plugin was not told that it is registered");
    }
    driver.map(Some)
}

async fn meet(socket: &Path, info: &PluginInfo) -> Result<Driver, String> {
    let name = &info.name;
    if !place::is_driver_name(name) {
        return Err(format!("invalid driver name {name:?}"));
    }
    let speaks = |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if !info.supported_versions.iter().any(speaks) {
        let versions = info.supported_versions.join(" ");
        return Err(format!(
            "none of the CSI versions reported by this driver are supported: {versions}"
        ));
    }
    let endpoint = match &*info.endpoint {
        "" => socket,
        endpoint => Path::new(endpoint.trim_start_matches("unix://")),
    };
    let link = Link::new(endpoint);
    let mut node = link.node();
    let call = node.node_get_info(Link::request(NodeGetInfoRequest {}, PATIENCE));
    let about = link.call(PATIENCE, call).await.map_err(|e| e.to_string())?;
    if about.node_id.is_empty() {
        return Err(format!("driver {name} has no name for this node"));
    }
    let call = node.node_get_capabilities(Link::request(NodeGetCapabilitiesRequest {}, PATIENCE));
    let abilities = link.call(PATIENCE, call).await.map_err(|e| e.to_string())?;
    let kinds = abilities.capabilities.into_iter().filter_map(|ability| ability.r#type);
    let kinds: Vec<i32> = kinds.map(|Type::Rpc(rpc)| rpc.r#type).collect();
    let can = |kind: rpc::Type| kinds.contains(&kind.into());
    let Beyond {
        controls,
        publishes,
        grows,
        constrained,
    } = beyond(&link).await.unwrap_or_else(|error| {
        tracing::debug!(driver = name, %error, "a storage driver does not say what it does beyond this node");
        Default::default()
    });
    Ok(Driver {
        controls,
        publishes,
        grows,
        constrained,
        node_id: about.node_id,
        most_volumes: about.max_volumes_per_node,
        topology: about
            .accessible_topology
            .map(|topology| topology.segments)
            .unwrap_or_default(),
        stages: can(rpc::Type::StageUnstageVolume),
        expands: can(rpc::Type::ExpandVolume),
        takes_groups: can(rpc::Type::VolumeMountGroup),
        tells_writers_apart: can(rpc::Type::SingleNodeMultiWriter),
        ..Driver::new(link, name)
    })
}

/// What a driver does beyond its node: as the fields of [`Driver`].
#[derive(Default)]
struct Beyond {
    controls: bool,
    publishes: bool,
    grows: bool,
    constrained: bool,
}

/// Asks a driver. Most have another process for all but the last.
async fn beyond(link: &Link) -> Result<Beyond, ::csi::Error> {
    let mut identity = link.identity();
    let call = identity.get_plugin_capabilities(Link::request(GetPluginCapabilitiesRequest {}, PATIENCE));
    let kinds = link.call(PATIENCE, call).await?.capabilities.into_iter();
    let services = kinds.filter_map(|kind| match kind.r#type {
        Some(plugin_capability::Type::Service(service)) => Some(service.r#type),
        _ => None,
    });
    let services: Vec<i32> = services.collect();
    let is = |kind: plugin_capability::service::Type| services.contains(&kind.into());
    let constrained = is(plugin_capability::service::Type::VolumeAccessibilityConstraints);
    if !is(plugin_capability::service::Type::ControllerService) {
        return Ok(Beyond {
            constrained,
            ..Beyond::default()
        });
    }
    let mut controller = link.controller();
    let call = controller.controller_get_capabilities(Link::request(ControllerGetCapabilitiesRequest {}, PATIENCE));
    let kinds = match link.call(PATIENCE, call).await {
        Ok(answer) => answer.capabilities,
        // The service is another process's.
        Err(error) if error.code == ::csi::Code::Unimplemented => Vec::new(),
        Err(error) => return Err(error),
    };
    let kinds = kinds.into_iter().filter_map(|kind| kind.r#type);
    let kinds: Vec<i32> = kinds
        .map(|controller_service_capability::Type::Rpc(rpc)| rpc.r#type)
        .collect();
    let can = |kind: controller_service_capability::rpc::Type| kinds.contains(&kind.into());
    Ok(Beyond {
        controls: can(controller_service_capability::rpc::Type::CreateDeleteVolume),
        publishes: can(controller_service_capability::rpc::Type::PublishUnpublishVolume),
        grows: can(controller_service_capability::rpc::Type::ExpandVolume),
        constrained,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(inode: u64) -> Stamp {
        Stamp { inode, changed: (0, 0) }
    }

    #[test]
    fn new_and_replaced_sockets_are_asked_and_failures_later() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let driver = State::Driver("d".into());
        let failed = State::Failed { count: 1, until: later };
        let known: Known = [
            ("/same".into(), (stamp(1), driver.clone())),
            ("/replaced".into(), (stamp(2), driver.clone())),
            ("/gone".into(), (stamp(3), driver)),
            ("/failed".into(), (stamp(4), failed)),
            ("/ignored".into(), (stamp(5), State::Ignored)),
        ]
        .into();
        let found: Sockets = [
            ("/same", 1),
            ("/replaced", 20),
            ("/failed", 4),
            ("/ignored", 5),
            ("/new", 6),
        ]
        .map(|(path, inode)| (PathBuf::from(path), stamp(inode)))
        .into();
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let todo = steps(&known, &found, now);
        assert_eq!(todo.ask, paths(&["/new", "/replaced"]));
        assert_eq!(todo.forget, paths(&["/gone"]));
        assert_eq!(
            steps(&known, &found, later).ask,
            paths(&["/failed", "/new", "/replaced"])
        );
    }

    #[test]
    fn only_sockets_count_and_hidden_ones_do_not() {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::create_dir_all(dir.path().join("d/deep")).expect("dir");
        std::fs::write(dir.path().join("file"), "x").expect("file");
        let bind = |name: &str| drop(std::os::unix::net::UnixListener::bind(dir.path().join(name)).expect("binds"));
        ["a.sock", ".b.sock", "d/c.sock", "d/deep/e.sock"]
            .into_iter()
            .for_each(bind);
        let found: Vec<PathBuf> = sockets(dir.path()).expect("read").into_keys().collect();
        assert_eq!(found, [dir.path().join("a.sock"), dir.path().join("d/c.sock")]);
    }
}
