//! How the agent starts a sandbox host: the command line and the descriptors it finds open.
//!
//! The host finds its state directory as its working directory (it cannot traverse the directories above), its socket as
//! [`LISTENER`] (standard input, as inetd's servers did), `/dev/null` as descriptor 1 and its log as 2. The socket is
//! bound and listening; the host calls `listen` on it once more, so that peer credentials of later connections name the
//! host and not the agent.

use std::os::fd::RawFd;

/// The host's listening unix stream socket.
pub const LISTENER: RawFd = 0;

/// What the host is told on its command line, after the command itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The host's id, repeated in its `Hello`.
    pub id: String,
    /// The namespace whose pods it holds, so that `ps` shows it.
    pub tenant: String,
    /// Only processes of this user may connect.
    pub agent_uid: u32,
}

/// The command line cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: sandbox-host --id ID --tenant NAMESPACE --agent-uid UID ({detail})")]
pub struct UsageError {
    detail: String,
}

impl Arguments {
    /// The words of the command line.
    pub fn to_words(&self) -> Vec<String> {
        let words = [
            "--id",
            &self.id,
            "--tenant",
            &self.tenant,
            "--agent-uid",
            &self.agent_uid.to_string(),
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Reads what [`Self::to_words`] wrote.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let (mut id, mut tenant, mut agent_uid) = (None, None, None);
        let mut words = words.into_iter();
        while let Some(name) = words.next() {
            let value = words.next().ok_or_else(|| usage(format!("{name} has no value")))?;
            match name.as_str() {
                "--id" => id = Some(value),
                "--tenant" => tenant = Some(value),
                "--agent-uid" => agent_uid = Some(value.parse().map_err(|_| usage(format!("bad uid {value}")))?),
                _ => return Err(usage(format!("unknown option {name}"))),
            }
        }
        Ok(Self {
            id: id.ok_or_else(|| usage("--id is missing"))?,
            tenant: tenant.ok_or_else(|| usage("--tenant is missing"))?,
            agent_uid: agent_uid.ok_or_else(|| usage("--agent-uid is missing"))?,
        })
    }
}

fn usage(detail: impl Into<String>) -> UsageError {
    UsageError { detail: detail.into() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_command_line() {
        let parse = |words: &[&str]| {
            Arguments::parse(words.iter().map(|w| (*w).to_owned()))
                .unwrap_err()
                .detail
        };
        assert_eq!(parse(&["--id"]), "--id has no value");
        assert_eq!(parse(&["--id", "1", "--tenant", "t"]), "--agent-uid is missing");
        assert_eq!(parse(&["--agent-uid", "x"]), "bad uid x");
        assert_eq!(parse(&["--color", "red"]), "unknown option --color");
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed(id in ".{0,8}", tenant in ".{0,8}", agent_uid in any::<u32>()) {
            let arguments = Arguments { id, tenant, agent_uid };
            prop_assert_eq!(Arguments::parse(arguments.to_words()), Ok(arguments));
        }
    }
}
