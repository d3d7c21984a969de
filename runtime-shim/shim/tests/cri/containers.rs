use std::time::Duration;

use proto::v1;
use tonic::Code;

use crate::{Served, container_config, fake::CREATED, labels, sandbox_config};

#[tokio::test]
async fn a_container_goes_through_its_life() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let id = served.container(&sandbox, "app").await;
    let image = served.pull("registry/hello:1").await;
    let status = served.status(&id).await;
    assert_eq!(status.metadata, container_config("app").metadata);
    assert_eq!(
        (status.labels, status.annotations["note"].as_str()),
        (labels("app"), "kept")
    );
    assert_eq!(status.image.unwrap().image, "registry/hello:1");
    assert_eq!(
        (status.image_id, status.image_ref.as_str()),
        (image, "registry/hello@sha256:dd")
    );
    assert_eq!(
        (status.log_path.as_str(), status.created_at),
        ("/logs/app/2.log", CREATED)
    );
    assert_eq!(status.user.unwrap().linux.unwrap().uid, 65534);
    assert_eq!(status.state, i32::from(v1::ContainerState::ContainerCreated));

    let start = v1::StartContainerRequest {
        container_id: id.clone(),
    };
    served.runtime.start_container(start.clone()).await.unwrap();
    let status = served.status(&id).await;
    assert_eq!(
        (status.state, status.started_at),
        (i32::from(v1::ContainerState::ContainerRunning), CREATED + 1)
    );
    let refused = served.runtime.start_container(start).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);

    let stop = |container_id: &str| v1::StopContainerRequest {
        container_id: container_id.to_owned(),
        timeout: 5,
    };
    for container in [&id, &id, "absent"] {
        served.runtime.stop_container(stop(container)).await.unwrap();
    }
    assert_eq!(
        served.fake.asked()[0],
        format!("stop {id} {:?}", Duration::from_secs(5))
    );
    let status = served.status(&id).await;
    assert_eq!(
        (status.exit_code, status.reason.as_str(), status.finished_at),
        (137, "Error", CREATED + 2)
    );

    for container in [&id, &id, "absent"] {
        let container_id = container.to_owned();
        let request = v1::RemoveContainerRequest { container_id };
        served.runtime.remove_container(request).await.unwrap();
    }
    let request = v1::ContainerStatusRequest {
        container_id: id.clone(),
        verbose: true,
    };
    let refused = served.runtime.container_status(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, &*format!("container \"{id}\" not found"))
    );
}

#[tokio::test]
async fn a_container_that_cannot_be_is_refused() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let request = |sandbox: &str, config: Option<v1::ContainerConfig>| v1::CreateContainerRequest {
        pod_sandbox_id: sandbox.to_owned(),
        config,
        sandbox_config: Some(sandbox_config("pod")),
    };
    for (request, code, text) in [
        (
            request("absent", Some(container_config("app"))),
            Code::NotFound,
            "sandbox \"absent\" not found",
        ),
        (
            request(&sandbox, None),
            Code::InvalidArgument,
            "container config is missing",
        ),
        (
            request(&sandbox, Some(v1::ContainerConfig::default())),
            Code::InvalidArgument,
            "container config must include metadata",
        ),
        (
            request(&sandbox, Some(container_config("app"))),
            Code::NotFound,
            "image \"registry/hello:1\" not found",
        ),
    ] {
        let refused = served.runtime.create_container(request).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (code, text));
    }
    let negative = v1::StopContainerRequest {
        container_id: "absent".to_owned(),
        timeout: -1,
    };
    let refused = served.runtime.stop_container(negative).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_container_gets_its_own_ports_or_those_of_its_sandbox() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    served.pull("registry/hello:1").await;
    for (noted, port) in [
        (None, 8080),
        (Some(r#"[{"containerPort":9090,"protocol":"TCP"}]"#), 9090),
    ] {
        let mut config = container_config(&port.to_string());
        if let Some(noted) = noted {
            config
                .annotations
                .insert("io.kubernetes.container.ports".to_owned(), noted.to_owned());
        }
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(sandbox_config("pod")),
        };
        let id = served
            .runtime
            .create_container(request)
            .await
            .unwrap()
            .into_inner()
            .container_id;
        let request = v1::ContainerStatusRequest {
            container_id: id,
            verbose: true,
        };
        let told = served.runtime.container_status(request).await.unwrap().into_inner();
        let info: serde_json::Value = serde_json::from_str(&told.info["info"]).unwrap();
        assert_eq!(info["config"]["ports"][0]["port"], port, "{info}");
    }
}

