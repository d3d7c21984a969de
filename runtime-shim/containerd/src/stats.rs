//! Usage of containers and sandboxes.

use cri::{ContainerStats, Error, SandboxId, SandboxStats};
use futures::{StreamExt, stream};
use proto::{Attempt, v1};

use crate::{
    link::PATIENCE,
    records::{self, container_id, own_id, sandbox_id},
    runtime::Shared,
};

/// Sandboxes asked at a time, where they do not answer together.
const AT_ONCE: usize = 8;

fn attempt<'a>(what: &'static str, id: &'a str) -> Attempt<'a> {
    Attempt {
        doing: "asking for the usage of",
        what,
        id,
        patience: PATIENCE,
    }
}

/// Usage of every running container. Which sandbox it belongs to was told by the last list.
pub(crate) async fn containers(shared: &Shared) -> Result<Vec<ContainerStats>, Error> {
    let link = &shared.link;
    let request = v1::ListContainerStatsRequest {
        filter: Some(v1::ContainerStatsFilter {
            label_selector: records::selector(shared.owner()),
            ..v1::ContainerStatsFilter::default()
        }),
    };
    let answer = link.read(attempt("container", ""), async {
        link.runtime().list_container_stats(request).await
    });
    let told = answer.await?.stats;
    // What has begun to run since the last list is not known to do so.
    if !told.iter().all(|stats| is_known(shared, stats)) {
        shared.containers().await?;
    }
    Ok(told.into_iter().filter_map(|stats| container(shared, stats)).collect())
}

fn is_known(shared: &Shared, stats: &v1::ContainerStats) -> bool {
    let id = stats.attributes.as_ref().map(|attributes| &attributes.id);
    id.is_none_or(|id| {
        shared
            .listing
            .known_container(id)
            .is_some_and(|known| known.state == cri::ContainerState::Running)
    })
}

fn container(shared: &Shared, stats: v1::ContainerStats) -> Option<ContainerStats> {
    let id = &stats.attributes.as_ref()?.id;
    let known = shared.listing.known_container(id)?;
    if known.state != cri::ContainerState::Running {
        return None;
    }
    let mut stats = proto::read_container_stats(stats, known.sandbox, known.pod_uid);
    stats.id = container_id(own_id(&stats.id.0));
    Some(stats)
}

/// Usage of every ready sandbox. One whose usage containerd cannot tell makes the whole list fail there; then each is asked.
pub(crate) async fn sandboxes(shared: &Shared) -> Result<Vec<SandboxStats>, Error> {
    let link = &shared.link;
    let request = v1::ListPodSandboxStatsRequest {
        filter: Some(v1::PodSandboxStatsFilter {
            label_selector: records::selector(shared.owner()),
            ..v1::PodSandboxStatsFilter::default()
        }),
    };
    let listed = link.read(attempt("sandbox", ""), async {
        link.runtime().list_pod_sandbox_stats(request).await
    });
    if let Ok(listed) = listed.await {
        return Ok(listed.stats.into_iter().map(sandbox).collect());
    }
    let all = shared.sandboxes().await?;
    let ready = all
        .into_iter()
        .filter(|sandbox| sandbox.state == cri::SandboxState::Ready);
    let asked = stream::iter(ready).map(|sandbox| async move { one(shared, &sandbox.id).await });
    let asked: Vec<Option<SandboxStats>> = asked.buffer_unordered(AT_ONCE).collect().await;
    Ok(asked.into_iter().flatten().collect())
}

async fn one(shared: &Shared, id: &SandboxId) -> Option<SandboxStats> {
    let link = &shared.link;
    let request = v1::PodSandboxStatsRequest {
        pod_sandbox_id: own_id(&id.0).to_owned(),
    };
    let asked = link.read(attempt("sandbox", &id.0), async {
        link.runtime().pod_sandbox_stats(request).await
    });
    match asked.await {
        Ok(answer) => answer.stats.map(sandbox),
        Err(error) => {
            tracing::debug!(%id, error = &error as &dyn std::error::Error, "the usage of a sandbox is not known");
            None
        }
    }
}

fn sandbox(stats: v1::PodSandboxStats) -> SandboxStats {
    let (mut stats, _) = proto::read_sandbox_stats(stats);
    stats.id = sandbox_id(&stats.id).0;
    stats
}
