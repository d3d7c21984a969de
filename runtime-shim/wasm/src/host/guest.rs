//! What a running instance has: its WASI context, made from what its container was given.
//!
//! A service gets a fresh instance for each request, so everything that can be prepared once per container is: the
//! environment, arguments and directories stand in [`Prepared`] and reach the guest only when it asks for them (see
//! `linker`); what is built per instance is an empty context with the container's log behind its output.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt, DuplexStream};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{
    WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    cli::{AsyncStdinStream, IsTerminal, StdoutStream},
    filesystem::WasiFilesystemCtx,
    p1::WasiP1Ctx,
    p2::{OutputStream, Pollable, StreamResult},
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::{
    applets::View,
    cpu,
    logs::{LineBuffer, Log, Stream},
    memory,
    outgoing::Outgoing,
    sockets::Addresses,
};

/// What all instances of a container share.
pub(crate) struct Prepared {
    pub(crate) args: Arc<[String]>,
    pub(crate) env: Arc<[(String, String)]>,
    /// Empty: `/`.
    pub(crate) working_dir: String,
    /// The directories the container sees, opened once.
    pub(crate) filesystem: WasiFilesystemCtx,
    /// The same directories, for commands.
    pub(crate) view: View,
    /// The pod's.
    pub(crate) hostname: String,
    /// Where the container asked for one.
    pub(crate) stdin: Option<Stdin>,
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) log: Arc<Log>,
    pub(crate) cpu: Arc<cpu::Account>,
    pub(crate) memory: Arc<memory::Account>,
    pub(crate) outgoing: Outgoing,
}

impl Prepared {
    /// A context without environment, arguments and directories.
    pub(crate) fn context(&self) -> WasiCtxBuilder {
        let mut builder = WasiCtxBuilder::new();
        let addresses = Arc::clone(&self.addresses);
        if let Some(reader) = self.stdin.as_ref().and_then(Stdin::reader) {
            builder.stdin(AsyncStdinStream::new(reader));
        }
        builder
            .stdout(Output::new(&self.log, Stream::Stdout))
            .stderr(Output::new(&self.log, Stream::Stderr))
            .allow_tcp(true)
            .allow_udp(true)
            .allow_ip_name_lookup(true)
            .socket_addr_check(move |address, usage| {
                let allowed = addresses.allows(address, usage);
                Box::pin(std::future::ready(allowed))
            });
        builder
    }
}

/// A guest's stdin: what clients that attach say, one after the other or at once.
pub(crate) struct Stdin {
    /// For the guest, once.
    reader: Mutex<Option<DuplexStream>>,
    writer: tokio::sync::Mutex<Option<DuplexStream>>,
    /// It ends with the first client.
    once: bool,
}

/// Bytes that wait for a guest to read them; more wait with the client.
const STDIN: usize = 64 << 10;

impl Stdin {
    pub(crate) fn new(once: bool) -> Self {
        let (reader, writer) = tokio::io::duplex(STDIN);
        Self {
            reader: Mutex::new(Some(reader)),
            writer: tokio::sync::Mutex::new(Some(writer)),
            once,
        }
    }

    fn reader(&self) -> Option<DuplexStream> {
        self.reader.lock().take()
    }

    /// Whether somebody will read it.
    pub(crate) async fn write(&self, bytes: &[u8]) -> bool {
        let mut writer = self.writer.lock().await;
        match writer.as_mut() {
            Some(writer) => writer.write_all(bytes).await.is_ok(),
            None => false,
        }
    }

    /// A client has said all it had to say.
    pub(crate) async fn left(&self) {
        if self.once {
            self.writer.lock().await.take();
        }
    }
}

/// The store data of a component's instance.
pub(crate) struct Guest {
    pub(crate) context: WasiCtx,
    pub(crate) table: ResourceTable,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) memory: memory::Meter,
}

impl Guest {
    pub(crate) fn new(prepared: &Arc<Prepared>) -> Self {
        Self {
            context: prepared.context().build(),
            table: ResourceTable::new(),
            http: WasiHttpCtx::new(),
            outgoing: prepared.outgoing.clone(),
            prepared: Arc::clone(prepared),
            memory: memory::Meter::new(Arc::clone(&prepared.memory)),
        }
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.context,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outgoing,
        }
    }
}

/// The store data of a core module's instance.
pub(crate) struct CoreGuest {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) prepared: Arc<Prepared>,
    pub(crate) memory: memory::Meter,
}

impl CoreGuest {
    pub(crate) fn new(prepared: &Arc<Prepared>) -> Self {
        let mut wasi = prepared.context().args(&prepared.args).envs(&prepared.env).build_p1();
        *wasi.ctx().ctx.filesystem() = prepared.filesystem.clone();
        Self {
            wasi,
            prepared: Arc::clone(prepared),
            memory: memory::Meter::new(Arc::clone(&prepared.memory)),
        }
    }
}

/// A guest's stdout or stderr: lines for the log. Never full, never slow.
#[derive(Clone)]
struct Output(Arc<Mutex<LineBuffer>>);

/// Bytes taken in one write.
const WRITE: usize = 64 << 10;

impl Output {
    fn new(log: &Arc<Log>, stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(LineBuffer::new(Arc::clone(log), stream))))
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.lock().write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
