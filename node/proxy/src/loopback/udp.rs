//! Datagrams to a node port on the loopback address. Each client gets a socket of its own towards one endpoint, for as
//! long as it keeps talking.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::Endpoints;

/// A flow ends when nothing came back for this long; the kernel's own limit for one-way flows is 30 s.
const IDLE: Duration = Duration::from_secs(60);
/// How many clients are served at a time; datagrams of further ones are dropped.
const MOST_FLOWS: usize = 1024;
const LARGEST_DATAGRAM: usize = 65_535;

/// One client's way to one endpoint. Dropping it ends the task that brings the answers.
struct Flow {
    endpoint: SocketAddr,
    socket: Arc<UdpSocket>,
    ended: CancellationToken,
    _stop: DropGuard,
}

/// Forwards until `stop`.
pub(super) async fn serve(socket: UdpSocket, mut endpoints: Endpoints, stop: CancellationToken, tasks: TaskTracker) {
    let socket = Arc::new(socket);
    let mut flows: HashMap<SocketAddr, Flow> = HashMap::new();
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    let mut turn = 0_usize;
    loop {
        let received = tokio::select! {
            // A datagram that comes after a change must not go where it did before.
            biased;
            () = stop.cancelled() => return,
            Ok(()) = endpoints.changed() => {
                let now = endpoints.borrow_and_update();
                flows.retain(|_, flow| now.contains(&flow.endpoint));
                continue;
            }
            received = socket.recv_from(&mut datagram) => received,
        };
        // An error here is about an answer that could not be delivered.
        let Ok((length, client)) = received else { continue };
        flows.retain(|_, flow| !flow.ended.is_cancelled());
        if !flows.contains_key(&client) {
            let to = next(&endpoints.borrow(), &mut turn);
            if let Some(to) = to.filter(|_| flows.len() < MOST_FLOWS)
                && let Ok(flow) = start(&socket, client, to, &tasks).await
            {
                flows.insert(client, flow);
            }
        }
        if let Some((flow, data)) = flows.get(&client).zip(datagram.get(..length)) {
            // A datagram that cannot be sent is lost, as any may be.
            let _ = flow.socket.send(data).await;
        }
    }
}

fn next(endpoints: &[SocketAddr], turn: &mut usize) -> Option<SocketAddr> {
    let endpoint = endpoints.get(*turn % endpoints.len().max(1)).copied();
    *turn = turn.wrapping_add(1);
    endpoint
}

async fn start(
    listener: &Arc<UdpSocket>,
    client: SocketAddr,
    endpoint: SocketAddr,
    tasks: &TaskTracker,
) -> io::Result<Flow> {
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?);
    socket.connect(endpoint).await?;
    let ended = CancellationToken::new();
    let (answers, to, until) = (socket.clone(), listener.clone(), ended.clone());
    tasks.spawn(async move {
        until.run_until_cancelled(answer(&answers, &to, client)).await;
        until.cancel();
    });
    Ok(Flow {
        endpoint,
        socket,
        _stop: ended.clone().drop_guard(),
        ended,
    })
}

/// Brings answers back until there are none for a while.
async fn answer(from: &UdpSocket, to: &UdpSocket, client: SocketAddr) {
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    while let Ok(Ok(length)) = tokio::time::timeout(IDLE, from.recv(&mut datagram)).await {
        if let Some(data) = datagram.get(..length)
            && to.send_to(data, client).await.is_err()
        {
            return;
        }
    }
}
