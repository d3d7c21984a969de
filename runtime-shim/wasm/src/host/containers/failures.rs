//! What the agent is told when a call fails.

use std::{io, net::Ipv4Addr};

use crate::{host::code::LoadError, protocol::Failure};

pub(super) fn internal(error: io::Error) -> Failure {
    if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) {
        return Failure::Exhausted {
            resource: "disk space".to_owned(),
            detail: error.to_string(),
        };
    }
    Failure::Internal {
        reason: error.to_string(),
    }
}

pub(super) fn unrunnable(error: LoadError) -> Failure {
    Failure::Unrunnable {
        reason: error.to_string(),
    }
}

pub(super) fn not_found(what: &str, id: &impl ToString) -> Failure {
    Failure::NotFound {
        what: what.to_owned(),
        id: id.to_string(),
    }
}

pub(super) fn cannot_listen(error: &io::Error, address: Ipv4Addr, port: u16) -> Failure {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => format!("port {port} is already in use on {address}"),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} needs a privilege that the pod does not have: choose one from 1024 on, or lower \
             net.ipv4.ip_unprivileged_port_start"
        ),
        io::ErrorKind::AddrNotAvailable => format!("the pod's address {address} is not on this node"),
        _ if error.raw_os_error() == Some(libc::EMFILE) => {
            let (resource, detail) = ("file descriptors".to_owned(), format!("listening on port {port}"));
            return Failure::Exhausted { resource, detail };
        }
        _ => format!("cannot listen on {address}:{port}: {error}"),
    };
    Failure::Start { reason }
}
