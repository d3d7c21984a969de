use proto::v1;
use tonic::Code;

use crate::{Served, labels, sandbox_config};

fn status(id: &str, verbose: bool) -> v1::PodSandboxStatusRequest {
    v1::PodSandboxStatusRequest {
        pod_sandbox_id: id.to_owned(),
        verbose,
    }
}

#[tokio::test]
async fn a_sandbox_keeps_its_attributes() {
    let mut served = Served::start().await;
    let id = served.sandbox("pod").await;
    let told = served
        .runtime
        .pod_sandbox_status(status(&id, true))
        .await
        .unwrap()
        .into_inner();
    let status = told.status.unwrap();
    assert_eq!(status.metadata, sandbox_config("pod").metadata);
    assert_eq!(
        (status.labels, status.annotations["note"].as_str()),
        (labels("pod"), "kept")
    );
    assert_eq!((status.state, status.network.unwrap().ip.as_str()), (0, "10.0.0.7"));
    let info: serde_json::Value = serde_json::from_str(&told.info["info"]).unwrap();
    assert_eq!(info["config"]["log_directory"], "/logs");
    assert!(told.timestamp > 0);
}

#[tokio::test]
async fn running_the_same_again_answers_the_first() {
    let mut served = Served::start().await;
    assert_eq!(served.sandbox("pod").await, served.sandbox("pod").await);
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_is_refused() {
    let mut served = Served::start().await;
    let mut run = async |config, handler: &str| {
        let request = v1::RunPodSandboxRequest {
            config,
            runtime_handler: handler.to_owned(),
        };
        served.runtime.run_pod_sandbox(request).await.unwrap_err()
    };
    let refused = run(None, "").await;
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "sandbox config is missing")
    );
    let refused = run(Some(v1::PodSandboxConfig::default()), "").await;
    assert_eq!(refused.message(), "sandbox config must include metadata");
    let refused = run(Some(sandbox_config("pod")), "nobody").await;
    assert_eq!(refused.message(), "no runtime for \"nobody\" is configured");
}

#[tokio::test]
async fn stopping_and_removing_can_be_repeated_and_the_absent_is_gone() {
    let mut served = Served::start().await;
    let id = served.sandbox("pod").await;
    let container = served.running(&id, "app").await;
    for pod_sandbox_id in [id.clone(), id.clone(), "absent".to_owned()] {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id };
        served.runtime.stop_pod_sandbox(request).await.unwrap();
    }
    let told = served
        .runtime
        .pod_sandbox_status(status(&id, false))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        told.status.unwrap().state,
        i32::from(v1::PodSandboxState::SandboxNotready)
    );
    assert_eq!(told.containers_statuses[0].id, container);
    assert!(told.info.is_empty());
    for pod_sandbox_id in [id.clone(), id.clone(), "absent".to_owned()] {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id };
        served.runtime.remove_pod_sandbox(request).await.unwrap();
    }
    let refused = served.runtime.pod_sandbox_status(status(&id, false)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, &*format!("sandbox \"{id}\" not found"))
    );
    let refused = served.runtime.pod_sandbox_status(status("", false)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn lists_show_what_the_filter_wants_and_ids_may_be_shortened() {
    let mut served = Served::start().await;
    let (first, second) = (served.sandbox("one").await, served.sandbox("two").await);
    let request = v1::StopPodSandboxRequest {
        pod_sandbox_id: second[..3].to_owned(),
    };
    served.runtime.stop_pod_sandbox(request).await.unwrap();
    let filter = |id: &str, state: Option<v1::PodSandboxState>, app: Option<&str>| v1::PodSandboxFilter {
        id: id.to_owned(),
        state: state.map(|state| v1::PodSandboxStateValue { state: state.into() }),
        label_selector: app.map(labels).unwrap_or_default(),
    };
    let ready = Some(v1::PodSandboxState::SandboxReady);
    for (filter, shown) in [
        (None, vec![&first, &second]),
        (Some(filter(&first, None, None)), vec![&first]),
        (Some(filter("", ready, None)), vec![&first]),
        (Some(filter("", None, Some("two"))), vec![&second]),
        (Some(filter(&first, None, Some("two"))), vec![]),
    ] {
        let request = v1::ListPodSandboxRequest { filter: filter.clone() };
        let items = served
            .runtime
            .list_pod_sandbox(request)
            .await
            .unwrap()
            .into_inner()
            .items;
        assert_eq!(items.iter().map(|item| &item.id).collect::<Vec<_>>(), shown);
        let request = v1::StreamPodSandboxesRequest { filter };
        let mut pages = served.runtime.stream_pod_sandboxes(request).await.unwrap().into_inner();
        let mut streamed = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            streamed.extend(page.pod_sandboxes);
        }
        assert_eq!(streamed, items);
    }
}

#[tokio::test]
async fn what_the_runtime_does_not_limit_is_said() {
    let mut served = Served::start().await;
    let pod_sandbox_id = served.sandbox("pod").await;
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id,
        ..v1::UpdatePodSandboxResourcesRequest::default()
    };
    let refused = served.runtime.update_pod_sandbox_resources(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let request = v1::UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: "absent".to_owned(),
        ..v1::UpdatePodSandboxResourcesRequest::default()
    };
    let refused = served.runtime.update_pod_sandbox_resources(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}
