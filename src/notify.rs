//! Telling the service manager how far we are: the protocol of sd_notify(3), one datagram for each state.
//!
//! Without a service manager nothing is told. A manager that cannot be reached is no reason to stop: it is logged.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// The service manager, if one started this process.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    socket: Option<OsString>,
}

/// What the manager is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The API answers and the node is Ready.
    Ready,
    /// The runtime's socket answers.
    Serving,
    /// Asked to stop; workloads are not stopped with us.
    Stopping,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Ready => "READY=1\nSTATUS=the API answers and the node is Ready",
            Self::Serving => "READY=1\nSTATUS=the runtime's socket answers",
            Self::Stopping => "STOPPING=1\nSTATUS=stopping; workloads keep running",
        }
    }
}

impl Manager {
    /// The manager whose socket `NOTIFY_SOCKET` names.
    pub(crate) fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty());
        Self { socket }
    }

    /// Tells the manager.
    pub(crate) fn tell(&self, state: State) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = send(socket, state.text()) {
            tracing::warn!(
                ?state,
                error = &error as &dyn std::error::Error,
                "the service manager was not told"
            );
        }
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address(socket)?)?;
    Ok(())
}

/// A path, or with a leading `@` a name in the abstract namespace.
fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn tells_a_manager_at_a_path_and_one_with_an_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let name = format!("wherry-notify-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        let at_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (manager, socket) in [(&at_path, path.into_os_string()), (&at_name, format!("@{name}").into())] {
            let ours = Manager { socket: Some(socket) };
            ours.tell(State::Ready);
            ours.tell(State::Stopping);
            assert!(heard(manager).starts_with("READY=1\n"));
            assert!(heard(manager).starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn goes_on_without_a_manager() {
        Manager { socket: None }.tell(State::Ready);
        let gone = Some("/nonexistent/notify".into());
        Manager { socket: gone }.tell(State::Ready);
    }
}
