//! What the kernel has counted for running containers: read from their control groups and from `/proc`, since the usage that
//! CRI carries says little of it. Both versions of control groups are read.

mod files;

use cri::{Accounting, ContainerId, ContainerState, Error};
use futures::{StreamExt, stream};
use nix::sys::statvfs::statvfs;
use proto::{Attempt, v1};

use crate::{
    link::PATIENCE,
    records::{container_id, own_id},
    runtime::Shared,
};

/// Containers asked for at a time.
const AT_ONCE: usize = 8;

/// The accounts of every running container. What has ended meanwhile is left out.
pub(crate) async fn of_all(shared: &Shared) -> Result<Vec<Accounting>, Error> {
    let containers = shared.containers().await?.into_iter();
    let running = containers.filter(|container| container.state == ContainerState::Running);
    let asked = stream::iter(running).map(|container| async move { process(shared, &container.id).await });
    let processes: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
    let layers = crate::images::filesystems(&shared.link).await?.into_iter().next();
    let read = move || {
        let kernel = files::Kernel::default();
        let disk = layers.and_then(|layers| statvfs(&layers.mountpoint).ok());
        let found = processes.into_iter().flatten();
        let read = found.filter_map(|(id, pid)| kernel.accounting(id, pid));
        read.map(|accounting| match &disk {
            Some(disk) => Accounting {
                disk_bytes: disk.blocks().saturating_mul(disk.fragment_size()),
                disk_inodes: disk.files(),
                disk_inodes_free: disk.files_available(),
                ..accounting
            },
            None => accounting,
        })
        .collect()
    };
    // Aborted only when the process ends.
    Ok(tokio::task::spawn_blocking(read).await.unwrap_or_default())
}

/// A container's first process, which the verbose status tells.
async fn process(shared: &Shared, id: &ContainerId) -> Option<(ContainerId, u32)> {
    let link = &shared.link;
    let request = v1::ContainerStatusRequest {
        container_id: own_id(&id.0).to_owned(),
        verbose: true,
    };
    let attempt = Attempt {
        doing: "asking for the process of",
        what: "container",
        id: &id.0,
        patience: PATIENCE,
    };
    let asked = link.read(attempt, async { link.runtime().container_status(request).await });
    let told = asked.await.ok()?;
    let info: serde_json::Value = serde_json::from_str(told.info.get("info")?).ok()?;
    let pid = u32::try_from(info.get("pid")?.as_u64()?).ok().filter(|pid| *pid > 0)?;
    Some((container_id(own_id(&id.0)), pid))
}
