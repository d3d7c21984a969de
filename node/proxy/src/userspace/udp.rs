//! Datagrams to a listener. Each client gets a socket of its own towards one endpoint, for as long as either of them keeps
//! talking: a flow, as the kernel's connection tracking has it, with its time-outs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::choose::is_beyond;
use super::listeners::{Shared, Target};
use super::tcp::keeps_source;

/// A flow ends when nothing was sent for this long: the kernel's time-outs for flows that were answered, and others.
const ANSWERED: Duration = Duration::from_secs(120);
const UNANSWERED: Duration = Duration::from_secs(30);
/// How often flows are looked at while there are any.
const LOOK: Duration = Duration::from_secs(10);
/// Datagrams that are forwarded before changes are looked at.
const AT_ONCE: usize = 16;
const LARGEST_DATAGRAM: usize = 65_535;

thread_local! {
    static PASSING: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST_DATAGRAM].into());
}

/// A socket for datagrams. Nobody else may bind the address beside it.
pub(super) fn bind(at: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(at)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// One client's way to one endpoint. Dropping it ends the task that brings the answers.
struct Flow {
    endpoint: SocketAddr,
    socket: Arc<UdpSocket>,
    seen: Arc<Seen>,
    ended: CancellationToken,
    _stop: DropGuard,
}

/// When something was last sent, in milliseconds on the target's clock, and whether it was ever answered.
#[derive(Default)]
struct Seen {
    at: AtomicU64,
    answered: AtomicBool,
}

impl Seen {
    fn note(&self, now: Duration) {
        self.at
            .store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn is_over(&self, now: Duration) -> bool {
        let patience = if self.answered.load(Relaxed) {
            ANSWERED
        } else {
            UNANSWERED
        };
        now.saturating_sub(Duration::from_millis(self.at.load(Relaxed))) >= patience
    }
}

// Sending goes around tokio: a socket that is new there would have to wait for its first turn to be found writable.

/// Forwards until `stop`; then, if the process retires, brings answers for a while.
pub(super) async fn serve(socket: Arc<UdpSocket>, target: Arc<Target>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut flows = Flows {
        socket,
        target,
        shared,
        flows: HashMap::new(),
    };
    stop.run_until_cancelled(flows.forward()).await;
    if flows.shared.retired.load(Relaxed) && !flows.flows.is_empty() {
        tokio::time::sleep(UNANSWERED).await;
    }
}

struct Flows {
    socket: Arc<UdpSocket>,
    target: Arc<Target>,
    shared: Arc<Shared>,
    flows: HashMap<SocketAddr, Flow>,
}

impl Flows {
    async fn forward(&mut self) {
        let mut changes = self.target.changed.subscribe();
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                // A datagram that comes after a change must not go where it did before.
                biased;
                Ok(()) = changes.changed() => self.leave_former_endpoints(),
                _ = looks.tick(), if !self.flows.is_empty() => {
                    let now = self.target.now();
                    self.flows.retain(|_, flow| !flow.ended.is_cancelled() && !flow.seen.is_over(now));
                }
                // An error here is about an answer that could not be delivered; receiving takes it off the socket.
                _ = self.socket.readable() => self.forward_some(),
            }
        }
    }

    fn leave_former_endpoints(&mut self) {
        let chooser = self.target.chooser.lock();
        let endpoints = &chooser.route().endpoints;
        self.flows.retain(|_, flow| endpoints.contains(&flow.endpoint));
    }

    fn forward_some(&mut self) {
        PASSING.with_borrow_mut(|buffer| {
            for _ in 0..AT_ONCE {
                let Ok((length, client)) = self.socket.try_recv_from(buffer) else {
                    return;
                };
                self.forward_one(client, buffer.get(..length).unwrap_or_default());
            }
        });
    }

    fn forward_one(&mut self, client: SocketAddr, datagram: &[u8]) {
        if self.flows.get(&client).is_none_or(|flow| flow.ended.is_cancelled()) {
            self.flows.remove(&client);
            self.start(client);
        }
        let Some(flow) = self.flows.get(&client) else { return };
        flow.seen.note(self.target.now());
        // A datagram that cannot be sent is lost, as any may be. Refused: the next one goes elsewhere.
        if SockRef::from(&*flow.socket)
            .send(datagram)
            .is_err_and(|error| is_refusal(&error))
        {
            flow.ended.cancel();
        }
    }

    /// Chooses an endpoint for a client; where there is none, or there are too many flows, its datagrams are lost.
    fn start(&mut self, client: SocketAddr) {
        let Some(permits) = self.shared.try_permit(&self.target) else {
            return;
        };
        let called = self.socket.local_addr().map_or(client.ip(), |at| at.ip());
        let now = self.target.now();
        let mut chooser = self.target.chooser.lock();
        let order = chooser.order(client.ip(), is_beyond(client.ip(), called), now);
        let Some(&endpoint) = order.first() else { return };
        chooser.reached(client.ip(), endpoint, now);
        drop(chooser);
        match self.open(client, endpoint, permits) {
            Ok(flow) => drop(self.flows.insert(client, flow)),
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "no socket for a flow");
            }
        }
    }

    fn open(
        &self,
        client: SocketAddr,
        endpoint: SocketAddr,
        permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
    ) -> io::Result<Flow> {
        let from = match endpoint.ip() {
            ip if keeps_source(ip, client.ip()) => client.ip(),
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = bind((from, 0).into())?;
        socket.connect(endpoint)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let (ended, seen) = (CancellationToken::new(), Arc::new(Seen::default()));
        let answers = Answers {
            from: Arc::clone(&socket),
            to: Arc::clone(&self.socket),
            client,
            seen: Arc::clone(&seen),
            target: Arc::clone(&self.target),
        };
        let until = ended.clone();
        self.shared.connections.spawn(async move {
            let _permits = permits;
            until.run_until_cancelled(answers.bring()).await;
            until.cancel();
        });
        Ok(Flow {
            endpoint,
            socket,
            seen,
            _stop: ended.clone().drop_guard(),
            ended,
        })
    }
}

/// The way back of a flow.
struct Answers {
    from: Arc<UdpSocket>,
    to: Arc<UdpSocket>,
    client: SocketAddr,
    seen: Arc<Seen>,
    target: Arc<Target>,
}

impl Answers {
    /// Until the endpoint refuses.
    async fn bring(&self) {
        while self.from.readable().await.is_ok() {
            let refused = PASSING.with_borrow_mut(|buffer| match self.from.try_recv(buffer) {
                Ok(length) => {
                    self.seen.answered.store(true, Relaxed);
                    self.seen.note(self.target.now());
                    // A full queue loses it.
                    let _ = self
                        .to
                        .try_send_to(buffer.get(..length).unwrap_or_default(), self.client);
                    false
                }
                Err(error) => is_refusal(&error),
            });
            if refused {
                return;
            }
        }
    }
}

fn is_refusal(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_lasts_longer_once_it_was_answered() {
        let seen = Seen::default();
        let at = |seconds| Duration::from_secs(seconds);
        seen.note(at(5));
        assert!(!seen.is_over(at(34)) && seen.is_over(at(35)));
        seen.answered.store(true, Relaxed);
        assert!(!seen.is_over(at(124)) && seen.is_over(at(125)));
        assert!(!seen.is_over(at(1)), "a clock that is read twice");
    }
}
