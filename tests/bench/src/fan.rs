//! Many requests by many clients, each on a connection of its own with one request under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;

use crate::{
    connection::Access,
    figures::{Durations, print},
};

/// A request: method, path and body.
pub(crate) type Request = (&'static str, String, Bytes);

/// Sends `count` requests, the n-th of which `request` makes, and prints rate and latency.
pub(crate) async fn send(
    access: &Access,
    clients: usize,
    count: usize,
    request: impl Fn(usize) -> Request + Clone + Send + 'static,
) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        tasks.spawn(client(access.clone(), next.clone(), count, request.clone()));
    }
    let mut all = Durations::default();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    print(format!("count={} rate_per_s={rate:.0} {}", all.len(), all.summary()));
    Ok(())
}

async fn client(
    access: Access,
    next: Arc<AtomicUsize>,
    count: usize,
    request: impl Fn(usize) -> Request,
) -> anyhow::Result<Durations> {
    let mut connection = access.connect().await?;
    let mut durations = Durations::default();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= count {
            return Ok(durations);
        }
        let (method, path, body) = request(index);
        let start = Instant::now();
        connection.read(method, &path, body).await?;
        durations.push(start.elapsed());
    }
}
