use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use resident::Place;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::userspace::holder::{Holder, end_all};
use crate::userspace::launch::{Launcher, Process};
use crate::userspace::process::serve;
use crate::userspace::protocol::Refusal;
use crate::userspace::table::Table;

/// Processes that are threads of this one.
#[derive(Clone, Default)]
pub(crate) struct Threads(Arc<Mutex<Vec<oneshot::Sender<()>>>>);

impl Threads {
    pub(crate) fn launcher(&self) -> Launcher {
        let threads = self.clone();
        Box::new(move |process: &Process, _: &Place, listener: OwnedFd| {
            let (kill, killed) = oneshot::channel::<()>();
            threads.0.lock().push(kill);
            let version = process.version.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    tokio::select! {
                        served = serve(listener, version, 100) => served.unwrap(),
                        Ok(()) = killed => {}
                    }
                });
            });
            Ok(None)
        })
    }

    fn started(&self) -> usize {
        self.0.lock().len()
    }

    /// Ends the process that was started last, as a crash would.
    fn kill_last(&self) {
        self.0
            .lock()
            .last_mut()
            .map(|kill| std::mem::replace(kill, oneshot::channel().0).send(()));
    }
}

pub(crate) fn process(directory: &Path, version: &str) -> Process {
    Process {
        directory: directory.join("service-proxy"),
        command: Vec::new(),
        user: None,
        version: version.into(),
        claim: None,
    }
}

struct Fixture {
    directory: TempDir,
    threads: Threads,
}

impl Fixture {
    fn new() -> Self {
        Fixture {
            directory: tempfile::tempdir().unwrap(),
            threads: Threads::default(),
        }
    }

    fn agent(&self, version: &str) -> Holder {
        Holder::new(process(self.directory.path(), version), self.threads.launcher()).unwrap()
    }

    fn places(&self) -> usize {
        Place::list(&self.directory.path().join("service-proxy")).unwrap().len()
    }
}

fn one(at: SocketAddr, endpoints: &[SocketAddr]) -> Table {
    [(key(Protocol::Tcp, at), route(endpoints))].into()
}

#[tokio::test]
async fn nothing_is_started_for_nothing() {
    let fixture = Fixture::new();
    fixture.agent("1").sync(Table::new(), false).await.unwrap();
    assert_eq!(fixture.threads.started(), 0);
    end_all(&fixture.directory.path().join("service-proxy")).await.unwrap();
}

#[tokio::test]
async fn listeners_outlive_the_agent_and_the_next_one_adopts_them() {
    let fixture = Fixture::new();
    let (stays, goes) = (address(40), address(41));
    let (a, b) = (echo("a").await, echo("b").await);
    let mut first = fixture.agent("1");
    let both: Table = one(stays, &[a]).into_iter().chain(one(goes, &[a])).collect();
    first.sync(both, true).await.unwrap();
    drop(first);
    assert_eq!(
        talk(stays, "").await.unwrap(),
        "a bye",
        "nobody is there to tell it anything"
    );
    let mut next = fixture.agent("1");
    next.sync(one(stays, &[b]), true).await.unwrap();
    assert_eq!(talk(stays, "").await.unwrap(), "b bye");
    assert!(
        talk(goes, "").await.is_err(),
        "what the next one does not name is closed"
    );
    assert_eq!((fixture.threads.started(), fixture.places()), (1, 1));
    next.sync(Table::new(), true).await.unwrap();
    assert!(talk(stays, "").await.is_err());
    end_all(&fixture.directory.path().join("service-proxy")).await.unwrap();
    assert_eq!(fixture.places(), 0);
    assert!(!fixture.directory.path().join("service-proxy").exists());
}

#[tokio::test]
async fn a_process_that_dies_is_noticed_and_started_again() {
    let fixture = Fixture::new();
    let at = address(42);
    let table = one(at, &[echo("a").await]);
    let mut agent = fixture.agent("1");
    let mut lost = agent.lost();
    agent.sync(table.clone(), true).await.unwrap();
    fixture.threads.kill_last();
    tokio::time::timeout(DEADLINE, lost.changed()).await.unwrap().unwrap();
    agent.sync(table, true).await.unwrap();
    assert_eq!(talk(at, "").await.unwrap(), "a bye");
    assert_eq!((fixture.threads.started(), fixture.places()), (2, 1));
    end_all(&fixture.directory.path().join("service-proxy")).await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_tried_again() {
    let fixture = Fixture::new();
    let at = address(43);
    let other = TcpListener::bind(at).await.unwrap();
    let table = one(at, &[echo("a").await]);
    let mut agent = fixture.agent("1");
    for _ in 0..2 {
        let refused = agent.sync(table.clone(), true).await.unwrap();
        assert_eq!(refused, [(key(Protocol::Tcp, at), Refusal::Taken)].into());
    }
    drop(other);
    assert!(agent.sync(table, true).await.unwrap().is_empty());
    assert_eq!(talk(at, "").await.unwrap(), "a bye");
    end_all(&fixture.directory.path().join("service-proxy")).await.unwrap();
}

#[tokio::test]
async fn a_process_of_another_version_is_replaced_and_no_connection_is_refused() {
    let fixture = Fixture::new();
    let at = address(44);
    // More than fit into one message.
    let many = (0..100).map(|n| key(Protocol::Udp, (Ipv4Addr::new(127, 77, 0, 45), 20_000 + n).into()));
    let endpoint = echo("a ").await;
    let mut table = one(at, &[endpoint]);
    table.extend(many.map(|key| (key, route(&[endpoint]))));
    let mut old = fixture.agent("1");
    old.sync(table.clone(), true).await.unwrap();
    let mut open = TcpStream::connect(at).await.unwrap();
    let mut name = [0; 2];
    open.read_exact(&mut name).await.unwrap();
    drop(old);

    let calling = tokio::spawn(async move {
        for _ in 0..300 {
            assert_eq!(talk(at, "").await.unwrap(), "a  bye");
        }
    });
    let mut new = fixture.agent("2");
    assert!(
        new.sync(table.clone(), true).await.unwrap().is_empty(),
        "every listener is taken over"
    );
    calling.await.unwrap();
    assert_eq!(fixture.threads.started(), 2);
    open.write_all(b"still").await.unwrap();
    open.shutdown().await.unwrap();
    let mut heard = String::new();
    open.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "still bye", "the old process finishes what it has begun");
    drop(new);
    assert_eq!(talk(at, "").await.unwrap(), "a  bye", "the new one has the listeners");
    end_all(&fixture.directory.path().join("service-proxy")).await.unwrap();
    assert!(talk(at, "").await.is_err());
}

#[tokio::test]
async fn what_does_not_speak_is_not_waited_for_twice() {
    let fixture = Fixture::new();
    let place = Place::make(&fixture.directory.path().join("service-proxy")).unwrap();
    assert!(place.connect().is_err(), "left behind by a process that is gone");
    let at = address(46);
    fixture
        .agent("1")
        .sync(one(at, &[echo("a").await]), true)
        .await
        .unwrap();
    assert_eq!(talk(at, "").await.unwrap(), "a bye");
    assert_eq!(fixture.places(), 1);
    end_all(&fixture.directory.path().join("service-proxy")).await.unwrap();
}
