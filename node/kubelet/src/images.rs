//! Image garbage collection: when the disk fills, images that nothing uses go, those used longest ago first.
//!
//! The rules are those of Kubernetes' image garbage collector (Kubernetes documentation, "Garbage collection of unused
//! containers and images"): above the high threshold images are removed until the low one is reached; an image that a
//! container was made of, or that a pod of this node names, stays, and so does one that came just now. With an image goes
//! the code that was compiled of it. Before a pod has to go for the disk's sake every image that may go does, whatever the
//! thresholds ("Node-pressure Eviction", "Reclaiming node level resources"). Which images go is decided purely, in
//! [`Seen::candidates`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::events::Type;
use tokio::{sync::Mutex, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{node, shared::Shared};

/// How often the disk is looked at, and how often the images while there is space.
const PERIOD: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_secs(60);
/// Between collections that did not free what they should, so that the same is not told over and over.
const AFTER_FAILURE: Duration = Duration::from_secs(300);
/// Kubernetes' `imageMinimumGCAge`.
pub(crate) const LEAST_AGE: Duration = Duration::from_secs(120);

/// Kubernetes' `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`: above which use of a disk images go, and down
/// to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageGc {
    high: u8,
    low: u8,
}

/// The shares are no thresholds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageGcError {
    #[error("imageGCHighThresholdPercent (--image-gc-high-threshold) {0} must be between 0 and 100, inclusive")]
    High(u8),
    #[error(
        "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than imageGCHighThresholdPercent \
         (--image-gc-high-threshold) {high}"
    )]
    Order { low: u8, high: u8 },
}

impl Default for ImageGc {
    fn default() -> Self {
        Self { high: 85, low: 80 }
    }
}

impl ImageGc {
    /// Collects above `high` percent until `low` percent are used; with 100 never.
    ///
    /// # Errors
    /// One of them is no percentage, or `low` is not below `high`.
    pub fn new(high: u8, low: u8) -> Result<Self, ImageGcError> {
        match (high, low) {
            (101.., _) => Err(ImageGcError::High(high)),
            _ if low >= high => Err(ImageGcError::Order { low, high }),
            _ => Ok(Self { high, low }),
        }
    }

    pub(crate) fn high(self) -> u8 {
        self.high
    }

    pub(crate) fn low(self) -> u8 {
        self.low
    }

    fn is_off(self) -> bool {
        self.high >= 100
    }
}

/// A disk's size and what is free of it, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disk {
    capacity: u64,
    available: u64,
}

impl Disk {
    /// The share that is used, in percent, rounded up as the kubelet does it.
    fn used_percent(self) -> u64 {
        100 - self
            .available
            .saturating_mul(100)
            .checked_div(self.capacity)
            .unwrap_or(100)
            .min(100)
    }

    /// Bytes to free until the low threshold is reached; 0 below the high one.
    fn to_free(self, gc: ImageGc) -> u64 {
        if gc.is_off() || self.used_percent() < gc.high.into() {
            return 0;
        }
        (self.capacity / 100)
            .saturating_mul(100_u64.saturating_sub(gc.low.into()))
            .saturating_sub(self.available)
    }
}

/// When an image was first seen here and last seen in use. Not kept over a restart: what is there then counts as old.
#[derive(Clone, Copy, Debug)]
struct Times {
    first_seen: Option<Instant>,
    last_used: Option<Instant>,
}

/// What is remembered of the images of this node; held while some are being removed.
#[derive(Default)]
pub(crate) struct Images(Mutex<Seen>);

/// The same, by their id.
#[derive(Debug, Default)]
struct Seen {
    images: BTreeMap<String, Times>,
    looked: Option<Instant>,
}

impl Seen {
    /// Takes in which images there are now, and which of them are in use.
    fn look(&mut self, present: &[cri::Image], used: &BTreeSet<String>, now: Instant) {
        let ids: BTreeSet<&str> = present.iter().map(|image| image.id.as_str()).collect();
        self.images.retain(|id, _| ids.contains(id.as_str()));
        for id in ids {
            let times = self.images.entry(id.to_owned()).or_insert(Times {
                first_seen: self.looked.map(|_| now),
                last_used: None,
            });
            if used.contains(id) {
                times.last_used = Some(now);
            }
        }
        self.looked = Some(now);
    }

