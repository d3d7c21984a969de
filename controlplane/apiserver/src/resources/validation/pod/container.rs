//! Containers, init containers and what they mount and open.

use std::collections::HashSet;

use api::FieldErrors;

use super::super::names::{self, is_dns1123_label, is_port_name};
use super::super::{At, quantity};
use super::volume::Volumes;
use super::{env, probe, security};

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const PROPAGATIONS: &[&str] = &["Bidirectional", "HostToContainer", "None"];

/// `containers` and `initContainers` of a pod's spec; `grace` bounds the sleeps of lifecycle hooks.
pub(super) fn containers(spec: &At<'_>, volumes: &Volumes<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    let host_network = spec.child("hostNetwork").bool();
    let regular = spec.child("containers");
    if regular.is_empty() {
        errors.push(regular.required(""));
    }
    let mut taken = HashSet::new();
    for container in regular.items() {
        common(&container, volumes, errors);
        unique_name(&container, &mut taken, errors);
        probe::lifecycle(&container.child("lifecycle"), grace, errors);
        probe::all(&container, grace, errors);
    }
    host_port_conflicts(&regular, errors);
    for container in spec.child("initContainers").items() {
        common(&container, volumes, errors);
        unique_name(&container, &mut taken, errors);
        init_only(&container, grace, errors);
    }
    host_port_conflicts(&spec.child("initContainers"), errors);
    for container in spec.child("ephemeralContainers").items() {
        common(&container, volumes, errors);
        unique_name(&container, &mut taken, errors);
    }
    if host_network {
        for container in regular.items().iter().chain(&spec.child("initContainers").items()) {
            host_network_ports(&container.child("ports"), errors);
        }
    }
}

fn unique_name<'a>(container: &At<'a>, taken: &mut HashSet<&'a str>, errors: &mut FieldErrors) {
    let name = container.child("name");
    if !name.is_empty() && !taken.insert(name.str()) {
        errors.push(name.duplicate());
    }
}

fn common(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    container.child("name").require(errors, is_dns1123_label);
    let image = container.child("image");
    if image.is_empty() {
        errors.push(image.required(""));
    } else if image.str().trim() != image.str() {
        errors.push(image.invalid("must not have leading or trailing whitespace"));
    }
    container
        .child("terminationMessagePolicy")
        .require_one_of(errors, &["FallbackToLogsOnError", "File"]);
    ports(&container.child("ports"), errors);
    env::env(&container.child("env"), errors);
    env::env_from(&container.child("envFrom"), errors);
    mounts(container, volumes, errors);
    devices(container, volumes, errors);
    container.child("imagePullPolicy").require_one_of(errors, PULL_POLICIES);
    quantity::requirements(&container.child("resources"), errors);
    security::container(&container.child("securityContext"), errors);
}

/// A restartable init container (a sidecar) may have probes and hooks, a plain one may not.
fn init_only(container: &At<'_>, grace: Option<i64>, errors: &mut FieldErrors) {
    let policy = container.child("restartPolicy");
    if policy.str() == "Always" {
        probe::lifecycle(&container.child("lifecycle"), grace, errors);
        probe::all(container, grace, errors);
        return;
    }
    if policy.is_set() && !["Never", "OnFailure"].contains(&policy.str()) {
        errors.push(policy.not_supported(&["Always", "Never", "OnFailure"]));
    }
    for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        if container.child(field).is_set() {
            let detail = "may not be set for init containers without restartPolicy=Always";
            errors.push(container.child(field).forbidden(detail));
        }
    }
}

