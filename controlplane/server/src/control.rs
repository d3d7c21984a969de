//! The socket by which commands on the same machine reach a running control plane: `DIR/control.sock`, open to its owner
//! only. A command sends one word and a line end; what comes back is its answer, and ends with the connection.
//!
//! `backup` answers with the backup itself, which has its own end mark. `rotate-encryption-key` answers with one line.

use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use image_registry::Registry;
use store_redb::Redb;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Error, backup, identity, in_full,
    stores::{Medium, Stores},
};

/// How long a command may take to say what it wants, and how long that may be.
const PATIENCE: Duration = Duration::from_secs(5);
const LONGEST: u64 = 64;
/// Pieces of a backup that wait to be sent, and their size.
const PIECES: usize = 8;
const PIECE: usize = 256 * 1024;
/// What an answer begins with when the command failed.
pub(crate) const FAILED: &str = "error: ";

/// Where the socket of a data directory is.
pub(crate) fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("control.sock")
}

/// What a control plane keeps.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) stores: Arc<Stores>,
    pub(crate) images: Registry,
}

/// Serves the socket until `shutdown`.
pub(crate) fn serve(kept: Kept, tasks: &TaskTracker, shutdown: &CancellationToken) -> io::Result<()> {
    let path = socket(&kept.stores.data_dir);
    // What a killed process left; the data directory is ours alone.
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (shutdown, spawner) = (shutdown.clone(), tasks.clone());
    tasks.spawn(async move {
        while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
            if let Ok((stream, _)) = accepted {
                let (kept, shutdown) = (kept.clone(), shutdown.clone());
                spawner.spawn(async move { shutdown.run_until_cancelled(answer(stream, &kept)).await });
            }
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(stream: UnixStream, kept: &Kept) {
    let (from, mut to) = stream.into_split();
    let mut word = String::new();
    let mut from = BufReader::new(from.take(LONGEST));
    let read = tokio::time::timeout(PATIENCE, from.read_line(&mut word)).await;
    if !matches!(read, Ok(Ok(1..))) {
        return;
    }
    let answered = match word.trim() {
        "backup" => backup(kept, &mut to).await,
        "rotate-encryption-key" => rotate(&kept.stores).await,
        other => Err(format!(
            "unknown command \"{other}\"; is this program older than the command?"
        )),
    };
    let text = match answered {
        Ok(text) => text,
        Err(reason) => format!("{FAILED}{reason}\n"),
    };
    // A command that went away does not care.
    let _ = to.write_all(text.as_bytes()).await;
    let _ = to.shutdown().await;
}

async fn rotate(stores: &Stores) -> Result<String, String> {
    let rotated = stores.rotate().await.map_err(|error| in_full(&error))?;
    Ok(format!(
        "key \"{}\" seals now; {} Secrets were sealed anew\n",
        rotated.key, rotated.resealed
    ))
}

/// Sends the backup as it is made; a command that reads slowly slows it down.
async fn backup(kept: &Kept, to: &mut (impl AsyncWriteExt + Unpin)) -> Result<String, String> {
    let Medium::Redb(redb) = kept.stores.medium.clone() else {
        return Err("the store is on etcd: take its backup there, with: etcdctl snapshot save FILE".to_owned());
    };
    let identity = backed_up_identity(&kept.stores.data_dir).map_err(|error| in_full(&error))?;
    let (pieces, mut made) = mpsc::channel(PIECES);
    let images = kept.images.clone();
    let making = tokio::task::spawn_blocking(move || {
        write(&redb, &identity, &images, Pieces(pieces)).map_err(|error| in_full(&error))
    });
    while let Some(piece) = made.recv().await {
        if to.write_all(&piece).await.is_err() {
            break; // the maker notices that nobody takes its pieces
        }
    }
    drop(made);
    match making.await {
        Ok(Ok(())) => Ok(String::new()),
        Ok(Err(reason)) => Err(reason),
        Err(error) => Err(in_full(&error)),
    }
}

/// Writes the store and the images of one moment: the registry stands still until the store's snapshot is taken.
fn write(redb: &Redb, identity: &[u8], images: &Registry, out: impl Write) -> Result<(), backup::Error> {
    let mut out = io::BufWriter::with_capacity(PIECE, out);
    let (still, mut moment) = (images.stand_still(), None);
    redb.backup(identity, &mut out, || moment = Some(still.go_on()))?;
    if let Some(moment) = moment {
        moment.write(&mut out)?;
    }
    Ok(())
}

/// What a backup holds beside the objects: what reads them, and what clients know the cluster by.
pub(crate) fn backed_up_identity(data_dir: &Path) -> Result<Vec<u8>, Error> {
    let files = identity::read(data_dir)?.ok_or(identity::Error::Damaged)?;
    Ok(identity::to_json(&files).to_vec())
}

/// Hands pieces to the task that sends them.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(piece.to_vec());
        sent.map(|()| piece.len())
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
