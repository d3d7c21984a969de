//! Questions by real sockets on loopback.

use hickory_proto::op::{Edns, OpCode, Query};
use hickory_proto::rr::{Name, RData, Record, rdata::A};

use super::*;
use crate::zone::tests::zone;

const DEADLINE: Duration = Duration::from_secs(10);

/// Somebody else's name server: datagrams and streams at one address of loopback, answered by a function.
pub(crate) async fn upstream(answer: impl Fn(&Message) -> Option<Message> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = datagrams.local_addr().unwrap();
    let streams = TcpListener::bind(at).await.unwrap();
    let by_stream = Arc::clone(&answer);
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
            let Some(reply) = answer(&Message::from_vec(&buffer[..length]).unwrap()) else {
                continue;
            };
            let (bytes, _) = encode(reply, 512).unwrap();
            datagrams.send_to(&bytes, from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = streams.accept().await.unwrap();
            let request = read_stream(&mut stream).await;
            if let Some(reply) = by_stream(&request) {
                write_stream(&mut stream, &reply).await;
            }
        }
    });
    at
}

/// An answer with so many addresses, that may be kept for a minute.
pub(crate) fn addresses(request: &Message, count: u8) -> Message {
    let mut reply = Message::response(request.metadata.id, OpCode::Query);
    reply.queries = request.queries.clone();
    let name = request.queries[0].name.clone();
    reply.answers = (0..count)
        .map(|last| Record::from_rdata(name.clone(), 60, RData::A(A::new(192, 0, 2, last))))
        .collect();
    reply
}

async fn read_stream(stream: &mut TcpStream) -> Message {
    let length = stream.read_u16().await.unwrap();
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

async fn write_stream(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len().try_into().unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
}

pub(crate) fn question(name: &str, type_: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), type_));
    request
}

/// Asks by datagram.
pub(crate) async fn ask(at: SocketAddr, request: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(at).await.unwrap();
    socket.send(&request.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let length = timeout(DEADLINE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    let reply = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(reply.metadata.id, request.metadata.id);
    reply
}

struct Fixture {
    names: Arc<Names>,
    served: Served,
    tasks: TaskTracker,
}

impl Fixture {
    fn new(upstreams: &[SocketAddr]) -> Self {
        let (names, tasks) = (Arc::new(Names::new(zone())), TaskTracker::new());
        names.forwarder.set_servers(upstreams);
        let served = Served::start("127.0.0.1:0".parse().unwrap(), &names, &tasks).unwrap();
        Fixture { names, served, tasks }
    }

    async fn ask(&self, name: &str, type_: RecordType) -> Message {
        ask(self.served.at, &question(name, type_)).await
    }
}

#[tokio::test]
async fn answers_by_datagram_and_by_stream() {
    let fixture = Fixture::new(&[]);
    let reply = fixture.ask("web.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(reply.answers.len(), 1);
    let mut stream = TcpStream::connect(fixture.served.at).await.unwrap();
    for _ in 0..2 {
        write_stream(&mut stream, &question("db.ns.svc.cluster.local.", RecordType::A)).await;
        let reply = timeout(DEADLINE, read_stream(&mut stream)).await.unwrap();
        assert_eq!(reply.answers.len(), 2);
    }
    let counts = fixture.names.counts.read().text();
    for line in [
        "wherry_dns_requests_total{proto=\"udp\"} 1\n",
        "wherry_dns_requests_total{proto=\"tcp\"} 2\n",
        "wherry_dns_responses_total{rcode=\"NOERROR\"} 3\n",
    ] {
        assert!(counts.contains(line), "{counts}");
    }
}

#[tokio::test]
async fn a_long_answer_is_cut_and_had_whole_by_stream() {
    let upstream = upstream(|request| Some(addresses(request, 200))).await;
    let fixture = Fixture::new(&[upstream]);
    let request = question("many.example.", RecordType::A);
    let cut = ask(fixture.served.at, &request).await;
    assert!(cut.metadata.truncation && !cut.answers.is_empty() && cut.answers.len() < 40);
    let mut roomy = request.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    roomy.set_edns(edns);
    assert!(ask(fixture.served.at, &roomy).await.answers.len() > cut.answers.len());
    let mut stream = TcpStream::connect(fixture.served.at).await.unwrap();
    write_stream(&mut stream, &request).await;
    let whole = timeout(DEADLINE, read_stream(&mut stream)).await.unwrap();
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
}

#[tokio::test]
async fn what_cannot_be_read_is_dropped_and_the_next_question_is_answered() {
    let fixture = Fixture::new(&[]);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for bytes in [&b""[..], b"x", &[0xff; 600], &[0; 12]] {
        socket.send_to(bytes, fixture.served.at).await.unwrap();
    }
    let mut answer = question("web.ns.svc.cluster.local.", RecordType::A);
    answer.metadata.message_type = hickory_proto::op::MessageType::Response;
    socket
        .send_to(&answer.to_vec().unwrap(), fixture.served.at)
        .await
        .unwrap();
    let reply = fixture.ask("web.ns.svc.cluster.local.", RecordType::A).await;
    assert_eq!(reply.answers.len(), 1);
    assert!(
        fixture
            .names
            .counts
            .read()
            .text()
            .contains("wherry_dns_malformed_total 4\n"),
        "all but the twelve zeros, which ask nothing and are told so"
    );
}

#[tokio::test]
async fn too_many_streams_are_closed() {
    let fixture = Fixture::new(&[]);
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = TcpStream::connect(fixture.served.at).await.unwrap();
        write_stream(&mut stream, &question("web.ns.svc.cluster.local.", RecordType::A)).await;
        read_stream(&mut stream).await;
        held.push(stream);
    }
    let mut beyond = TcpStream::connect(fixture.served.at).await.unwrap();
    let end = timeout(DEADLINE, beyond.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    drop(held);
}

#[tokio::test]
async fn ends_with_its_owner_and_lets_the_next_one_listen_before() {
    let fixture = Fixture::new(&[]);
    let at = fixture.served.at;
    let next = Served::start(at, &fixture.names, &fixture.tasks).unwrap();
    drop(fixture.served);
    let reply = ask(at, &question("web.ns.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(reply.answers.len(), 1);
    drop(next);
    fixture.tasks.close();
    timeout(DEADLINE, fixture.tasks.wait()).await.unwrap();
}
