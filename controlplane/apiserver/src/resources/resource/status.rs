//! A claim's status: the devices it got, who uses them, and what their drivers report.

use std::collections::HashSet;

use api::{FieldError, FieldErrors, Object};
use serde_json::Value;

use super::lists::{list, set};
use super::names::{self, Requests};
use super::{MAX_CONFIG, claim, device};
use crate::resources::validation::conditions::conditions;
use crate::resources::validation::names::is_dns1123_label;
use crate::resources::validation::{At, driver, pod};

const MAX_CONSUMERS: usize = 256;
const MAX_RESULTS: usize = 32;
const MAX_CONDITIONS: usize = 8;
const MAX_DATA: usize = 10 * 1024;
const MAX_INTERFACE: usize = 256;
const MAX_HARDWARE: usize = 128;
const MAX_ADDRESSES: usize = 16;
const SOURCES: &[&str] = &["FromClaim", "FromClass"];

/// Takes away what drivers reported of devices that the claim no longer has.
pub(super) fn drop_deallocated(old: &Object, new: &mut Object) {
    let had = allocated(&At::root(old, "status"));
    let has = allocated(&At::root(new, "status"));
    let gone = |device: &Value| {
        let key = key_of(device);
        had.contains(&key) && !has.contains(&key)
    };
    let kept: Vec<Value> = new
        .list_at("status.devices")
        .iter()
        .filter(|d| !gone(d))
        .cloned()
        .collect();
    if kept.is_empty() {
        new.remove("status.devices");
    } else {
        new.set("status.devices", kept);
    }
}

/// `driver/pool/device`, with the share if there is one.
fn key_of(device: &Value) -> String {
    let text = |field: &str| device.get(field).and_then(Value::as_str);
    let parts = [text("driver"), text("pool"), text("device")].map(Option::unwrap_or_default);
    let share = text("shareID").map(|share| format!("/{share}")).unwrap_or_default();
    format!("{}{share}", parts.join("/"))
}

fn allocated(status: &At<'_>) -> HashSet<String> {
    let results = status.child("allocation").child("devices").child("results").items();
    results.iter().filter_map(|result| result.value().map(key_of)).collect()
}

/// The rules over an update of the status.
pub(super) fn rules(old: &Object, new: &Object, errors: &mut FieldErrors) {
    let (before, status) = (At::root(old, "status"), At::root(new, "status"));
    let requests = At::root(new, "spec").child("devices");
    let consumers = status.child("reservedFor");
    let uid = |at: &At<'_>| at.child("uid").str().to_owned();
    set(&consumers, MAX_CONSUMERS, uid, errors, |at, errors| {
        for field in ["resource", "name", "uid"] {
            at.child(field).require(errors, |_| Vec::new());
        }
    });
    let known = allocated(&status);
    let key = |at: &At<'_>| at.value().map(key_of).unwrap_or_default();
    set(&status.child("devices"), usize::MAX, key, errors, |at, errors| {
        reported(at, &known, errors)
    });
    let allocation = status.child("allocation");
    reservations(
        &consumers,
        &before.child("reservedFor"),
        allocation.is_set(),
        new.is_deleting(),
        errors,
    );
    if before.child("allocation").is_set() && allocation.is_set() {
        allocation.immutable(errors, &before.child("allocation"));
    } else if allocation.is_set() {
        self::allocation(&allocation, &Requests::of(&requests), errors);
    }
}

/// Only what is allocated is used, and nobody begins to use what is going.
fn reservations(now: &At<'_>, before: &At<'_>, allocated: bool, deleting: bool, errors: &mut FieldErrors) {
    let old = before.items();
    let new_one = |at: &At<'_>| !old.iter().any(|known| known.value() == at.value());
    if now.is_empty() {
    } else if !allocated {
        errors.push(now.forbidden("may not be specified when `allocated` is not set"));
    } else if deleting && now.items().iter().any(new_one) {
        errors.push(
            now.forbidden("new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set"),
        );
    }
}

fn allocation(at: &At<'_>, requests: &Requests<'_>, errors: &mut FieldErrors) {
    let devices = at.child("devices");
    list(&devices.child("results"), MAX_RESULTS, errors, |at, errors| {
        requests.reference(&at.child("request"), errors);
        identity(at, errors);
        device::binding_conditions(at, errors);
        share(at, errors);
    });
    list(&devices.child("config"), 2 * MAX_CONFIG, errors, |at, errors| {
        at.child("source").require_one_of(errors, SOURCES);
        claim::references(at, requests, errors);
        claim::configuration(at, errors);
    });
    let selector = at.child("nodeSelector");
    if selector.is_set() {
        pod::node_selector_terms(&selector, errors);
    }
}

/// Which device.
fn identity(at: &At<'_>, errors: &mut FieldErrors) {
    driver::name(&at.child("driver"), errors);
    names::pool(&at.child("pool"), errors);
    at.child("device").check(errors, is_dns1123_label);
}

fn share(at: &At<'_>, errors: &mut FieldErrors) {
    let share = at.child("shareID");
    if share.is_set() {
        names::uid(&share, errors);
    }
}

/// What a driver reports of a device.
fn reported(at: &At<'_>, allocated: &HashSet<String>, errors: &mut FieldErrors) {
    identity(at, errors);
    share(at, errors);
    let key = at.value().map(key_of).unwrap_or_default();
    if !allocated.contains(&key) {
        errors.push(at.invalid_as(key, "must be an allocated device in the claim"));
    }
    let list = at.child("conditions");
    if list.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(list.path(), list.len(), MAX_CONDITIONS));
    }
    conditions(&list, errors);
    let data = at.child("data");
    if data.is_set() {
        claim::raw(&data, MAX_DATA, errors);
    }
    network(&at.child("networkData"), errors);
}

fn network(at: &At<'_>, errors: &mut FieldErrors) {
    for (field, max) in [("interfaceName", MAX_INTERFACE), ("hardwareAddress", MAX_HARDWARE)] {
        let field = at.child(field);
        if field.str().len() > max {
            errors.push(FieldError::too_long(field.path(), max));
        }
    }
    let text = |at: &At<'_>| at.str().to_owned();
    set(&at.child("ips"), MAX_ADDRESSES, text, errors, |at, errors| {
        at.check(errors, interface_address)
    });
}

/// An address with the length of its network's prefix.
fn interface_address(text: &str) -> Vec<String> {
    match text.parse::<ipnet::IpNet>() {
        Ok(net) if net.to_string() == text => Vec::new(),
        Ok(net) => vec![format!("must be in canonical form (\"{net}\")")],
        Err(_) => vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned()],
    }
}
