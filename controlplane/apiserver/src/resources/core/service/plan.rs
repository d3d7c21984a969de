//! What a write of a Service has to claim and may release. Pure: the old and the new spec in, a list out.

use std::net::{IpAddr, Ipv4Addr};

use api::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value, json};

use super::shape;

type Spec = Map<String, Value>;

/// Something a Service holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    Address(Ipv4Addr),
    NodePort(u16),
}

/// What a new state needs, beside what the old one holds already.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The address the user asks for.
    pub(super) address: Option<Ipv4Addr>,
    /// Whether the server has to choose an address.
    pub(super) choose_address: bool,
    /// Node ports the user asks for, with the index of the port.
    pub(super) ports: Vec<(usize, u16)>,
    /// Indexes of ports for which the server has to choose.
    pub(super) choose_ports: Vec<usize>,
    /// The port for health checks that the user asks for.
    pub(super) health_check: Option<u16>,
    /// Whether the server has to choose one.
    pub(super) choose_health_check: bool,
}

/// Plans a write from `old` (`None` on create) to `new`. Malformed addresses are left for validation to name.
pub(super) fn plan(old: Option<&Spec>, new: &Spec) -> Plan {
    let held = old.map(held).unwrap_or_default();
    let mut plan = Plan::default();
    if shape::needs_cluster_ip(new) && !shape::is_headless(new) {
        let wanted = shape::ips(new).first().copied().unwrap_or_default();
        plan.choose_address = wanted.is_empty();
        plan.address = wanted.parse().ok().filter(|ip| !held.contains(&Claim::Address(*ip)));
    }
    if shape::needs_node_ports(new) {
        let mut seen = Vec::new();
        for (index, port) in new
            .get("ports")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            match shape::node_port(port) {
                0 => plan.choose_ports.push(index),
                // One node port may serve several protocols.
                number if held.contains(&Claim::NodePort(number)) || seen.contains(&number) => {}
                number => {
                    seen.push(number);
                    plan.ports.push((index, number));
                }
            }
        }
    }
    if shape::needs_health_check(new) {
        let number = shape::health_check_port(new);
        let is_held = held.contains(&Claim::NodePort(number));
        plan.choose_health_check = number == 0;
        plan.health_check = Some(number).filter(|number| *number != 0 && !is_held);
    }
    plan
}

/// All that a stored Service holds.
pub(super) fn held(spec: &Spec) -> Vec<Claim> {
    let mut claims = Vec::new();
    if shape::needs_cluster_ip(spec) {
        let ips = shape::ips(spec).into_iter().filter_map(|ip| ip.parse().ok());
        claims.extend(ips.filter_map(|ip| match ip {
            IpAddr::V4(ip) => Some(Claim::Address(ip)),
            IpAddr::V6(_) => None,
        }));
    }
    if shape::needs_node_ports(spec) {
        claims.extend(shape::node_ports(spec).into_iter().map(Claim::NodePort));
    }
    if shape::needs_health_check(spec) {
        let number = Some(shape::health_check_port(spec)).filter(|number| *number != 0);
        claims.extend(number.map(Claim::NodePort));
    }
    claims.dedup();
    claims
}

/// What the old state holds and the new one does not.
pub(super) fn released(old: &Spec, new: &Spec) -> Vec<Claim> {
    let kept = held(new);
    held(old).into_iter().filter(|claim| !kept.contains(claim)).collect()
}

/// Fills in the address families of a cluster that has IPv4 only, and says what such a cluster cannot do.
pub(super) fn families(spec: &mut Spec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if !shape::needs_cluster_ip(spec) {
        return errors;
    }
    let path = |field: &str| Path::root("spec").child(field);
    let policy = spec
        .get("ipFamilyPolicy")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let selectorless = spec
        .get("selector")
        .and_then(Value::as_object)
        .is_none_or(|s| s.is_empty());
    let free = shape::is_headless(spec) && selectorless;
    let listed: Vec<Value> = spec
        .get("ipFamilies")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    if !free {
        for (index, family) in listed.iter().enumerate().filter(|(_, family)| *family == "IPv6") {
            errors.push(FieldError::invalid(
                &path("ipFamilies").index(index),
                family.clone(),
                "not configured on this cluster",
            ));
        }
        if policy == "RequireDualStack" {
            let detail = "this cluster is not configured for dual-stack services";
            errors.push(FieldError::invalid(&path("ipFamilyPolicy"), policy.clone(), detail));
        }
    }
    if policy.is_empty() {
        // Nobody resolves a headless Service without selector but its author: both families are hers to use.
        spec.insert(
            "ipFamilyPolicy".to_owned(),
            json!(if free { "RequireDualStack" } else { "SingleStack" }),
        );
    }
    if listed.is_empty() {
        let dual = free && policy != "SingleStack";
        spec.insert(
            "ipFamilies".to_owned(),
            if dual { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) },
        );
    }
    errors
}

/// Numbers from `low` to `high`, each once, beginning at a place that `seed` decides. The same Service is offered the same
/// numbers each time, and different ones are spread.
pub(super) fn candidates(low: u32, high: u32, seed: &str) -> impl Iterator<Item = u32> + use<> {
    let size = u64::from(high.saturating_sub(low)) + 1;
    // FNV-1a: fixed for ever, so that upgrades do not shuffle addresses.
    let hash = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    });
    let count = if high < low { 0 } else { size };
    (0..count).map(move |step| low + u32::try_from((hash % size + step) % size).unwrap_or_default())
}
