//! What a pod asks for or may use in all. Pure.

use std::collections::BTreeMap;

use api::Quantity;
use serde_json::{Map, Value};

/// Resources by name.
pub(crate) type Amounts = BTreeMap<String, Quantity>;

/// Resources that a pod may ask for as a whole.
const OF_PODS: [&str; 2] = ["cpu", "memory"];

/// A map of resource names to amounts; what is none is left out.
pub(crate) fn amounts(value: Option<&Value>) -> Amounts {
    let map = value.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?)))
        .collect()
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// `requests` or `limits` of a container.
pub(crate) fn of_container(container: &Value, field: &str) -> Amounts {
    amounts(container.get("resources").and_then(|resources| resources.get(field)))
}

/// `requests` or `limits` of a pod: its containers run together, its init containers before them one by one, but for those
/// that go on; what the pod asks for as a whole counts instead.
pub(crate) fn of_pod(spec: &Map<String, Value>, field: &str) -> Amounts {
    let list = |name: &str| spec.get(name).and_then(Value::as_array).into_iter().flatten();
    let mut total = Amounts::new();
    for container in list("containers") {
        add(&mut total, &of_container(container, field));
    }
    let (mut lasting, mut before) = (Amounts::new(), Amounts::new());
    for container in list("initContainers") {
        let own = of_container(container, field);
        if container.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            add(&mut total, &own);
            add(&mut lasting, &own);
            raise(&mut before, &lasting);
        } else {
            let mut now = own;
            add(&mut now, &lasting);
            raise(&mut before, &now);
        }
    }
    raise(&mut total, &before);
    let whole = amounts(spec.get("resources").and_then(|resources| resources.get(field)));
    total.extend(whole.into_iter().filter(|(name, _)| OF_PODS.contains(&name.as_str())));
    total
}

/// Adds amounts to others, name by name.
pub(crate) fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = match to.get(name) {
            Some(known) => *known + *amount,
            None => *amount,
        };
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, least: &Amounts) {
    for (name, amount) in least {
        if to.get(name).is_none_or(|known| known < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn init_containers_count_as_they_run() {
        let with = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
        let mut lasting = with("1");
        lasting["restartPolicy"] = json!("Always");
        let cases = [
            (json!({"containers": [with("1"), with("2")]}), "3"),
            (
                json!({"containers": [with("1")], "initContainers": [with("2"), with("4")]}),
                "4",
            ),
            (
                json!({"containers": [with("1")], "initContainers": [lasting, with("4")]}),
                "5",
            ),
            (
                json!({"containers": [with("1")], "resources": {"requests": {"cpu": "9"}}}),
                "9",
            ),
        ];
        for (spec, expected) in cases {
            let total = of_pod(spec.as_object().expect("a map"), "requests");
            assert_eq!(
                total.get("cpu").map(ToString::to_string).as_deref(),
                Some(expected),
                "{spec}"
            );
        }
    }
}