#[tokio::test]
async fn lists_show_what_the_filter_wants() {
    let mut served = Served::start().await;
    let (one, two) = (served.sandbox("one").await, served.sandbox("two").await);
    let (first, second) = (served.container(&one, "a").await, served.running(&two, "b").await);
    let filter = |id: &str, sandbox: &str, state: Option<v1::ContainerState>, app: Option<&str>| v1::ContainerFilter {
        id: id.to_owned(),
        state: state.map(|state| v1::ContainerStateValue { state: state.into() }),
        pod_sandbox_id: sandbox.to_owned(),
        label_selector: app.map(labels).unwrap_or_default(),
    };
    let running = Some(v1::ContainerState::ContainerRunning);
    for (filter, shown) in [
        (None, vec![&first, &second]),
        (Some(filter(&first, "", None, None)), vec![&first]),
        (Some(filter("", &two, None, None)), vec![&second]),
        (Some(filter("", "", running, None)), vec![&second]),
        (Some(filter("", &one, running, None)), vec![]),
        (Some(filter("", "", None, Some("a"))), vec![&first]),
    ] {
        let request = v1::ListContainersRequest { filter: filter.clone() };
        let items = served
            .runtime
            .list_containers(request)
            .await
            .unwrap()
            .into_inner()
            .containers;
        assert_eq!(items.iter().map(|item| &item.id).collect::<Vec<_>>(), shown);
        let request = v1::StreamContainersRequest { filter };
        let mut pages = served.runtime.stream_containers(request).await.unwrap().into_inner();
        let mut streamed = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            streamed.extend(page.containers);
        }
        assert_eq!(streamed, items);
    }
}

#[tokio::test]
async fn limits_and_logs_change_while_it_runs() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let id = served.running(&sandbox, "app").await;
    let linux = v1::LinuxContainerResources {
        cpu_shares: 512,
        cpuset_cpus: "0-1".to_owned(),
        ..v1::LinuxContainerResources::default()
    };
    let update = |id: &str, linux: Option<v1::LinuxContainerResources>| v1::UpdateContainerResourcesRequest {
        container_id: id.to_owned(),
        linux,
        ..v1::UpdateContainerResourcesRequest::default()
    };
    served
        .runtime
        .update_container_resources(update(&id, Some(linux.clone())))
        .await
        .unwrap();
    assert_eq!(served.fake.asked(), ["cpus 0-1"]);
    let status = served.status(&id).await;
    assert_eq!(status.resources.unwrap().linux.unwrap().cpu_shares, 512);
    let reopen = |id: &str| v1::ReopenContainerLogRequest {
        container_id: id.to_owned(),
    };
    served.runtime.reopen_container_log(reopen(&id)).await.unwrap();
    assert_eq!(served.fake.asked(), [format!("reopen {id}")]);

    let refused = served
        .runtime
        .update_container_resources(update(&id, None))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = served
        .runtime
        .update_container_resources(update("absent", Some(linux.clone())))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let stop = v1::StopContainerRequest {
        container_id: id.clone(),
        timeout: 0,
    };
    served.runtime.stop_container(stop).await.unwrap();
    let refused = served
        .runtime
        .update_container_resources(update(&id, Some(linux)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let refused = served.runtime.reopen_container_log(reopen(&id)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let checkpoint = v1::CheckpointContainerRequest {
        container_id: id,
        ..v1::CheckpointContainerRequest::default()
    };
    let refused = served.runtime.checkpoint_container(checkpoint).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn usage_is_told_of_what_runs() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let (idle, id) = (
        served.container(&sandbox, "idle").await,
        served.running(&sandbox, "app").await,
    );
    let stats = |id: &str| v1::ContainerStatsRequest {
        container_id: id.to_owned(),
    };
    let told = served
        .runtime
        .container_stats(stats(&id))
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert_eq!(told.cpu.unwrap().usage_core_nano_seconds.unwrap().value, 2_500_000_000);
    let attributes = told.attributes.unwrap();
    assert_eq!(
        (attributes.labels, attributes.metadata.unwrap().attempt),
        (labels("app"), 2)
    );
    let told = served
        .runtime
        .container_stats(stats(&idle))
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert!(told.cpu.unwrap().timestamp > 0);
    let refused = served.runtime.container_stats(stats("absent")).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);

    for (app, count) in [("app", 1), ("idle", 0), ("other", 0)] {
        let filter = Some(v1::ContainerStatsFilter {
            label_selector: labels(app),
            ..v1::ContainerStatsFilter::default()
        });
        let request = v1::ListContainerStatsRequest { filter: filter.clone() };
        let listed = served
            .runtime
            .list_container_stats(request)
            .await
            .unwrap()
            .into_inner()
            .stats;
        assert_eq!(listed.len(), count, "{app}");
        let request = v1::StreamContainerStatsRequest { filter };
        let mut pages = served
            .runtime
            .stream_container_stats(request)
            .await
            .unwrap()
            .into_inner();
        let page = pages.message().await.unwrap();
        assert_eq!(page.map(|page| page.container_stats).unwrap_or_default(), listed);
    }
}

#[tokio::test]
async fn commands_are_run_to_their_end() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let (created, id) = (
        served.container(&sandbox, "idle").await,
        served.running(&sandbox, "app").await,
    );
    let exec = |id: &str, cmd: &[&str], timeout| v1::ExecSyncRequest {
        container_id: id.to_owned(),
        cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
        timeout,
    };
    let said = served
        .runtime
        .exec_sync(exec(&id, &["ls", "-l"], 0))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(said.stdout, format!("ls -l in {id} with no limit"));
    assert_eq!((said.stderr.as_ref(), said.exit_code), (&b"oops"[..], 7));
    for (request, code) in [
        (exec(&id, &["sleep"], 1), Code::DeadlineExceeded),
        (exec(&id, &["ls"], -1), Code::InvalidArgument),
        (exec(&id, &[], 0), Code::InvalidArgument),
        (exec(&created, &["ls"], 0), Code::FailedPrecondition),
        (exec("absent", &["ls"], 0), Code::NotFound),
    ] {
        let refused = served.runtime.exec_sync(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
}
