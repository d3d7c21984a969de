//! A connection that carries streams: one future reads, writes and keeps the table of them.
//!
//! The future ends when every stream and the opener or accepter have been dropped (it says farewell and lets the peer read
//! to the end), when the peer leaves, or when nothing moves for too long. Streams that were left open then break.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{Decoder, Encoder, Error, Event, Frame, Headers, frame::ResetReason};
use crate::mux::{Abandoned, CHUNK, OUTGOING, Outgoing, Remote, Stream};

/// The most streams at once; a forwarded connection takes two.
const MAX_STREAMS: usize = 4096;
/// Streams that wait to be looked at.
const WAITING: usize = 64;
/// What is written at once.
const BATCH: usize = 64 * 1024;
/// After the farewell, for the peer to read to the end and leave.
const LINGER: Duration = Duration::from_secs(5);
/// For the peer to take a stream.
const REPLY: Duration = Duration::from_secs(30);

struct Entry {
    remote: Remote,
    /// The peer has taken it.
    reply: Option<oneshot::Sender<()>>,
    ended_here: bool,
    ended_there: bool,
}

#[derive(Default)]
struct Table {
    streams: HashMap<u32, Entry>,
    next_id: u32,
    last_theirs: u32,
    going: bool,
}

struct Shared {
    table: Mutex<Table>,
    abandoned: Arc<Abandoned>,
    moved: Mutex<Instant>,
}

impl Shared {
    fn new(next_id: u32) -> Arc<Self> {
        Arc::new(Self {
            table: Mutex::new(Table {
                next_id,
                ..Table::default()
            }),
            abandoned: Arc::default(),
            moved: Mutex::new(Instant::now()),
        })
    }

    fn moves(&self) {
        *self.moved.lock() = Instant::now();
    }

    /// Ends one half of a stream; a stream without halves is forgotten.
    fn end(&self, id: u32, here: bool) {
        let mut table = self.table.lock();
        let Some(entry) = table.streams.get_mut(&id) else {
            return;
        };
        if here {
            entry.ended_here = true;
        } else {
            entry.ended_there = true;
            entry.remote.incoming = None;
        }
        if entry.ended_here && entry.ended_there {
            table.streams.remove(&id);
        }
    }

    fn break_off(&self, id: u32) {
        if let Some(entry) = self.table.lock().streams.remove(&id) {
            entry.remote.broken.cancel();
        }
    }

    fn break_all(&self) {
        let streams = std::mem::take(&mut self.table.lock().streams);
        for entry in streams.into_values() {
            // What ended in good order can still be read to its end.
            if !entry.ended_there {
                entry.remote.broken.cancel();
            }
        }
    }
}

/// The future of a connection; nothing moves unless it runs.
pub(crate) struct Driver<T> {
    io: T,
    shared: Arc<Shared>,
    outgoing: mpsc::Receiver<Outgoing>,
    accepts: Option<Accepts>,
    idle: Duration,
}

/// Where streams of the peer go.
struct Accepts {
    streams: mpsc::Sender<(Headers, Stream)>,
    outgoing: mpsc::WeakSender<Outgoing>,
}

/// Streams that the peer opens.
pub(crate) struct Incoming {
    streams: mpsc::Receiver<(Headers, Stream)>,
    _open: mpsc::Sender<Outgoing>,
}

impl Incoming {
    /// The next stream, already taken; none when the connection is gone.
    pub(crate) async fn next(&mut self) -> Option<(Headers, Stream)> {
        self.streams.recv().await
    }
}

/// Opens streams.
pub(crate) struct Opener {
    outgoing: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
}

/// The side that is connected to.
pub(crate) fn server<T>(io: T, idle: Duration) -> (Driver<T>, Incoming) {
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let (streams, accepted) = mpsc::channel(WAITING);
    let accepts = Accepts {
        streams,
        outgoing: sender.downgrade(),
    };
    let driver = Driver {
        io,
        shared: Shared::new(2),
        outgoing,
        accepts: Some(accepts),
        idle,
    };
    let incoming = Incoming {
        streams: accepted,
        _open: sender,
    };
    (driver, incoming)
}

/// The side that connects.
pub(crate) fn client<T>(io: T, idle: Duration) -> (Driver<T>, Opener) {
    let (sender, outgoing) = mpsc::channel(OUTGOING);
    let shared = Shared::new(1);
    let driver = Driver {
        io,
        shared: shared.clone(),
        outgoing,
        accepts: None,
        idle,
    };
    let opener = Opener {
        outgoing: sender,
        shared,
    };
    (driver, opener)
}