    /// The images that may go, in the order in which they should.
    fn candidates(&self, present: &[cri::Image], used: &BTreeSet<String>, now: Instant) -> Vec<String> {
        let is_young = |times: &Times| {
            times
                .first_seen
                .is_some_and(|seen| now.duration_since(seen) < LEAST_AGE)
        };
        let mut free: Vec<_> = present
            .iter()
            .filter(|image| !image.pinned && !used.contains(&image.id))
            .filter_map(|image| Some((self.images.get(&image.id)?, &image.id)))
            .filter(|(times, _)| !is_young(times))
            .collect();
        free.sort_by_key(|(times, id)| (times.last_used, times.first_seen, (*id).clone()));
        free.into_iter().map(|(_, id)| id.clone()).collect()
    }
}

/// Collects until `shutdown`.
pub(crate) async fn collect(shared: Arc<Shared>, shutdown: CancellationToken) {
    // Until the pods are known, no image is known to be needed: after a reboot no container tells of it either.
    if shutdown.run_until_cancelled(shared.pods.synced()).await.is_none() {
        return;
    }
    let period = match shared.thresholds.image_gc.is_off() {
        true => LOOK,
        false => PERIOD,
    };
    let mut pause = Duration::ZERO;
    while shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = match shutdown.run_until_cancelled(round(&shared)).await {
            None => return,
            Some(Ok(Freed::Enough)) => period,
            Some(Ok(Freed::TooLittle { wanted, freed })) => {
                let note = format!(
                    "Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, but only \
                     found {freed} bytes eligible to free."
                );
                tell(&shared, "FreeDiskSpaceFailed", note);
                AFTER_FAILURE
            }
            Some(Err(error)) => {
                tell(&shared, "ImageGCFailed", error.chain());
                AFTER_FAILURE
            }
        };
    }
}

fn tell(shared: &Shared, reason: &str, note: String) {
    tracing::warn!(reason, note, "image garbage collection");
    let regarding = node::reference(&shared.node_name);
    shared.recorder.event(&regarding, Type::Warning, reason, "", note);
}

/// How a round went.
#[derive(Debug, PartialEq, Eq)]
enum Freed {
    Enough,
    TooLittle { wanted: u64, freed: u64 },
}

async fn round(shared: &Shared) -> Result<Freed, cri::Error> {
    let mut seen = shared.images.0.lock().await;
    let place = fullest(shared).await;
    let wanted = disk(&place).to_free(shared.thresholds.image_gc);
    if wanted > 0 {
        return free(shared, &mut seen, &place, wanted).await;
    }
    let now = Instant::now();
    if seen.looked.is_none_or(|at| now.duration_since(at) >= LOOK) {
        let present = shared.runtime.list_images().await?;
        seen.look(&present, &in_use(shared).await, now);
    }
    Ok(Freed::Enough)
}

/// Removes all images that may go, whatever the thresholds: before pods have to.
pub(crate) async fn free_unused(shared: &Shared) {
    let mut seen = shared.images.0.lock().await;
    let place = fullest(shared).await;
    if let Err(error) = free(shared, &mut seen, &place, u64::MAX).await {
        tell(shared, "ImageGCFailed", error.chain());
    }
}

/// Removes images until so many bytes are free that were not, or none is left that may go.
async fn free(shared: &Shared, seen: &mut Seen, place: &Path, wanted: u64) -> Result<Freed, cri::Error> {
    let (now, before) = (Instant::now(), disk(place));
    let present = shared.runtime.list_images().await?;
    let used = in_use(shared).await;
    seen.look(&present, &used, now);
    let freed = || disk(place).available.saturating_sub(before.available);
    for id in seen.candidates(&present, &used, now) {
        shared.runtime.remove_image(&id).await?;
        let (used, freed) = (before.used_percent(), freed());
        tracing::info!(
            image = id,
            used,
            freed,
            "the disk fills: removed an image that nothing uses"
        );
        if freed >= wanted {
            return Ok(Freed::Enough);
        }
    }
    let freed = freed();
    Ok(Freed::TooLittle { wanted, freed })
}

/// The images that containers were made of, and those that pods of this node name.
async fn in_use(shared: &Shared) -> BTreeSet<String> {
    let observed = shared.observer.all();
    let containers = observed.iter().flat_map(|(_, pod)| &pod.containers);
    let mut used: BTreeSet<String> = containers.map(|container| container.image_id.clone()).collect();
    let mut named = BTreeSet::new();
    for (_, pod) in shared.pods.list() {
        named.extend(pod.all_containers().map(|(_, container)| container.image.clone()));
        let mounted = pod.spec.volumes.iter().filter_map(|volume| volume.image.as_ref());
        named.extend(mounted.map(|image| image.reference.clone()));
    }
    for reference in named {
        if let Ok(Some(image)) = shared.runtime.image(&reference).await {
            used.insert(image.id);
        }
    }
    used
}

