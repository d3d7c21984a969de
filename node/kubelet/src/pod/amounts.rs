//! Quantities by resource: requests, limits, and what was allocated.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

/// A quantity as the API holds it: text, or a bare number.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct QuantityText(pub(crate) Box<str>);

impl<'de> Deserialize<'de> for QuantityText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text.into())),
            Value::Number(number) => Ok(Self(number.to_string().into())),
            other => Err(de::Error::custom(format!("expected a quantity, found {other}"))),
        }
    }
}

/// Quantities by the names of resources, sorted. What a container is allocated is what it asks for, so clones share; and
/// the least leaf of a tree has room for eleven.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Amounts(Arc<[(Box<str>, QuantityText)]>);

impl Amounts {
    pub(crate) fn get(&self, name: &str) -> Option<&QuantityText> {
        self.iter().find_map(|(own, amount)| (own == name).then_some(amount))
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &QuantityText)> {
        self.0.iter().map(|(name, amount)| (&**name, amount))
    }

    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Amounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Amounts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sorted = Option::<std::collections::BTreeMap<Box<str>, QuantityText>>::deserialize(deserializer)?;
        Ok(Self(sorted.into_iter().flatten().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_what_they_were_decoded_from() {
        let amounts: Amounts = serde_json::from_str(r#"{"memory": "64Mi", "cpu": 2}"#).expect("amounts");
        assert_eq!(amounts.keys().collect::<Vec<_>>(), ["cpu", "memory"]);
        assert_eq!(amounts.get("cpu").map(|amount| &*amount.0), Some("2"));
        assert_eq!(amounts.get("disk"), None);
        let text = serde_json::to_string(&amounts).expect("JSON");
        assert_eq!(text, r#"{"cpu":"2","memory":"64Mi"}"#);
        assert!(serde_json::from_str::<Amounts>(r#"{"cpu": []}"#).is_err());
        assert!(serde_json::from_str::<Amounts>("null").expect("nothing").is_empty());
    }
}