impl Opener {
    /// Opens a stream and waits until the peer has taken it: what is sent before, some peers drop.
    pub(crate) async fn open(&self, headers: Vec<(String, String)>) -> Result<Stream, Error> {
        let gone = || Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let permit = self.outgoing.reserve().await.map_err(|_| gone())?;
        let (reply, replied) = oneshot::channel();
        let stream = {
            let mut table = self.shared.table.lock();
            if table.going {
                return Err(gone());
            }
            let id = table.next_id;
            table.next_id = id.wrapping_add(2);
            let (stream, remote) = Stream::new(id, self.outgoing.clone(), self.shared.abandoned.clone());
            let entry = Entry {
                remote,
                reply: Some(reply),
                ended_here: false,
                ended_there: false,
            };
            table.streams.insert(id, entry);
            // Under the lock, so that streams begin in the order of their ids.
            permit.send(Outgoing::Open { id, headers });
            stream
        };
        match timeout(REPLY, replied).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(_)) => Err(Error::Protocol("it refuses a stream")),
            Err(_) => Err(Error::Protocol("it does not answer to a stream")),
        }
    }
}

impl<T: AsyncRead + AsyncWrite> Driver<T> {
    /// Moves bytes until the connection has ended.
    ///
    /// # Errors
    /// How it ended, if not in good order.
    pub(crate) async fn run(self) -> Result<(), Error> {
        let Self {
            io,
            shared,
            outgoing,
            accepts,
            idle,
        } = self;
        let (reader, writer) = tokio::io::split(io);
        let (control, frames) = mpsc::channel(WAITING);
        let reading = read(&shared, reader, accepts, control);
        let writing = write(&shared, writer, outgoing, frames);
        tokio::pin!(reading);
        let result = tokio::select! {
            result = &mut reading => result,
            result = writing => match result {
                // Closing at once could throw away what the peer has not read.
                Ok(()) => timeout(LINGER, reading).await.unwrap_or(Ok(())),
                Err(error) => Err(error),
            },
            () = idles(&shared, idle) => Err(Error::Idle(idle)),
        };
        shared.break_all();
        result
    }
}

