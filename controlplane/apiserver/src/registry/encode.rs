//! How objects rest: JSON with `kind`, `apiVersion` and `metadata` first and no resourceVersion, which is spliced in when
//! the revision is known.
//!
//! A fixed head makes the splice a copy: nothing is parsed on the way from the store to a client.

use api::Object;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;
use serde_json::value::RawValue;
use store::Revision;

/// Serializes an object for the store: without `metadata.resourceVersion`.
pub(crate) fn stored(object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    write_object(&mut out, object, None);
    out.into()
}

/// Serializes an object as it is, `kind`, `apiVersion` and `metadata` first.
pub(crate) fn served(object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    write_object(&mut out, object, Some(()));
    out.into()
}

fn write_object(out: &mut Vec<u8>, object: &Object, keep_version: Option<()>) {
    out.extend_from_slice(b"{\"kind\":");
    write_json(out, object.kind());
    out.extend_from_slice(b",\"apiVersion\":");
    write_json(out, object.api_version());
    let map = object.map();
    if let Some(metadata) = map.get("metadata") {
        out.extend_from_slice(b",\"metadata\":");
        match metadata {
            Value::Object(fields) if keep_version.is_none() => {
                write_fields(out, b'{', fields.iter().filter(|(k, _)| *k != "resourceVersion"));
                out.push(b'}');
            }
            other => write_json(out, other),
        }
    }
    let rest = map
        .iter()
        .filter(|(k, _)| !matches!(k.as_str(), "kind" | "apiVersion" | "metadata"));
    for (key, value) in rest {
        out.push(b',');
        write_json(out, key);
        out.push(b':');
        write_json(out, value);
    }
    out.push(b'}');
}

fn write_fields<'a>(out: &mut Vec<u8>, open: u8, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut lead = open;
    for (key, value) in fields {
        out.push(lead);
        lead = b',';
        write_json(out, key);
        out.push(b':');
        write_json(out, value);
    }
    if lead == open {
        out.push(open);
    }
}

fn write_json(out: &mut Vec<u8>, value: &(impl serde::Serialize + ?Sized)) {
    serde_json::to_writer(out, value).expect("a JSON tree is written to memory without failing");
}

/// Where the fields of `metadata` begin in stored bytes of a kind, if they are what [`stored`] writes.
pub(crate) fn metadata_offset(stored: &[u8], kind: &str, api_version: &str) -> Option<usize> {
    let mut rest = stored;
    for part in [
        "{\"kind\":\"",
        kind,
        "\",\"apiVersion\":\"",
        api_version,
        "\",\"metadata\":{",
    ] {
        rest = rest.strip_prefix(part.as_bytes())?;
    }
    Some(stored.len() - rest.len())
}

/// The metadata of an object that begins as [`stored`] writes it. What comes after is not looked at.
pub(crate) fn metadata_of(object: &[u8]) -> Option<&str> {
    let rest = object.strip_prefix(b"{\"kind\":\"")?;
    let rest = rest.get(rest.iter().position(|byte| *byte == b'"')?..)?;
    let rest = rest.strip_prefix(b"\",\"apiVersion\":\"")?;
    let rest = rest.get(rest.iter().position(|byte| *byte == b'"')?..)?;
    let rest = rest.strip_prefix(b"\",\"metadata\":")?;
    let metadata = serde_json::Deserializer::from_slice(rest)
        .into_iter::<&RawValue>()
        .next()?;
    Some(metadata.ok()?.get())
}

/// The bytes that are served: `stored` with `"resourceVersion":"revision"` at the beginning of its metadata.
pub(crate) fn splice(stored: &[u8], offset: usize, revision: Revision) -> Bytes {
    let (head, tail) = stored.split_at_checked(offset).unwrap_or((stored, &[]));
    let mut out = BytesMut::with_capacity(stored.len() + 44);
    out.put_slice(head);
    out.put_slice(b"\"resourceVersion\":\"");
    put_number(&mut out, revision.0);
    out.put_slice(if tail.first() == Some(&b'}') { b"\"" } else { b"\"," });
    out.put_slice(tail);
    out.freeze()
}

fn put_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0;
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        used += 1;
        if number == 0 {
            break;
        }
    }
    let (_, text) = digits.split_at(digits.len() - used);
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        Object::from_value(value).expect("an object")
    }

    #[test]
    fn puts_the_revision_where_clients_look_for_it() {
        let config = object(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "\"metadata\":{"},
            "metadata": {"name": "x", "resourceVersion": "3"},
        }));
        let bytes = stored(&config);
        let offset = metadata_offset(&bytes, "ConfigMap", "v1").expect("our own head");
        let spliced = splice(&bytes, offset, Revision(18_446_744_073_709_551_615));
        assert_eq!(
            std::str::from_utf8(&spliced).expect("utf-8"),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"18446744073709551615","name":"x"},"data":{"a":"\"metadata\":{"}}"#
        );
    }

    #[test]
    fn splices_into_empty_metadata() {
        let bytes = stored(&object(
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"resourceVersion": "1"}}),
        ));
        let spliced = splice(
            &bytes,
            metadata_offset(&bytes, "K", "v1").expect("our own head"),
            Revision(7),
        );
        let back: Value = serde_json::from_slice(&spliced).expect("JSON");
        assert_eq!(
            back,
            json!({"apiVersion": "v1", "kind": "K", "metadata": {"resourceVersion": "7"}})
        );
    }

    proptest! {
        #[test]
        fn splicing_is_setting_the_resource_version(name in "\\PC{0,12}", data in "\\PC{0,40}", revision: u64) {
            let mut config = object(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": {"k": data}, "metadata": {"name": name},
            }));
            let bytes = stored(&config);
            let offset = metadata_offset(&bytes, "ConfigMap", "v1").expect("our own head");
            let back = Object::from_slice(&splice(&bytes, offset, Revision(revision))).expect("JSON");
            config.set_resource_version(Some(&revision.to_string()));
            prop_assert_eq!(&back, &config);
            let metadata = metadata_of(&served(&config)).map(str::to_owned);
            prop_assert_eq!(metadata, config.at("metadata").map(Value::to_string));
        }

        #[test]
        fn metadata_is_found_only_where_it_is_written(bytes: Vec<u8>, kind in "[a-z\"\\\\,:{}]{0,8}") {
            prop_assert_eq!(metadata_of(&bytes), None);
            let object = object(json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": kind}}));
            let found = metadata_of(&served(&object)).map(str::to_owned);
            prop_assert!(found.is_none_or(|found| found == object.at("metadata").map(Value::to_string).unwrap_or_default()));
        }
    }
}
