//! What outlives the agent, and how the next one finds it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cri::{ContainerState, Event, Runtime as _, SandboxState};
use wasm::Config;

use crate::Failure;
use crate::node::{Node, assert_serves, get, gone, host_of, hosts, kill, until};

pub(crate) async fn pods_outlive_the_agent_and_are_adopted(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let first = node.agent().await?;
    first.import("http-hello.wasm").await?;
    let (sandbox, container) = first.pod(&node, "default", "web").await?;
    assert_serves(&sandbox).await?;
    let before = (
        first.runtime.list_sandboxes().await?,
        first.runtime.list_containers().await?,
    );
    assert_eq!(
        before.1.first().map(|container| container.state),
        Some(ContainerState::Running)
    );
    let generation = fs::read_to_string(node.dir.path().join("sandbox-hosts/generation"))?;
    first.stop().await;
    assert_serves(&sandbox).await?;

    let second = node.agent().await?;
    assert_ne!(
        fs::read_to_string(node.dir.path().join("sandbox-hosts/generation"))?,
        generation
    );
    let after = (
        second.runtime.list_sandboxes().await?,
        second.runtime.list_containers().await?,
    );
    assert_eq!(after, before);
    let (other, _) = second.pod(&node, "default", "other").await?;
    assert_ne!(other.ips, sandbox.ips);
    assert_eq!(hosts().len(), 1, "pods of one namespace share a host");
    assert_serves(&other).await?;
    let stats = second.runtime.stats().await?;
    let usage = stats.iter().find(|usage| usage.id == container).ok_or("no usage")?;
    assert_eq!(usage.requests, 2);

    let mut events = second.runtime.events();
    second.runtime.stop_container(&container, Duration::ZERO).await?;
    let exited = |event: &Event| matches!(event, Event::Container { id, state, .. } if *id == container && *state == ContainerState::Exited);
    until(&mut events, exited).await?;
    second.runtime.remove_sandbox(&sandbox.id).await?;
    assert!(get(&sandbox).await.is_err());
    assert_serves(&other).await?;
    assert_eq!(second.runtime.list_sandboxes().await?.len(), 1);
    second.stop().await;
    Ok(())
}

pub(crate) async fn a_host_killed_while_the_agent_is_away_is_noticed(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let first = node.agent().await?;
    first.import("http-hello.wasm").await?;
    let (sandbox, running) = first.pod(&node, "default", "web").await?;
    let (_, stopped) = first.pod(&node, "default", "stopped").await?;
    first.runtime.stop_container(&stopped, Duration::ZERO).await?;
    let known = first.container(&stopped).await?;
    first.stop().await;
    let pid = host_of("default")?;
    kill(pid);
    gone(pid).await?;

    let second = node.agent().await?;
    let lost = second.container(&running).await?;
    assert_eq!(lost.state, ContainerState::Unknown);
    assert_eq!(
        second.container(&stopped).await?,
        known,
        "an exit that was recorded stays as it was"
    );
    assert_eq!(second.sandbox_state(&sandbox.id).await?, SandboxState::NotReady);
    second.stop().await;

    let third = node.agent().await?;
    assert_eq!(third.container(&running).await?, lost, "later starts say the same");
    for sandbox in third.runtime.list_sandboxes().await? {
        third.runtime.remove_sandbox(&sandbox.id).await?;
    }
    assert!(third.runtime.list_containers().await?.is_empty());
    assert!(node.host_directories()?.is_empty());
    third.stop().await;
    Ok(())
}

pub(crate) async fn after_a_reboot_nothing_stale_is_adopted(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let first = node.agent().await?;
    first.import("http-hello.wasm").await?;
    let (sandbox, _) = first.pod(&node, "default", "web").await?;
    first.stop().await;
    let pid = host_of("default")?;
    kill(pid);
    gone(pid).await?;

    let second = node
        .agent_with(Config {
            boot_id: "another-boot".to_owned(),
            ..node.config()
        })
        .await?;
    assert!(second.runtime.list_sandboxes().await?.is_empty() && second.runtime.list_containers().await?.is_empty());
    assert!(node.host_directories()?.is_empty());
    let (again, _) = second.pod(&node, "default", "web").await?;
    assert_ne!(again.id, sandbox.id);
    assert_serves(&again).await?;
    second.stop().await;
    Ok(())
}

pub(crate) async fn a_newer_agent_takes_over_without_harm(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let older = node.agent().await?;
    older.import("http-hello.wasm").await?;
    let (sandbox, container) = older.pod(&node, "default", "web").await?;
    let newer = node.agent().await?;
    assert!(
        older.runtime.stop_container(&container, Duration::ZERO).await.is_err(),
        "the older agent is fenced off"
    );
    // It tries to connect again, is refused, and leaves the host alone: only its search for idle hosts goes on.
    while older.tasks.len() > 1 {
        tokio::task::yield_now().await;
    }
    older.stop().await;
    assert_eq!(newer.container(&container).await?.state, ContainerState::Running);
    assert_serves(&sandbox).await?;
    newer.stop().await;
    Ok(())
}
