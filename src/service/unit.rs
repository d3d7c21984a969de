//! The systemd unit: its text and its name. Pure.
//!
//! What a service may do is bounded only where that harms no node: every setting that gives the service a mount namespace
//! of its own (`ProtectSystem`, `PrivateTmp`, ...) would hide the pods' network namespace from the rest of the machine,
//! and with it from `wherry down`; `RestrictSUIDSGID` forbids `fsGroup`; `MemoryDenyWriteExecute` forbids compiled code.

use std::path::Path;

use super::Scope;

/// What a unit is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unit<'a> {
    pub(crate) scope: Scope,
    pub(crate) binary: &'a Path,
    /// What follows `wherry`, beginning with `up`.
    pub(crate) words: &'a [String],
}

/// The unit of a data directory: `wherry.service` for the usual one.
pub(crate) fn name(cluster_id: &str, is_default: bool) -> String {
    match is_default {
        true => "wherry.service".to_owned(),
        false => format!("wherry-{cluster_id}.service"),
    }
}

impl Unit<'_> {
    /// The content of the unit file.
    pub(crate) fn text(&self) -> String {
        let (after, bounds, target) = match self.scope {
            Scope::System => (AFTER, BOUNDS, "multi-user.target"),
            Scope::User => ("", "", "default.target"),
        };
        let command = self.command();
        format!(
            "# Written by `wherry up --install`; `wherry down --uninstall` removes it.\n\
             [Unit]\n\
             Description=Wherry, a Kubernetes cluster of WebAssembly pods\n\
             {after}\
             # A port that is taken now may be free later.\n\
             StartLimitIntervalSec=0\n\n\
             [Service]\n\
             Type=notify\n\
             NotifyAccess=main\n\
             ExecStart={command}\n\
             # A command line that cannot be read does not get better.\n\
             Restart=on-failure\n\
             RestartPreventExitStatus=2\n\
             RestartSec=1\n\
             TimeoutStartSec=120\n\
             TimeoutStopSec=60\n\
             # Workloads outlive the agent; the next one adopts them.\n\
             KillMode=process\n\
             Delegate=yes\n\
             LimitNOFILE=1048576\n\
             TasksMax=infinity\n\
             LockPersonality=yes\n\
             RestrictRealtime=yes\n\
             SystemCallArchitectures=native\n\
             RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
             {bounds}\n\
             [Install]\n\
             WantedBy={target}\n"
        )
    }

    /// The command line as it is typed, and as `ExecStart` reads it.
    pub(crate) fn command(&self) -> String {
        let binary = self.binary.display().to_string();
        let words = std::iter::once(&binary).chain(self.words);
        words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
    }
}

const AFTER: &str = "Wants=network-online.target\nAfter=network-online.target containerd.service\n";

/// What only the system's manager can set.
const BOUNDS: &str = "OOMScoreAdjust=-500\n\
    CapabilityBoundingSet=~CAP_SYS_MODULE CAP_SYS_BOOT CAP_SYS_TIME CAP_SYS_RAWIO CAP_SYSLOG CAP_WAKE_ALARM \
    CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_AUDIT_CONTROL CAP_LINUX_IMMUTABLE\n";

/// Quotes a word where systemd would read it as more than itself (systemd.service(5), "Command lines").
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    let is_plain = !word.is_empty()
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./:=,@+%$".contains(&b));
    match is_plain {
        true => escaped,
        false => format!("\"{escaped}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(scope: Scope) -> String {
        let words = ["up", "--data-dir", "/srv/my data", "--node-name", "100%"].map(str::to_owned);
        Unit {
            scope,
            binary: Path::new("/usr/local/bin/wherry"),
            words: &words,
        }
        .text()
    }

    #[test]
    fn starts_what_was_asked_for_and_leaves_workloads_alone() {
        for scope in [Scope::System, Scope::User] {
            let text = unit(scope);
            assert!(
                text.contains("\nExecStart=/usr/local/bin/wherry up --data-dir \"/srv/my data\" --node-name 100%%\n"),
                "{text}"
            );
            for line in ["KillMode=process", "Type=notify", "Restart=on-failure", "Delegate=yes"] {
                assert!(text.lines().any(|l| l == line), "{line} in {text}");
            }
        }
    }

    #[test]
    fn a_users_unit_asks_for_nothing_that_needs_root() {
        let text = unit(Scope::User);
        assert!(
            !text.contains("OOMScoreAdjust") && !text.contains("CapabilityBoundingSet"),
            "{text}"
        );
        assert!(text.contains("WantedBy=default.target"), "{text}");
    }

    #[test]
    fn words_are_quoted_where_they_need_it() {
        for (word, expected) in [
            ("--api-bind", "--api-bind"),
            ("127.0.0.1:6443", "127.0.0.1:6443"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("a\"b\\", "\"a\\\"b\\\\\""),
            ("$HOME", "$$HOME"),
            ("a;b", "\"a;b\""),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
