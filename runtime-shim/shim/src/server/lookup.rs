//! What several calls need of the runtime: sandboxes and containers by ids that may be shortened, lists by filters, usage.

use cri::{Container, ContainerConfig, ContainerId, ContainerState, Sandbox, SandboxId};
use proto::v1;
use tonic::Status;

use super::{
    Service, failed,
    find::{self, Found},
    now, ports,
    stats::Usage,
    streams::Wanted,
    tokens::Full,
};

pub(super) fn not_found(what: &str, id: &str) -> Status {
    Status::not_found(format!("{what} \"{id}\" not found"))
}

impl Service {
    /// The sandbox that an id or the beginning of one names.
    pub(super) async fn find_sandbox(&self, given: &str) -> Result<Option<Sandbox>, Status> {
        let id = SandboxId(given.to_owned());
        if given.is_empty() {
            return Err(Status::invalid_argument("no sandbox is named"));
        }
        if let Some(sandbox) = self.runtime.sandbox(&id).await.map_err(failed)? {
            return Ok(Some(sandbox));
        }
        let all = self.runtime.list_sandboxes().await.map_err(failed)?;
        match find::id(all.iter().map(|sandbox| sandbox.id.0.as_str()), given) {
            Found::One(id) => Ok(all.into_iter().find(|sandbox| sandbox.id.0 == id)),
            Found::None => Ok(None),
            Found::Several => Err(Status::invalid_argument(format!(
                "several sandboxes begin with \"{given}\""
            ))),
        }
    }

    /// The container that an id or the beginning of one names.
    pub(super) async fn find_container(&self, given: &str) -> Result<Option<Container>, Status> {
        let id = ContainerId(given.to_owned());
        if given.is_empty() {
            return Err(Status::invalid_argument("no container is named"));
        }
        if let Some(container) = self.runtime.container(&id).await.map_err(failed)? {
            return Ok(Some(container));
        }
        let all = self.runtime.list_containers().await.map_err(failed)?;
        match find::id(all.iter().map(|container| container.id.0.as_str()), given) {
            Found::One(id) => Ok(all.into_iter().find(|container| container.id.0 == id)),
            Found::None => Ok(None),
            Found::Several => Err(Status::invalid_argument(format!(
                "several containers begin with \"{given}\""
            ))),
        }
    }

    pub(super) async fn sandbox(&self, given: &str) -> Result<Sandbox, Status> {
        self.find_sandbox(given)
            .await?
            .ok_or_else(|| not_found("sandbox", given))
    }

    pub(super) async fn container(&self, given: &str) -> Result<Container, Status> {
        self.find_container(given)
            .await?
            .ok_or_else(|| not_found("container", given))
    }

    /// A container in which commands can run.
    pub(super) async fn running(&self, given: &str) -> Result<Container, Status> {
        let container = self.container(given).await?;
        match container.state {
            ContainerState::Running => Ok(container),
            _ => Err(Status::failed_precondition(format!(
                "container \"{given}\" is not running"
            ))),
        }
    }

    pub(super) async fn sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Result<Vec<v1::PodSandbox>, Status> {
        let filter = filter.unwrap_or_default();
        let all = self.runtime.list_sandboxes().await.map_err(failed)?;
        let mut items: Vec<v1::PodSandbox> = all.into_iter().map(Into::into).collect();
        items.retain(|item| find::sandbox(item, &filter));
        Ok(items)
    }

    pub(super) async fn containers(&self, filter: Option<v1::ContainerFilter>) -> Result<Vec<v1::Container>, Status> {
        let filter = filter.unwrap_or_default();
        let all = self.runtime.list_containers().await.map_err(failed)?;
        let mut items: Vec<v1::Container> = all.into_iter().map(Into::into).collect();
        items.retain(|item| find::container(item, &filter));
        Ok(items)
    }

    /// A container's configuration with the image found and the ports that CRI tells of the whole sandbox only.
    pub(super) async fn configuration(&self, request: v1::CreateContainerRequest) -> Result<ContainerConfig, Status> {
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("container config is missing"))?;
        let mut config = ContainerConfig::try_from(config).map_err(failed)?;
        let wanted = match config.image_id.is_empty() {
            true => config.image.clone(),
            false => config.image_id.clone(),
        };
        if wanted.is_empty() {
            return Err(Status::invalid_argument("container config names no image"));
        }
        let image = self.image(&wanted).await?.ok_or_else(|| not_found("image", &wanted))?;
        config.image_id = image.id;
        let mappings = request.sandbox_config.unwrap_or_default().port_mappings;
        let mappings: Result<Vec<_>, _> = mappings.into_iter().map(TryInto::try_into).collect();
        config.ports = ports::of(ports::noted(&config.annotations), &mappings.map_err(failed)?);
        Ok(config)
    }

    /// The status, which tells the image by its digest where it has one.
    pub(super) async fn told(&self, container: Container) -> Result<v1::ContainerStatus, Status> {
        let id = container.config.image_id.clone();
        let image = self.runtime.image(&id).await.ok().flatten();
        let digest = image.and_then(|image| image.digests.into_iter().next());
        Ok(v1::ContainerStatus {
            image_ref: digest.unwrap_or(id),
            ..container.into()
        })
    }

    /// Where streams can be had.
    pub(super) fn streams_of(&self, wanted: Wanted) -> Result<String, Status> {
        let address = self.streams.address(wanted);
        address.map_err(|Full| Status::resource_exhausted("too many streams wait for their clients"))
    }

    pub(super) async fn usage(&self) -> Result<Usage, Status> {
        let runtime = &self.runtime;
        let (sandboxes, containers, sandbox_stats, container_stats) = futures::try_join!(
            runtime.list_sandboxes(),
            runtime.list_containers(),
            runtime.sandbox_stats(),
            runtime.stats(),
        )
        .map_err(failed)?;
        Ok(Usage {
            sandboxes,
            containers,
            sandbox_stats,
            container_stats,
            accounting: Vec::new(),
        })
    }

    /// The same with what the kernel has counted.
    pub(super) async fn usage_in_full(&self) -> Result<Usage, Status> {
        let (usage, accounting) = futures::join!(self.usage(), self.runtime.accounting());
        Ok(Usage {
            accounting: accounting.map_err(failed)?,
            ..usage?
        })
    }

    pub(super) async fn container_usage(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Result<Vec<v1::ContainerStats>, Status> {
        Ok(self.usage().await?.containers(&filter.unwrap_or_default()))
    }

    pub(super) async fn sandbox_usage(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Result<Vec<v1::PodSandboxStats>, Status> {
        Ok(self.usage().await?.sandboxes(&filter.unwrap_or_default(), now()))
    }
}
