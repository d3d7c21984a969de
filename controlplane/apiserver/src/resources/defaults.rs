//! Setting what a user left out. A field counts as left out when it is absent, null or an empty string, as after Go's
//! decoding.

use serde_json::{Map, Value};

/// Sets `map[field]` if it was left out.
pub(crate) fn set_default(map: &mut Map<String, Value>, field: &str, value: impl Into<Value>) {
    if is_left_out(map, field) {
        map.insert(field.to_owned(), value.into());
    }
}

/// Whether `map[field]` was left out.
pub(crate) fn is_left_out(map: &Map<String, Value>, field: &str) -> bool {
    match map.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(_) => false,
    }
}

/// The maps in the list `map[field]`.
pub(crate) fn maps_of<'a>(
    map: &'a mut Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(field)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

/// The map `map[field]`, if there is one.
pub(crate) fn map_of<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

/// The map `map[field]`, made if left out; `None` when something else stands there.
pub(crate) fn ensure_map<'a>(map: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Map<String, Value>> {
    set_default(map, field, Map::new());
    map_of(map, field)
}
