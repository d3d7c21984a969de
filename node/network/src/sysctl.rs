//! Kernel settings of the two namespaces.

use std::{fs, path::Path};

use crate::{Error, namespace::in_netns};

/// The node forwards between its pods and the rest of the world.
const NODE: &[(&str, &str)] = &[("/proc/sys/net/ipv4/ip_forward", "1")];

/// Sandbox hosts have no privilege and yet serve port 80; nothing is forwarded inside.
const PODS: &[(&str, &str)] = &[
    ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ("/proc/sys/net/ipv4/ip_forward", "0"),
];

/// Writes what differs.
pub(crate) fn ensure(netns: &Path) -> Result<(), Error> {
    write_all(NODE)?;
    in_netns(netns, || write_all(PODS))?
}

fn write_all(settings: &'static [(&str, &str)]) -> Result<(), Error> {
    for (path, value) in settings {
        let current = fs::read_to_string(path).unwrap_or_default();
        if current.trim() != *value {
            fs::write(path, value).map_err(|source| Error::Sysctl { path, value, source })?;
        }
    }
    Ok(())
}
