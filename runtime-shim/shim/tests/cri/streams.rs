use std::time::Duration;

use cri::Streams;
use proto::v1;
use streaming::{Client, Patience};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::Served;

/// More than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn client(served: &Served) -> Client {
    Client::new(served.tasks.clone(), Patience::default())
}

const BOTH: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: false,
};

/// Tells a session `more`, and answers what it said and how it ended.
async fn talk(mut session: cri::Session) -> (String, i32) {
    let mut stdin = session.stdin.take().unwrap();
    stdin.write_all(b" more").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut said = String::new();
    let mut stdout = session.stdout.take().unwrap();
    let read = stdout.read_to_string(&mut said);
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an end in time")
        .unwrap();
    (said, session.ended.await.unwrap())
}

#[tokio::test]
async fn a_command_is_run_at_the_address_that_exec_answers_once() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let id = served.running(&sandbox, "app").await;
    let request = v1::ExecRequest {
        container_id: id,
        cmd: vec!["cat".to_owned(), "-u".to_owned()],
        stdin: true,
        stdout: true,
        ..v1::ExecRequest::default()
    };
    let url = served.runtime.exec(request).await.unwrap().into_inner().url;
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let session = client(&served).remote_command(&url, BOTH).await.unwrap();
    assert_eq!(talk(session).await, ("cat -u more".to_owned(), 3));
    let refused = client(&served).remote_command(&url, BOTH).await.unwrap_err();
    assert!(
        refused.to_string().contains("404") || format!("{refused:?}").contains("expired"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_container_is_attached_to() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let id = served.running(&sandbox, "app").await;
    let request = v1::AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        ..v1::AttachRequest::default()
    };
    let url = served.runtime.attach(request).await.unwrap().into_inner().url;
    let session = client(&served).remote_command(&url, BOTH).await.unwrap();
    // Whoever was attached is not told how the container ended.
    assert_eq!(talk(session).await.0, format!("attached to {id} more"));
}

#[tokio::test]
async fn ports_are_forwarded() {
    let mut served = Served::start().await;
    let pod_sandbox_id = served.sandbox("pod").await;
    let request = v1::PortForwardRequest {
        pod_sandbox_id,
        port: vec![8080],
    };
    let url = served.runtime.port_forward(request).await.unwrap().into_inner().url;
    let mut connection = client(&served).port_forward(&url, 8080).await.unwrap();
    connection.write_all(b"ping").await.unwrap();
    let mut said = [0; 8];
    let read = connection.read_exact(&mut said);
    tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time")
        .unwrap();
    assert_eq!(&said, b"8080ping");
}

#[tokio::test]
async fn streams_that_cannot_be_are_refused_before_there_is_an_address() {
    let mut served = Served::start().await;
    let sandbox = served.sandbox("pod").await;
    let (created, id) = (
        served.container(&sandbox, "idle").await,
        served.running(&sandbox, "app").await,
    );
    let exec = |id: &str, cmd: &[&str], streams: Streams| v1::ExecRequest {
        container_id: id.to_owned(),
        cmd: cmd.iter().map(|word| (*word).to_owned()).collect(),
        tty: streams.tty,
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let terminal_with_stderr = Streams {
        tty: true,
        stderr: true,
        ..BOTH
    };
    for (request, code) in [
        (exec(&id, &[], BOTH), Code::InvalidArgument),
        (exec(&id, &["ls"], Streams::default()), Code::InvalidArgument),
        (exec(&id, &["ls"], terminal_with_stderr), Code::InvalidArgument),
        (exec(&created, &["ls"], BOTH), Code::FailedPrecondition),
        (exec("absent", &["ls"], BOTH), Code::NotFound),
    ] {
        let refused = served.runtime.exec(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
    }
    let attach = v1::AttachRequest {
        container_id: created,
        stdout: true,
        ..v1::AttachRequest::default()
    };
    let refused = served.runtime.attach(attach).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let forward = |id: &str, port| v1::PortForwardRequest {
        pod_sandbox_id: id.to_owned(),
        port: vec![port],
    };
    let refused = served
        .runtime
        .port_forward(forward(&sandbox, 70_000))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = served.runtime.port_forward(forward("absent", 80)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let stop = v1::StopPodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    served.runtime.stop_pod_sandbox(stop).await.unwrap();
    let refused = served.runtime.port_forward(forward(&sandbox, 80)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
}
