//! What users are told of listeners that cannot be had: an event on the Service or the pod, once for each reason.

use std::collections::BTreeMap;

use client::events::{ObjectRef, Recorder, Type};

use super::protocol::{Key, Refusal};
use crate::model::{Model, PortId, Protocol};

/// The first port that needs no privilege, where nothing else is said.
const USUAL_START: u16 = 1024;
const REASON: &str = "FailedListen";

/// What was said already.
#[derive(Debug, Default)]
pub(crate) struct Refused(BTreeMap<Key, Refusal>);

impl Refused {
    /// What is to be said now: of listeners that are newly refused, or for another reason. An external address that this
    /// machine does not have is somebody else's to serve.
    fn news(&mut self, now: &BTreeMap<Key, Refusal>) -> Vec<(Key, Refusal)> {
        let news = now
            .iter()
            .filter(|(key, refusal)| **refusal != Refusal::Absent && self.0.get(key) != Some(refusal))
            .map(|(key, refusal)| (*key, refusal.clone()))
            .collect();
        self.0.clone_from(now);
        news
    }

    /// Records events for what is new. `find` gives whose port one is.
    pub(crate) fn tell(
        &mut self,
        now: &BTreeMap<Key, Refusal>,
        model: &Model,
        recorder: &Recorder,
        find: impl Fn(&PortId) -> Option<ObjectRef>,
    ) {
        let news = self.news(now);
        if news.is_empty() {
            return;
        }
        let start = unprivileged_start();
        for (key, refusal) in news {
            let note = note(key, &refusal, start);
            tracing::warn!(note, "a port is not listened on");
            if let Some(regarding) = owner(model, key).and_then(&find) {
                recorder.event(&regarding, Type::Warning, REASON, "Listen", note);
            }
        }
    }
}

/// Whose an address is.
fn owner(model: &Model, key: Key) -> Option<&PortId> {
    let of = |port: &&crate::model::Port| {
        let own = port.cluster_ips.contains(&key.at.ip()) || port.external_ips.contains(&key.at.ip());
        port.id.protocol == key.protocol
            && ((own && port.port == key.at.port()) || (!own && port.node_port == Some(key.at.port())))
    };
    model.values().find(of).map(|port| &port.id)
}

fn note(key: Key, refusal: &Refusal, start: u16) -> String {
    let Key { protocol, at } = key;
    let protocol = match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    let why = match refusal {
        Refusal::Denied => format!(
            "ports below {start} need a privilege that wherry does not have; allow them with \
             \"sysctl -w net.ipv4.ip_unprivileged_port_start={}\", or use another port",
            at.port()
        ),
        Refusal::Taken => "another program of this machine listens there".to_owned(),
        Refusal::Absent => "this machine does not have the address".to_owned(),
        Refusal::Other(error) => error.clone(),
    };
    format!("Cannot listen on {at} ({protocol}): {why}")
}

/// `net.ipv4.ip_unprivileged_port_start`
fn unprivileged_start() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    text.trim().parse().unwrap_or(USUAL_START)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(at: &str) -> Key {
        Key {
            protocol: Protocol::Tcp,
            at: at.parse().unwrap(),
        }
    }

    #[test]
    fn each_reason_is_said_once() {
        let (low, high) = (key("127.96.0.9:80"), key("127.0.0.1:30080"));
        let mut refused = Refused::default();
        let mut news = |now: &[(Key, Refusal)]| refused.news(&now.iter().cloned().collect()).len();
        assert_eq!(news(&[(low, Refusal::Denied), (high, Refusal::Taken)]), 2);
        assert_eq!(news(&[(low, Refusal::Denied), (high, Refusal::Taken)]), 0);
        assert_eq!(news(&[(low, Refusal::Taken)]), 1);
        assert_eq!(
            news(&[(low, Refusal::Taken), (high, Refusal::Taken)]),
            1,
            "again, after it was had"
        );
        assert_eq!(news(&[(key("192.0.2.1:80"), Refusal::Absent)]), 0);
    }

    #[test]
    fn the_note_says_what_to_do() {
        insta::assert_snapshot!(
            note(key("127.96.0.9:80"), &Refusal::Denied, 1024),
            @r#"Cannot listen on 127.96.0.9:80 (TCP): ports below 1024 need a privilege that wherry does not have; allow them with "sysctl -w net.ipv4.ip_unprivileged_port_start=80", or use another port"#
        );
        insta::assert_snapshot!(
            note(key("127.0.0.1:30080"), &Refusal::Taken, 1024),
            @"Cannot listen on 127.0.0.1:30080 (TCP): another program of this machine listens there"
        );
    }
}
