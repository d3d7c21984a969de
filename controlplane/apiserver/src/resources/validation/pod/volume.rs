//! Volumes: exactly one source each, and the structure of the sources.

use std::collections::{HashMap, HashSet};

use api::FieldErrors;

use super::super::names::{self, is_config_map_key, is_dns1123_label, is_dns1123_subdomain};
use super::super::{At, quantity};
use super::downward;

/// The valid volumes of a pod by name, with the name of their source.
pub(super) type Volumes<'a> = HashMap<&'a str, &'a str>;

const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const PROJECTIONS: &[&str] = &[
    "secret",
    "downwardAPI",
    "configMap",
    "serviceAccountToken",
    "clusterTrustBundle",
    "podCertificate",
];
/// The shortest life of a projected token, in seconds.
const MIN_TOKEN_SECONDS: i64 = 600;
const MAX_TOKEN_SECONDS: i64 = 1 << 32;

/// `volumes` of a pod's spec; returns those without fault, which mounts may name.
pub(super) fn volumes<'a>(at: &At<'a>, errors: &mut FieldErrors) -> Volumes<'a> {
    let mut valid = Volumes::new();
    for volume in at.items() {
        let mut found = FieldErrors::new();
        let kind = source(&volume, &mut found);
        let name = volume.child("name");
        name.require(&mut found, is_dns1123_label);
        if valid.contains_key(name.str()) {
            found.push(name.duplicate());
        }
        match kind {
            Some(kind) if found.is_empty() => drop(valid.insert(name.str(), kind)),
            _ => errors.append(&mut found),
        }
    }
    valid
}

fn source<'a>(volume: &At<'a>, errors: &mut FieldErrors) -> Option<&'a str> {
    let mut sources = volume
        .entries()
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| *key != "name");
    let Some(kind) = sources.next() else {
        errors.push(volume.required("must specify a volume type"));
        return None;
    };
    for other in sources {
        errors.push(volume.child(other).forbidden("may not specify more than 1 volume type"));
    }
    contents(kind, &volume.child(kind), errors);
    Some(kind)
}

fn contents(kind: &str, at: &At<'_>, errors: &mut FieldErrors) {
    match kind {
        "emptyDir" => {
            let limit = at.child("sizeLimit");
            if quantity::parse(&limit).is_some_and(|q| q.milli() < 0) {
                errors.push(limit.forbidden("SizeLimit field must be a valid resource quantity"));
            }
        }
        "hostPath" => {
            at.child("path").require(errors, names::no_backsteps);
            at.child("type").one_of(errors, HOST_PATH_TYPES);
        }
        "secret" => keyed(at, "secretName", errors),
        "configMap" => keyed(at, "name", errors),
        "downwardAPI" => {
            mode(&at.child("defaultMode"), errors);
            downward_files(&at.child("items"), errors);
        }
        "projected" => projected(at, errors),
        "persistentVolumeClaim" => at.child("claimName").require(errors, |_| Vec::new()),
        "nfs" => {
            at.child("server").require(errors, |_| Vec::new());
            at.child("path").require(errors, absolute);
        }
        "csi" => at.child("driver").require(errors, is_dns1123_subdomain),
        "iscsi" => {
            for field in ["targetPortal", "iqn"] {
                at.child(field).require(errors, |_| Vec::new());
            }
        }
        "image" => at
            .child("pullPolicy")
            .one_of(errors, &["Always", "IfNotPresent", "Never"]),
        "ephemeral" if !at.child("volumeClaimTemplate").is_set() => {
            errors.push(at.child("volumeClaimTemplate").required(""));
        }
        _ => {}
    }
}

fn absolute(path: &str) -> Vec<String> {
    if path.starts_with('/') {
        Vec::new()
    } else {
        vec!["must be an absolute path".to_owned()]
    }
}

/// A Secret or ConfigMap as files.
fn keyed(at: &At<'_>, name: &str, errors: &mut FieldErrors) {
    at.child(name).require(errors, |_| Vec::new());
    mode(&at.child("defaultMode"), errors);
    key_files(&at.child("items"), errors);
}

fn key_files(items: &At<'_>, errors: &mut FieldErrors) {
    for item in items.items() {
        item.child("key").require(errors, is_config_map_key);
        item.child("path").require(errors, names::non_reserved_path);
        mode(&item.child("mode"), errors);
    }
}

fn mode(at: &At<'_>, errors: &mut FieldErrors) {
    if at.i64().is_some_and(|bits| !(0..=0o777).contains(&bits)) {
        errors.push(at.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}

fn downward_files(items: &At<'_>, errors: &mut FieldErrors) {
    for item in items.items() {
        item.child("path").require(errors, names::non_reserved_path);
        let (field, resource) = (item.child("fieldRef"), item.child("resourceFieldRef"));
        downward::field(&field, downward::VOLUME_FIELDS, errors);
        match (field.is_set(), resource.is_set()) {
            (true, true) => {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(items.invalid_as("resource", detail));
            }
            (false, true) => downward::resource(&resource, true, errors),
            (false, false) => errors.push(items.required("one of fieldRef and resourceFieldRef is required")),
            (true, false) => {}
        }
        mode(&item.child("mode"), errors);
    }
}

fn projected(at: &At<'_>, errors: &mut FieldErrors) {
    mode(&at.child("defaultMode"), errors);
    let mut paths = HashSet::new();
    for source in at.child("sources").items() {
        let set: Vec<_> = PROJECTIONS.iter().filter(|p| source.child(p).is_set()).collect();
        for kind in set.iter().skip(1) {
            errors.push(source.child(kind).forbidden("may not specify more than 1 volume type"));
        }
        let Some(kind) = set.first() else {
            errors.push(source.required("must specify a source"));
            continue;
        };
        let part = source.child(kind);
        projection(kind, &part, errors);
        for path in paths_of(kind, &part) {
            if !path.is_empty() && !paths.insert(path) {
                errors.push(at.child("sources").invalid_as(path, "conflicting duplicate paths"));
            }
        }
    }
}

fn projection(kind: &str, at: &At<'_>, errors: &mut FieldErrors) {
    match kind {
        "secret" | "configMap" => {
            at.child("name").require(errors, |_| Vec::new());
            key_files(&at.child("items"), errors);
        }
        "downwardAPI" => downward_files(&at.child("items"), errors),
        "serviceAccountToken" => {
            let seconds = at.child("expirationSeconds");
            if seconds.i64().is_some_and(|s| s < MIN_TOKEN_SECONDS) {
                errors.push(seconds.invalid("may not specify a duration less than 10 minutes"));
            }
            if seconds.i64().is_some_and(|s| s > MAX_TOKEN_SECONDS) {
                errors.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
            }
            at.child("path").require(errors, names::non_reserved_path);
        }
        _ => {}
    }
}

fn paths_of<'a>(kind: &str, at: &At<'a>) -> Vec<&'a str> {
    if kind == "serviceAccountToken" {
        return vec![at.child("path").str()];
    }
    at.child("items")
        .items()
        .iter()
        .map(|item| item.child("path").str())
        .collect()
}
