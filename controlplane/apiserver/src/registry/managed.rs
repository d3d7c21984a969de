//! Managed fields of stored kinds: [`schema::apply`] as an endpoint calls it, in the version that the request names.

use std::borrow::Cow;

use api::time::rfc3339;
use api::{Object, Status};
use schema::Schema;
use schema::apply::{Versions, Writer, apply, update};
use serde_json::Value;

use super::catalog::Endpoint;
use super::resource::{Resource, Served};
use super::verbs::{Call, from_storage};

pub(crate) const PATH: &str = "metadata.managedFields";

impl Versions for Resource {
    fn schema(&self, version: &str) -> Option<&Schema> {
        self.version(version).map(Served::schema)
    }

    fn convert(&self, object: &Object, from: &str, to: &str) -> Object {
        let mut object = object.clone();
        if let (Some(from), Some(to)) = (self.version(from), self.version(to)) {
            (from.to_storage)(&mut object);
            (to.from_storage)(&mut object);
            object.set("apiVersion", to.api_version.as_ref());
        }
        object
    }
}

/// Makes the caller the owner of what `new` has otherwise than `old`, which is `None` for an object that is being created.
/// Both are in the storage version. The managed fields that the caller sent in `new` are heeded.
pub(crate) fn track(call: &Call<'_>, old: Option<&Object>, new: &mut Object) {
    let sent = new.remove(PATH);
    let now = rfc3339(call.now);
    let entries = {
        let old = old.map(|old| as_asked(call.endpoint, old));
        let new = as_asked(call.endpoint, new);
        update(&writer(call, &now), old.as_deref(), &new, sent.as_ref())
    };
    if !entries.is_empty() {
        new.set(PATH, entries);
    }
}

/// The object that a configuration makes of `old`, which is in the storage version; the result is in the endpoint's.
pub(crate) fn configure(call: &Call<'_>, old: Option<&Object>, config: &Object, force: bool) -> Result<Object, Status> {
    let now = rfc3339(call.now);
    let old = old.map(|old| as_asked(call.endpoint, old));
    apply(&writer(call, &now), old.as_deref(), config, force).map_err(|status| *status)
}

fn writer<'w>(call: &'w Call<'_>, now: &'w str) -> Writer<'w> {
    let (served, resource) = (call.endpoint.served(), call.endpoint.resource());
    Writer {
        name: call.manager,
        version: &served.api_version,
        subresource: call.subresource().unwrap_or_default(),
        schema: served.schema(),
        versions: resource,
        reset: resource.reset_fields(served, call.subresource()),
        now,
    }
}

/// An object of the storage version in the endpoint's.
fn as_asked<'o>(endpoint: &Endpoint, object: &'o Object) -> Cow<'o, Object> {
    if endpoint.is_storage() {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    from_storage(endpoint, &mut object);
    Cow::Owned(object)
}

/// Leaves the times of the managed fields as they were when nothing else is new: a write that changes nothing else is
/// none.
pub(crate) fn keep_times(old: &Object, new: &mut Object) {
    let (before, after) = (old.list_at(PATH), new.list_at(PATH));
    let same = before.len() == after.len() && before.iter().zip(after).all(|(a, b)| same_but_for_time(a, b));
    if !same || before == after {
        return;
    }
    let times = new.remove(PATH);
    new.set(PATH, before.to_vec());
    if let (true, Some(times)) = (*new != *old, times) {
        new.set(PATH, times);
    }
}

fn same_but_for_time(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        return a == b;
    };
    let rest = |(key, _): &(&String, &Value)| *key != "time";
    a.iter().filter(rest).eq(b.iter().filter(rest))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(time: &str, data: &str) -> Object {
        let entries = json!([{"manager": "m", "time": time, "fieldsV1": {}}]);
        let object = json!({"metadata": {"managedFields": entries}, "data": {"k": data}});
        Object::from_value(object).expect("an object")
    }

    #[test]
    fn times_alone_are_no_change() {
        let old = object("2026-01-01T00:00:00Z", "a");
        let (mut same, mut other) = (object("2026-01-02T00:00:00Z", "a"), object("2026-01-02T00:00:00Z", "b"));
        let kept = other.clone();
        keep_times(&old, &mut same);
        keep_times(&old, &mut other);
        assert_eq!(same, old);
        assert_eq!(other, kept);
    }
}