fn ports(at: &At<'_>, errors: &mut FieldErrors) {
    let mut taken = HashSet::new();
    for port in at.items() {
        let name = port.child("name");
        if !name.is_empty() {
            let bad = is_port_name(name.str());
            if bad.is_empty() && !taken.insert(name.str()) {
                errors.push(name.duplicate());
            }
            errors.extend(bad.into_iter().map(|message| name.invalid(message)));
        }
        let number = port.child("containerPort");
        match number.i64() {
            None | Some(0) => errors.push(number.required("")),
            Some(n) => errors.extend(names::port(n).into_iter().map(|m| number.invalid(m))),
        }
        let host = port.child("hostPort");
        if let Some(n) = host.i64().filter(|n| *n != 0) {
            errors.extend(names::port(n).into_iter().map(|m| host.invalid(m)));
        }
        port.child("hostIP").check_if_set(errors, names::ip);
        port.child("protocol").require_one_of(errors, PROTOCOLS);
    }
}

fn host_port_conflicts(containers: &At<'_>, errors: &mut FieldErrors) {
    let mut taken = HashSet::new();
    for port in containers.items().iter().flat_map(|c| c.child("ports").items()) {
        let host = port.child("hostPort");
        let Some(number) = host.i64().filter(|n| *n != 0) else {
            continue;
        };
        let (protocol, ip) = (port.child("protocol").str(), port.child("hostIP").str());
        if !taken.insert((protocol, ip, number)) {
            errors.push(host.duplicate_as(format!("{protocol}/{ip}/{number}")));
        }
    }
}

fn host_network_ports(ports: &At<'_>, errors: &mut FieldErrors) {
    for port in ports.items() {
        let (inner, outer) = (port.child("containerPort"), port.child("hostPort").i64().unwrap_or(0));
        if inner.i64().is_some_and(|n| n != outer) {
            errors.push(inner.invalid("must match `hostPort` when `hostNetwork` is true"));
        }
    }
}

fn mounts(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    let mut paths = HashSet::new();
    for mount in container.child("volumeMounts").items() {
        let (name, path) = (mount.child("name"), mount.child("mountPath"));
        if name.is_empty() {
            errors.push(name.required(""));
        }
        if !volumes.contains_key(name.str()) {
            errors.push(name.not_found());
        }
        if path.is_empty() {
            errors.push(path.required(""));
        }
        if !paths.insert(path.str()) {
            errors.push(path.invalid("must be unique"));
        }
        let (sub, expr) = (mount.child("subPath"), mount.child("subPathExpr"));
        sub.check_if_set(errors, names::descending_path);
        if !expr.is_empty() && !sub.is_empty() {
            errors.push(expr.invalid("subPathExpr and subPath are mutually exclusive"));
        }
        expr.check_if_set(errors, names::descending_path);
        propagation(&mount, container, errors);
    }
}

fn propagation(mount: &At<'_>, container: &At<'_>, errors: &mut FieldErrors) {
    let mode = mount.child("mountPropagation");
    mode.one_of(errors, PROPAGATIONS);
    let privileged = container.child("securityContext").child("privileged").bool();
    if mode.str() == "Bidirectional" && !privileged {
        errors.push(mode.forbidden("Bidirectional mount propagation is available only to privileged containers"));
    }
    let recursive = mount.child("recursiveReadOnly");
    recursive.one_of(errors, &["Disabled", "Enabled", "IfPossible"]);
    if !matches!(recursive.str(), "" | "Disabled") && !mount.child("readOnly").bool() {
        errors.push(recursive.forbidden("may only be specified when readOnly is true"));
    }
}

/// Raw block devices; only claims can be such.
fn devices(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut FieldErrors) {
    for device in container.child("volumeDevices").items() {
        let (name, path) = (device.child("name"), device.child("devicePath"));
        match volumes.get(name.str()) {
            _ if name.is_empty() => errors.push(name.required("")),
            None => errors.push(name.not_found()),
            Some(source) if *source == "persistentVolumeClaim" || *source == "ephemeral" => {}
            Some(_) => errors.push(
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"),
            ),
        }
        if path.is_empty() {
            errors.push(path.required(""));
        }
        path.check_if_set(errors, names::no_backsteps);
    }
}
