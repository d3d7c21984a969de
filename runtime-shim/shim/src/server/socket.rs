//! The unix socket: opened by its owner only, and by a bounded number of clients at once.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::UnixStream as StdStream,
    },
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::Connected;

use super::Error;

/// How long is waited after a connection could not be taken, which is want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens at a path. Directories that are missing are made for their owner only; the socket itself always is.
pub(super) fn bind(path: &Path) -> Result<UnixListener, Error> {
    if StdStream::connect(path).is_ok() {
        return Err(Error::Taken { path: path.to_owned() });
    }
    make(path).map_err(|source| Error::Socket {
        path: path.to_owned(),
        source,
    })
}

/// Made in a directory that nobody else can enter and moved into place, so that at no moment others could connect.
fn make(path: &Path) -> io::Result<UnixListener> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let private = directory.join(format!(".cri-{}", std::process::id()));
    let _ = fs::remove_dir_all(&private); // left by a process that had our number
    DirBuilder::new().mode(0o700).create(&private)?;
    let made = private.join("s");
    let listener = UnixListener::bind(&made).and_then(|listener| {
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        fs::rename(&made, path)?;
        Ok(listener)
    });
    fs::remove_dir_all(&private)?;
    listener
}

/// A connection that counts while it is open.
pub(super) struct Counted {
    stream: UnixStream,
    _one: OwnedSemaphorePermit,
}

/// The connections of a listener, at most `limit` at once; further ones wait in the kernel's queue.
pub(super) fn incoming(listener: UnixListener, limit: usize) -> impl Stream<Item = io::Result<Counted>> {
    let free = Arc::new(Semaphore::new(limit));
    stream::unfold((listener, free), |(listener, free)| async move {
        let one = Arc::clone(&free).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return Some((Ok(Counted { stream, _one: one }), (listener, free))),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    })
}

impl Connected for Counted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_can_open_it() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("made/cri.sock");
        let _listener = bind(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(
            fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "nothing else stays"
        );
    }

    #[tokio::test]
    async fn a_socket_in_use_is_refused_and_one_left_behind_is_replaced() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("cri.sock");
        let listener = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(Error::Taken { .. })));
        drop(listener);
        bind(&path).unwrap();
    }

    #[tokio::test]
    async fn no_more_than_the_limit_are_served_at_once() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("cri.sock");
        let mut incoming = Box::pin(incoming(bind(&path).unwrap(), 1));
        let _clients = (
            UnixStream::connect(&path).await.unwrap(),
            UnixStream::connect(&path).await.unwrap(),
        );
        let first = futures::StreamExt::next(&mut incoming).await.unwrap().unwrap();
        let mut second = Box::pin(futures::StreamExt::next(&mut incoming));
        assert!(
            futures::FutureExt::now_or_never(&mut second).is_none(),
            "the first is still open"
        );
        drop(first);
        assert!(second.await.unwrap().is_ok());
    }
}
