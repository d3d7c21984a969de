//! The listeners that a process holds: started, led elsewhere, closed, shared with another process.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::choose::Chooser;
use super::protocol::{Key, Refusal, Route};
use super::{tcp, udp};
use crate::model::Protocol;

/// What all listeners share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What was accepted; it outlives its listener.
    pub(crate) connections: TaskTracker,
    /// For connections and flows of datagrams, all listeners' together.
    total: Arc<Semaphore>,
    /// What one listener may have of them.
    most_of_one: usize,
    /// Another process listens now; what is under way is still finished here.
    pub(crate) retired: AtomicBool,
}

impl Shared {
    /// For at most `most` connections at a time, of which one listener gets half.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Shared {
            connections: TaskTracker::new(),
            total: Arc::new(Semaphore::new(most)),
            most_of_one: (most / 2).max(1),
            retired: AtomicBool::new(false),
        })
    }

    /// Waits until a listener may have one more connection.
    pub(super) async fn permit(&self, target: &Target) -> (OwnedSemaphorePermit, OwnedSemaphorePermit) {
        let own = Arc::clone(&target.connections).acquire_owned().await;
        let total = Arc::clone(&self.total).acquire_owned().await;
        own.ok().zip(total.ok()).expect("nobody closes these semaphores")
    }

    /// The same without waiting.
    pub(super) fn try_permit(&self, target: &Target) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let own = Arc::clone(&target.connections).try_acquire_owned().ok()?;
        Some((own, Arc::clone(&self.total).try_acquire_owned().ok()?))
    }
}

/// Where a listener leads.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) chooser: Mutex<Chooser>,
    /// Told when it leads elsewhere.
    pub(super) changed: watch::Sender<()>,
    connections: Arc<Semaphore>,
    started: Instant,
}

impl Target {
    fn new(route: Route, most: usize) -> Arc<Self> {
        Arc::new(Target {
            chooser: Mutex::new(Chooser::new(route)),
            changed: watch::Sender::new(()),
            connections: Arc::new(Semaphore::new(most)),
            started: Instant::now(),
        })
    }

    /// The time on this target's clock.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn change(&self, route: Route) {
        let mut chooser = self.chooser.lock();
        if *chooser.route() != route {
            chooser.change(route);
            self.changed.send_replace(());
        }
    }
}

/// A bound socket.
#[derive(Clone, Debug)]
enum Socket {
    Tcp(Arc<TcpListener>),
    Udp(Arc<UdpSocket>),
}

impl Socket {
    fn bind(key: Key) -> io::Result<Self> {
        match key.protocol {
            Protocol::Tcp => Ok(Socket::Tcp(Arc::new(TcpListener::from_std(tcp::listen(key.at)?)?))),
            Protocol::Udp => Ok(Socket::Udp(Arc::new(UdpSocket::from_std(udp::bind(key.at)?)?))),
            Protocol::Sctp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// A socket that another process has bound.
    fn of(key: Key, descriptor: OwnedFd) -> io::Result<Self> {
        let socket = socket2::Socket::from(descriptor);
        let bound = socket.local_addr()?.as_socket();
        if bound != Some(key.at) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match key.protocol {
            Protocol::Tcp => Ok(Socket::Tcp(Arc::new(TcpListener::from_std(socket.into())?))),
            Protocol::Udp => Ok(Socket::Udp(Arc::new(UdpSocket::from_std(socket.into())?))),
            Protocol::Sctp => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn share(&self) -> io::Result<OwnedFd> {
        match self {
            Socket::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Socket::Udp(socket) => socket.as_fd().try_clone_to_owned(),
        }
    }
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    target: Arc<Target>,
    /// Ends the listening; connections go on.
    _stop: DropGuard,
}

/// All listeners of a process.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) shared: Arc<Shared>,
    running: BTreeMap<Key, Listener>,
    /// Bound by another process, and not led anywhere yet.
    adopted: BTreeMap<Key, Socket>,
    tasks: TaskTracker,
}

impl Listeners {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Listeners {
            shared,
            running: BTreeMap::new(),
            adopted: BTreeMap::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// Closes, then listens and forwards as said; returns what cannot be listened on.
    pub(crate) fn update(&mut self, close: &[Key], listen: Vec<(Key, Route)>) -> Vec<(Key, Refusal)> {
        close.iter().for_each(|key| self.close(key));
        let mut refused = Vec::new();
        for (key, route) in listen {
            if let Some(listener) = self.running.get(&key) {
                listener.target.change(route);
            } else if let Err(error) = self.start(key, route) {
                refused.push((key, error.into()));
            }
        }
        refused
    }

    /// Closes every listener but these.
    pub(crate) fn keep(&mut self, keys: &[Key]) {
        let keys: HashSet<_> = keys.iter().collect();
        self.running.retain(|key, _| keys.contains(key));
        self.adopted.clear();
    }

    /// Takes a socket that another process has bound; it is used when an update names it.
    pub(crate) fn adopt(&mut self, key: Key, descriptor: OwnedFd) -> io::Result<()> {
        if !self.running.contains_key(&key) {
            self.adopted.insert(key, Socket::of(key, descriptor)?);
        }
        Ok(())
    }

    /// At most `most` sockets after `after`, and whether there are more.
    pub(crate) fn share(&self, after: Option<Key>, most: usize) -> io::Result<(Vec<(Key, OwnedFd)>, bool)> {
        let mut following = self
            .running
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| **key > after));
        let shared = following
            .by_ref()
            .take(most)
            .map(|(key, listener)| Ok((*key, listener.socket.share()?)))
            .collect::<io::Result<Vec<_>>>()?;
        Ok((shared, following.next().is_some()))
    }

    /// Stops listening; what is under way goes on, and answers to datagrams are still brought for a while.
    pub(crate) fn retire(&mut self) {
        self.shared.retired.store(true, Ordering::Relaxed);
        self.running.clear();
        self.adopted.clear();
    }

    /// Waits until everything under way has ended, after [`Self::retire`].
    pub(crate) fn drained(&self) -> impl Future<Output = ()> + use<> {
        let (tasks, connections) = (self.tasks.clone(), self.shared.connections.clone());
        async move {
            tasks.close();
            tasks.wait().await;
            connections.close();
            connections.wait().await;
        }
    }

    fn close(&mut self, key: &Key) {
        self.running.remove(key);
        self.adopted.remove(key);
    }

    fn start(&mut self, key: Key, route: Route) -> io::Result<()> {
        let socket = match self.adopted.remove(&key) {
            Some(socket) => socket,
            None => Socket::bind(key)?,
        };
        let target = Target::new(route, self.shared.most_of_one);
        let stop = CancellationToken::new();
        let (to, shared, until) = (Arc::clone(&target), Arc::clone(&self.shared), stop.clone());
        match socket.clone() {
            Socket::Tcp(listener) => drop(self.tasks.spawn(tcp::serve(listener, to, shared, until))),
            Socket::Udp(socket) => drop(self.tasks.spawn(udp::serve(socket, to, shared, until))),
        }
        let listener = Listener {
            socket,
            target,
            _stop: stop.drop_guard(),
        };
        self.running.insert(key, listener);
        Ok(())
    }
}
