//! How devices, what they have and what is asked of them are called.

use std::collections::{HashMap, HashSet};

use api::names::regex_error;
use api::{FieldError, FieldErrors};

use crate::resources::validation::names::{is_dns1123_label, is_dns1123_subdomain};
use crate::resources::validation::{At, driver};

const MAX_POOL: usize = 253;
const MAX_ID: usize = 32;
const REFERENCE: &str =
    "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";

/// A pool: DNS subdomains, separated by slashes.
pub(super) fn pool(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        return errors.push(at.required(""));
    }
    if at.str().len() > MAX_POOL {
        errors.push(FieldError::too_long(at.path(), MAX_POOL));
    }
    for part in at.str().split('/') {
        errors.extend(
            is_dns1123_subdomain(part)
                .into_iter()
                .map(|message| at.invalid_as(part, message)),
        );
    }
}

/// `name` or `domain/name`.
pub(super) fn qualified(at: &At<'_>, name: &str, errors: &mut FieldErrors) {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        [id] => identifier(at, id, errors),
        [domain, id] => {
            if domain.is_empty() {
                errors.push(at.invalid_as("", "the domain must not be empty"));
            } else {
                domain_name(at, domain, errors);
            }
            if id.is_empty() {
                errors.push(at.invalid_as("", "the name must not be empty"));
            } else {
                identifier(at, id, errors);
            }
        }
        // Kubernetes lets these pass.
        _ => {}
    }
}

/// `domain/name`.
pub(super) fn fully_qualified(at: &At<'_>, errors: &mut FieldErrors) {
    qualified(at, at.str(), errors);
    if !at.str().contains('/') {
        errors.push(at.invalid("a fully qualified name must be a domain and a name separated by a slash"));
    }
}

fn domain_name(at: &At<'_>, domain: &str, errors: &mut FieldErrors) {
    if domain.len() > driver::MAX {
        errors.push(FieldError::too_long(at.path(), driver::MAX));
    }
    let messages = is_dns1123_subdomain(&domain.to_lowercase()).into_iter();
    errors.extend(messages.map(|message| at.invalid_as(domain, message)));
}

fn identifier(at: &At<'_>, id: &str, errors: &mut FieldErrors) {
    if id.len() > MAX_ID {
        errors.push(FieldError::too_long(at.path(), MAX_ID));
    }
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !id.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !id.chars().all(letter) {
        let message = regex_error(
            "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters \
             or '_'",
            "[A-Za-z_][A-Za-z0-9_]*",
            &["my_name", "MY_NAME", "MyName"],
        );
        errors.push(at.invalid_as(id, message));
    }
}

/// A key that is a DNS label.
pub(super) fn label_key(at: &At<'_>, key: &str, errors: &mut FieldErrors) {
    errors.extend(
        is_dns1123_label(key)
            .into_iter()
            .map(|message| at.invalid_as(key, message)),
    );
}

/// A UUID as Kubernetes writes it.
pub(super) fn uid(at: &At<'_>, errors: &mut FieldErrors) {
    let text = at.str();
    if let Err(why) = uuid_form(text) {
        errors.push(at.invalid(format!("error validating uid: {why}")));
    } else if text.len() != 36 || text != text.to_lowercase() {
        errors.push(at.invalid(
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters",
        ));
    }
}

fn uuid_form(text: &str) -> Result<(), String> {
    match text.len() {
        32 | 36 | 38 | 45 => uuid::Uuid::try_parse(text)
            .map(drop)
            .map_err(|_| "invalid UUID format".to_owned()),
        length => Err(format!("invalid UUID length: {length}")),
    }
}

/// The requests of a claim, with the names of those among which one is chosen.
pub(super) struct Requests<'a>(HashMap<&'a str, HashSet<&'a str>>);

impl<'a> Requests<'a> {
    pub(super) fn of(claim: &At<'a>) -> Self {
        let names = |at: At<'a>| at.child("name").str();
        let alternatives = |request: &At<'a>| request.child("firstAvailable").items().into_iter().map(names).collect();
        let requests = claim.child("requests").items().into_iter();
        Requests(
            requests
                .map(|request| (request.child("name").str(), alternatives(&request)))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        match name.split_once('/') {
            None => self.0.contains_key(name),
            Some((request, alternative)) => self.0.get(request).is_some_and(|known| known.contains(alternative)),
        }
    }

    /// A name that refers to a request, or to one of its alternatives.
    pub(super) fn reference(&self, at: &At<'_>, errors: &mut FieldErrors) {
        let parts: Vec<&str> = at.str().split('/').collect();
        if parts.len() > 2 {
            return errors.push(at.invalid(REFERENCE));
        }
        for part in parts {
            label_key(at, part, errors);
        }
        if !self.has(at.str()) {
            errors.push(at.invalid(REFERENCE));
        }
    }
}
