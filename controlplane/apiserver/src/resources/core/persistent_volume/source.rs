//! Where a volume's storage is: exactly one source, and the structure of each.

use api::FieldErrors;

use crate::resources::validation::At;
use crate::resources::validation::names::{self, is_dns1123_label, is_dns1123_subdomain};

/// The fields of a volume's spec that are not its source.
pub(super) const NOT_SOURCES: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
/// In the order in which they are looked at; a second one is too many.
pub(super) const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];
/// What no longer works as it did.
const DEPRECATED: &[(&str, &str, &str)] = &[
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The source among the fields of a volume's spec.
pub(super) fn source(spec: &At<'_>, errors: &mut FieldErrors) {
    let mut given = SOURCES.iter().filter(|kind| spec.child(kind).is_set());
    let Some(first) = given.next() else {
        return errors.push(spec.required("must specify a volume type"));
    };
    contents(first, spec, errors);
    for kind in given {
        match *kind {
            // It is looked at whatever came before it.
            "flexVolume" => contents(kind, spec, errors),
            _ => errors.push(spec.child(kind).forbidden("may not specify more than 1 volume type")),
        }
    }
}

/// Texts for what is deprecated.
pub(super) fn warnings(spec: &At<'_>) -> Vec<String> {
    let used = DEPRECATED.iter().filter(|(kind, ..)| spec.child(kind).is_set());
    used.map(|(_, shown, words)| format!("{}: {words}", spec.path().child(shown)))
        .collect()
}

fn contents(kind: &str, spec: &At<'_>, errors: &mut FieldErrors) {
    let at = spec.child(kind);
    match kind {
        "hostPath" => at.child("path").require(errors, names::no_backsteps),
        "gcePersistentDisk" => disk(&at.named(spec.path().child("persistentDisk")), "pdName", errors),
        "awsElasticBlockStore" => disk(&at, "volumeID", errors),
        "glusterfs" => {
            required(&at, &["endpoints", "path"], errors);
            at.child("endpointsNamespace").check_if_set(errors, is_dns1123_label);
        }
        "flocker" => flocker(&at, errors),
        "nfs" => nfs(&at, errors),
        "rbd" => required(&at, &["monitors", "image"], errors),
        "quobyte" => required(&at, &["registry", "volume"], errors),
        "cephfs" => required(&at, &["monitors"], errors),
        "iscsi" => iscsi(&at, errors),
        "cinder" => {
            required(&at, &["volumeID"], errors);
            secret(&at.child("secretRef"), errors);
        }
        "fc" => fibre_channel(&at, errors),
        "flexVolume" => flex(&at, errors),
        "azureFile" => azure_file(&at, errors),
        "vsphereVolume" => required(&at, &["volumePath"], errors),
        "photonPersistentDisk" => required(&at, &["pdID"], errors),
        "portworxVolume" => required(&at, &["volumeID"], errors),
        "azureDisk" => azure_disk(&at, errors),
        "scaleIO" => required(&at, &["gateway", "system", "volumeName"], errors),
        "local" => local(&at, spec, errors),
        "storageos" => {
            at.child("volumeName").require(errors, is_dns1123_label);
            at.child("volumeNamespace").check_if_set(errors, is_dns1123_label);
            secret(&at.child("secretRef"), errors);
        }
        "csi" => csi(&at, errors),
        _ => {}
    }
}

fn required(at: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    for field in fields {
        let at = at.child(field);
        if at.is_empty() {
            errors.push(at.required(""));
        }
    }
}

/// A reference to a secret anywhere, if there is one.
fn secret(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_set() {
        required(at, &["name", "namespace"], errors);
    }
}

fn disk(at: &At<'_>, id: &str, errors: &mut FieldErrors) {
    required(at, &[id], errors);
    at.child("partition").within(errors, 0, 255);
}

fn flocker(at: &At<'_>, errors: &mut FieldErrors) {
    let (name, id) = (at.child("datasetName"), at.child("datasetUUID"));
    match (name.is_empty(), id.is_empty()) {
        (true, true) => errors.push(at.required("one of datasetName and datasetUUID is required")),
        (false, false) => {
            let detail = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(at.invalid_as("resource", detail));
        }
        _ => {}
    }
    if name.str().contains('/') {
        errors.push(name.invalid("must not contain '/'"));
    }
}

fn nfs(at: &At<'_>, errors: &mut FieldErrors) {
    required(at, &["server", "path"], errors);
    let path = at.child("path");
    if !path.str().starts_with('/') {
        errors.push(path.invalid("must be an absolute path"));
    }
}

fn iscsi(at: &At<'_>, errors: &mut FieldErrors) {
    required(at, &["targetPortal", "iqn"], errors);
    let name = at.child("iqn");
    let known = ["iqn", "eui", "naa"].iter().any(|kind| name.str().starts_with(kind));
    if !name.is_empty() && !known {
        errors.push(name.invalid("must be valid format starting with iqn, eui, or naa"));
    }
    at.child("lun").within(errors, 0, 255);
    let authenticated = at.child("chapAuthDiscovery").bool() || at.child("chapAuthSession").bool();
    if authenticated && !at.child("secretRef").is_set() {
        errors.push(at.child("secretRef").required(""));
    }
    let secret = at.child("secretRef");
    if secret.is_set() {
        required(&secret, &["name"], errors);
    }
}

fn fibre_channel(at: &At<'_>, errors: &mut FieldErrors) {
    let (names, ids) = (at.child("targetWWNs"), at.child("wwids"));
    if names.is_empty() && ids.is_empty() {
        errors.push(names.required("must specify either targetWWNs or wwids, but not both"));
    }
    if !names.is_empty() && !ids.is_empty() {
        errors.push(names.invalid("targetWWNs and wwids can not be specified simultaneously"));
    }
    let lun = at.child("lun");
    if !names.is_empty() {
        match lun.is_set() {
            true => lun.within(errors, 0, 255),
            false => errors.push(lun.required("lun is required if targetWWNs is specified")),
        }
    }
}

fn flex(at: &At<'_>, errors: &mut FieldErrors) {
    required(at, &["driver"], errors);
    for (key, option) in at.child("options").entries() {
        let namespace = key.split_once('/').map_or(key, |(namespace, _)| namespace);
        let dotted = format!(".{}", namespace.to_lowercase());
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            errors.push(option.invalid_as(key, "kubernetes.io and k8s.io namespaces are reserved"));
        }
    }
}

