//! The scale subresource: who owns the replica count of the object owns `spec.replicas` of its Scale, and the other way
//! round.

use std::borrow::Cow;

use serde_json::Value;

use super::{
    managers::{Entry, Managed, Manager},
    set::Set,
};

const VERSION: &str = "autoscaling/v1";
const REPLICAS: &str = "spec.replicas";

/// Where a version of a kind holds its replica count: `apiVersion` and the dotted path.
pub type Path<'a> = (&'a str, &'a str);

fn path<'a>(paths: &[Path<'a>], version: &str) -> Option<&'a str> {
    paths.iter().find(|(known, _)| *known == version).map(|(_, path)| *path)
}

/// The managed fields of a Scale, from those of its object.
///
/// # Errors
/// With the reason, when the object's cannot be read.
pub fn of_object(managed: Option<&Value>, paths: &[Path<'_>]) -> Result<Vec<Value>, String> {
    let mut out = Managed::default();
    for entry in Managed::decode(managed)?.0 {
        let owns = path(paths, &entry.manager.version).is_some_and(|path| entry.set.has_field(path));
        if owns {
            out.put(Entry {
                manager: Manager {
                    version: Cow::Borrowed(VERSION),
                    ..entry.manager
                },
                time: entry.time,
                set: Set::of_fields(&[REPLICAS]),
            });
        }
    }
    Ok(out.encode())
}

/// The managed fields of the object, after its Scale was written by way of `version`.
///
/// # Errors
/// With the reason, when either cannot be read.
pub fn to_object(
    managed: Option<&Value>,
    of_scale: Option<&Value>,
    version: &str,
    paths: &[Path<'_>],
) -> Result<Vec<Value>, String> {
    let mut scale = Managed::decode(of_scale)?.0;
    scale.retain(|entry| entry.set.has_field(REPLICAS));
    let mut out = Managed::default();
    for mut entry in Managed::decode(managed)?.0 {
        let Some(path) = path(paths, &entry.manager.version) else {
            continue;
        };
        if entry.set.has_field(path) {
            match scale.iter().position(|scaled| same(&scaled.manager, &entry.manager)) {
                Some(at) => {
                    scale.swap_remove(at);
                }
                None => entry.set = entry.set.difference(&Set::of_fields(&[path])),
            }
        }
        if !entry.set.is_empty() {
            out.put(entry);
        }
    }
    let replicas = path(paths, version).unwrap_or(REPLICAS);
    for entry in scale {
        out.put(Entry {
            manager: Manager {
                version: Cow::Borrowed(version),
                ..entry.manager
            },
            time: None,
            set: Set::of_fields(&[replicas]),
        });
    }
    Ok(out.encode())
}

/// Whether a manager of the Scale is that manager of the object, whose version is another.
fn same(scaled: &Manager<'_>, manager: &Manager<'_>) -> bool {
    scaled.name == manager.name && scaled.operation == manager.operation && scaled.subresource == manager.subresource
}
