//! What calls do: repeated, refused, and with root's means.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cri::{ContainerConfig, ContainerState, Error, Event, Runtime as _, SandboxState};
use wasm::Config;

use crate::Failure;
use crate::node::{Node, container, hosts, sandbox, until};

pub(crate) async fn repeated_calls_change_nothing(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    let runtime = &agent.runtime;
    agent.import("http-hello.wasm").await?;
    let config = sandbox(&node, "default", "web");
    let runs = (0..4).map(|_| runtime.run_sandbox(config.clone(), "wasm"));
    let ids: BTreeSet<_> = futures::future::try_join_all(runs)
        .await?
        .into_iter()
        .map(|sandbox| sandbox.id)
        .collect();
    let [id] = ids
        .into_iter()
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "several sandboxes")?;
    let creates = (0..4).map(|_| runtime.create_container(&id, container("http-hello")));
    let ids: BTreeSet<_> = futures::future::try_join_all(creates).await?.into_iter().collect();
    let [inside] = ids
        .into_iter()
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "several containers")?;
    for _ in 0..2 {
        runtime.start_container(&inside).await?;
    }
    for _ in 0..2 {
        runtime.reopen_container_log(&inside).await?;
    }
    for _ in 0..2 {
        runtime.stop_container(&inside, Duration::ZERO).await?;
    }
    assert_eq!(agent.container(&inside).await?.state, ContainerState::Exited);
    assert!(matches!(
        runtime.start_container(&inside).await,
        Err(Error::Start { .. })
    ));
    for _ in 0..2 {
        runtime.stop_sandbox(&id).await?;
    }
    assert_eq!(agent.sandbox_state(&id).await?, SandboxState::NotReady);
    assert!(matches!(
        runtime.create_container(&id, container("other")).await,
        Err(Error::Start { .. })
    ));
    for _ in 0..2 {
        runtime.remove_container(&inside).await?;
        runtime.remove_sandbox(&id).await?;
        runtime.stop_sandbox(&id).await?;
        runtime.stop_container(&inside, Duration::ZERO).await?;
    }
    assert!(matches!(
        runtime.start_container(&inside).await,
        Err(Error::NotFound { .. })
    ));
    assert!(runtime.list_sandboxes().await?.is_empty() && runtime.list_containers().await?.is_empty());
    assert!(matches!(
        runtime.run_sandbox(config, "gvisor").await,
        Err(Error::InvalidConfig { .. })
    ));
    agent.stop().await;
    Ok(())
}

pub(crate) async fn bad_images_are_refused_by_naming_what_is_wrong(node: Arc<Node>) -> Result<(), Failure> {
    fs::create_dir(node.logs())?;
    let agent = node.agent().await?;
    let sandbox = agent.sandbox(&node, "default", "web").await?;
    for (guest, expected) in [
        ("not-wasm.wasm", "not a Wasm binary"),
        ("truncated.wasm", "invalid Wasm"),
        ("missing-import.wasm", "it imports what this host does not offer"),
    ] {
        agent.import(guest).await?;
        let image = guest.trim_end_matches(".wasm");
        let error = agent
            .runtime
            .create_container(&sandbox.id, container(image))
            .await
            .expect_err(guest);
        assert!(
            matches!(error, Error::UnrunnableImage { .. }) && error.to_string().contains(expected),
            "{error}"
        );
    }
    let error = agent
        .runtime
        .create_container(&sandbox.id, container("absent"))
        .await
        .expect_err("absent");
    assert!(matches!(error, Error::NotFound { what: "image", .. }), "{error}");
    let pull = cri::PullImage {
        reference: "127.0.0.1:1/absent".to_owned(),
        ..cri::PullImage::default()
    };
    let error = agent.runtime.pull_image(pull).await.expect_err("nobody listens there");
    let image = "127.0.0.1:1/absent:latest";
    let expected = format!(
        "failed to pull image \"{image}\": failed to resolve reference \"{image}\": cannot reach http://127.0.0.1:1: \
         Connection refused"
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
    let error = agent.runtime.image("Bad:1").await.expect_err("bad");
    assert!(matches!(error, Error::InvalidImageName { .. }), "{error}");
    agent.stop().await;
    Ok(())
}

pub(crate) async fn root_gives_hosts_users_and_namespaces(node: Arc<Node>) -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut netns = Command::new("unshare")
        .args(["--net", "cat"])
        .stdin(Stdio::piped())
        .spawn()?;
    let own = fs::read_link("/proc/self/ns/net")?;
    let path = PathBuf::from(format!("/proc/{}/ns/net", netns.id()));
    while fs::read_link(&path)? == own {
        tokio::task::yield_now().await;
    }
    let config = Config {
        netns: Some(path.clone()),
        host_uid_base: Some(700_000),
        ..node.config()
    };
    let agent = node.agent_with(config).await?;
    fs::create_dir(node.logs())?;
    agent.import("print.wasm").await?;
    let mut events = agent.runtime.events();
    for namespace in ["a", "b"] {
        let sandbox = agent.sandbox(&node, namespace, "web").await?;
        let printing = ContainerConfig {
            log_path: format!("{namespace}.log"),
            ..container("print")
        };
        let id = agent.runtime.create_container(&sandbox.id, printing).await?;
        agent.runtime.start_container(&id).await?;
        let exited = |event: &Event| {
            matches!(
                event,
                Event::Container {
                    state: ContainerState::Exited,
                    ..
                }
            )
        };
        until(&mut events, exited).await?;
        let done = agent.container(&id).await?;
        assert_eq!((done.exit_code, done.reason.as_str()), (0, "Completed"));
        let log = fs::read_to_string(&done.log_path)?;
        assert!(log.contains(" stdout F ") && log.contains(" stderr F "), "{log}");
    }
    let mut users = BTreeSet::new();
    for pid in hosts() {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_default()
                .trim()
        };
        users.insert(field("Uid:").to_owned());
        assert_eq!(
            (field("NoNewPrivs:"), field("CapEff:"), field("Groups:")),
            ("1", "0000000000000000", "")
        );
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/net"))?, fs::read_link(&path)?);
    }
    let names: BTreeSet<_> = hosts()
        .iter()
        .map(|pid| fs::read_to_string(format!("/proc/{pid}/comm")))
        .collect::<Result<_, _>>()?;
    assert_eq!(names, BTreeSet::from(["wherry\n".to_owned()]));
    let user = |uid: u32| format!("{uid}\t{uid}\t{uid}\t{uid}");
    assert_eq!(users, BTreeSet::from([user(700_000), user(700_001)]));
    agent.runtime.down().await?;
    agent.stop().await;
    netns.kill()?;
    netns.wait()?;
    Ok(())
}
