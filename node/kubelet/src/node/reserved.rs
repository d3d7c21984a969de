//! What of a machine is kept from pods, for everything else that runs on it. Pure.

use std::str::FromStr;

use api::Quantity;

use crate::resources::Capacity;

/// Amounts by resource, written `cpu=500m,memory=1Gi,ephemeral-storage=2Gi` as for a kubelet's `--system-reserved`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    cpu_milli: i64,
    memory_bytes: i64,
    storage_bytes: i64,
}

/// Why amounts to be reserved are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReservedError {
    #[error("{0:?} is not RESOURCE=QUANTITY")]
    Form(String),
    #[error("{0:?} cannot be reserved: cpu, memory and ephemeral-storage can")]
    Resource(String),
    #[error("{amount:?} is not an amount of {resource}")]
    Amount { resource: String, amount: String },
}

impl FromStr for Reserved {
    type Err = ReservedError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut reserved = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (resource, amount) = part
                .split_once('=')
                .ok_or_else(|| ReservedError::Form(part.to_owned()))?;
            let quantity = amount.parse::<Quantity>().ok().filter(|quantity| quantity.milli() >= 0);
            let quantity = quantity.ok_or_else(|| ReservedError::Amount {
                resource: resource.to_owned(),
                amount: amount.to_owned(),
            })?;
            match resource {
                "cpu" => reserved.cpu_milli = quantity.milli(),
                "memory" => reserved.memory_bytes = quantity.value(),
                "ephemeral-storage" => reserved.storage_bytes = quantity.value(),
                other => return Err(ReservedError::Resource(other.to_owned())),
            }
        }
        Ok(reserved)
    }
}

impl Reserved {
    /// What is left of the machine for pods.
    pub(crate) fn leaves(self, capacity: Capacity) -> Capacity {
        Capacity {
            cpu_milli: (capacity.cpu_milli - self.cpu_milli).max(0),
            memory_bytes: (capacity.memory_bytes - self.memory_bytes).max(0),
            storage_bytes: (capacity.storage_bytes - self.storage_bytes).max(0),
            ..capacity
        }
    }

    /// What all pods together get of the kernel, where something is reserved.
    pub(crate) fn limits(self, capacity: Capacity) -> cri::Resources {
        let left = self.leaves(capacity);
        let positive = |is_reserved: bool, amount: i64| if is_reserved { amount.max(1) } else { 0 };
        cri::Resources {
            cpu_shares: u64::try_from(positive(self.cpu_milli > 0, left.cpu_milli * 1024 / 1000)).unwrap_or_default(),
            memory_limit: positive(self.memory_bytes > 0, left.memory_bytes),
            ..cri::Resources::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_a_kubelet_reads_them() {
        let reserved: Reserved = "cpu=500m,memory=1Gi,ephemeral-storage=2Gi".parse().expect("amounts");
        let capacity = Capacity {
            cpu_milli: 2000,
            memory_bytes: 4 << 30,
            storage_bytes: 1 << 30,
            pods: 110,
        };
        let left = Capacity {
            cpu_milli: 1500,
            memory_bytes: 3 << 30,
            storage_bytes: 0,
            pods: 110,
        };
        assert_eq!(reserved.leaves(capacity), left);
        let limits = reserved.limits(capacity);
        assert_eq!((limits.cpu_shares, limits.memory_limit), (1536, 3 << 30));
        assert_eq!(Reserved::default().limits(capacity), cri::Resources::default());
        assert_eq!("".parse(), Ok(Reserved::default()));
    }

    #[test]
    fn what_is_no_amount_is_refused_by_name() {
        for (text, why) in [
            ("cpu", "\"cpu\" is not RESOURCE=QUANTITY"),
            (
                "pid=100",
                "\"pid\" cannot be reserved: cpu, memory and ephemeral-storage can",
            ),
            ("memory=much", "\"much\" is not an amount of memory"),
            ("cpu=-1", "\"-1\" is not an amount of cpu"),
        ] {
            let refused = text.parse::<Reserved>().expect_err("refused");
            assert_eq!(refused.to_string(), why);
        }
    }
}
