//! What the agent and the process that holds listeners say to each other: one question, one answer, over a unix socket
//! (frames of [`resident::Channel`]). The process outlives agents and their versions, so this is versioned: a field may be added with
//! a default; anything else is a new version.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::Protocol;

/// The versions spoken here.
pub(crate) const OLDEST_VERSION: u32 = 1;
pub(crate) const VERSION: u32 = 1;

/// What one listener listens for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) protocol: Protocol,
    pub(crate) at: SocketAddr,
}

/// Where a listener forwards to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Route {
    /// The Service and its port, `namespace/name/port/protocol`, for logs.
    pub(crate) service: String,
    /// For clients on this machine; sorted, none twice.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// For clients beyond this machine, where their policy makes a difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) beyond: Option<Vec<SocketAddr>>,
    /// For how many seconds after a connection the same client reaches the same endpoint again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) affinity: Option<u32>,
}

/// What the agent asks. The first question of a connection is [`Call::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Hello {
        oldest_version: u32,
        newest_version: u32,
    },
    /// Closes, then listens and forwards as said. Connections go on.
    Update {
        close: Vec<Key>,
        listen: Vec<(Key, Route)>,
    },
    /// Closes every listener but these.
    Keep {
        keys: Vec<Key>,
    },
    /// Asks for listeners after `after`, in their order. Nothing changes here.
    Share {
        after: Option<Key>,
    },
    /// Brings listeners: a descriptor for each key. They are used once an update names them.
    Adopt {
        keys: Vec<Key>,
    },
    /// Another process has the listeners now: stop listening, and end with the last connection.
    Retire,
    /// End now.
    End,
}

/// What the process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    Hello(Hello),
    /// No version is spoken by both.
    Incompatible {
        oldest_version: u32,
        newest_version: u32,
    },
    Done,
    /// The listeners of an update that cannot be had; the others are.
    Updated {
        refused: Vec<(Key, Refusal)>,
    },
    /// A descriptor for each key; with `more` there are others after the last.
    Shared {
        keys: Vec<Key>,
        more: bool,
    },
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Of this protocol, chosen by the process.
    pub(crate) version: u32,
    pub(crate) wherry_version: String,
    /// The inode of the network namespace it listens in.
    pub(crate) netns: u64,
    pub(crate) retired: bool,
}

/// Why there is no listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// Somebody else listens there.
    Taken,
    /// The port needs a privilege.
    Denied,
    /// The address is not one of this machine.
    Absent,
    /// In the system's words.
    Other(String),
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::AddrInUse => Refusal::Taken,
            std::io::ErrorKind::PermissionDenied => Refusal::Denied,
            std::io::ErrorKind::AddrNotAvailable => Refusal::Absent,
            _ => Refusal::Other(error.to_string()),
        }
    }
}

/// The version both speak, if there is one.
pub(crate) fn common_version(oldest: u32, newest: u32) -> Option<u32> {
    let version = newest.min(VERSION);
    (version >= oldest.max(OLDEST_VERSION)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        for (oldest, newest, common) in [
            (VERSION, VERSION, Some(VERSION)),
            (1, VERSION + 5, Some(VERSION)),
            (VERSION + 1, VERSION + 2, None),
            (0, OLDEST_VERSION - 1, None),
        ] {
            assert_eq!(common_version(oldest, newest), common, "{oldest}..={newest}");
        }
    }

    #[test]
    fn version_1_is_written_like_this() {
        let key = Key {
            protocol: Protocol::Udp,
            at: "127.96.0.10:53".parse().unwrap(),
        };
        let route = Route {
            service: "kube-system/dns//udp".into(),
            endpoints: vec!["127.32.0.4:53".parse().unwrap()],
            beyond: None,
            affinity: Some(60),
        };
        let update = Call::Update {
            close: vec![],
            listen: vec![(key, route)],
        };
        let answer = Answer::Updated {
            refused: vec![(key, Refusal::Denied)],
        };
        let text = [
            serde_json::to_string(&update).unwrap(),
            serde_json::to_string(&answer).unwrap(),
        ];
        insta::assert_snapshot!(text.join("\n"), @r#"
        {"Update":{"close":[],"listen":[[{"protocol":"Udp","at":"127.96.0.10:53"},{"service":"kube-system/dns//udp","endpoints":["127.32.0.4:53"],"affinity":60}]]}}
        {"Updated":{"refused":[[{"protocol":"Udp","at":"127.96.0.10:53"},"Denied"]]}}
        "#);
        assert_eq!(serde_json::from_str::<Call>(&text[0]).unwrap(), update);
    }
}
