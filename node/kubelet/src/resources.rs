//! Requests and limits: what the runtime is told, what a container is told of itself, and the pod's QoS class. Pure.

use api::Quantity;

use crate::pod::{Amounts, Container, Pod, ResourceFieldRef, Role};

/// What the node offers to pods; stands in for limits that are not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) cpu_milli: i64,
    pub(crate) memory_bytes: i64,
    pub(crate) storage_bytes: i64,
    pub(crate) pods: i64,
}

/// Microseconds over which a CPU limit is kept.
const CPU_PERIOD: i64 = 100_000;
/// The least quota a cgroup takes, microseconds.
const MIN_QUOTA: i64 = 1_000;

fn quantity(values: &Amounts, name: &str) -> Option<Quantity> {
    values.get(name).and_then(|text| text.0.parse().ok())
}

/// The request of a resource, which defaults to its limit.
fn request(container: &Container, name: &str) -> Option<Quantity> {
    quantity(&container.resources.requests, name).or_else(|| quantity(&container.resources.limits, name))
}

/// What a container requests, in thousandths; 0 where it does not.
pub(crate) fn request_milli(container: &Container, name: &str) -> i64 {
    request(container, name).map_or(0, |q| q.milli())
}

/// Limits in CRI's units.
pub(crate) fn for_runtime(container: &Container) -> cri::Resources {
    let request = request(container, "cpu").map_or(0, |q| q.milli());
    let limit = quantity(&container.resources.limits, "cpu").map_or(0, |q| q.milli());
    let quota = if limit > 0 {
        limit.saturating_mul(CPU_PERIOD).div_euclid(1000).max(MIN_QUOTA)
    } else {
        0
    };
    cri::Resources {
        cpu_shares: u64::try_from(request.saturating_mul(1024).div_euclid(1000))
            .unwrap_or(0)
            .max(2),
        cpu_quota: quota,
        cpu_period: CPU_PERIOD,
        memory_limit: quantity(&container.resources.limits, "memory").map_or(0, |q| q.value().max(0)),
    }
}

/// The sum of the limits of the containers that run beside each other, in CRI's units; 0 where one has none.
pub(crate) fn sum_of_limits(pod: &Pod) -> cri::Resources {
    let beside = || {
        pod.lasting_containers()
            .filter(|(role, _)| *role != Role::Init)
            .map(|(_, container)| for_runtime(container))
    };
    let all = |of: fn(&cri::Resources) -> i64| {
        let limited = beside().all(|r| of(&r) > 0);
        if limited { beside().map(|r| of(&r)).sum() } else { 0 }
    };
    cri::Resources {
        cpu_shares: beside().map(|r| r.cpu_shares).sum::<u64>().max(2),
        cpu_quota: all(|r| r.cpu_quota),
        cpu_period: CPU_PERIOD,
        memory_limit: all(|r| r.memory_limit),
    }
}

/// What the pod's cgroup is given: the sum of what its containers ask for, and their limits together where each has one.
pub(crate) fn of_pod(pod: &Pod) -> cri::Resources {
    let mut sum = sum_of_limits(pod);
    if qos_class(pod) == "BestEffort" {
        sum.cpu_shares = 2;
    }
    let overhead = overhead(pod);
    if sum.cpu_quota > 0 {
        sum.cpu_quota = sum.cpu_quota.saturating_add(overhead.cpu_quota);
    }
    if sum.memory_limit > 0 {
        sum.memory_limit = sum.memory_limit.saturating_add(overhead.memory_limit);
    }
    sum
}

/// What the pod's RuntimeClass says a sandbox takes itself, in CRI's units.
pub(crate) fn overhead(pod: &Pod) -> cri::Resources {
    let container = Container {
        resources: crate::pod::Resources {
            requests: Amounts::default(),
            limits: pod.spec.overhead.clone(),
        },
        ..Container::default()
    };
    if pod.spec.overhead.is_empty() {
        return cri::Resources::default();
    }
    for_runtime(&container)
}

