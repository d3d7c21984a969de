//! Ten thousand connections of clients that say nothing: half of them after their handshake, half before it. Others are
//! served beside them, memory stays bounded, and the connections end by themselves.

use std::{
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use e2e::{Cluster, Going, binary, control_plane, need_root, until};

const CONNECTIONS: usize = 10_000;
/// Kilobytes of resident memory that they may cost together.
const MOST: u64 = 700_000;

/// Opens half with and half without a handshake, says so, and holds them until it is killed.
const CROWD: &str = r#"
import socket, ssl, sys, time
count, address = int(sys.argv[1]), ("127.0.0.1", 6443)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
held = []
for nth in range(count):
    connection = socket.create_connection(address)
    held.append(context.wrap_socket(connection) if nth % 2 else connection)
print("open", flush=True)
time.sleep(600)
"#;

/// Kilobytes of a process that are in memory.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("the process lives")
        .count()
}

#[test]
fn ten_thousand_silent_connections_disturb_nobody() {
    need_root!();
    let directory = tempfile::tempdir().expect("a directory");
    // As from a shell, which gives programs few open files unless they ask for more.
    let program = directory.path().join("wherry");
    let script = format!("#!/bin/sh\nulimit -Sn 1024\nexec {} \"$@\"\n", binary().display());
    std::fs::write(&program, script).expect("a file");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("it may run");
    let mut options = control_plane();
    options.program = Some(program);
    let cluster = Cluster::start(options);
    let server = cluster.server_pid();
    let before = resident(server);

    let mut python = cluster.on_machine("python3");
    let mut crowd = Going::start(python.args(["-c", CROWD, &CONNECTIONS.to_string()]));
    crowd.line("open");
    let (open, during) = (descriptors(server), resident(server));
    let begun = Instant::now();
    for nth in 0..5 {
        let name = format!("beside-{nth}");
        cluster.kubectl(&["create", "configmap", &name]).ok();
        cluster.kubectl(&["get", "configmap", &name]).ok();
    }
    println!(
        "{open} descriptors; {before} kB before, {during} kB during; ten requests by kubectl took {:?}",
        begun.elapsed()
    );
    assert!(open > CONNECTIONS / 4, "most were open at once: {open}");
    assert!(during < before + MOST, "{before} kB became {during} kB");

    // Who says nothing is not waited for, though the other end stays.
    until("the connections end", Duration::from_secs(90), || {
        cluster.kubectl(&["get", "--raw", "/readyz"]).ok();
        match descriptors(server) {
            open if open < 500 => Ok(()),
            open => Err(format!("{open} descriptors")),
        }
    });
    drop(crowd);
    cluster.kubectl(&["get", "configmap", "beside-0"]).ok();
}
