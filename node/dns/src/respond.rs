//! From a question as it came to the answer as it goes: what is refused, and what fits. Pure.

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use crate::cache::Question;
use crate::zone::{Answer, Zone};

/// The largest datagram that is sent: what passes every network whole (DNS Flag Day 2020).
pub(crate) const LARGEST_DATAGRAM: u16 = 1232;
/// Aliases that are followed one after the other.
const ALIASES: usize = 8;

/// What is to be done about a message.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is no question that can be answered at all.
    Drop,
    Reply(Box<Message>),
    /// Ask others, and give their answer after the aliases that lead there.
    Forward(Box<Forward>),
}

/// A question for others.
#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) question: Question,
    aliases: Vec<Record>,
    request: Message,
}

/// Looks at a message and at the zone.
pub(crate) fn step(zone: &Zone, request: Message, turn: usize) -> Step {
    if request.metadata.message_type != MessageType::Query {
        return Step::Drop; // answering answers goes round for ever
    }
    if let Some(code) = refusal(&request) {
        return Step::Reply(Box::new(reply(&request, code)));
    }
    let Some(query) = request.queries.first().cloned() else {
        return Step::Drop;
    };
    let mut aliases: Vec<Record> = Vec::new();
    let mut name = query.name.clone();
    loop {
        match zone.answer(&name, query.query_type, turn) {
            Answer::Elsewhere => return forward(request, name, query.query_type, aliases),
            Answer::Alias(record, target) if aliases.len() < ALIASES => {
                aliases.push(*record);
                name = target;
            }
            Answer::Alias(..) => return Step::Reply(Box::new(reply(&request, ResponseCode::ServFail))),
            answer => return Step::Reply(Box::new(own(zone, &request, aliases, answer))),
        }
    }
}

fn refusal(request: &Message) -> Option<ResponseCode> {
    let is_version_0 = request.edns.as_ref().is_none_or(|edns| edns.version() == 0);
    match request.queries.as_slice() {
        _ if request.metadata.op_code != OpCode::Query => Some(ResponseCode::NotImp),
        _ if !is_version_0 => Some(ResponseCode::BADVERS),
        [only] => {
            let is_transfer = matches!(only.query_type, RecordType::AXFR | RecordType::IXFR);
            (only.query_class != DNSClass::IN || is_transfer).then_some(ResponseCode::Refused)
        }
        _ => Some(ResponseCode::FormErr),
    }
}

fn forward(request: Message, name: Name, type_: RecordType, aliases: Vec<Record>) -> Step {
    if !request.metadata.recursion_desired {
        return Step::Reply(Box::new(reply(&request, ResponseCode::Refused)));
    }
    let question = Question {
        name,
        type_,
        dnssec_ok: request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
        checking_disabled: request.metadata.checking_disabled,
    };
    Step::Forward(Box::new(Forward {
        question,
        aliases,
        request,
    }))
}

/// An answer out of the zone.
fn own(zone: &Zone, request: &Message, aliases: Vec<Record>, answer: Answer) -> Message {
    let mut message = reply(request, ResponseCode::NoError);
    message.metadata.authoritative = true;
    message.answers = aliases;
    match answer {
        Answer::Records { answers, additionals } => {
            message.answers.extend(answers);
            message.additionals = additionals;
        }
        Answer::NoData => message.authorities = vec![zone.soa()],
        Answer::NoName | Answer::Elsewhere | Answer::Alias(..) => {
            message.metadata.response_code = ResponseCode::NXDomain;
            message.authorities = vec![zone.soa()];
        }
    }
    message
}

impl Forward {
    /// The answer, given that of others; `None`: nobody could tell.
    pub(crate) fn reply(self, told: Option<Message>) -> Message {
        let Some(told) = told else {
            return reply(&self.request, ResponseCode::ServFail);
        };
        let mut message = reply(&self.request, told.metadata.response_code);
        message.metadata.authentic_data = told.metadata.authentic_data;
        message.answers = self.aliases;
        message.answers.extend(told.answers);
        message.authorities = told.authorities;
        message.additionals = told.additionals;
        message
    }
}

/// An empty answer.
fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut message = Message::response(request.metadata.id, request.metadata.op_code);
    message.metadata = Metadata::response_from_request(&request.metadata);
    message.metadata.recursion_available = true;
    message.metadata.response_code = code;
    message.queries = request.queries.clone();
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST_DATAGRAM)
            .set_dnssec_ok(asked.flags().dnssec_ok);
        message.set_edns(edns);
    }
    message
}

/// How many bytes an answer by datagram may have.
pub(crate) fn room(request: &Message) -> usize {
    usize::from(request.max_payload().min(LARGEST_DATAGRAM))
}

/// The answer in at most `room` bytes, and whether it was cut. What is beside the answers goes first; of these as many stay
/// as fit, since there are clients that never ask again by stream.
pub(crate) fn encode(mut message: Message, room: usize) -> Result<(Vec<u8>, bool), hickory_proto::ProtoError> {
    let whole = message.to_vec()?;
    if whole.len() <= room {
        return Ok((whole, false));
    }
    message.additionals.clear();
    let without = message.to_vec()?;
    if without.len() <= room {
        return Ok((without, false));
    }
    message.metadata.truncation = true;
    message.authorities.clear();
    let all = std::mem::take(&mut message.answers);
    let with = |message: &mut Message, count: usize| {
        message.answers = all.iter().take(count).cloned().collect();
        message.to_vec()
    };
    let (mut fit, mut too_many) = (0, all.len() + 1);
    while too_many - fit > 1 {
        let middle = fit.midpoint(too_many);
        match with(&mut message, middle)?.len() <= room {
            true => fit = middle,
            false => too_many = middle,
        }
    }
    Ok((with(&mut message, fit)?, true))
}

#[cfg(test)]
mod tests;
