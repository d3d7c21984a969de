//! The little of the DNS wire format (RFC 1035) that asking for addresses takes. Pure.

use std::net::Ipv4Addr;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const CLASS_IN: u16 = 1;
const HEADER: usize = 12;
const RECURSION_DESIRED: u16 = 0x0100;
const IS_ANSWER: u16 = 0x8000;
const TRUNCATED: u16 = 0x0200;
const NO_SUCH_NAME: u16 = 3;
/// Aliases that are followed within one answer.
const ALIASES: usize = 8;

/// What a server said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Empty: the name is known to have no address.
    Addresses(Vec<Ipv4Addr>),
    /// Ask again over TCP.
    Truncated,
    /// The server cannot tell.
    Failed,
}

/// A query for the addresses of a name; `None`: no name can look so.
pub(crate) fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..64).contains(length))?;
        out.push(length);
        out.extend(label.bytes());
    }
    out.push(0);
    out.extend(TYPE_A.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    (name.len() < 254).then_some(out)
}

/// Reads the answer to [`query`]; `None`: it is malformed, or answers something else.
pub(crate) fn answer(id: u16, name: &str, message: &[u8]) -> Option<Answer> {
    let mut reader = Reader { message, at: 0 };
    let (answered, flags) = (reader.word()?, reader.word()?);
    let (questions, answers) = (reader.word()?, reader.word()?);
    reader.at = HEADER;
    if answered != id || flags & IS_ANSWER == 0 || questions != 1 || reader.name()? != name {
        return None;
    }
    reader.at += 4;
    match flags & 0xf {
        0 if flags & TRUNCATED != 0 => return Some(Answer::Truncated),
        0 => {}
        NO_SUCH_NAME => return Some(Answer::Addresses(Vec::new())),
        _ => return Some(Answer::Failed),
    }
    let records = (0..answers).map(|_| reader.record()).collect::<Option<Vec<_>>>()?;
    Some(Answer::Addresses(follow(name, &records)))
}

/// The addresses of a name, by way of its aliases.
fn follow(name: &str, records: &[(String, Data)]) -> Vec<Ipv4Addr> {
    let mut name = name.to_owned();
    for _ in 0..ALIASES {
        let mut addresses = Vec::new();
        let mut alias = None;
        for (_, data) in records.iter().filter(|(owner, _)| *owner == name) {
            match data {
                Data::Address(address) => addresses.push(*address),
                Data::Alias(to) => alias = Some(to),
                Data::Other => {}
            }
        }
        match alias {
            Some(to) if addresses.is_empty() => name.clone_from(to),
            _ => return addresses,
        }
    }
    Vec::new()
}

enum Data {
    Address(Ipv4Addr),
    Alias(String),
    Other,
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> Option<u16> {
        let bytes = self.message.get(self.at..)?.first_chunk()?;
        self.at += 2;
        Some(u16::from_be_bytes(*bytes))
    }

    /// A name in lower case, following pointers backwards only, so that it ends.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        let (mut at, mut resume, mut bound) = (self.at, None, self.at);
        loop {
            let length = usize::from(*self.message.get(at)?);
            match length {
                0 => break,
                1..64 => {
                    let label = self.message.get(at + 1..at + 1 + length)?;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                    at += 1 + length;
                }
                192.. => {
                    let low = usize::from(*self.message.get(at + 1)?);
                    resume.get_or_insert(at + 2);
                    at = (length & 0x3f) << 8 | low;
                    if at >= bound {
                        return None;
                    }
                    bound = at;
                }
                _ => return None,
            }
        }
        self.at = resume.unwrap_or(at + 1);
        Some(name)
    }

    fn record(&mut self) -> Option<(String, Data)> {
        let owner = self.name()?;
        let (kind, class) = (self.word()?, self.word()?);
        self.at += 4;
        let length = usize::from(self.word()?);
        let end = self.at.checked_add(length).filter(|end| *end <= self.message.len())?;
        let data = match (kind, class) {
            (TYPE_A, CLASS_IN) => Data::Address(Ipv4Addr::from(*self.message.get(self.at..end)?.first_chunk()?)),
            (TYPE_CNAME, CLASS_IN) => Data::Alias(self.name()?),
            _ => Data::Other,
        };
        self.at = end;
        Some((owner, data))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer to `query(7, "web.test")`: an alias to `a.test`, and two addresses of that, by pointers.
    fn sample() -> Vec<u8> {
        let mut message = query(7, "web.test").expect("a name");
        message[2] |= 0x80;
        message[7] = 3;
        message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10");
        let target = (message.len() - 4) as u8;
        for last in [1, 2] {
            message.extend([0xc0, target, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last]);
        }
        message
    }

    #[test]
    fn follows_an_alias_to_its_addresses() {
        let expected = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        assert_eq!(answer(7, "web.test", &sample()), Some(Answer::Addresses(expected)));
    }

    #[test]
    fn refuses_the_answer_to_another_question() {
        assert_eq!(answer(8, "web.test", &sample()), None);
        assert_eq!(answer(7, "other.test", &sample()), None);
    }

    #[test]
    fn tells_truncation_absence_and_failure_apart() {
        let with = |byte: usize, bits: u8| {
            let mut message = sample();
            message[byte] |= bits;
            answer(7, "web.test", &message)
        };
        assert_eq!(with(2, 0x02), Some(Answer::Truncated));
        assert_eq!(with(3, 3), Some(Answer::Addresses(vec![])));
        assert_eq!(with(3, 2), Some(Answer::Failed));
    }

    #[test]
    fn names_that_cannot_be_are_not_asked_for() {
        assert_eq!(query(1, "a..b"), None);
        assert_eq!(query(1, &"x".repeat(64)), None);
        assert_eq!(query(1, &["x"; 130].join(".")), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_to_an_end(id: u16, message in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = answer(id, "web.test", &message);
        }

        #[test]
        fn any_damage_to_an_answer_is_survived(at in 0_usize..80, value: u8) {
            let mut message = sample();
            if let Some(byte) = message.get_mut(at) {
                *byte = value;
            }
            let _ = answer(7, "web.test", &message);
        }
    }
}
