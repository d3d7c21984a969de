//! Name servers of a test that answer, lie, refuse and keep silent.

use std::sync::atomic::AtomicUsize;

use hickory_proto::op::OpCode;
use hickory_proto::rr::{RData, Record, rdata::SOA};

use super::*;
use crate::server::Names;
use crate::server::tests::{addresses, ask, question, upstream};
use crate::zone::tests::zone;

fn asked(name: &str) -> Question {
    Question {
        name: Name::from_ascii(name).unwrap(),
        type_: RecordType::A,
        dnssec_ok: false,
        checking_disabled: false,
    }
}

fn forwarder(servers: &[SocketAddr]) -> Forwarder {
    let forwarder = Forwarder::new(Arc::default());
    forwarder.set_servers(servers);
    forwarder
}

/// A server that nobody is at.
async fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// One that answers, and counts.
async fn counting() -> (SocketAddr, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let at = upstream(move |request| {
        counted.fetch_add(1, Relaxed);
        Some(addresses(request, 1))
    });
    (at.await, count)
}

#[tokio::test]
async fn an_answer_is_kept_and_whatever_is_in_it_does_not_live_long() {
    let (server, count) = counting().await;
    let forwarder = forwarder(&[server]);
    let question = asked("www.example.com.");
    assert!(forwarder.kept(&question).is_none());
    let told = forwarder.ask(&question).await.unwrap();
    assert_eq!(told.answers[0].ttl, 30);
    assert!(forwarder.kept(&question).is_some());
    assert_eq!(count.load(Relaxed), 1);
    assert!(!forwarder.set_servers(&[server]), "the same ones");
    assert!(forwarder.kept(&question).is_some());
    forwarder.set_servers(&[nobody().await]);
    assert!(
        forwarder.kept(&question).is_none(),
        "other servers may say something else"
    );
}

#[tokio::test]
async fn that_there_is_no_such_name_is_kept_too() {
    let server = upstream(|request| {
        let mut reply = addresses(request, 0);
        reply.metadata.response_code = ResponseCode::NXDomain;
        let name = Name::from_ascii("com.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, 10);
        reply.add_authority(Record::from_rdata(name, 10, RData::SOA(soa)));
        Some(reply)
    });
    let forwarder = forwarder(&[server.await]);
    let told = forwarder.ask(&asked("no.example.com.")).await.unwrap();
    assert_eq!(told.metadata.response_code, ResponseCode::NXDomain);
    let kept = forwarder.kept(&asked("NO.example.com.")).unwrap();
    assert_eq!(
        (kept.metadata.response_code, kept.authorities.len()),
        (ResponseCode::NXDomain, 1)
    );
}

#[tokio::test]
async fn the_next_server_is_asked_where_one_fails() {
    let refusing = upstream(|request| {
        let mut reply = addresses(request, 0);
        reply.metadata.response_code = ResponseCode::Refused;
        Some(reply)
    })
    .await;
    let (good, count) = counting().await;
    let forwarder = forwarder(&[nobody().await, refusing, good]);
    for n in 1..=2 {
        let told = forwarder.ask(&asked(&format!("{n}.example."))).await.unwrap();
        assert_eq!((told.answers.len(), count.load(Relaxed)), (1, n));
    }
}

#[tokio::test]
async fn a_refusal_of_all_is_what_is_told() {
    let refusing = upstream(|request| {
        let mut reply = addresses(request, 0);
        reply.metadata.response_code = ResponseCode::Refused;
        Some(reply)
    });
    let forwarder = forwarder(&[refusing.await]);
    let told = forwarder.ask(&asked("www.example.")).await.unwrap();
    assert_eq!(told.metadata.response_code, ResponseCode::Refused);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_time_and_the_silent_are_asked_last() {
    let silent = upstream(|_| None).await;
    let other = upstream(|_| None).await;
    let forwarder = forwarder(&[silent, other]);
    let start = Instant::now();
    assert!(forwarder.ask(&asked("www.example.")).await.is_none());
    assert!(start.elapsed() <= PATIENCE, "{:?}", start.elapsed());
    let servers = Arc::clone(&forwarder.servers.read());
    assert!(servers.iter().all(|server| server.is_down(Instant::now())));
    assert!(!servers[0].is_down(Instant::now() + DOWN));
}

#[tokio::test]
async fn only_the_answer_to_the_question_counts() {
    let lying = upstream(|request| {
        let mut reply = addresses(request, 1);
        reply.metadata.id = request.metadata.id.wrapping_add(1);
        Some(reply)
    });
    let straying = upstream(|request| {
        let mut reply = addresses(request, 1);
        reply.queries[0].name = Name::from_ascii("other.example.").unwrap();
        Some(reply)
    });
    let (good, _) = counting().await;
    let forwarder = forwarder(&[lying.await, straying.await, good]);
    let told = forwarder.ask(&asked("www.example.")).await.unwrap();
    assert_eq!(told.queries[0].name, Name::from_ascii("www.example.").unwrap());
}

#[tokio::test]
async fn what_does_not_fit_a_datagram_comes_by_stream() {
    let forwarder = forwarder(&[upstream(|request| Some(addresses(request, 200))).await]);
    let told = forwarder.ask(&asked("many.example.")).await.unwrap();
    assert_eq!((told.answers.len(), told.metadata.truncation), (200, false));
}

#[tokio::test]
async fn the_number_of_questions_that_are_out_is_bounded() {
    let (server, _) = counting().await;
    let forwarder = forwarder(&[server]);
    let all = forwarder.permits.try_acquire_many(AT_ONCE.try_into().unwrap()).unwrap();
    assert!(forwarder.ask(&asked("www.example.")).await.is_none());
    drop(all);
    assert!(forwarder.ask(&asked("www.example.")).await.is_some());
}

/// A server that asks us for everything it is asked.
#[tokio::test]
async fn a_server_that_asks_us_is_found_out_and_not_asked() {
    let names = Arc::new(Names::new(zone()));
    let tasks = tokio_util::task::TaskTracker::new();
    let served = crate::server::Served::start("127.0.0.1:0".parse().unwrap(), &names, &tasks).unwrap();
    let (at, relay) = (served.at, UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let looping = relay.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, _) = relay.recv_from(&mut buffer).await.unwrap();
            relay.send_to(&buffer[..length], at).await.unwrap();
        }
    });
    let (good, count) = counting().await;
    names.forwarder.set_servers(&[looping, good]);
    assert!(names.forwarder.probe(looping).await && !names.forwarder.probe(good).await);
    names.forwarder.servers.read()[0].loops.store(true, Relaxed);
    let before = count.load(Relaxed);
    let reply = ask(at, &question("www.example.", RecordType::A)).await;
    assert_eq!((reply.answers.len(), count.load(Relaxed)), (1, before + 1));
    assert_eq!(reply.metadata.op_code, OpCode::Query);
}
