//! How late watchers hear of writes: one object, or ten at once, are written again and again, and every watcher notes when
//! it reads of it. The server's CPU time is counted while that goes on, without the beginning of the watches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::Barrier, task::JoinSet};

use crate::{
    connection::{Access, Connection},
    creates::COLLECTION,
    figures::{Durations, print},
    processes,
};

/// Writes of a run.
pub(crate) const WRITES: usize = 200;
/// From one write, or one batch of writes, to the next.
const PERIOD: Duration = Duration::from_millis(50);
/// What is written beside for the watcher of everything: in all more than the buffers of a connection hold.
const HEAVY: usize = 64 << 10;
/// What is written for the watchers that are measured.
const LIGHT: usize = 256;

/// How many objects are written at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    OneAtATime,
    TenAtOnce,
}

impl Pace {
    fn objects(self) -> usize {
        match self {
            Self::OneAtATime => 1,
            Self::TenAtOnce => 10,
        }
    }
}

/// One more watcher, of everything, among it a heavy object that is written as often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    None,
    Reads,
    /// It never reads what it is sent.
    Stalls,
}

/// Watches with `watchers` connections while there are `writes` writes; `server` is the process of the API server.
pub(crate) async fn run(
    access: &Access,
    server: u32,
    watchers: usize,
    writes: usize,
    pace: Pace,
    other: Other,
) -> anyhow::Result<()> {
    let name = format!("watched-{}", std::process::id());
    let mut writers = Vec::new();
    for nth in 0..pace.objects() {
        let mut connection = access.connect().await?;
        let own = format!("{name}-{nth}");
        connection
            .read("POST", COLLECTION, object(&own, &name, "begin", LIGHT))
            .await?;
        writers.push((connection, own));
    }
    let beside = beside(access, &name, writes, other).await?;
    let sent: Arc<Mutex<Vec<Option<Instant>>>> = Arc::new(Mutex::new(vec![None; writes]));
    let begun = Arc::new(Barrier::new(watchers + 1));
    let path = format!("{COLLECTION}?watch=1&labelSelector=watched%3D{name}");
    let mut tasks = JoinSet::new();
    for _ in 0..watchers {
        let (connection, path) = (access.connect().await?, path.clone());
        tasks.spawn(watch(connection, path, writes, sent.clone(), begun.clone()));
    }
    begun.wait().await;
    let before = processes::cpu(server);
    let written = write(writers, &name, writes, &sent).await?;
    let mut heard = Durations::default();
    while let Some(done) = tasks.join_next().await {
        heard.extend(done??);
    }
    let used = processes::cpu(server).saturating_sub(before);
    drop(beside);
    let delivered = heard.len();
    let each = used.as_secs_f64() * 1e3 / delivered as f64;
    print(format!(
        "delivered={delivered} {} {} server_cpu_ms_each={each:.4}",
        heard.summary(),
        written.summary().replace("p", "write_p").replace("max", "write_max")
    ));
    Ok(())
}

/// Begins the watch of everything, and the writes that only it is told of. They end when the answer is dropped.
async fn beside(
    access: &Access,
    name: &str,
    writes: usize,
    other: Other,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let mut tasks = JoinSet::new();
    if other == Other::None {
        return Ok(tasks);
    }
    let mut connection = access.connect().await?;
    let mut everything = connection
        .open("GET", &format!("{COLLECTION}?watch=1"), Bytes::new())
        .await?;
    tasks.spawn(async move {
        while other == Other::Reads && everything.body_mut().frame().await.is_some() {}
        let _held = (connection, everything);
        std::future::pending().await
    });
    let (mut writer, name) = (access.connect().await?, format!("{name}-heavy"));
    writer
        .read("POST", COLLECTION, object(&name, "heavy", "begin", HEAVY))
        .await?;
    tasks.spawn(async move {
        let mut due = tokio::time::Instant::now();
        for index in 0..writes {
            tokio::time::sleep_until(due).await;
            due += PERIOD;
            let body = object(&name, "heavy", &index.to_string(), HEAVY);
            writer.read("PUT", &format!("{COLLECTION}/{name}"), body).await?;
        }
        Ok(())
    });
    Ok(tasks)
}

fn object(name: &str, watched: &str, marker: &str, padding: usize) -> Bytes {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"watched": watched}},
        "data": {"marker": format!("@{marker}@"), "padding": "x".repeat(padding)},
    });
    Bytes::from(object.to_string())
}

/// Has each writer write its object, all at once in each period.
async fn write(
    writers: Vec<(Connection, String)>,
    watched: &str,
    writes: usize,
    sent: &Arc<Mutex<Vec<Option<Instant>>>>,
) -> anyhow::Result<Durations> {
    let (all, start) = (writers.len(), tokio::time::Instant::now());
    let mut tasks = JoinSet::new();
    for (nth, (mut connection, name)) in writers.into_iter().enumerate() {
        let (watched, sent) = (watched.to_owned(), sent.clone());
        tasks.spawn(async move {
            let (mut due, mut durations) = (start, Durations::default());
            for index in (nth..writes).step_by(all) {
                tokio::time::sleep_until(due).await;
                due += PERIOD;
                let body = object(&name, &watched, &index.to_string(), LIGHT);
                let start = Instant::now();
                if let Some(slot) = sent.lock().get_mut(index) {
                    *slot = Some(start);
                }
                connection.read("PUT", &format!("{COLLECTION}/{name}"), body).await?;
                durations.push(start.elapsed());
            }
            anyhow::Ok(durations)
        });
    }
    let mut durations = Durations::default();
    while let Some(done) = tasks.join_next().await {
        durations.extend(done??);
    }
    Ok(durations)
}

/// Reads events until the last write's; answers how long after its being sent each was read.
async fn watch(
    mut connection: Connection,
    path: String,
    writes: usize,
    sent: Arc<Mutex<Vec<Option<Instant>>>>,
    begun: Arc<Barrier>,
) -> anyhow::Result<Durations> {
    let mut response = connection.open("GET", &path, Bytes::new()).await?;
    let (mut durations, mut received, mut waiting) = (Durations::default(), Vec::new(), true);
    // Where there are several objects, all begin with the same marker.
    while durations.len() < writes {
        let frame = response.body_mut().frame().await.context("the watch ended")??;
        received.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        while let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            let now = Instant::now();
            match marker(&received[..end])
                .context("an event of the object")?
                .parse::<usize>()
            {
                Ok(index) => {
                    let sent = sent.lock().get(index).copied().flatten();
                    durations.push(now - sent.context("what is heard of was sent")?);
                }
                Err(_) if waiting => {
                    waiting = false;
                    begun.wait().await;
                }
                Err(_) => {}
            }
            received.drain(..=end);
        }
    }
    Ok(durations)
}

/// What the object's marker says, found without reading the rest.
fn marker(line: &[u8]) -> Option<&str> {
    let start = line.windows(11).position(|bytes| bytes == b"\"marker\":\"@")? + 11;
    let rest = &line[start..];
    let end = rest.iter().position(|byte| *byte == b'@')?;
    std::str::from_utf8(&rest[..end]).ok()
}
