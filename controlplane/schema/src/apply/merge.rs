//! A configuration merged into the live object: nothing is removed, and what both name becomes the configuration's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::{
    element::Element,
    shape::{Fields, Items, Shape, Slot, filled_list, filled_map, root_fields},
};
use crate::schema::Schema;

/// Why a configuration cannot be merged.
pub(super) type Unmergeable = String;

pub(super) fn merge(
    live: &Map<String, Value>,
    config: &Map<String, Value>,
    schema: &Schema,
) -> Result<Map<String, Value>, Unmergeable> {
    maps(Some(live), Some(config), root_fields(schema))
}

/// A place that both sides have.
fn values(live: &Value, config: &Value, slot: Slot<'_>) -> Result<Value, Unmergeable> {
    match slot.shape(Some(config)) {
        Shape::Scalar | Shape::AtomicList | Shape::AtomicMap => Ok(config.clone()),
        Shape::Fields(fields) => match (filled_map(Some(live)), filled_map(Some(config))) {
            (None, None) => Ok(config.clone()),
            (live, config) => maps(live, config, fields).map(Value::Object),
        },
        Shape::Items(items) => match (filled_list(Some(live)), filled_list(Some(config))) {
            (None, None) => Ok(config.clone()),
            (live, config) => lists(live.unwrap_or_default(), config.unwrap_or_default(), items).map(Value::Array),
        },
    }
}

fn maps(
    live: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
    fields: Fields<'_>,
) -> Result<Map<String, Value>, Unmergeable> {
    let mut out = live.cloned().unwrap_or_default();
    for (name, value) in config.into_iter().flatten() {
        let merged = match out.get(name) {
            Some(live) => values(live, value, fields.slot_or_any(name))?,
            None => value.clone(),
        };
        out.insert(name.clone(), merged);
    }
    Ok(out)
}

fn elements<'a>(list: &'a [Value], items: Items<'a>) -> Result<Vec<Element<'a>>, Unmergeable> {
    let element =
        |(index, item): (usize, &'a Value)| items.element(item).map_err(|why| format!("element {index}: {why}"));
    list.iter().enumerate().map(element).collect()
}

/// Live items that the configuration does not name keep their place; those that both name come in the order of the
/// configuration, which also says where its new ones go.
fn lists(live: &[Value], config: &[Value], items: Items<'_>) -> Result<Vec<Value>, Unmergeable> {
    let (ours, theirs) = (elements(live, items)?, elements(config, items)?);
    let merging = Merging::new(live, &ours, config, &theirs, items);
    merging.run()
}

struct Merging<'m, 'a> {
    live: VecDeque<(&'m Element<'a>, &'m Value)>,
    config: VecDeque<(&'m Element<'a>, &'m Value)>,
    items: Items<'a>,
    /// The live items by element; `None` for those that are there several times.
    by_element: BTreeMap<&'m Element<'a>, Option<&'m Value>>,
    named: BTreeSet<&'m Element<'a>>,
    merged: BTreeSet<&'m Element<'a>>,
    /// What both sides name and is not merged yet, in the configuration's order.
    shared: VecDeque<&'m Element<'a>>,
    out: Vec<Value>,
}

impl<'m, 'a> Merging<'m, 'a> {
    fn new(
        live: &'m [Value],
        ours: &'m [Element<'a>],
        config: &'m [Value],
        theirs: &'m [Element<'a>],
        items: Items<'a>,
    ) -> Self {
        let mut by_element = BTreeMap::new();
        for (element, item) in ours.iter().zip(live) {
            by_element
                .entry(element)
                .and_modify(|known| *known = None)
                .or_insert(Some(item));
        }
        Self {
            live: ours.iter().zip(live).collect(),
            config: theirs.iter().zip(config).collect(),
            items,
            named: theirs.iter().collect(),
            merged: BTreeSet::new(),
            shared: theirs
                .iter()
                .filter(|element| by_element.contains_key(element))
                .collect(),
            by_element,
            out: Vec::with_capacity(live.len().max(config.len())),
        }
    }

    fn run(mut self) -> Result<Vec<Value>, Unmergeable> {
        while !self.live.is_empty() || !self.config.is_empty() {
            self.step()?;
        }
        Ok(self.out)
    }

    fn step(&mut self) -> Result<(), Unmergeable> {
        let (next_live, next_config) = (self.live.front().copied(), self.config.front().copied());
        if let (Some((live, _)), Some((config, _))) = (next_live, next_config) {
            if live == config {
                self.live.pop_front();
                return self.take_config();
            }
            // Named, but another one that both sides have comes first.
            if self.named.contains(live) && self.shared.front().is_some_and(|next| *next != live) {
                self.live.pop_front();
                return Ok(());
            }
        }
        match next_live {
            Some((element, item)) if !self.named.contains(element) => {
                self.live.pop_front();
                self.out.push(item.clone());
                return Ok(());
            }
            Some((element, _)) if self.merged.contains(element) => {
                self.live.pop_front();
            }
            _ => {}
        }
        self.take_config()
    }

    fn take_config(&mut self) -> Result<(), Unmergeable> {
        let Some((element, item)) = self.config.pop_front() else {
            return Ok(());
        };
        self.merged.insert(element);
        if self.shared.front() == Some(&element) {
            self.shared.pop_front();
        }
        let merged = match self.by_element.get(element) {
            Some(Some(live)) => values(live, item, self.items.item)?,
            // Not there, or several times: nothing to merge with.
            _ => item.clone(),
        };
        self.out.push(merged);
        Ok(())
    }
}
