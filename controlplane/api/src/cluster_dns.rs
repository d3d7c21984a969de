//! Where the cluster's name service is: what the control plane writes into objects, and nodes keep to.

use std::net::Ipv4Addr;

/// Namespace and name of its Service.
pub const SERVICE: (&str, &str) = ("kube-system", "kube-dns");
/// Where it listens on each node, at the node's own address in the pod network. It needs no privilege and is seldom taken.
/// It must never change: nodes of other versions, and pods that run, go on using it.
pub const PORT: u16 = 10053;
/// Which of the Service range's addresses is its own, as kubeadm has it.
const TENTH: u32 = 10;

/// The Service's address in a range that begins at `network` and has a prefix of `length` bits; `None`: it is too small.
pub fn address(network: Ipv4Addr, length: u8) -> Option<Ipv4Addr> {
    let size = 1_u64 << 32_u32.saturating_sub(length.into());
    // The last address of a range is its broadcast address.
    (u64::from(TENTH) + 1 < size).then(|| Ipv4Addr::from(u32::from(network).wrapping_add(TENTH)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_has_the_tenth_address() {
        let network = Ipv4Addr::new(10, 96, 0, 0);
        assert_eq!(address(network, 16), Some(Ipv4Addr::new(10, 96, 0, 10)));
        assert_eq!(address(network, 28), Some(Ipv4Addr::new(10, 96, 0, 10)));
        assert_eq!((address(network, 29), address(network, 32)), (None, None));
    }
}
