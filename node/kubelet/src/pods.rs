//! The set of pod workers: one per pod of this node, made and told by what the API lists.
//!
//! What the API no longer lists is ended, and so is what the runtime runs for pods that nobody knows; both only after
//! the API has proved to be that of our cluster ([`crate::cluster`]). While it is away everything keeps running.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use client::Delta;
use futures::{FutureExt, StreamExt};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    cluster::{Cluster, Verdict},
    orphan,
    pod::Pod,
    shared::Shared,
    static_pods::StaticPods,
    volumes,
    worker::{Desired, Worker},
};

/// Between looks at what nobody owns, and at the cluster while it is not known to be ours.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// Between looks at volumes that are gone.
const COLLECTION: Duration = Duration::from_secs(60);
/// The first pause of those that double up to [`RETRY`], while an API that has just started gets its namespaces.
const FIRST_RETRY: Duration = Duration::from_millis(10);
/// Before a worker that panicked is started again.
const AFTER_PANIC: Duration = Duration::from_secs(10);

pub(crate) struct Pods {
    shared: Arc<Shared>,
    workers: HashMap<Arc<str>, Handle>,
    /// Pods the API no longer lists, until it has proved to be ours.
    vanished: HashSet<Arc<str>>,
    /// Pods that nobody owns and that are being ended.
    orphans: HashSet<Arc<str>>,
    /// Pods of files.
    statics: HashSet<Arc<str>>,
    /// When directories of volumes that are gone were last looked for.
    collected: Option<Instant>,
    ended: mpsc::UnboundedSender<Arc<str>>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

struct Handle {
    inbox: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

/// Runs until `shutdown`, then leaves all pods as they are.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut cluster: Cluster,
    mut changes: mpsc::UnboundedReceiver<Arc<str>>,
    mut statics: watch::Receiver<StaticPods>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    let (ended, mut endings) = mpsc::unbounded_channel();
    let mut deltas = shared.pods.deltas();
    let (workers, vanished, orphans) = (HashMap::new(), HashSet::new(), HashSet::new());
    let known = shared.clone();
    let mut pods = Pods {
        shared,
        statics: HashSet::new(),
        workers,
        vanished,
        orphans,
        collected: None,
        ended,
        tasks,
        shutdown: shutdown.clone(),
    };
    // Pods of files need no API.
    {
        let mut recognised = std::pin::pin!(recognise(&known, &mut cluster));
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                () = &mut recognised => break,
                Ok(()) = statics.changed() => pods.take_statics(&statics.borrow_and_update()),
                Some(uid) = changes.recv() => pods.wake(&uid),
            }
        }
    }
    let mut next_sweep = Instant::now() + RETRY;
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(delta) = deltas.next() => {
                pods.take(delta);
                while let Some(delta) = deltas.try_next() {
                    pods.take(delta);
                }
            }
            Some(uid) = changes.recv() => {
                pods.wake(&uid);
                continue;
            }
            Ok(()) = statics.changed() => {
                pods.take_statics(&statics.borrow_and_update());
                continue;
            }
            Some(uid) = endings.recv() => {
                pods.workers.remove(&uid);
                pods.orphans.remove(&uid);
                continue;
            }
            () = tokio::time::sleep_until(next_sweep) => {
                pods.shared.warm.release(Instant::now());
                pods.sweep(&mut cluster).await;
                next_sweep = Instant::now() + HOUSEKEEPING;
            }
        }
        pods.end_vanished(&mut cluster).await;
        if !pods.vanished.is_empty() {
            next_sweep = next_sweep.min(Instant::now() + RETRY);
        }
    }
}

/// Waits until the API proves to be that of our cluster, and has listed our pods.
async fn recognise(shared: &Shared, cluster: &mut Cluster) {
    shared.pods.synced().await;
    let mut pause = FIRST_RETRY;
    loop {
        match cluster.verify(&shared.client).await {
            Verdict::Ours => return,
            Verdict::Foreign => {
                tracing::error!("the API server is that of another cluster: leaving all pods as they are")
            }
            Verdict::Unknown => tracing::debug!("the API server has not said yet which cluster it is"),
        }
        tokio::time::sleep(pause).await;
        pause = RETRY.min(pause * 2);
    }
}

impl Pods {
    /// Runs the pods of files that there are, and ends those whose files are gone.
    fn take_statics(&mut self, found: &StaticPods) {
        let gone: Vec<_> = self
            .statics
            .iter()
            .filter(|uid| !found.contains_key(*uid))
            .cloned()
            .collect();
        for uid in gone {
            self.statics.remove(&uid);
            if let Some(handle) = self.workers.get(&uid) {
                handle.inbox.send_replace(Desired::Removed);
            }
        }
        for (uid, found) in found {
            if self.statics.insert(uid.clone()) {
                self.spawn(found.pod.clone());
            }
        }
    }

    fn take(&mut self, delta: Delta<Pod>) {
        let is_mirror = |pod: &Arc<Pod>| pod.mirrors().is_some();
        if delta.new.as_ref().or(delta.old.as_ref()).is_some_and(is_mirror) {
            if let Some(mirror) = delta.new {
                self.take_mirror(&mirror);
            }
            return;
        }
        let new_uid = delta.new.as_ref().map(|pod| pod.metadata.uid.clone());
        if let Some(old) = delta.old.filter(|old| Some(&old.metadata.uid) != new_uid.as_ref()) {
            self.vanished.insert(old.metadata.uid.clone());
        }
        let Some(pod) = delta.new else { return };
        self.vanished.remove(&pod.metadata.uid);
        match self.workers.get(&pod.metadata.uid) {
            Some(handle) => {
                handle.inbox.send_replace(Desired::Pod(pod));
            }
            None => self.spawn(pod),
        }
    }