/// Page size and bytes of a container's limits on huge pages, in the runtime's form (`2MB`).
pub(crate) fn hugepages(container: &Container) -> Vec<(String, u64)> {
    let limits = container.resources.limits.iter();
    let pages = limits.filter_map(|(name, amount)| {
        let size = name.strip_prefix("hugepages-")?.parse::<Quantity>().ok()?.value();
        let amount = u64::try_from(amount.0.parse::<Quantity>().ok()?.value()).ok()?;
        let text = match size {
            size if size >= 1 << 30 => format!("{}GB", size >> 30),
            size if size >= 1 << 20 => format!("{}MB", size >> 20),
            size => format!("{}KB", size >> 10),
        };
        Some((text, amount))
    });
    pages.collect()
}

/// The priority from which on a pod is critical to its node (`system-node-critical`).
const NODE_CRITICAL: i32 = 2_000_001_000;
/// What the kernel spares, and what it takes first.
const SPARED: i64 = -997;
const FIRST: i64 = 1000;

/// How gladly the kernel ends a container when memory is short: by the pod's class, and by how much of the machine's
/// memory a burstable container asks for. A sidecar is spared no less than the container beside it that is spared most.
pub(crate) fn oom_score_adj(pod: &Pod, container: &Container, memory_bytes: i64) -> i64 {
    if pod.spec.priority >= NODE_CRITICAL {
        return SPARED;
    }
    match qos_class(pod) {
        "Guaranteed" => return SPARED,
        "BestEffort" => return FIRST,
        _ => {}
    }
    let of = |container: &Container| {
        let asked = request(container, "memory").map_or(0, |q| q.value());
        let share = asked.saturating_mul(1000).checked_div(memory_bytes).unwrap_or(0);
        (FIRST - share).clamp(FIRST + SPARED, FIRST - 1)
    };
    let is_sidecar = pod
        .container(&container.name)
        .is_some_and(|(role, _)| role == Role::Sidecar);
    let beside = pod.spec.containers.iter().filter(|_| is_sidecar);
    beside.map(of).fold(of(container), i64::min)
}

/// The value of a `resourceFieldRef` for a container, divided and rounded up as Kubernetes does.
///
/// # Errors
/// Says which reference is not known or whose divisor is not a quantity.
pub(crate) fn field(container: &Container, field: &ResourceFieldRef, node: &Capacity) -> Result<String, String> {
    let unknown = || format!("unsupported container resource : {}", field.resource);
    let (list, name) = field.resource.split_once('.').ok_or_else(unknown)?;
    let asked = match list {
        "limits" => quantity(&container.resources.limits, name),
        "requests" => request(container, name),
        _ => return Err(unknown()),
    };
    let of_node = |value: i64| if list == "limits" { value } else { 0 };
    let milli = |q: Quantity| i128::from(q.milli());
    let amount = match name {
        "cpu" => asked.map_or(i128::from(of_node(node.cpu_milli)), milli),
        "memory" => asked.map_or(i128::from(of_node(node.memory_bytes)) * 1000, |q| {
            i128::from(q.value()) * 1000
        }),
        "ephemeral-storage" => asked.map_or(i128::from(of_node(node.storage_bytes)) * 1000, |q| {
            i128::from(q.value()) * 1000
        }),
        _ if name.starts_with("hugepages-") => asked.map_or(0, |q| i128::from(q.value()) * 1000),
        _ => return Err(unknown()),
    };
    let divisor = match &field.divisor {
        None => 1000,
        Some(text) => match text.0.parse::<Quantity>() {
            Ok(divisor) if divisor.is_zero() => 1000,
            Ok(divisor) => milli(divisor).max(1),
            Err(_) => return Err(format!("invalid divisor {:?}", text.0)),
        },
    };
    Ok((amount.div_euclid(divisor) + i128::from(amount.rem_euclid(divisor) != 0)).to_string())
}

