//! How sandbox hosts come, fall and end.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cri::{ContainerState, Event, Runtime as _, SandboxConfig, SandboxState};
use wasm::Config;

use crate::Failure;
use crate::node::{Node, assert_serves, container, gone, host_of, hosts, kill, sandbox, until};

pub(crate) async fn a_killed_host_takes_only_its_own_pods_down(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    agent.import("http-hello.wasm").await?;
    let (lost, container) = agent.pod(&node, "a", "web").await?;
    let (other, _) = agent.pod(&node, "b", "web").await?;
    let mut events = agent.runtime.events();
    kill(host_of("a")?);
    let unknown = |event: &Event| {
        matches!(
            event,
            Event::Container {
                state: ContainerState::Unknown,
                ..
            }
        )
    };
    until(&mut events, unknown).await?;
    let dead = agent.container(&container).await?;
    assert_eq!((dead.exit_code, dead.reason.as_str()), (255, "ContainerStatusUnknown"));
    assert!(dead.message.contains("killed by signal 9"), "{}", dead.message);
    assert!(dead.finished_at >= dead.started_at && dead.started_at > 0);
    assert_eq!(agent.sandbox_state(&lost.id).await?, SandboxState::NotReady);
    assert_eq!(agent.sandbox_state(&other.id).await?, SandboxState::Ready);
    assert_serves(&other).await?;

    let again = SandboxConfig {
        attempt: 1,
        ..sandbox(&node, "a", "web")
    };
    let again = agent.runtime.run_sandbox(again, "").await?;
    let id = agent
        .runtime
        .create_container(&again.id, self::container("http-hello"))
        .await?;
    agent.runtime.start_container(&id).await?;
    assert_serves(&again).await?;
    assert_eq!(node.host_directories()?.len(), 3);
    agent.runtime.remove_container(&container).await?;
    agent.runtime.stop_sandbox(&lost.id).await?;
    agent.runtime.remove_sandbox(&lost.id).await?;
    assert_eq!(
        node.host_directories()?.len(),
        2,
        "nothing is left of the host that was killed"
    );
    agent.stop().await;
    Ok(())
}

pub(crate) async fn a_host_that_does_not_come_up_is_reported(node: Arc<Node>) -> Result<(), Failure> {
    let mut config = node.config();
    config.host_command = vec![std::env::current_exe()?.into(), "broken-host".into()];
    let agent = node.agent_with(config).await?;
    let error = agent.sandbox(&node, "default", "web").await.expect_err("a broken host");
    assert!(error.chain().contains("cannot start: no reason"), "{}", error.chain());
    assert!(agent.runtime.list_sandboxes().await?.is_empty() && node.host_directories()?.is_empty());
    agent.stop().await;
    Ok(())
}

pub(crate) async fn hosts_without_pods_end(node: Arc<Node>) -> Result<(), Failure> {
    let agent = node
        .agent_with(Config {
            host_idle: Duration::ZERO,
            ..node.config()
        })
        .await?;
    let sandbox = agent.sandbox(&node, "default", "web").await?;
    let pid = host_of("default")?;
    agent.runtime.remove_sandbox(&sandbox.id).await?;
    gone(pid).await?;
    while !node.host_directories()?.is_empty() {
        tokio::task::yield_now().await;
    }
    agent.sandbox(&node, "default", "web").await?;
    agent.stop().await;
    Ok(())
}

pub(crate) async fn down_ends_everything(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    agent.import("http-hello.wasm").await?;
    for namespace in ["a", "b"] {
        agent.pod(&node, namespace, "web").await?;
    }
    agent.runtime.down().await?;
    assert!(agent.runtime.list_sandboxes().await?.is_empty());
    assert!(hosts().is_empty() && node.host_directories()?.is_empty());
    assert_eq!(agent.runtime.list_images().await?.len(), 1);
    agent.stop().await;
    Ok(())
}