    /// The file is what counts; of its mirror only what the API knows of the status, which a mirror made anew has lost.
    fn take_mirror(&self, mirror: &Arc<Pod>) {
        let running = self.shared.running_for(mirror);
        if let Some(handle) = self.workers.get(&running.metadata.uid)
            && running.is_static()
        {
            let mut pod = (*running).clone();
            pod.status = mirror.status.clone();
            pod.metadata.resource_version = mirror.metadata.resource_version.clone();
            handle.inbox.send_replace(Desired::Pod(Arc::new(pod)));
        }
    }

    fn spawn(&mut self, pod: Arc<Pod>) {
        let uid = pod.metadata.uid.clone();
        let (inbox, wake) = (watch::Sender::new(Desired::Pod(pod.clone())), Arc::new(Notify::new()));
        let (shared, receiver, shutdown) = (self.shared.clone(), inbox.subscribe(), self.shutdown.clone());
        let span = tracing::info_span!("pod", pod = %pod.key(), %uid);
        self.workers.insert(
            uid.clone(),
            Handle {
                inbox,
                wake: wake.clone(),
            },
        );
        let ended = self.ended.clone();
        let work = async move {
            loop {
                let worker = Worker::new(shared.clone(), pod.clone(), receiver.clone(), wake.clone());
                if AssertUnwindSafe(worker.run(shutdown.clone()))
                    .catch_unwind()
                    .await
                    .is_ok()
                {
                    break;
                }
                tracing::error!("the worker of this pod panicked; it starts again");
                tokio::time::sleep(AFTER_PANIC).await;
            }
            let _ = ended.send(uid); // the set may be gone already
        };
        self.tasks.spawn(work.instrument(span));
    }

    fn wake(&self, uid: &str) {
        if let Some(handle) = self.workers.get(uid) {
            handle.wake.notify_one();
        }
    }

    /// Ends the pods that are no longer listed, if the list is our cluster's.
    async fn end_vanished(&mut self, cluster: &mut Cluster) {
        if self.vanished.is_empty() || cluster.verify(&self.shared.client).await != Verdict::Ours {
            return;
        }
        for uid in self.vanished.drain() {
            if let Some(handle) = self.workers.get(&uid) {
                handle.inbox.send_replace(Desired::Removed);
            }
        }
    }

    /// Removes directories of volumes that are gone, once in a while.
    async fn sweep_volumes(&mut self, cluster: &mut Cluster) {
        let (now, data_dir) = (Instant::now(), &self.shared.data_dir);
        let idle = self.collected.is_some_and(|at| now.duration_since(at) < COLLECTION);
        if idle || !volumes::storage::root(data_dir).is_dir() {
            return;
        }
        if cluster.verify(&self.shared.client).await == Verdict::Ours {
            self.collected = Some(now);
            let (shared, shutdown) = (self.shared.clone(), self.shutdown.clone());
            self.tasks.spawn(async move {
                let collect = volumes::storage::collect(&shared.client, &shared.data_dir);
                shutdown.run_until_cancelled(collect).await;
            });
        }
    }

    /// Weighs the cgroup of burstable pods; UIDs of all pods that have cgroups.
    async fn sweep_cgroups(&self) -> Vec<Arc<str>> {
        let Some(cgroups) = self.shared.cgroups.clone() else {
            return Vec::new();
        };
        let pods = self.shared.pods.list();
        let sweep = move || {
            cgroups.balance(pods.iter().map(|(_, pod)| &**pod));
            cgroups.uids().into_iter().collect()
        };
        crate::blocking::run(sweep).await.unwrap_or_default() // it is tried again with the next sweep
    }

    /// Ends what runs for pods that are neither listed nor being ended, whether the runtime knows of it or only the kernel, and
    /// removes their directories and cgroups.
    async fn sweep(&mut self, cluster: &mut Cluster) {
        self.sweep_volumes(cluster).await;
        self.shared.probes.keep(|uid| self.workers.contains_key(uid));
        let mut found = self.sweep_cgroups().await;
        let unowned = |uid: &Arc<str>| !self.workers.contains_key(uid) && !self.orphans.contains(uid);
        found.extend(self.shared.observer.uids());
        for of in [&*self.shared.data_dir, self.shared.csi.root()] {
            found.extend(orphan::directories(of));
        }
        found.retain(unowned);
        found.sort();
        found.dedup();
        if found.is_empty() || cluster.verify(&self.shared.client).await != Verdict::Ours {
            return;
        }
        for uid in found {
            tracing::info!(%uid, "ending a pod that the API does not know");
            self.orphans.insert(uid.clone());
            let (shared, ended, shutdown) = (self.shared.clone(), self.ended.clone(), self.shutdown.clone());
            self.tasks.spawn(async move {
                shutdown.run_until_cancelled(orphan::end(&shared, &uid)).await;
                let _ = ended.send(uid); // the set may be gone already
            });
        }
    }
}
