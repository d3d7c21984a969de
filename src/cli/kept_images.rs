//! The flags that bound the cluster's own image registry.

use clap::Args;
use server::ImageLimits;

const KIB: u64 = 1 << 10;

/// How much the control plane keeps of images.
#[derive(Args)]
pub(crate) struct KeptImages {
    /// The largest program that is uploaded or pushed to the cluster's own registry. [default: 256Mi, or 64Mi on etcd]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    image_size_limit: Option<u64>,
    /// All that this registry keeps: in DIR/registry, or in the store where that is on etcd. The last 5 % of the disk stay
    /// free whatever is said here. [default: 8Gi, or 512Mi on etcd]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    image_registry_limit: Option<u64>,
}

impl KeptImages {
    /// What was asked for, or what becomes a directory, or a store that others share: etcd has 2 GiB for everything unless it
    /// is told otherwise.
    pub(crate) fn limits(&self, shared: bool) -> ImageLimits {
        let usual = match shared {
            true => ImageLimits {
                image: 64 * KIB.pow(2),
                total: 512 * KIB.pow(2),
            },
            false => ImageLimits::default(),
        };
        ImageLimits {
            image: self.image_size_limit.unwrap_or(usual.image),
            total: self.image_registry_limit.unwrap_or(usual.total),
        }
    }
}

/// Bytes, with `Ki`, `Mi` or `Gi` behind them.
fn size(text: &str) -> Result<u64, String> {
    let units = [("Ki", KIB), ("Mi", KIB.pow(2)), ("Gi", KIB.pow(3)), ("Ti", KIB.pow(4))];
    let unit = units
        .into_iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "it is no size such as 64Mi or 2Gi".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_kubernetes_writes_them() {
        assert_eq!(size("64Mi"), Ok(64 << 20));
        assert_eq!(size("1000"), Ok(1000));
        for text in ["", "0", "1.5Gi", "64MB", "-1", "99999999999Ti"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
