//! What tests of running guests share: an engine, code made from a binary, and a container's share of the host.

use std::{fs::File, io::Write, net::Ipv4Addr, sync::Arc, time::Instant};

use wasmtime_wasi::WasiCtxBuilder;

use super::{
    applets::View,
    code::{Code, Library},
    cpu::{self, Ticker},
    guest::Prepared,
    logs::{Log, Writer},
    memory,
    outgoing::Outgoing,
    resolver::Resolver,
    sockets::Addresses,
};
use crate::{compile, engine, protocol::Network};

/// What stands for a container's 127.0.0.1.
pub(crate) const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 9);

/// The bench of a test.
pub(crate) struct Bench {
    pub(crate) library: Library,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) logs: Writer,
    log: tempfile::NamedTempFile,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let engine = engine::for_running().expect("an engine");
        let ticker = Ticker::start(&engine).expect("a ticker");
        let library = Library::new(engine).expect("linkers");
        let log = tempfile::NamedTempFile::new().expect("a log");
        Self {
            library,
            ticker,
            logs: Writer::start().expect("a writer"),
            log,
        }
    }

    /// The code of a binary, by way of a file as in real life.
    pub(crate) fn code(&self, binary: &[u8]) -> Arc<Code> {
        let (file, guest) = compiled(binary);
        let key = format!("{:p}-{}", binary.as_ptr(), binary.len());
        self.library.load(&key, guest, &file.into()).expect("loads")
    }

    /// A container at this address of the loopback network.
    pub(crate) fn prepared(&self, address: Ipv4Addr, resources: &cri::Resources) -> Arc<Prepared> {
        let dialable_loopback = vec!["127.32.0.0/12".parse().expect("a range")];
        let network = Network::Pod {
            address,
            loopback: LOOPBACK,
            dialable_loopback,
        };
        Arc::new(self.container(network, "pod", resources))
    }

    /// A container with an argument and an environment variable, and no directories.
    pub(crate) fn container(&self, network: Network, hostname: &str, resources: &cri::Resources) -> Prepared {
        let own = match network {
            Network::Pod { address, .. } => address,
            Network::Node => Ipv4Addr::UNSPECIFIED,
        };
        let addresses = Addresses::new(network, Resolver::new(&cri::DnsConfig::default(), hostname, own));
        let file = File::options().append(true).open(self.log.path()).expect("the log");
        Prepared {
            args: ["guest".to_owned(), "argument".to_owned()].into(),
            env: [("NAME".to_owned(), "value".to_owned())].into(),
            working_dir: String::new(),
            filesystem: WasiCtxBuilder::new().build().filesystem().clone(),
            view: View::new(Arc::new([]), ""),
            hostname: hostname.to_owned(),
            stdin: None,
            outgoing: Outgoing::new(Arc::clone(&addresses), None),
            addresses,
            log: Log::new(file, self.logs.clone()),
            cpu: Arc::new(cpu::Account::new(resources, Instant::now())),
            memory: memory::Account::new(resources),
        }
    }

    /// What was logged by a container.
    pub(crate) fn logged(&self, prepared: &Prepared) -> String {
        prepared.log.flush();
        std::fs::read_to_string(self.log.path()).expect("the log")
    }
}

/// Compiled code in a file.
pub(crate) fn compiled(binary: &[u8]) -> (File, crate::protocol::compiled::Guest) {
    let (compiled, code) = compile::compile(binary).expect("compiles");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&code).expect("written");
    (file, compiled.guest)
}
