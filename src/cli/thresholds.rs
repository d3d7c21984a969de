//! When pods and images go for the node's sake, in the flags of a kubelet.

use std::time::Duration;

use clap::Args;

use super::authentication::duration;

#[derive(Args)]
pub(crate) struct Thresholds {
    /// Pods go while the node has less than this of something: SIGNAL<QUANTITY or SIGNAL<PERCENTAGE, separated by commas
    /// [default: memory.available<100Mi, nodefs.available<10% or 1Gi if that is less, pid.available<100].
    ///
    /// Signals are memory.available, nodefs.available, nodefs.inodesFree, imagefs.available, imagefs.inodesFree and
    /// pid.available. This takes the place of all defaults: what it does not name has no threshold.
    #[arg(long, value_name = "THRESHOLDS")]
    eviction_hard: Option<agent::EvictionHard>,
    /// How long the node goes on to say that it was short of something, and takes no pods for it.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    eviction_pressure_transition_period: Duration,
    /// The use of a disk, in percent, above which images go that nothing uses; 100: none ever go.
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    image_gc_high_threshold: u8,
    /// The use, in percent, down to which they go; less than the other.
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    image_gc_low_threshold: u8,
}

impl Thresholds {
    /// What was asked for.
    pub(crate) fn config(&self) -> anyhow::Result<agent::Thresholds> {
        Ok(agent::Thresholds {
            eviction_hard: self.eviction_hard.clone().unwrap_or_default(),
            transition: self.eviction_pressure_transition_period,
            image_gc: agent::ImageGc::new(self.image_gc_high_threshold, self.image_gc_low_threshold)?,
        })
    }
}
