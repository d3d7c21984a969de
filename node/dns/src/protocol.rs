//! What the agent and the process that answers say to each other: one question, one answer, over a unix socket (frames of
//! [`resident::Channel`]). The process outlives agents and their versions, so this is versioned: a field may be added with a
//! default; anything else is a new version.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::counts::Metrics;
use crate::model::{Entry, Key};

/// The version spoken here, of which there is one so far.
pub(crate) const VERSION: u32 = 1;

/// What the agent asks. The first question of a conversation is [`Call::Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Call {
    Hello {
        oldest_version: u32,
        newest_version: u32,
    },
    Update(Box<Update>),
    /// Asks for the numbers.
    Count,
    /// End now.
    End,
}

/// What is different from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Update {
    pub(crate) settings: Settings,
    /// What is known so far does not count.
    pub(crate) whole: bool,
    /// All namespaces, if there are others now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespaces: Option<Vec<Box<str>>>,
    pub(crate) remove: Vec<Key>,
    pub(crate) set: Vec<(Key, Entry)>,
}

/// What is answered, where, and who knows the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) domain: String,
    pub(crate) listen: SocketAddr,
    /// In the order in which they are asked.
    pub(crate) upstreams: Vec<SocketAddr>,
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
    /// It is known, but cannot be answered where it should be: in the system's words.
    NotListening(String),
    Counted(Metrics),
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// Of this protocol, chosen by the process.
    pub(crate) version: u32,
    pub(crate) wherry_version: String,
    /// The inode of the network namespace it answers in.
    pub(crate) netns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_is_written_like_this() {
        let update = Call::Update(Box::new(Update {
            settings: Settings {
                domain: "cluster.local".into(),
                listen: "10.128.0.1:10053".parse().unwrap(),
                upstreams: vec!["192.0.2.53:53".parse().unwrap()],
            },
            whole: false,
            namespaces: Some(vec!["default".into()]),
            remove: vec![Key::new("default", "web")],
            set: vec![],
        }));
        let text = serde_json::to_string(&update).unwrap();
        assert_eq!(
            text,
            r#"{"Update":{"settings":{"domain":"cluster.local","listen":"10.128.0.1:10053","upstreams":["192.0.2.53:53"]},"whole":false,"namespaces":["default"],"remove":[{"namespace":"default","name":"web"}],"set":[]}}"#
        );
        assert_eq!(serde_json::from_str::<Call>(&text).unwrap(), update);
    }
}
