use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;
use crate::host::{code::Code, fixtures, testing::Bench};

const DEADLINE: Duration = Duration::from_secs(30);

/// A service that is being served on a port of its own.
struct Serving {
    bench: Bench,
    service: Arc<Service>,
    address: SocketAddr,
    stop: CancellationToken,
    failed: mpsc::Receiver<Exit>,
    serving: JoinHandle<()>,
}

fn serve(binary: &[u8], resources: &cri::Resources) -> Serving {
    let bench = Bench::new();
    let Code::Http(component) = &*bench.code(binary) else {
        panic!("not a service")
    };
    let address = Ipv4Addr::LOCALHOST;
    let (fatal, failed) = mpsc::channel(1);
    let service = Service::new(
        component.clone(),
        bench.prepared(address, resources),
        Arc::clone(&bench.ticker),
        fatal,
    );
    let listener = TcpListener::from_std(listen(address, 0).expect("a port")).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Arc::clone(&service).serve(listener, stop.clone()));
    Serving {
        bench,
        service,
        address,
        stop,
        failed,
        serving,
    }
}

fn unlimited(handle: &str) -> Serving {
    serve(&fixtures::http(handle), &cri::Resources::default())
}

const HELLO: &str = "(call $answer (local.get $out))";

impl Serving {
    async fn get(&self) -> Reply {
        send(
            self.address,
            "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
        )
        .await
    }

    fn logged(&self) -> String {
        self.bench.logged(&self.service.prepared)
    }