async fn idles(shared: &Shared, limit: Duration) {
    loop {
        let end = *shared.moved.lock() + limit;
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}

async fn read(
    shared: &Arc<Shared>,
    mut reader: impl AsyncRead + Unpin,
    accepts: Option<Accepts>,
    control: mpsc::Sender<Frame>,
) -> Result<(), Error> {
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::new();
    loop {
        while let Some(event) = decoder.next(&mut buffer)? {
            match event {
                Event::Data { stream, bytes, fin } => data(shared, stream, bytes, fin).await,
                Event::Frame(frame) => obey(shared, frame, accepts.as_ref(), &control).await,
            }
        }
        buffer.reserve(CHUNK);
        if reader.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        shared.moves();
    }
}

/// Hands data to its stream, waiting for room; streams that are gone take everything.
async fn data(shared: &Shared, id: u32, bytes: bytes::Bytes, fin: bool) {
    let target = shared
        .table
        .lock()
        .streams
        .get(&id)
        .map(|entry| (entry.remote.incoming.clone(), entry.remote.broken.clone()));
    if let Some((Some(incoming), broken)) = target
        && !bytes.is_empty()
    {
        let sent = broken.run_until_cancelled(incoming.send(bytes)).await;
        if matches!(sent, Some(Err(_))) {
            tracing::trace!(stream = id, "data for a stream nobody reads");
        }
    }
    if fin {
        shared.end(id, false);
    }
}

async fn obey(shared: &Arc<Shared>, frame: Frame, accepts: Option<&Accepts>, control: &mpsc::Sender<Frame>) {
    let answer = match frame {
        Frame::SynStream {
            stream,
            headers,
            fin,
            unidirectional,
        } => match accept(shared, stream, headers, (fin, unidirectional), accepts, control).await {
            Ok(()) => return,
            Err(reason) => Frame::RstStream {
                stream,
                status: reason as u32,
            },
        },
        Frame::SynReply { stream, fin, .. } => {
            let reply = shared
                .table
                .lock()
                .streams
                .get_mut(&stream)
                .and_then(|e| e.reply.take());
            if let Some(reply) = reply {
                let _ = reply.send(()); // whoever opened it may have given up
            }
            if fin {
                shared.end(stream, false);
            }
            return;
        }
        Frame::RstStream { stream, .. } => return shared.break_off(stream),
        Frame::Headers { stream, fin: true, .. } => return shared.end(stream, false),
        Frame::Ping(id) if (id % 2 == 1) == accepts.is_some() => Frame::Ping(id),
        Frame::GoAway { .. } => {
            shared.table.lock().going = true;
            return;
        }
        Frame::Ping(_)
        | Frame::Settings(_)
        | Frame::Headers { .. }
        | Frame::WindowUpdate { .. }
        | Frame::Unknown(_) => {
            return;
        }
    };
    let _ = control.send(answer).await; // the writer is gone only when the connection is
}

async fn accept(
    shared: &Arc<Shared>,
    id: u32,
    headers: Headers,
    (fin, unidirectional): (bool, bool),
    accepts: Option<&Accepts>,
    control: &mpsc::Sender<Frame>,
) -> Result<(), ResetReason> {
    let accepts = accepts.ok_or(ResetReason::RefusedStream)?;
    let outgoing = accepts.outgoing.upgrade().ok_or(ResetReason::RefusedStream)?;
    let stream = {
        let mut table = shared.table.lock();
        if id.is_multiple_of(2) || id <= table.last_theirs {
            return Err(ResetReason::ProtocolError);
        }
        table.last_theirs = id;
        if table.streams.len() >= MAX_STREAMS {
            return Err(ResetReason::RefusedStream);
        }
        let (stream, mut remote) = Stream::new(id, outgoing, shared.abandoned.clone());
        if fin {
            remote.incoming = None;
        }
        let entry = Entry {
            remote,
            reply: None,
            ended_here: unidirectional,
            ended_there: fin,
        };
        table.streams.insert(id, entry);
        stream
    };
    let reply = Frame::SynReply {
        stream: id,
        headers: Headers::default(),
        fin: false,
    };
    let _ = control.send(reply).await;
    let taken = accepts.streams.send((headers, stream)).await;
    taken.map_err(|_| ResetReason::RefusedStream)
}

async fn write(
    shared: &Shared,
    mut writer: impl AsyncWrite + Unpin,
    mut outgoing: mpsc::Receiver<Outgoing>,
    mut control: mpsc::Receiver<Frame>,
) -> Result<(), Error> {
    let mut encoder = Encoder::default();
    let mut buffer = BytesMut::with_capacity(BATCH + CHUNK);
    let mut open = true;
    while open {
        tokio::select! {
            // Answers first: a stream is taken before anything is said on it.
            biased;
            Some(frame) = control.recv() => encoder.control(&frame, &mut buffer),
            () = shared.abandoned.wake.notified() => forget(shared, &mut encoder, &mut buffer),
            item = outgoing.recv() => match item {
                Some(item) => put(shared, item, &mut encoder, &mut buffer),
                None => open = false,
            },
        }
        while buffer.len() < BATCH {
            if let Ok(frame) = control.try_recv() {
                encoder.control(&frame, &mut buffer);
            } else if let Ok(item) = outgoing.try_recv() {
                put(shared, item, &mut encoder, &mut buffer);
            } else {
                break;
            }
        }
        if !open {
            let last_stream = shared.table.lock().last_theirs;
            encoder.control(&Frame::GoAway { last_stream, status: 0 }, &mut buffer);
        }
        if !buffer.is_empty() {
            writer.write_all_buf(&mut buffer).await?;
            writer.flush().await?;
            buffer.reserve(BATCH + CHUNK);
            shared.moves();
        }
    }
    writer.shutdown().await?;
    Ok(())
}

fn put(shared: &Shared, item: Outgoing, encoder: &mut Encoder, buffer: &mut BytesMut) {
    match item {
        Outgoing::Open { id, headers } => {
            let frame = Frame::SynStream {
                stream: id,
                headers: Headers(headers),
                fin: false,
                unidirectional: false,
            };
            encoder.control(&frame, buffer);
        }
        Outgoing::Data { id, bytes } => encoder.data(id, &bytes, false, buffer),
        Outgoing::End { id } => {
            encoder.data(id, &[], true, buffer);
            shared.end(id, true);
        }
    }
}

/// Tells the peer of streams that were dropped, unless they had ended: then it ends its half by itself.
fn forget(shared: &Shared, encoder: &mut Encoder, buffer: &mut BytesMut) {
    for (id, ended) in shared.abandoned.take() {
        if !shared.table.lock().streams.contains_key(&id) {
            continue;
        }
        if ended {
            continue;
        }
        shared.break_off(id);
        let reset = Frame::RstStream {
            stream: id,
            status: ResetReason::Cancel as u32,
        };
        encoder.control(&reset, buffer);
    }
}
