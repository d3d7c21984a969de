//! CRI's RuntimeService.

use std::{pin::Pin, time::Duration};

use cri::{ContainerId, ContainerState, ExecRequest, LinuxResources, Resources, SandboxState, Streams};
use futures::{Stream, StreamExt};
use proto::v1::{self, runtime_service_server::RuntimeService};
use tonic::{Code, Request, Response, Status};

use super::{
    LARGEST_MESSAGE, Service, events, failed, info, lookup::not_found, metrics, now, pages, stats, streams::Wanted,
};

/// Room in a message for what is not output of a command.
const ENVELOPE: usize = 1024;

type Answer<T> = Result<Response<T>, Status>;
type Items<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// Seconds, of which there are none below zero.
fn patience(seconds: i64) -> Result<Duration, Status> {
    u64::try_from(seconds)
        .map(Duration::from_secs)
        .map_err(|_| Status::invalid_argument(format!("timeout {seconds} is negative")))
}

/// Refuses streams that cannot be together.
fn check(streams: Streams) -> Result<(), Status> {
    match streams {
        Streams {
            tty: true,
            stderr: true,
            ..
        } => Err(Status::invalid_argument("a terminal has no stderr of its own")),
        Streams {
            stdin: false,
            stdout: false,
            stderr: false,
            ..
        } => Err(Status::invalid_argument(
            "one of stdin, stdout and stderr must be wanted",
        )),
        _ => Ok(()),
    }
}

/// Of a dual-stack node's ranges, the first of IPv4.
fn ipv4_range(ranges: &str) -> &str {
    ranges
        .split(',')
        .map(str::trim)
        .find(|range| !range.contains(':'))
        .unwrap_or_default()
}