    /// Requests whose answer has begun, instances made, traps.
    fn counts(&self) -> (u64, u64, u64) {
        let counts = &self.service.counts;
        let answered = counts.latencies().counts.iter().sum();
        (answered, counts.instances.load(Relaxed), counts.traps.load(Relaxed))
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

async fn send(address: SocketAddr, request: &str) -> Reply {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.expect("answered");
        reply
    };
    let reply = timeout(DEADLINE, exchange).await.expect("answered in time");
    let end = reply.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status");
    Reply {
        status,
        head,
        body: reply[end + 4..].to_vec(),
    }
}

#[tokio::test]
async fn a_small_answer_is_sent_whole() {
    let serving = unlimited(HELLO);
    let reply = serving.get().await;
    assert_eq!((reply.status, reply.body.as_slice()), (200, b"hello\n".as_slice()));
    assert!(reply.head.contains("content-length: 6"), "{}", reply.head);
    assert_eq!(serving.service.requests.load(Relaxed), 1);
    assert_eq!(serving.service.instances.load(Relaxed), 0);
    assert_eq!(serving.service.prepared.memory.used(), 0);
}

#[tokio::test]
async fn a_long_answer_is_streamed() {
    let serving = unlimited(fixtures::STREAM);
    let reply = serving.get().await;
    assert!(reply.head.contains("transfer-encoding: chunked"), "{}", reply.head);
    assert!(reply.body.len() > 1000 * 4096, "{}", reply.body.len());
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let serving = unlimited(HELLO);
    let twice = "GET / HTTP/1.1\r\nhost: test\r\n\r\nGET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
    let reply = send(serving.address, twice).await;
    assert_eq!(String::from_utf8_lossy(&reply.body).matches("hello\n").count(), 2);
}

#[tokio::test]
async fn a_trap_costs_its_request_and_not_the_service() {
    let serving = unlimited("unreachable");
    for _ in 0..2 {
        assert_eq!(serving.get().await.status, 500);
    }
    assert!(
        serving
            .logged()
            .contains("stderr F wherry: a request failed: wasm trap: "),
        "{}",
        serving.logged()
    );
    assert!(!serving.serving.is_finished());
    assert_eq!(serving.counts(), (2, 2, 2));
}

#[tokio::test]
async fn what_guests_do_is_counted() {
    let serving = unlimited(HELLO);
    assert_eq!(serving.service.counts.latencies(), cri::Latencies::default());
    serving.service.try_out().await.expect("it begins");
    for _ in 0..3 {
        assert_eq!(serving.get().await.status, 200);
    }
    assert_eq!(serving.counts(), (3, 4, 0), "the first instance was for nobody");
    assert!(serving.service.counts.latencies().sum_nanoseconds > 0);
    let streaming = unlimited(fixtures::STREAM);
    assert_eq!(streaming.get().await.status, 200);
    assert_eq!(streaming.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_guest_that_does_not_answer_is_told_of_in_the_log() {
    let serving = unlimited("");
    assert_eq!(serving.get().await.status, 500);
    assert!(
        serving.logged().contains("returned without answering"),
        "{}",
        serving.logged()
    );
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let serving = unlimited(HELLO);
    assert_eq!(send(serving.address, "GET / HTTP/1.0\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn guests_that_loop_forever_do_not_hold_up_others() {
    let (spinning, serving) = (unlimited(fixtures::SPIN), unlimited(HELLO));
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(spinning.address).await.expect("connects");
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .expect("sent");
        busy.push(stream);
    }
    while spinning.service.prepared.cpu.used() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        assert_eq!(serving.get().await.status, 200);
    }
}

#[tokio::test]
async fn an_instance_that_passes_the_memory_limit_alone_ends_the_container() {
    let resources = cri::Resources {
        memory_limit: 4 << 20,
        ..Default::default()
    };
    let mut serving = serve(&fixtures::http(fixtures::HOG), &resources);
    assert_eq!(serving.get().await.status, 500);
    let exit = serving.failed.recv().await.expect("told");
    assert_eq!((exit.code, exit.reason), (137, "OOMKilled"));
}

#[tokio::test]
async fn many_requests_at_once_share_a_small_memory() {
    // An instance has two pages; three of them fit.
    let resources = cri::Resources {
        memory_limit: 7 << 16,
        ..Default::default()
    };
    let mut serving = serve(&fixtures::http(fixtures::WORK), &resources);
    serving.service.try_out().await.expect("begins");
    let replies = futures::future::join_all((0..20).map(|_| serving.get())).await;
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert!(serving.failed.try_recv().is_err());
}

#[tokio::test]
async fn a_guest_that_cannot_begin_is_found_out_at_the_start() {
    let trapping = serve(
        &fixtures::http_with_start(HELLO, "unreachable"),
        &cri::Resources::default(),
    );
    let exit = trapping.service.try_out().await.expect_err("it traps");
    assert_eq!((exit.code, exit.reason), (134, "Trap"));
    let resources = cri::Resources {
        memory_limit: 1 << 16,
        ..Default::default()
    };
    let large = serve(&fixtures::http(HELLO), &resources);
    assert_eq!(
        large.service.try_out().await.expect_err("too large").reason,
        "OOMKilled"
    );
}

#[tokio::test]
async fn a_stop_lets_requests_finish_and_takes_no_more() {
    // So much that it gives way while it computes, on fast machines too: else nobody sees the instance.
    let serving = unlimited(&fixtures::WORK.replace("10000000", "400000000"));
    let reply = serving.get();
    let stopping = async {
        while serving.service.instances.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        serving.stop.cancel();
    };
    let both = async { tokio::join!(reply, stopping) };
    let (reply, ()) = timeout(DEADLINE, both).await.expect("stopped while it works");
    assert_eq!(reply.status, 200);
    timeout(DEADLINE, serving.serving)
        .await
        .expect("drained")
        .expect("ended");
    assert!(TcpStream::connect(serving.address).await.is_err());
}

#[tokio::test]
async fn a_service_that_was_asked_to_end_lingers_for_who_comes_late() {
    let serving = unlimited(HELLO);
    let get = "GET / HTTP/1.1\r\nhost: test\r\n\r\n";
    let mut kept = TcpStream::connect(serving.address).await.expect("connects");
    let silent = TcpStream::connect(serving.address).await.expect("connects");
    kept.write_all(get.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 15];
    kept.read_exact(&mut answer).await.expect("answered");
    assert_eq!(answer, b"HTTP/1.1 200 OK");
    serving.stop.cancel();
    // On the connection that was kept, and on a new one.
    kept.write_all(get.as_bytes()).await.expect("sent");
    let mut rest = String::new();
    timeout(DEADLINE, kept.read_to_string(&mut rest))
        .await
        .expect("closed")
        .expect("read");
    assert_eq!(rest.matches("hello\n").count(), 2, "{rest}");
    assert_eq!(rest.matches("connection: close").count(), 1, "{rest}");
    let late = send(serving.address, get).await;
    assert_eq!(late.status, 200);
    assert!(late.head.contains("connection: close"), "{}", late.head);
    timeout(DEADLINE, serving.serving)
        .await
        .expect("drained")
        .expect("ended");
    assert!(TcpStream::connect(serving.address).await.is_err());
    drop(silent);
}

#[tokio::test]
async fn an_end_cuts_off_what_still_runs() {
    let serving = unlimited(fixtures::SPIN);
    let mut stream = TcpStream::connect(serving.address).await.expect("connects");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
        .await
        .expect("sent");
    while serving.service.instances.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    serving.service.end();
    serving.stop.cancel();
    timeout(DEADLINE, serving.serving).await.expect("ended").expect("ended");
    assert_eq!(serving.service.instances.load(Relaxed), 0);
}

#[tokio::test]
async fn a_quota_holds_back_short_requests() {
    // A hundredth of a core, and 1 ms at once; a request takes some more.
    let resources = cri::Resources {
        cpu_quota: 1_000,
        cpu_period: 100_000,
        ..Default::default()
    };
    let serving = serve(&fixtures::http(fixtures::WORK), &resources);
    let began = Instant::now();
    assert_eq!(serving.get().await.status, 200);
    let owed = Duration::from_nanos(serving.service.prepared.cpu.used()).saturating_sub(Duration::from_millis(1));
    assert!(!owed.is_zero());
    assert_eq!(serving.get().await.status, 200);
    assert!(began.elapsed() >= owed * 99, "{:?} for {owed:?}", began.elapsed());
}
