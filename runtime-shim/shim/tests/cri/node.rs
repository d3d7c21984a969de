use std::time::Duration;

use proto::v1::{self, ContainerEventType};
use tonic::Code;

use crate::Served;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_runtime_tells_its_version_and_conditions() {
    let mut served = Served::start().await;
    let request = v1::VersionRequest {
        version: "0.1.0".to_owned(),
    };
    let version = served.runtime.version(request).await.unwrap().into_inner();
    assert_eq!(
        (version.runtime_name.as_str(), version.runtime_version.as_str()),
        ("fake", "1.2.3")
    );
    assert_eq!(
        (version.version.as_str(), version.runtime_api_version.as_str()),
        ("0.1.0", "v1")
    );
    let told = served
        .runtime
        .status(v1::StatusRequest { verbose: true })
        .await
        .unwrap()
        .into_inner();
    let conditions = told.status.unwrap().conditions;
    let network = conditions
        .iter()
        .find(|condition| condition.r#type == "NetworkReady")
        .unwrap();
    assert_eq!((network.status, network.reason.as_str()), (false, "NoPodRange"));
    assert!(told.features.unwrap().supplemental_groups_policy);
    assert_eq!(told.runtime_handlers[0].name, "");
    assert!(told.info["config"].contains("fake"), "{:?}", told.info);
    let config = served
        .runtime
        .runtime_config(v1::RuntimeConfigRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        config.linux.unwrap().cgroup_driver,
        i32::from(v1::CgroupDriver::Cgroupfs)
    );
}

#[tokio::test]
async fn the_pod_range_makes_the_network_and_then_the_runtime_ready() {
    let mut served = Served::start().await;
    let update = |pod_cidr: &str| v1::UpdateRuntimeConfigRequest {
        runtime_config: Some(v1::RuntimeConfig {
            network_config: Some(v1::NetworkConfig {
                pod_cidr: pod_cidr.to_owned(),
            }),
        }),
    };
    let refused = served
        .runtime
        .update_runtime_config(update("10.9.0.0/32"))
        .await
        .unwrap_err();
    assert_eq!(refused.message(), "making the pod network for 10.9.0.0/32: too small");
    served.runtime.update_runtime_config(update("")).await.unwrap();
    served
        .runtime
        .update_runtime_config(update("10.1.0.0/17,fd00::/64"))
        .await
        .unwrap();
    assert_eq!(*served.networks.0.lock(), ["10.1.0.0/17"]);
    let told = served
        .runtime
        .status(v1::StatusRequest { verbose: false })
        .await
        .unwrap()
        .into_inner();
    assert!(told.status.unwrap().conditions.iter().all(|condition| condition.status));
    assert!(told.info.is_empty());
}

#[tokio::test]
async fn usage_and_metrics_are_told_by_pod() {
    let mut served = Served::start().await;
    let (busy, idle) = (served.sandbox("busy").await, served.sandbox("idle").await);
    let container = served.running(&busy, "app").await;
    let stats = |id: &str| v1::PodSandboxStatsRequest {
        pod_sandbox_id: id.to_owned(),
    };
    let told = served
        .runtime
        .pod_sandbox_stats(stats(&busy))
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    let linux = told.linux.unwrap();
    assert_eq!(linux.memory.unwrap().working_set_bytes.unwrap().value, 4096);
    assert_eq!(linux.containers[0].attributes.as_ref().unwrap().id, container);
    assert_eq!(told.attributes.unwrap().metadata.unwrap().name, "busy");
    let told = served
        .runtime
        .pod_sandbox_stats(stats(&idle))
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert_eq!(
        told.linux.unwrap().cpu.unwrap().usage_core_nano_seconds.unwrap().value,
        0
    );
    let refused = served.runtime.pod_sandbox_stats(stats("absent")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    let filter = Some(v1::PodSandboxStatsFilter {
        label_selector: crate::labels("busy"),
        ..v1::PodSandboxStatsFilter::default()
    });
    let request = v1::ListPodSandboxStatsRequest { filter: filter.clone() };
    let listed = served
        .runtime
        .list_pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats;
    assert_eq!(listed.len(), 1);
    let request = v1::StreamPodSandboxStatsRequest { filter };
    let mut pages = served
        .runtime
        .stream_pod_sandbox_stats(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(pages.message().await.unwrap().unwrap().pod_sandbox_stats, listed);

    let described = served
        .runtime
        .list_metric_descriptors(v1::ListMetricDescriptorsRequest {})
        .await
        .unwrap();
    let described: Vec<_> = described.into_inner().descriptors.into_iter().map(|d| d.name).collect();
    let metrics = served
        .runtime
        .list_pod_sandbox_metrics(v1::ListPodSandboxMetricsRequest {})
        .await
        .unwrap();
    let metrics = metrics.into_inner().pod_metrics;
    let own = metrics.iter().find(|metrics| metrics.pod_sandbox_id == busy).unwrap();
    assert_eq!(own.container_metrics[0].container_id, container);
    for metric in own.metrics.iter().chain(&own.container_metrics[0].metrics) {
        assert!(described.contains(&metric.name), "{} is not described", metric.name);
    }
    let mut pages = served
        .runtime
        .stream_pod_sandbox_metrics(v1::StreamPodSandboxMetricsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(pages.message().await.unwrap().unwrap().pod_sandbox_metrics, metrics);
}

#[tokio::test]
async fn events_tell_every_step_with_its_pod() {
    use ContainerEventType::{
        ContainerCreatedEvent, ContainerDeletedEvent, ContainerStartedEvent, ContainerStoppedEvent,
    };
    let mut served = Served::start().await;
    let before = served.sandbox("before").await;
    let mut events = served
        .runtime
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut expect = async |id: &str, kinds: &[ContainerEventType]| {
        for kind in kinds {
            let event = tokio::time::timeout(PATIENCE, events.message())
                .await
                .expect("an event in time");
            let event = event.unwrap().expect("the stream goes on");
            assert_eq!((event.container_id.as_str(), event.container_event_type()), (id, *kind));
            assert_ne!(event.container_id, before, "it was there before");
            assert_eq!(event.pod_sandbox_status.unwrap().metadata.unwrap().uid, "pod-uid");
        }
    };
    let sandbox = served.sandbox("pod").await;
    expect(&sandbox, &[ContainerCreatedEvent, ContainerStartedEvent]).await;
    let id = served.running(&sandbox, "app").await;
    expect(&id, &[ContainerCreatedEvent, ContainerStartedEvent]).await;
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    served.runtime.stop_pod_sandbox(request).await.unwrap();
    expect(&id, &[ContainerStoppedEvent]).await;
    expect(&sandbox, &[ContainerStoppedEvent]).await;
    let request = v1::RemovePodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    served.runtime.remove_pod_sandbox(request).await.unwrap();
    expect(&id, &[ContainerDeletedEvent]).await;
    expect(&sandbox, &[ContainerDeletedEvent]).await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_frees_the_socket() {
    let mut served = Served::start().await;
    let mut events = served
        .runtime
        .get_container_events(v1::GetEventsRequest {})
        .await
        .unwrap()
        .into_inner();
    served.quit.cancel();
    served.tasks.close();
    tokio::time::timeout(PATIENCE, served.tasks.wait())
        .await
        .expect("all tasks end");
    assert!(events.message().await.is_ok_and(|event| event.is_none()));
    assert!(std::os::unix::net::UnixStream::connect(&served.socket).is_err());
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused() {
    let mut served = Served::start().await;
    let request = v1::VersionRequest {
        version: "x".repeat(17 << 20),
    };
    let refused = served.runtime.version(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let request = v1::VersionRequest::default();
    served.runtime.version(request).await.unwrap();
}
