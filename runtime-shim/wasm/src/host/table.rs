//! What the host holds, as the agent sees it: records, the files they are written to, and the stream of changes.
//!
//! Every change goes through [`Table::change`]: first the state file, then the record, then the event, all under one
//! lock, so that a snapshot, the files and the events tell one story. The files are for an agent that finds the host
//! gone; they need to survive the host's end and not the machine's, so they are renamed into place and not synced.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use cri::{ContainerId, SandboxId};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::protocol::{
    Answer, Change, ContainerRecord, Cursor, Event, FromHost, PAGE_ITEMS, Page, SandboxRecord, container_file,
    packed::Packed, sandbox_file,
};

/// Changes that are kept for an agent that comes back.
const RING: usize = 4096;

/// The records of a host.
#[derive(Debug)]
pub(crate) struct Table {
    directory: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    generation: u64,
    sequence: u64,
    sandboxes: BTreeMap<SandboxId, Packed<SandboxRecord>>,
    containers: BTreeMap<ContainerId, HeldContainer>,
    /// What the last changes were of, oldest first; the newest has the number `sequence`.
    ring: VecDeque<Touched>,
    subscribers: Vec<Subscriber>,
}

/// A container's record, and the sandbox it is in.
#[derive(Debug)]
struct HeldContainer {
    record: Packed<ContainerRecord>,
    sandbox: SandboxId,
}

/// What a change was of. What it changed to is the record, or that there is none: later changes supersede earlier ones.
#[derive(Clone, Debug)]
enum Touched {
    Sandbox(SandboxId),
    Container(ContainerId),
}

/// A connection that follows the changes.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    pub(crate) outbox: mpsc::Sender<FromHost>,
    /// Closes the connection.
    pub(crate) closed: CancellationToken,
}

impl Subscriber {
    /// Sends, or closes the connection: its agent does not read, and must begin anew.
    fn send(&self, message: FromHost) -> bool {
        let sent = self.outbox.try_send(message).is_ok();
        if !sent {
            self.closed.cancel();
        }
        sent
    }
}

impl Table {
    /// State files are written into `directory`.
    pub(crate) fn new(directory: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            directory,
            held: Mutex::default(),
        })
    }

    /// Follows an agent of this generation from now on; the current generation if that is higher.
    pub(crate) fn follow(&self, generation: u64) -> Result<(), u64> {
        let mut held = self.held.lock();
        if generation < held.generation {
            return Err(held.generation);
        }
        held.generation = generation;
        Ok(())
    }

    /// The number of the last change.
    pub(crate) fn sequence(&self) -> u64 {
        self.held.lock().sequence
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.lock().sandboxes.is_empty()
    }

    pub(crate) fn sandbox(&self, id: &SandboxId) -> Option<SandboxRecord> {
        self.held.lock().sandboxes.get(id)?.unpack()
    }

    pub(crate) fn container(&self, id: &ContainerId) -> Option<ContainerRecord> {
        self.held.lock().containers.get(id)?.record.unpack()
    }

    /// The containers of a sandbox.
    pub(crate) fn containers_of(&self, sandbox: &SandboxId) -> Vec<ContainerRecord> {
        let held = self.held.lock();
        held.containers
            .values()
            .filter(|container| container.sandbox == *sandbox)
            .filter_map(|container| container.record.unpack())
            .collect()
    }

    /// Writes a change's file, records the change, and tells subscribers.
    pub(crate) fn change(&self, change: Change) -> io::Result<()> {
        let mut held = self.held.lock();
        self.write_down(&change)?;
        held.apply(change);
        Ok(())
    }

    /// Records an end, which is so whether or not its file can be written. On a full disk an earlier state goes on
    /// standing there: an agent that finds this host gone takes it for a loss.
    pub(crate) fn record_end(&self, end: Change) {
        let mut held = self.held.lock();
        if let Err(error) = self.write_down(&end) {
            tracing::error!(%error, "an end cannot be written down");
        }
        held.apply(end);
    }

    /// Changes a container's record by a function, if it is there.
    pub(crate) fn update_container(
        &self,
        id: &ContainerId,
        update: impl FnOnce(&mut cri::Container),
    ) -> io::Result<()> {
        let Some(mut record) = self.container(id) else {
            return Ok(());
        };
        update(&mut record.container);
        self.change(Change::Container(Box::new(record)))
    }

    /// Sends the reply `id` and then events, beginning after `after` as far as they are kept.
    pub(crate) fn subscribe(&self, id: u64, after: Option<u64>, subscriber: Subscriber) {
        let mut held = self.held.lock();
        let after = after.unwrap_or(held.sequence);
        let first_kept = held.sequence - held.ring.len() as u64;
        let complete = (first_kept..=held.sequence).contains(&after);
        let mut messages = vec![FromHost::Reply {
            id,
            result: Ok(Answer::Subscribed { complete }),
        }];
        messages.extend(held.since(after).map(FromHost::Event));
        if messages.into_iter().all(|message| subscriber.send(message)) {
            held.subscribers.push(subscriber);
        }
    }

    /// A page of everything.
    pub(crate) fn page(&self, after: &Cursor) -> Page {
        use std::ops::Bound::{Excluded, Unbounded};
        let held = self.held.lock();
        let mut page = Page {
            sandboxes: Vec::new(),
            containers: Vec::new(),
            next: None,
        };
        let mut from = Unbounded;
        match after {
            Cursor::Start => page.sandboxes = unpacked(held.sandboxes.values(), PAGE_ITEMS),
            Cursor::Sandbox(id) => {
                let rest = held.sandboxes.range::<SandboxId, _>((Excluded(id), Unbounded));
                page.sandboxes = unpacked(rest.map(|(_, record)| record), PAGE_ITEMS);
            }
            Cursor::Container(id) => from = Excluded(id),
        }
        if let Some(last) = page.sandboxes.last().filter(|_| page.sandboxes.len() == PAGE_ITEMS) {
            page.next = Some(Cursor::Sandbox(last.sandbox.id.clone()));
            return page;
        }
        let room = PAGE_ITEMS - page.sandboxes.len();
        let rest = held.containers.range::<ContainerId, _>((from, Unbounded));
        page.containers = unpacked(rest.map(|(_, container)| &container.record), room);
        if page.containers.len() == room {
            page.next = page
                .containers
                .last()
                .map(|last| Cursor::Container(last.container.id.clone()));
        }
        page
    }

    fn write_down(&self, change: &Change) -> io::Result<()> {
        match change {
            Change::Sandbox(record) => self.write(&sandbox_file(&record.sandbox.id), record),
            Change::Container(record) => self.write(&container_file(&record.container.id), record),
            Change::SandboxRemoved(id) => remove(&self.directory.join(sandbox_file(id))),
            Change::ContainerRemoved(id) => remove(&self.directory.join(container_file(id))),
        }
    }

    fn write(&self, name: &str, record: &impl Serialize) -> io::Result<()> {
        let (path, temporary) = (self.directory.join(name), self.directory.join(format!("{name}.tmp")));
        let written = fs::write(&temporary, serde_json::to_vec(record)?).and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(temporary); // it may never have been made
        }
        written
    }
}