/// Cuts what a command said to what a message holds, its errors last.
fn fit(mut output: cri::ExecOutput) -> cri::ExecOutput {
    let room = LARGEST_MESSAGE - ENVELOPE;
    output.stdout.truncate(room);
    output.stderr.truncate(room - output.stdout.len());
    output
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        answer(self.runtime.version().into())
    }

    async fn run_pod_sandbox(&self, request: Request<v1::RunPodSandboxRequest>) -> Answer<v1::RunPodSandboxResponse> {
        let request = request.into_inner();
        let config = request
            .config
            .ok_or_else(|| Status::invalid_argument("sandbox config is missing"))?;
        let config = config.try_into().map_err(failed)?;
        let made = self.runtime.run_sandbox(config, &request.runtime_handler).await;
        let pod_sandbox_id = made.map_err(failed)?.id.0;
        answer(v1::RunPodSandboxResponse { pod_sandbox_id })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        if let Some(sandbox) = self.find_sandbox(&request.into_inner().pod_sandbox_id).await? {
            self.runtime.stop_sandbox(&sandbox.id).await.map_err(failed)?;
        }
        answer(v1::StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        if let Some(sandbox) = self.find_sandbox(&request.into_inner().pod_sandbox_id).await? {
            self.runtime.remove_sandbox(&sandbox.id).await.map_err(failed)?;
        }
        answer(v1::RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let request = request.into_inner();
        let timestamp = now();
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?;
        let containers = self.runtime.containers_of(&sandbox.id).await.map_err(failed)?;
        let mut containers_statuses = Vec::with_capacity(containers.len());
        for container in containers {
            containers_statuses.push(self.told(container).await?);
        }
        answer(v1::PodSandboxStatusResponse {
            info: match request.verbose {
                true => info::sandbox(&sandbox),
                false => info::Info::default(),
            },
            status: Some(sandbox.into()),
            containers_statuses,
            timestamp,
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let items = self.sandboxes(request.into_inner().filter).await?;
        answer(v1::ListPodSandboxResponse { items })
    }

    type StreamPodSandboxesStream = Items<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        let items = self.sandboxes(request.into_inner().filter).await?;
        let page = |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes };
        answer(pages::stream(items, page).boxed())
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let sandbox = self.sandbox(&request.pod_sandbox_id).await?.id;
        let config = self.configuration(request).await?;
        let made = self.runtime.create_container(&sandbox, config).await;
        let container_id = made.map_err(failed)?.0;
        answer(v1::CreateContainerResponse { container_id })
    }

    async fn start_container(&self, request: Request<v1::StartContainerRequest>) -> Answer<v1::StartContainerResponse> {
        let given = request.into_inner().container_id;
        let container = self.container(&given).await?;
        if container.state != ContainerState::Created {
            let text = format!("container \"{given}\" was started before");
            return Err(Status::failed_precondition(text));
        }
        self.runtime.start_container(&container.id).await.map_err(failed)?;
        answer(v1::StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<v1::StopContainerRequest>) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        let grace = patience(request.timeout)?;
        if let Some(container) = self.find_container(&request.container_id).await? {
            self.runtime
                .stop_container(&container.id, grace)
                .await
                .map_err(failed)?;
        }
        answer(v1::StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        if let Some(container) = self.find_container(&request.into_inner().container_id).await? {
            self.runtime.remove_container(&container.id).await.map_err(failed)?;
        }
        answer(v1::RemoveContainerResponse {})
    }

    async fn list_containers(&self, request: Request<v1::ListContainersRequest>) -> Answer<v1::ListContainersResponse> {
        let containers = self.containers(request.into_inner().filter).await?;
        answer(v1::ListContainersResponse { containers })
    }

    type StreamContainersStream = Items<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        let containers = self.containers(request.into_inner().filter).await?;
        let page = |containers| v1::StreamContainersResponse { containers };
        answer(pages::stream(containers, page).boxed())
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.container(&request.container_id).await?;
        answer(v1::ContainerStatusResponse {
            info: match request.verbose {
                true => info::container(&container),
                false => info::Info::default(),
            },
            status: Some(self.told(container).await?),
        })
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let linux = request
            .linux
            .ok_or_else(|| Status::invalid_argument("no resources of a Linux container are given"))?;
        let container = self.container(&request.container_id).await?;
        if container.state > ContainerState::Running {
            let text = format!("container \"{}\" has ended", request.container_id);
            return Err(Status::failed_precondition(text));
        }
        let (resources, linux) = (Resources::from(&linux), LinuxResources::from(linux));
        let updated = self
            .runtime
            .update_linux_resources(&container.id, resources, linux)
            .await;
        updated.map_err(failed)?;
        answer(v1::UpdateContainerResourcesResponse {})
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        let request = request.into_inner();
        let id = self.sandbox(&request.pod_sandbox_id).await?.id;
        let of = |given: Option<v1::LinuxContainerResources>| given.as_ref().map(Resources::from).unwrap_or_default();
        let (overhead, resources) = (of(request.overhead), of(request.resources));
        let updated = self.runtime.update_sandbox_resources(&id, overhead, resources).await;
        updated.map_err(failed)?;
        answer(v1::UpdatePodSandboxResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let container = self.running(&request.into_inner().container_id).await?;
        self.runtime.reopen_container_log(&container.id).await.map_err(failed)?;
        answer(v1::ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        let timeout = match patience(request.timeout)? {
            Duration::ZERO => Duration::MAX,
            timeout => timeout,
        };
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("no command is given"));
        }
        let container = self.running(&request.container_id).await?;
        let said = self.runtime.exec_sync(&container.id, request.cmd, timeout).await;
        answer(fit(said.map_err(failed)?).into())
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let (given, request): (ContainerId, ExecRequest) = request.into_inner().into();
        if request.command.is_empty() {
            return Err(Status::invalid_argument("no command is given"));
        }
        check(request.streams)?;
        let container = self.running(&given.0).await?.id;
        let url = self.streams_of(Wanted::Exec { container, request })?;
        answer(v1::ExecResponse { url })
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let (given, streams): (ContainerId, Streams) = request.into_inner().into();
        check(streams)?;
        let container = self.running(&given.0).await?.id;
        let url = self.streams_of(Wanted::Attach { container, streams })?;
        answer(v1::AttachResponse { url })
    }

    async fn port_forward(&self, request: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = Box::new(self.sandbox(&request.pod_sandbox_id).await?);
        if sandbox.state != SandboxState::Ready {
            let text = format!("sandbox \"{}\" is not ready", request.pod_sandbox_id);
            return Err(Status::failed_precondition(text));
        }
        let port = |port: i32| {
            let refused = || Status::invalid_argument(format!("port {port} is not valid"));
            u16::try_from(port).ok().filter(|port| *port > 0).ok_or_else(refused)
        };
        let ports = request.port.into_iter().map(port).collect::<Result<_, _>>()?;
        let url = self.streams_of(Wanted::PortForward { sandbox, ports })?;
        answer(v1::PortForwardResponse { url })
    }

    async fn container_stats(&self, request: Request<v1::ContainerStatsRequest>) -> Answer<v1::ContainerStatsResponse> {
        let container = self.container(&request.into_inner().container_id).await?;
        let all = self.runtime.stats().await.map_err(failed)?;
        let own = all.into_iter().find(|stats| stats.id == container.id);
        let own = own.unwrap_or_else(|| stats::idle_container(&container, now()));
        answer(v1::ContainerStatsResponse {
            stats: Some(proto::container_stats(own, Some(&container))),
        })
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let stats = self.container_usage(request.into_inner().filter).await?;
        answer(v1::ListContainerStatsResponse { stats })
    }

    type StreamContainerStatsStream = Items<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let stats = self.container_usage(request.into_inner().filter).await?;
        let page = |container_stats| v1::StreamContainerStatsResponse { container_stats };
        answer(pages::stream(stats, page).boxed())
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        let id = self.sandbox(&request.into_inner().pod_sandbox_id).await?.id;
        let filter = v1::PodSandboxStatsFilter {
            id: id.0.clone(),
            ..v1::PodSandboxStatsFilter::default()
        };
        let found = self.sandbox_usage(Some(filter)).await?.into_iter().next();
        let stats = Some(found.ok_or_else(|| not_found("sandbox", &id.0))?);
        answer(v1::PodSandboxStatsResponse { stats })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        let stats = self.sandbox_usage(request.into_inner().filter).await?;
        answer(v1::ListPodSandboxStatsResponse { stats })
    }

    type StreamPodSandboxStatsStream = Items<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let stats = self.sandbox_usage(request.into_inner().filter).await?;
        let page = |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats };
        answer(pages::stream(stats, page).boxed())
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        let config = request.into_inner().runtime_config;
        let network = config.and_then(|config| config.network_config).unwrap_or_default();
        let pod_cidr = ipv4_range(&network.pod_cidr).to_owned();
        if !pod_cidr.is_empty() {
            if let Some(network) = &self.network {
                let made = network.ensure(&pod_cidr).await;
                let doing = format!("making the pod network for {pod_cidr}");
                made.map_err(|error| failed(cri::Error::failed(doing, error)))?;
            }
            let told = self.runtime.update_config(cri::RuntimeConfig { pod_cidr }).await;
            told.map_err(failed)?;
        }
        answer(v1::UpdateRuntimeConfigResponse {})
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let (conditions, features) = futures::join!(self.runtime.status(), self.runtime.features());
        let verbose = request.into_inner().verbose;
        let info = verbose.then(|| info::runtime(&self.runtime.version(), &features));
        answer(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: conditions.into_iter().map(Into::into).collect(),
            }),
            info: info.unwrap_or_default(),
            features: Some((&features).into()),
            runtime_handlers: features.handlers.into_iter().map(Into::into).collect(),
        })
    }

    async fn checkpoint_container(
        &self,
        request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        let id = self.container(&request.into_inner().container_id).await?.id;
        let text = format!("container \"{id}\" cannot be checkpointed: no runtime of this node can restore it");
        Err(Status::new(Code::Unimplemented, text))
    }

    type GetContainerEventsStream = Items<v1::ContainerEventResponse>;

    async fn get_container_events(&self, _: Request<v1::GetEventsRequest>) -> Answer<Self::GetContainerEventsStream> {
        let until = self.quit.clone().cancelled_owned();
        answer(events::follow(self.clone()).await?.take_until(until).boxed())
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        let descriptors = metrics::descriptors();
        answer(v1::ListMetricDescriptorsResponse { descriptors })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        let pod_metrics = metrics::of(&self.usage_in_full().await?);
        answer(v1::ListPodSandboxMetricsResponse { pod_metrics })
    }

    type StreamPodSandboxMetricsStream = Items<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let metrics = metrics::of(&self.usage_in_full().await?);
        let page = |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics };
        answer(pages::stream(metrics, page).boxed())
    }

    async fn runtime_config(&self, _: Request<v1::RuntimeConfigRequest>) -> Answer<v1::RuntimeConfigResponse> {
        let mut features = self.runtime.features().await;
        features.cgroup_driver.get_or_insert(self.cgroup_driver);
        answer((&features).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_ranges_that_of_ipv4_is_taken() {
        for (given, taken) in [
            ("10.1.0.0/24", "10.1.0.0/24"),
            ("fd00::/64,10.1.0.0/24", "10.1.0.0/24"),
            ("fd00::/64", ""),
            ("", ""),
        ] {
            assert_eq!(ipv4_range(given), taken);
        }
    }

    #[test]
    fn a_long_output_is_cut_to_the_message() {
        let said = fit(cri::ExecOutput {
            stdout: vec![b'a'; LARGEST_MESSAGE],
            stderr: vec![b'b'; 10],
            exit_code: 3,
        });
        assert_eq!(said.stdout.len() + said.stderr.len(), LARGEST_MESSAGE - ENVELOPE);
        assert_eq!(said.exit_code, 3);
    }
}