fn azure_file(at: &At<'_>, errors: &mut FieldErrors) {
    required(at, &["secretName", "shareName"], errors);
    let namespace = at.child("secretNamespace");
    if namespace.is_set() && namespace.is_empty() {
        errors.push(namespace.required(""));
    }
}

fn azure_disk(at: &At<'_>, errors: &mut FieldErrors) {
    required(at, &["diskName", "diskURI"], errors);
    at.child("cachingMode")
        .one_of(errors, &["None", "ReadOnly", "ReadWrite"]);
    let (kind, uri) = (at.child("kind"), at.child("diskURI"));
    kind.one_of(errors, &["Dedicated", "Managed", "Shared"]);
    let managed = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    let blob = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    match kind.str() {
        "Managed" if !uri.str().starts_with("/subscriptions/") => errors.push(uri.not_supported(&[managed])),
        "" | "Managed" => {}
        _ if !uri.str().starts_with("https://") => errors.push(uri.not_supported(&[blob])),
        _ => {}
    }
}

fn local(at: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    at.child("path").require(errors, names::no_backsteps);
    if !spec.child("nodeAffinity").is_set() {
        errors.push(
            spec.child("nodeAffinity")
                .required("Local volume requires node affinity"),
        );
    }
}

fn csi(at: &At<'_>, errors: &mut FieldErrors) {
    driver_name(&at.child("driver"), errors);
    required(at, &["volumeHandle"], errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let reference = at.child(field);
        if reference.is_set() {
            reference.child("name").require(errors, is_dns1123_subdomain);
            reference.child("namespace").require(errors, is_dns1123_label);
        }
    }
}

/// The name of a CSI driver; capitals are let pass.
fn driver_name(at: &At<'_>, errors: &mut FieldErrors) {
    const MAX: usize = 63;
    if at.is_empty() {
        errors.push(at.required(""));
    }
    if at.str().len() > MAX {
        errors.push(api::FieldError::too_long(at.path(), MAX));
    }
    let bad = is_dns1123_subdomain(&at.str().to_lowercase());
    errors.extend(bad.into_iter().map(|message| at.invalid(message)));
}