/// `Guaranteed`, `Burstable` or `BestEffort`, by the requests and limits of all containers.
pub(crate) fn qos_class(pod: &Pod) -> &'static str {
    let relevant = ["cpu", "memory"];
    let (mut any, mut guaranteed) = (false, true);
    for (_, container) in pod.lasting_containers() {
        for name in relevant {
            let limit = quantity(&container.resources.limits, name).filter(|q| !q.is_zero());
            let request = request(container, name).filter(|q| !q.is_zero());
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && limit == request;
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(resources: Value) -> Container {
        serde_json::from_value(json!({"name": "a", "resources": resources})).expect("container")
    }

    #[test]
    fn runtime_gets_shares_quota_and_memory() {
        let made = for_runtime(&container(
            json!({"requests": {"cpu": "250m"}, "limits": {"cpu": "0.5", "memory": "64Mi"}}),
        ));
        let want = cri::Resources {
            cpu_shares: 256,
            cpu_quota: 50_000,
            cpu_period: 100_000,
            memory_limit: 64 << 20,
        };
        assert_eq!(made, want);
        assert_eq!(
            for_runtime(&container(json!({}))),
            cri::Resources {
                cpu_shares: 2,
                cpu_period: 100_000,
                ..cri::Resources::default()
            }
        );
    }

    #[test]
    fn resource_fields_divide_and_round_up() {
        let made = container(json!({"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}));
        let node = Capacity {
            cpu_milli: 2000,
            memory_bytes: 1 << 30,
            ..Capacity::default()
        };
        let cases = [
            ("requests.cpu", None, Ok("1")),
            ("requests.cpu", Some("1m"), Ok("250")),
            ("limits.cpu", None, Ok("2")),
            ("limits.memory", Some("1Mi"), Ok("64")),
            ("requests.memory", None, Ok("67108864")),
            (
                "limits.bananas",
                None,
                Err("unsupported container resource : limits.bananas"),
            ),
        ];
        for (resource, divisor, want) in cases {
            let reference = ResourceFieldRef {
                resource: resource.into(),
                divisor: divisor.map(|d: &str| crate::pod::QuantityText(d.into())),
                ..ResourceFieldRef::default()
            };
            let want = want.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(field(&made, &reference, &node), want, "{resource}");
        }
    }

    #[test]
    fn the_kernel_spares_whom_the_class_says() {
        let with = |resources: Value, priority| {
            let mut pod = Pod::default();
            pod.spec.priority = priority;
            pod.spec.containers = vec![container(resources)];
            oom_score_adj(&pod, &pod.spec.containers[0], 1000 << 20)
        };
        let all = json!({"cpu": "1", "memory": "1Gi"});
        let cases = [
            (json!({}), 0, 1000),
            (json!({"limits": all}), 0, -997),
            (json!({"requests": {"memory": "250Mi"}}), 0, 750),
            (json!({"requests": {"memory": "1000Mi"}}), 0, 3),
            (json!({"requests": {"cpu": "1"}}), 0, 999),
            (json!({}), NODE_CRITICAL, -997),
        ];
        for (resources, priority, want) in cases {
            assert_eq!(with(resources.clone(), priority), want, "{resources}");
        }
    }

    #[test]
    fn huge_pages_are_limited_by_size() {
        let made = container(json!({"limits": {"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi", "cpu": "1"}}));
        assert_eq!(
            hugepages(&made),
            [("1GB".to_owned(), 1 << 30), ("2MB".to_owned(), 4 << 20)]
        );
    }

    #[test]
    fn the_pod_is_limited_where_all_its_containers_are() {
        let mut pod = Pod::default();
        pod.spec.containers = vec![
            container(json!({"limits": {"cpu": "1", "memory": "1Mi"}})),
            container(json!({"limits": {"memory": "2Mi"}})),
        ];
        let sum = sum_of_limits(&pod);
        assert_eq!((sum.cpu_shares, sum.cpu_quota, sum.memory_limit), (1026, 0, 3 << 20));
    }

    #[test]
    fn qos_follows_requests_and_limits() {
        let cases = [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": {"cpu": "1", "memory": "1Gi"}}), "Guaranteed"),
            (
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}),
                "Burstable",
            ),
        ];
        for (resources, class) in cases {
            let mut pod = Pod::default();
            pod.spec.containers = vec![container(resources)];
            assert_eq!(qos_class(&pod), class);
        }
    }
}
