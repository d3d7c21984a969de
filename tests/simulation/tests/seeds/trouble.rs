//! What goes wrong while users work: weather, crashes, clocks.

use std::time::Duration;

use harness::{Cluster, weather::Climate};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use store::Backend;
use tokio::time::sleep;

/// Makes trouble of every kind, one at a time.
pub struct Trouble {
    random: StdRng,
}

impl Trouble {
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// Something goes wrong, or comes back.
    pub async fn strike(&mut self, cluster: &mut Cluster) {
        match self.random.random_range(0..20) {
            0..3 => self.weather(cluster, Climate::SHOWERS),
            3..5 => self.weather(cluster, Climate::STORM),
            5 => self.weather(cluster, Climate::FAIR),
            6..8 => self.restart_controllers(cluster).await,
            8..10 => self.restart_scheduler(cluster).await,
            10..13 => self.toggle_node(cluster).await,
            13..16 => self.restart_api(cluster).await,
            16 => self.jump(cluster),
            17 => self.compact(cluster).await,
            18 => self.reboot(cluster),
            _ => cluster.start_all().await,
        }
    }

    fn weather(&mut self, cluster: &Cluster, climate: Climate) {
        tracing::info!(?climate, "trouble: the weather changes");
        cluster.weather.set(climate);
    }

    async fn pause(&mut self, most: u64) {
        sleep(Duration::from_millis(self.random.random_range(0..most))).await;
    }

    async fn restart_controllers(&mut self, cluster: &mut Cluster) {
        tracing::info!("trouble: the controllers crash");
        cluster.crash_controllers().await;
        self.pause(20_000).await;
        cluster.start_controllers();
    }

    async fn restart_scheduler(&mut self, cluster: &mut Cluster) {
        tracing::info!("trouble: the scheduler crashes");
        cluster.crash_scheduler().await;
        self.pause(20_000).await;
        cluster.start_scheduler();
    }

    /// A kubelet crashes, or one that has crashed comes back: in between may be long enough to lose the node's pods.
    async fn toggle_node(&mut self, cluster: &mut Cluster) {
        let index = self.random.random_range(0..cluster.nodes.len());
        if self.random.random_bool(0.5) {
            tracing::info!(node = cluster.nodes[index].name, "trouble: the kubelet crashes");
            cluster.nodes[index].crash().await;
        }
        if self.random.random_bool(0.7) {
            self.pause(5_000).await;
            cluster.start_node(index);
        }
    }

    async fn restart_api(&mut self, cluster: &mut Cluster) {
        tracing::info!("trouble: the API server crashes");
        cluster.api.kill().await;
        self.pause(60_000).await;
        cluster.api.start().await;
    }

    fn jump(&mut self, cluster: &Cluster) {
        let seconds = self.random.random_range(-600..600);
        tracing::info!(seconds, "trouble: the clock jumps");
        cluster.jump(seconds);
    }

    /// Forgets the store's history, so that whoever was away has to list.
    async fn compact(&mut self, cluster: &Cluster) {
        tracing::info!("trouble: the store forgets its history");
        let store = cluster.store.calm();
        let now = store.revision().await.expect("a store in memory answers");
        store.compact(now).await.expect("a store in memory can be compacted");
    }

    /// Every sandbox of a node is lost, as when the machine was switched off.
    fn reboot(&mut self, cluster: &Cluster) {
        let index = self.random.random_range(0..cluster.nodes.len());
        tracing::info!(node = cluster.nodes[index].name, "trouble: the sandboxes are lost");
        cluster.nodes[index].runtime.lose_sandboxes();
    }
}
