use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use super::*;

fn config(id: &str) -> Config {
    Config {
        cluster_id: id.into(),
        pod_range: "10.128.0.0/17".parse().unwrap(),
        cluster_range: "10.128.0.0/9".parse().unwrap(),
        service_range: "10.96.0.0/16".parse().unwrap(),
    }
}

#[test]
fn halves_the_node_range() {
    assert_eq!(
        wasm_range("10.128.0.0/17".parse().unwrap()).unwrap(),
        "10.128.0.0/18".parse().unwrap()
    );
    assert_eq!(
        wasm_range("10.200.128.0/17".parse().unwrap()).unwrap(),
        "10.200.128.0/18".parse().unwrap()
    );
    assert_eq!(gateway("10.128.0.0/17".parse().unwrap()), Ipv4Addr::new(10, 128, 0, 1));
}

#[test]
fn refuses_a_range_without_room() {
    assert!(wasm_range("10.0.0.0/28".parse().unwrap()).is_ok());
    assert!(matches!(
        wasm_range("10.0.0.0/29".parse().unwrap()),
        Err(Error::Range { .. })
    ));
    assert!(matches!(
        wasm_range("10.0.0.0/32".parse().unwrap()),
        Err(Error::Range { .. })
    ));
}

/// Runs a test in a network namespace of its own. The thread is the runtime's only one, so nothing else moves.
fn on_own_machine(test: impl AsyncFnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: needs root for network namespaces");
        return;
    }
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(test());
        });
        worker.join().unwrap();
    });
}

fn serve_once(netns: &Path, at: SocketAddr) -> std::thread::JoinHandle<SocketAddr> {
    let listener = in_netns(netns, || TcpListener::bind(at).unwrap()).unwrap();
    std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(b"ahoy").unwrap();
        from
    })
}

fn dial(at: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

#[test]
fn every_pod_address_is_reached_from_the_node_and_the_node_from_pods() {
    on_own_machine(async || {
        let config = config("tst1");
        let network = ensure(&config).await.unwrap();
        for pod in ["10.128.0.2:80", "10.128.1.7:8080", "10.128.63.254:80"] {
            let pod: SocketAddr = pod.parse().unwrap();
            let server = serve_once(&network.netns_path, pod);
            assert_eq!(dial(pod).unwrap(), "ahoy");
            assert_eq!(
                server.join().unwrap().ip(),
                IpAddr::V4(network.gateway),
                "probes come from the gateway"
            );
        }
        let node = TcpListener::bind((network.gateway, 6443)).unwrap();
        let at = node.local_addr().unwrap();
        let server = std::thread::spawn(move || node.accept().unwrap().1);
        let dialed = in_netns(&network.netns_path, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from(([10, 128, 1, 7], 0)).into())?;
            socket.connect_timeout(&at.into(), Duration::from_secs(2))
        });
        dialed.unwrap().unwrap();
        assert_eq!(server.join().unwrap().ip().to_string(), "10.128.1.7");
        remove("tst1").await.unwrap();
    });
}

#[test]
fn a_second_ensure_changes_nothing_and_a_half_made_network_is_mended() {
    on_own_machine(async || {
        let config = config("tst2");
        let network = ensure(&config).await.unwrap();
        assert_eq!(ensure(&config).await.unwrap(), network);
        links::remove("tst2").await.unwrap();
        ensure(&config).await.unwrap();
        let server = serve_once(&network.netns_path, "10.128.0.9:80".parse().unwrap());
        assert_eq!(dial("10.128.0.9:80".parse().unwrap()).unwrap(), "ahoy");
        server.join().unwrap();
        remove("tst2").await.unwrap();
        assert!(!network.netns_path.exists());
        remove("tst2").await.unwrap();
    });
}

#[test]
fn an_address_without_a_pod_refuses_at_once() {
    on_own_machine(async || {
        ensure(&config("tst3")).await.unwrap();
        let error = dial("10.128.3.3:80".parse().unwrap()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        remove("tst3").await.unwrap();
    });
}

/// Runs one of the system's commands in this thread's namespace.
fn command(line: &str) {
    let mut words = line.split(' ');
    let status = std::process::Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{line}");
}

#[test]
fn the_nodes_loopback_is_closed_to_links_that_would_take_packets_for_it() {
    on_own_machine(async || {
        let network = ensure(&config("tst4")).await.unwrap();
        let open = |link: &str| std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/route_localnet"), "1").unwrap();
        command("ip link set lo up");
        open(&link_name("tst4"));
        // A pod that sends away what is for one address of its loopback.
        in_netns(&network.netns_path, || {
            open("wp-tst4");
            command(&format!(
                "ip route add 127.0.0.5 via {} dev wp-tst4 onlink",
                network.gateway
            ));
        })
        .unwrap();
        let listener = TcpListener::bind("127.0.0.5:80").unwrap();
        let tried = || {
            in_netns(&network.netns_path, || {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.bind(&SocketAddr::from(([10, 128, 1, 7], 0)).into()).unwrap();
                socket.connect_timeout(&listener.local_addr().unwrap().into(), Duration::from_secs(1))
            })
            .unwrap()
        };
        assert_eq!(tried().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        command("nft flush chain ip wherry-tst4-network prerouting");
        tried().expect("nothing but the rule keeps it out");
        remove("tst4").await.unwrap();
    });
}
