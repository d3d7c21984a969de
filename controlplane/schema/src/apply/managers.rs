//! Who owns which fields: `metadata.managedFields` as sets, read from the object and written back.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::set::Set;

/// How a manager came to its fields. The order is that in which entries are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// Who a manager is. An applier is the same in every version.
#[derive(Clone, Debug)]
pub(super) struct Manager<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) operation: Operation,
    pub(super) version: Cow<'a, str>,
    pub(super) subresource: Cow<'a, str>,
}

impl Manager<'_> {
    /// What tells managers apart, in the order in which conflicts name them.
    fn identity(&self) -> (&str, Operation, &str, &str) {
        let version = match self.operation {
            Operation::Apply => "",
            Operation::Update => &self.version,
        };
        (&self.name, self.operation, version, &self.subresource)
    }

    pub(super) fn is(&self, other: &Manager<'_>) -> bool {
        self.identity() == other.identity()
    }

    pub(super) fn order(&self, other: &Manager<'_>) -> std::cmp::Ordering {
        self.identity().cmp(&other.identity())
    }

    pub(super) fn is_applier(&self) -> bool {
        self.operation == Operation::Apply
    }
}

/// One manager's fields, in its version.
#[derive(Clone, Debug)]
pub(super) struct Entry<'a> {
    pub(super) manager: Manager<'a>,
    pub(super) time: Option<Cow<'a, str>>,
    pub(super) set: Set<'a>,
}

/// All managers of an object, each once.
#[derive(Clone, Debug, Default)]
pub(super) struct Managed<'a>(pub(super) Vec<Entry<'a>>);

impl<'a> Managed<'a> {
    pub(super) fn position(&self, manager: &Manager<'_>) -> Option<usize> {
        self.0.iter().position(|entry| entry.manager.is(manager))
    }

    /// Replaces the entry of the same manager, or adds it.
    pub(super) fn put(&mut self, entry: Entry<'a>) {
        match self.position(&entry.manager).and_then(|at| self.0.get_mut(at)) {
            Some(known) => *known = entry,
            None => self.0.push(entry),
        }
    }

    pub(super) fn take(&mut self, manager: &Manager<'_>) -> Option<Entry<'a>> {
        self.position(manager).map(|at| self.0.swap_remove(at))
    }

    /// Reads `metadata.managedFields`; absent is empty.
    ///
    /// # Errors
    /// With the reason, when an entry makes no sense.
    pub(super) fn decode(list: Option<&'a Value>) -> Result<Self, String> {
        let mut managed = Managed::default();
        for (index, entry) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            managed.put(decode(entry, index)?);
        }
        Ok(managed)
    }

    /// Writes `metadata.managedFields`: appliers first, then by time.
    pub(super) fn encode(mut self) -> Vec<Value> {
        self.0.sort_by(|a, b| {
            let by_time = |entry: &Entry<'a>| (entry.manager.operation, entry.time.clone().unwrap_or_default());
            by_time(a).cmp(&by_time(b)).then_with(|| {
                let rest = |m: &Manager<'a>| (m.name.clone(), m.version.clone(), m.subresource.clone());
                rest(&a.manager).cmp(&rest(&b.manager))
            })
        });
        self.0.into_iter().map(encode).collect()
    }
}

fn decode(entry: &Value, index: usize) -> Result<Entry<'_>, String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".to_owned()),
    };
    if text("apiVersion").is_empty() {
        return Err("apiVersion must not be empty".to_owned());
    }
    match text("fieldsType") {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
        other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
    }
    let fields = entry.get("fieldsV1").unwrap_or(&Value::Null);
    let set = Set::decode(fields)
        .map_err(|why| format!("error decoding versioned set from {entry}: error decoding set: {why}"))?;
    Ok(Entry {
        manager: Manager {
            name: Cow::Borrowed(text("manager")),
            operation,
            version: Cow::Borrowed(text("apiVersion")),
            subresource: Cow::Borrowed(text("subresource")),
        },
        time: entry.get("time").and_then(Value::as_str).map(Cow::Borrowed),
        set,
    })
}

fn encode(entry: Entry<'_>) -> Value {
    let Entry { manager, time, set } = entry;
    let mut map = Map::new();
    let mut put = |key: &str, value: Value| map.insert(key.to_owned(), value);
    put("apiVersion", manager.version.into_owned().into());
    put("fieldsType", "FieldsV1".into());
    put("fieldsV1", Value::Object(set.encode()));
    if !manager.name.is_empty() {
        put("manager", manager.name.into_owned().into());
    }
    put("operation", manager.operation.name().into());
    if !manager.subresource.is_empty() {
        put("subresource", manager.subresource.into_owned().into());
    }
    if let Some(time) = time {
        put("time", time.into_owned().into());
    }
    Value::Object(map)
}

/// Whether a client asks for the managed fields to be forgotten: by an empty list, or a list of one empty entry.
pub(super) fn is_reset(list: &Value) -> bool {
    let nothing = |value: &Value| value.is_null() || value.as_str() == Some("");
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([Value::Object(entry)]) => entry.values().all(nothing),
        _ => false,
    }
}
