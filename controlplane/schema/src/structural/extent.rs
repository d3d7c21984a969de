//! How large what a schema describes may be: as large as it says, or as fits into a request.

use super::{Additional, JsonType, Limits, Node, expressions::implied};
use crate::{cel, cel::Extent};

/// Bytes of a request.
const REQUEST: u64 = 3 << 20;

impl Extent for Node {
    fn elements(&self) -> Option<(u64, &Self)> {
        if let Some(items) = self.items.as_deref() {
            return Some((self.most_items(), items));
        }
        match &self.additional {
            Additional::Schema(schema) => Some((self.most_entries(), schema)),
            _ => None,
        }
    }

    fn field(&self, name: &str) -> Option<&Self> {
        let named = self
            .properties
            .iter()
            .find(|(known, _)| cel::escape(known).as_deref() == Some(name));
        let implied = || implied(name).filter(|_| self.embedded);
        named.map(|(_, node)| node).or_else(implied)
    }

    fn entry(&self) -> Option<&Self> {
        match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        }
    }
}

impl Node {
    fn limit(&self, of: impl Fn(&Limits) -> Option<u64>) -> Option<u64> {
        self.limits.as_deref().and_then(of)
    }

    /// How many items the list that this is the schema of may have.
    fn most_items(&self) -> u64 {
        let least = self.items.as_deref().map_or(1, Node::least_bytes);
        self.limit(|limits| limits.max_items)
            .unwrap_or((REQUEST - 2) / (least + 1))
    }

    fn most_entries(&self) -> u64 {
        let least = self.entry().map_or(1, Node::least_bytes);
        self.limit(|limits| limits.max_properties)
            .unwrap_or((REQUEST - 2) / (least + 6))
    }

    /// Bytes that the smallest value takes in JSON.
    fn least_bytes(&self) -> u64 {
        match self.type_ {
            _ if self.int_or_string => 1,
            Some(JsonType::Boolean) => 4,
            Some(JsonType::Object) => {
                let required = |name: &str| {
                    let required = self.limits.as_deref().map_or(&[][..], |limits| &limits.required);
                    required.iter().any(|known| **known == *name)
                };
                let needed = self
                    .properties
                    .iter()
                    .filter(|(name, node)| required(name) && node.default.is_none());
                2 + needed
                    .map(|(name, node)| name.len() as u64 + 4 + node.least_bytes())
                    .sum::<u64>()
            }
            Some(JsonType::Array | JsonType::String) => 2,
            _ => 1,
        }
    }

    /// How many values of this schema fit into a request.
    pub(super) fn most_in_request(&self) -> u64 {
        REQUEST / (self.least_bytes() + 1)
    }
}
