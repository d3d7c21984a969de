//! The container runtime interface as somebody else's client sees it: gRPC's own, in Python, through every call there is, for
//! containers of both kinds.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{Cluster, Options, Release, kill, need_root, oci::Image, repository, run};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(60);
/// Debian's, which has Debian's gRPC.
const PYTHON: &str = "/usr/bin/python3";

fn every_call(release: Release) {
    if release.program().is_none() {
        eprintln!("SKIPPED: nobody said where the containerd of {release:?} is");
        return;
    }
    let has = run(Command::new(PYTHON).args(["-c", "import grpc, google.protobuf"]), "");
    if !has.success {
        eprintln!("SKIPPED: python3-grpcio and python3-protobuf are not installed");
        return;
    }
    let mut cluster = Cluster::start(Options {
        containerd: true,
        release,
        ..Options::default()
    });
    cluster.load_image(&Image::default(), "tools:1");
    cluster
        .load(&repository().join("examples/hello/hello.wasm"), "hello:1")
        .ok();
    assert!(cluster.stop(), "wherry up ends well");
    let descriptors = cluster.scratch().join("cri.pb");
    let interface = repository().join("runtime-shim/proto/proto");
    run(
        Command::new("protoc")
            .arg(format!("--proto_path={}", interface.display()))
            .arg(format!("--descriptor_set_out={}", descriptors.display()))
            .args(["--include_imports", "cri.proto"]),
        "",
    )
    .ok();

    let mut serve = cluster.wherry("runtime-shim");
    serve.arg("--containerd").arg(cluster.containerd().socket());
    serve.args(["--pod-cidr", "10.128.0.0/17"]);
    let log = std::fs::File::create(cluster.scratch().join("shim.log")).expect("a file");
    let mut shim = serve
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("the binary starts");
    let stdout = shim.stdout.take().expect("stdout is piped");
    let (said, first) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || said.send(BufReader::new(stdout).lines().next()));
    let first = first.recv_timeout(SOON).ok().flatten().and_then(Result::ok);
    let log = || std::fs::read_to_string(cluster.scratch().join("shim.log")).unwrap_or_default();
    assert_eq!(first.as_deref(), Some("ready"), "{}", log());

    let logs = cluster.scratch().join("logs");
    let mut client = cluster.on_machine(PYTHON);
    client
        .arg(repository().join("tests/e2e/clients/cri.py"))
        .arg(cluster.data().join("cri.sock"))
        .args([&descriptors, &logs]);
    let told = run(&mut client, "");
    assert!(told.success, "{}\n{}\n{}", told.stdout, told.stderr, log());
    eprintln!("{}", told.stdout);
    kill(shim.id(), Signal::SIGTERM);
    assert!(shim.wait().expect("it is waited for once").success());
}

#[test]
fn every_call_is_answered_over_containerd_1_6() {
    need_root!();
    every_call(Release::Bookworm);
}

#[test]
fn every_call_is_answered_over_containerd_2() {
    need_root!();
    every_call(Release::Forky);
}
