//! The flags that bound the cluster's own image registry.

use clap::Args;
use server::ImageLimits;

const KIB: u64 = 1 << 10;

/// How much the control plane keeps of images; none where it shares its store.
#[derive(Args)]
pub(crate) struct KeptImages {
    /// The largest program that is uploaded or pushed to the cluster's own registry.
    #[arg(long, value_name = "SIZE", default_value = "256Mi", value_parser = size)]
    image_size_limit: u64,
    /// All that this registry keeps, in DIR/registry. The last 5 % of the disk stay free whatever is said here.
    #[arg(long, value_name = "SIZE", default_value = "8Gi", value_parser = size)]
    image_registry_limit: u64,
}

impl KeptImages {
    pub(crate) fn limits(&self) -> ImageLimits {
        ImageLimits {
            image: self.image_size_limit,
            total: self.image_registry_limit,
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
