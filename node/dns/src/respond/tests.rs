use hickory_proto::op::Query;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::A;
use proptest::prelude::*;

use super::*;
use crate::zone::tests::zone;

fn request(name: &str, type_: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.id = 9;
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), type_));
    request
}

fn replied(request: Message) -> Message {
    match step(&zone(), request, 0) {
        Step::Reply(message) => *message,
        other => panic!("{other:?}"),
    }
}

fn code(request: Message) -> ResponseCode {
    replied(request).metadata.response_code
}

#[test]
fn an_answer_of_ours_says_that_it_is() {
    let reply = replied(request("web.ns.svc.cluster.local.", RecordType::A));
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available && reply.metadata.recursion_desired);
    assert_eq!((reply.metadata.id, reply.answers.len(), reply.edns), (9, 1, None));
    let none = replied(request("web.ns.svc.cluster.local.", RecordType::MX));
    assert_eq!(none.metadata.response_code, ResponseCode::NoError);
    assert_eq!(none.authorities, [zone().soa()]);
    let unknown = replied(request("x.ns.svc.cluster.local.", RecordType::A));
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(unknown.authorities, [zone().soa()]);
}

#[test]
fn what_cannot_be_answered_is_refused_as_it_should_be() {
    let with = |change: &dyn Fn(&mut Message)| {
        let mut request = request("web.ns.svc.cluster.local.", RecordType::A);
        change(&mut request);
        request
    };
    type Case<'a> = (&'a dyn Fn(&mut Message), ResponseCode);
    let cases: [Case<'_>; 6] = [
        (
            &|request| request.metadata.op_code = OpCode::Update,
            ResponseCode::NotImp,
        ),
        (
            &|request| request.queries[0].query_type = RecordType::AXFR,
            ResponseCode::Refused,
        ),
        (
            &|request| request.queries[0].query_class = DNSClass::CH,
            ResponseCode::Refused,
        ),
        (&|request| request.queries.clear(), ResponseCode::FormErr),
        (
            &|request| request.queries.push(request.queries[0].clone()),
            ResponseCode::FormErr,
        ),
        (
            &|request| {
                let mut edns = Edns::new();
                edns.set_version(1);
                request.set_edns(edns);
            },
            ResponseCode::BADVERS,
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(code(with(change)), expected);
    }
    let answer = with(&|request| request.metadata.message_type = MessageType::Response);
    assert!(matches!(step(&zone(), answer, 0), Step::Drop));
    let mut iterative = request("www.example.com.", RecordType::A);
    iterative.metadata.recursion_desired = false;
    assert_eq!(code(iterative), ResponseCode::Refused);
}

#[test]
fn aliases_are_followed_here_and_elsewhere_and_not_for_ever() {
    let near = replied(request("near.ns.svc.cluster.local.", RecordType::A));
    let types: Vec<_> = near.answers.iter().map(Record::record_type).collect();
    assert_eq!(types, [RecordType::CNAME, RecordType::A]);
    assert_eq!(
        code(request("round.ns.svc.cluster.local.", RecordType::A)),
        ResponseCode::ServFail
    );

    let Step::Forward(forward) = step(&zone(), request("out.ns.svc.cluster.local.", RecordType::AAAA), 0) else {
        panic!("others know it");
    };
    assert_eq!(forward.question.name, Name::from_ascii("www.example.com.").unwrap());
    assert_eq!(forward.question.type_, RecordType::AAAA);
    let mut told = Message::response(1, OpCode::Query);
    told.metadata.response_code = ResponseCode::NXDomain;
    let reply = forward.reply(Some(told));
    assert_eq!(
        (reply.metadata.id, reply.metadata.response_code),
        (9, ResponseCode::NXDomain)
    );
    assert!(!reply.metadata.authoritative && reply.answers.len() == 1);
}

#[test]
fn nobody_answering_is_a_failure_of_the_server() {
    let Step::Forward(forward) = step(&zone(), request("www.example.com.", RecordType::A), 0) else {
        panic!("others know it");
    };
    assert_eq!(forward.reply(None).metadata.response_code, ResponseCode::ServFail);
}

/// An answer with so many addresses.
fn long(count: u8) -> Message {
    let mut message = reply(
        &request("db.ns.svc.cluster.local.", RecordType::A),
        ResponseCode::NoError,
    );
    let record = |last| {
        let name = Name::from_ascii("db.ns.svc.cluster.local.").unwrap();
        Record::from_rdata(name, 5, RData::A(A::new(10, 0, 0, last)))
    };
    message.answers = (0..count).map(record).collect();
    message.additionals = (0..20).map(record).collect();
    message
}

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let read = |message: Message, room| {
        let (bytes, cut) = encode(message, room).unwrap();
        assert!(bytes.len() <= room);
        let message = Message::from_vec(&bytes).unwrap();
        assert_eq!(message.metadata.truncation, cut);
        (message.answers.len(), message.additionals.len(), cut)
    };
    assert_eq!(read(long(3), 1232), (3, 20, false));
    assert_eq!(
        read(long(20), 512),
        (20, 0, false),
        "what is beside the answers goes first"
    );
    let (answers, _, cut) = read(long(100), 512);
    assert!(cut && (25..35).contains(&answers), "as many as fit: {answers}");
    assert_eq!(read(long(100), 65_535), (100, 20, false));
}

#[test]
fn clients_get_what_they_have_room_for() {
    let mut request = request("a.", RecordType::A);
    assert_eq!(room(&request), 512);
    for (said, used) in [(100, 512), (900, 900), (4096, 1232)] {
        let mut edns = Edns::new();
        edns.set_max_payload(said);
        request.set_edns(edns);
        assert_eq!(room(&request), used);
        assert_eq!(replied_edns(&request), Some(LARGEST_DATAGRAM));
    }
}

fn replied_edns(request: &Message) -> Option<u16> {
    reply(request, ResponseCode::NoError)
        .edns
        .map(|edns| edns.max_payload())
}

proptest! {
    /// Whatever comes, nothing breaks, and what is answered can be read.
    #[test]
    fn any_message_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        survive(&bytes);
    }

    #[test]
    fn any_damage_to_a_question_is_survived(at in 0usize..60, value: u8) {
        let mut bytes = request("db.ns.svc.cluster.local.", RecordType::SRV).to_vec().unwrap();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
        survive(&bytes);
    }
}

fn survive(bytes: &[u8]) {
    let Ok(request) = Message::from_vec(bytes) else { return };
    let room = room(&request);
    if let Step::Reply(message) = step(&zone(), request, 1) {
        let (bytes, _) = encode(*message, room).unwrap();
        assert!(bytes.len() <= room || bytes.len() < 600);
        Message::from_vec(&bytes).unwrap();
    }
}
