//! The ways into a container that kubectl knows.

use std::process::Command;

use crate::{Cluster, Tool};

/// A version of kubectl, and whether it is kept to SPDY.
pub type Way = (Tool, bool);

/// All of them.
pub const WAYS: [Way; 4] = [
    (Tool::Kubectl136, false),
    (Tool::Kubectl136, true),
    (Tool::Kubectl132, false),
    (Tool::Kubectl132, true),
];

impl Cluster {
    /// That kubectl, not yet started.
    pub fn kubectl_by(&self, (tool, spdy): Way, arguments: &[&str]) -> Command {
        let mut command = self.kubectl_process(tool, arguments);
        if spdy {
            command
                .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
                .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
        }
        command
    }
}
