//! After a downgrade: a sandbox host that speaks only later versions of the protocol is refused in words and lives on,
//! until somebody says that its pods shall end.

use std::{ffi::OsString, fs, path::Path};

use tokio::net::UnixListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wasm::{
    Config, Runtime, StartError,
    protocol::{Failure, FromHost, ToHost, VERSION, channel},
};

fn config(data_dir: &Path) -> Config {
    let program = || vec![OsString::from("/bin/false")];
    Config {
        data_dir: data_dir.to_owned(),
        pod_range: None,
        netns: None,
        dialable_loopback: Vec::new(),
        host_command: program(),
        compile_command: program(),
        host_uid_base: None,
        cgroup_parent: None,
        boot_id: "this-boot".to_owned(),
        host_idle: std::time::Duration::from_secs(60),
    }
}

/// Leaves a host behind, as a later version would, whose process is this one.
fn later_host(data_dir: &Path) -> UnixListener {
    let directory = data_dir.join("sandbox-hosts/later");
    fs::create_dir_all(directory.join("state")).expect("a directory");
    let file = r#"{"id":"later","tenant":"shop","place":"Pods","wherry_version":"9.0.0","boot_id":"this-boot","user":null,
        "lost":null}"#;
    fs::write(directory.join("host.json"), file).expect("a file");
    UnixListener::bind(directory.join("socket")).expect("a socket")
}

async fn refuse_all(listener: UnixListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let (mut sender, mut receiver) = channel::split(stream);
        while let Ok(Some((ToHost { id, .. }, _))) = receiver.recv::<ToHost>().await {
            let failure = Failure::Version {
                oldest: VERSION + 1,
                newest: VERSION + 2,
            };
            let reply = FromHost::Reply {
                id,
                result: Err(failure),
            };
            sender.send(&reply, &[]).await.expect("the agent hears");
        }
    }
}

#[tokio::test]
async fn pods_of_a_later_version_are_left_alone_and_named() {
    let data = tempfile::tempdir().expect("a directory");
    let host = tokio::spawn(refuse_all(later_host(data.path())));
    for _ in 0..2 {
        let started = Runtime::start(config(data.path()), TaskTracker::new(), CancellationToken::new()).await;
        let error = started.expect_err("refused");
        assert!(matches!(error, StartError::LaterHost { .. }), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains("namespace \"shop\"") && said.contains("9.0.0") && said.contains("wherry down"),
            "{said}"
        );
    }
    assert!(!host.is_finished(), "this process, which stands for the host, lives");
}