/// A directory on the disk with the least room, of those that images are on.
async fn fullest(shared: &Shared) -> PathBuf {
    let told = shared.runtime.image_filesystems().await.unwrap_or_default();
    let told = told.into_iter().map(|filesystem| filesystem.mountpoint);
    let places = std::iter::once(shared.data_dir.clone()).chain(told.filter(|path| path.is_dir()));
    let fullest = places.max_by_key(|path| disk(path).used_percent());
    fullest.unwrap_or_else(|| shared.data_dir.clone())
}

fn disk(place: &Path) -> Disk {
    let (capacity, available) = node::storage(place);
    Disk { capacity, available }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn image(id: &str) -> cri::Image {
        cri::Image {
            id: id.to_owned(),
            ..cri::Image::default()
        }
    }

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn space_is_wanted_from_the_high_threshold_down_to_the_low() {
        let disk = |available| Disk {
            capacity: 1000,
            available,
        };
        let to_free = |available| disk(available).to_free(ImageGc::default());
        assert_eq!(to_free(200), 0);
        assert_eq!(to_free(160), 0, "84 % are used");
        assert_eq!(to_free(159), 41, "what is used is rounded up");
        assert_eq!(to_free(150), 50);
        assert_eq!(to_free(0), 200);
        let own = ImageGc::new(50, 0).expect("thresholds");
        assert_eq!((disk(510).to_free(own), disk(500).to_free(own)), (0, 500));
        let off = ImageGc::new(100, 80).expect("thresholds");
        assert_eq!(disk(0).to_free(off), 0);
        let unknown = Disk {
            capacity: 0,
            available: 0,
        };
        assert_eq!(unknown.to_free(ImageGc::default()), 0);
    }

    #[test]
    fn thresholds_that_are_none_are_refused_as_a_kubelet_refuses_them() {
        let refused = |high, low| ImageGc::new(high, low).expect_err("refused").to_string();
        assert_eq!(
            refused(101, 80),
            "imageGCHighThresholdPercent (--image-gc-high-threshold) 101 must be between 0 and 100, inclusive"
        );
        for (high, low) in [(80, 80), (50, 80), (0, 0)] {
            let why = format!(
                "imageGCLowThresholdPercent (--image-gc-low-threshold) {low} must be less than \
                 imageGCHighThresholdPercent (--image-gc-high-threshold) {high}"
            );
            assert_eq!(refused(high, low), why);
        }
    }

    #[test]
    fn those_used_longest_ago_go_first_and_those_never_used_before_them() {
        let mut seen = Seen::default();
        let start = Instant::now();
        let present = ["a", "b", "c", "never"].map(image);
        seen.look(&present, &ids(&["a", "b", "c"]), start);
        seen.look(&present, &ids(&["a", "c"]), start + MINUTE);
        seen.look(&present, &ids(&["c"]), start + 2 * MINUTE);
        let now = start + 3 * MINUTE;
        assert_eq!(seen.candidates(&present, &ids(&["c"]), now), ["never", "b", "a"]);
    }

    #[test]
    fn what_came_just_now_is_pinned_or_is_in_use_stays() {
        let mut seen = Seen::default();
        let start = Instant::now();
        seen.look(&[image("old")], &ids(&[]), start);
        let pinned = cri::Image {
            pinned: true,
            ..image("pinned")
        };
        let present = [image("old"), image("new"), image("used"), pinned];
        seen.look(&present, &ids(&["used"]), start + MINUTE);
        let candidates = |after| seen.candidates(&present, &ids(&["used"]), start + after);
        assert_eq!(candidates(MINUTE), ["old"]);
        assert_eq!(candidates(3 * MINUTE), ["old", "new"]);
    }

    #[test]
    fn an_image_that_went_and_came_again_is_new() {
        let mut seen = Seen::default();
        let start = Instant::now();
        seen.look(&[image("a")], &ids(&[]), start);
        seen.look(&[], &ids(&[]), start + MINUTE);
        seen.look(&[image("a")], &ids(&[]), start + 2 * MINUTE);
        assert!(seen.candidates(&[image("a")], &ids(&[]), start + 3 * MINUTE).is_empty());
    }
}
