//! How names resolve inside a pod.

use api::FieldErrors;

use super::super::At;
use super::super::names::{self, is_dns1123_subdomain};

const POLICIES: &[&str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// Characters of all search paths together, spaces between them included.
const MAX_SEARCH_CHARS: usize = 2048;

/// `dnsPolicy` of a pod's spec.
pub(super) fn policy(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.child("dnsPolicy").require_one_of(errors, POLICIES);
}

/// `dnsConfig` of a pod's spec; without a policy it is all there is.
pub(super) fn config(spec: &At<'_>, errors: &mut FieldErrors) {
    let alone = spec.child("dnsPolicy").str() == "None";
    let at = spec.child("dnsConfig");
    if !at.is_set() {
        if alone {
            errors.push(at.required("must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        return;
    }
    let servers = at.child("nameservers");
    if alone && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(servers.required(detail));
    }
    if servers.len() > MAX_NAMESERVERS {
        errors.push(servers.invalid(format!("must not have more than {MAX_NAMESERVERS} nameservers")));
    }
    for server in servers.items() {
        server.check(errors, names::ip);
    }
    searches(&at.child("searches"), errors);
    for option in at.child("options").items() {
        if option.child("name").is_empty() {
            errors.push(at.child("options").required("must not be empty"));
        }
    }
}

fn searches(at: &At<'_>, errors: &mut FieldErrors) {
    let items = at.items();
    if items.len() > MAX_SEARCHES {
        errors.push(at.invalid(format!("must not have more than {MAX_SEARCHES} search paths")));
    }
    let chars = items.iter().map(|s| s.str().len()).sum::<usize>() + items.len().saturating_sub(1);
    if chars > MAX_SEARCH_CHARS {
        errors.push(at.invalid(format!(
            "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        )));
    }
    for search in items.iter().filter(|s| s.str() != ".") {
        let path = search.str().strip_suffix('.').unwrap_or(search.str());
        errors.extend(
            is_dns1123_subdomain(path)
                .into_iter()
                .map(|message| search.invalid(message)),
        );
    }
}

/// `hostAliases` of a pod's spec.
pub(super) fn host_aliases(at: &At<'_>, errors: &mut FieldErrors) {
    for alias in at.items() {
        alias.child("ip").check(errors, names::ip);
        for name in alias.child("hostnames").items() {
            let messages = is_dns1123_subdomain(name.str());
            errors.extend(
                messages
                    .into_iter()
                    .map(|m| alias.child("hostnames").invalid_as(name.str(), m)),
            );
        }
    }
}