impl Held {
    fn apply(&mut self, change: Change) {
        match &change {
            Change::Sandbox(record) => {
                self.sandboxes.insert(record.sandbox.id.clone(), Packed::new(record));
            }
            Change::Container(record) => {
                let held = HeldContainer {
                    record: Packed::new(record),
                    sandbox: record.container.sandbox.clone(),
                };
                self.containers.insert(record.container.id.clone(), held);
            }
            Change::SandboxRemoved(id) => {
                self.sandboxes.remove(id);
            }
            Change::ContainerRemoved(id) => {
                self.containers.remove(id);
            }
        }
        self.announce(change);
    }

    fn announce(&mut self, change: Change) {
        self.sequence += 1;
        if self.ring.len() == RING {
            self.ring.pop_front();
        }
        self.ring.push_back(Touched::by(&change));
        let sequence = self.sequence;
        self.subscribers.retain(|subscriber| {
            let change = change.clone();
            subscriber.send(FromHost::Event(Event { sequence, change }))
        });
    }

    /// The changes after a number, as far as they are kept.
    fn since(&self, after: u64) -> impl Iterator<Item = Event> {
        let first = self.sequence - self.ring.len() as u64 + 1;
        let numbered = (first..).zip(&self.ring).filter(move |(sequence, _)| *sequence > after);
        numbered.map(|(sequence, touched)| Event {
            sequence,
            change: self.now(touched),
        })
    }

    fn now(&self, touched: &Touched) -> Change {
        match touched {
            Touched::Sandbox(id) => match self.sandboxes.get(id).and_then(Packed::unpack) {
                Some(record) => Change::Sandbox(Box::new(record)),
                None => Change::SandboxRemoved(id.clone()),
            },
            Touched::Container(id) => match self.containers.get(id).and_then(|held| held.record.unpack()) {
                Some(record) => Change::Container(Box::new(record)),
                None => Change::ContainerRemoved(id.clone()),
            },
        }
    }
}

impl Touched {
    fn by(change: &Change) -> Self {
        match change {
            Change::Sandbox(record) => Self::Sandbox(record.sandbox.id.clone()),
            Change::SandboxRemoved(id) => Self::Sandbox(id.clone()),
            Change::Container(record) => Self::Container(record.container.id.clone()),
            Change::ContainerRemoved(id) => Self::Container(id.clone()),
        }
    }
}

fn unpacked<'a, R: Serialize + DeserializeOwned + 'a>(
    records: impl Iterator<Item = &'a Packed<R>>,
    most: usize,
) -> Vec<R> {
    records.filter_map(Packed::unpack).take(most).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
