//! What other name servers have answered, for as long as it may be kept. Pure: the time is passed in.

use std::collections::HashMap;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::Instant;

/// The most answers that are kept.
const MOST: usize = 4096;
/// Answers longer than this are not kept.
const LONGEST: usize = 4096;
/// Nothing is kept longer, whatever it says: what the usual configuration of CoreDNS has.
const MOST_TTL: u32 = 30;

/// What was asked. Names compare without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) type_: RecordType,
    pub(crate) dnssec_ok: bool,
    pub(crate) checking_disabled: bool,
}

/// What was answered, and when.
#[derive(Clone, Debug)]
struct Kept {
    message: Message,
    at: Instant,
    ttl: Duration,
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) >= self.ttl
    }
}

/// Answers of other name servers, good and bad.
#[derive(Debug, Default)]
pub(crate) struct Cache(HashMap<Question, Kept>);

impl Cache {
    /// The answer, older by the time it was kept.
    pub(crate) fn get(&self, question: &Question, now: Instant) -> Option<Message> {
        let kept = self.0.get(question).filter(|kept| !kept.is_over(now))?;
        let age = now.saturating_duration_since(kept.at).as_secs();
        let mut message = kept.message.clone();
        age_by(&mut message, u32::try_from(age).unwrap_or(u32::MAX));
        Some(message)
    }

    /// Keeps an answer of `length` bytes, if it may be kept.
    pub(crate) fn put(&mut self, question: Question, message: &Message, length: usize, now: Instant) {
        let Some(ttl) = ttl(message).filter(|ttl| *ttl > 0 && length <= LONGEST) else {
            return;
        };
        if self.0.len() >= MOST && !self.0.contains_key(&question) {
            self.0.retain(|_, kept| !kept.is_over(now));
            if self.0.len() >= MOST {
                let anyone = self.0.keys().next().cloned();
                anyone.map(|anyone| self.0.remove(&anyone));
            }
        }
        let mut message = message.clone();
        bound(&mut message);
        let ttl = Duration::from_secs(ttl.into());
        self.0.insert(question, Kept { message, at: now, ttl });
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// For how many seconds an answer may be kept. One without records says so by the start of authority beside it.
fn ttl(message: &Message) -> Option<u32> {
    let soa = || {
        message.authorities.iter().find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        })
    };
    let ttl = match message.metadata.response_code {
        ResponseCode::NoError if !message.answers.is_empty() => message.answers.iter().map(|record| record.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => soa(),
        _ => None,
    };
    ttl.filter(|_| !message.metadata.truncation)
        .map(|ttl| ttl.min(MOST_TTL))
}

/// Lets no record live longer than the answer is kept at most.
pub(crate) fn bound(message: &mut Message) {
    each(message, |ttl| ttl.min(MOST_TTL));
}

fn age_by(message: &mut Message, seconds: u32) {
    each(message, |ttl| ttl.saturating_sub(seconds));
}

fn each(message: &mut Message, f: impl Fn(u32) -> u32) {
    let Message {
        answers,
        authorities,
        additionals,
        ..
    } = message;
    for record in answers.iter_mut().chain(authorities).chain(additionals) {
        record.ttl = f(record.ttl);
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, SOA};

    use super::*;

    fn question(name: &str) -> Question {
        Question {
            name: Name::from_ascii(name).unwrap(),
            type_: RecordType::A,
            dnssec_ok: false,
            checking_disabled: false,
        }
    }

    fn positive(ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        let name = Name::from_ascii("example.com.").unwrap();
        message.add_answer(Record::from_rdata(name, ttl, RData::A(A::new(192, 0, 2, 1))));
        message
    }

    fn negative(code: ResponseCode, soa_ttl: u32, minimum: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = code;
        let name = Name::from_ascii("com.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 2, 3, 4, minimum);
        message.add_authority(Record::from_rdata(name, soa_ttl, RData::SOA(soa)));
        message
    }

    #[test]
    fn answers_are_kept_as_long_as_they_say_and_not_too_long() {
        let mut bad = positive(9);
        bad.metadata.response_code = ResponseCode::ServFail;
        let mut cut = positive(9);
        cut.metadata.truncation = true;
        for (message, seconds) in [
            (positive(9), Some(9)),
            (positive(3600), Some(30)),
            (negative(ResponseCode::NXDomain, 60, 7), Some(7)),
            (negative(ResponseCode::NoError, 5, 900), Some(5)),
            (negative(ResponseCode::ServFail, 5, 5), None),
            (Message::response(1, OpCode::Query), None),
            (bad, None),
            (cut, None),
        ] {
            assert_eq!(ttl(&message), seconds, "{message:?}");
        }
    }

    #[test]
    fn a_kept_answer_ages_and_ends() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let second = Duration::from_secs(1);
        cache.put(question("example.com."), &positive(3600), 100, start);
        let ttl = |at: u32| {
            let kept = cache.get(&question("EXAMPLE.com."), start + second * at);
            kept.map(|message| message.answers[0].ttl)
        };
        assert_eq!((ttl(0), ttl(10), ttl(29), ttl(30)), (Some(30), Some(20), Some(1), None));
    }

    #[test]
    fn the_number_and_the_length_of_answers_are_bounded() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for n in 0..MOST + 10 {
            cache.put(question(&format!("{n}.test.")), &positive(30), 100, now);
        }
        assert_eq!(cache.0.len(), MOST);
        cache.put(question("long.test."), &positive(30), LONGEST + 1, now);
        assert!(cache.get(&question("long.test."), now).is_none());
    }
}
