//! Rules over single strings, in the form the cursor's checks take: every message there is, none when all is well.

use api::FieldErrors;
use api::names::{SUBDOMAIN_MAX, max_len_error, regex_error};
pub(crate) use api::names::{
    is_config_map_key, is_dns1035_label, is_dns1123_label, is_dns1123_subdomain, is_ip as ip, is_label_value,
    is_path_segment_name as path_segment, is_port_name, is_port_number as port, is_qualified_name,
    is_relaxed_env_var_name as env_var,
};

use super::At;

/// An address range such as `10.9.8.0/24`.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    match text.parse::<ipnet::IpNet>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()],
    }
}

/// A domain and a path, such as `acme.io/foo`; reports at `at` what part is wrong.
pub(crate) fn domain_prefixed_path(at: &At<'_>, errors: &mut FieldErrors) {
    if at.is_empty() {
        return errors.push(at.required(""));
    }
    let parts = at
        .str()
        .split_once('/')
        .filter(|(host, path)| !host.is_empty() && !path.is_empty());
    let Some((host, path)) = parts else {
        return errors.push(at.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
    };
    errors.extend(
        is_dns1123_subdomain(host)
            .into_iter()
            .map(|message| at.invalid_as(host, message)),
    );
    let allowed = |c: char| c.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(c);
    if !path.chars().all(allowed) {
        let message = regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]);
        errors.push(at.invalid_as(path, message));
    }
}

/// `*.` and a DNS subdomain.
pub(crate) fn wildcard_subdomain(text: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if text.len() > SUBDOMAIN_MAX {
        messages.push(max_len_error(SUBDOMAIN_MAX));
    }
    let rest = text.strip_prefix("*.");
    if !rest.is_some_and(|rest| rest.len() > SUBDOMAIN_MAX || is_dns1123_subdomain(rest).is_empty()) {
        messages.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower \
             case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            &["*.example.com"],
        ));
    }
    messages
}

/// The name of an HTTP header (RFC 7230 token).
pub(crate) fn http_header(name: &str) -> Vec<String> {
    let token = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !name.is_empty() && name.chars().all(token) {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation \
         is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// A path inside a volume: relative, and never upwards.
pub(crate) fn descending_path(path: &str) -> Vec<String> {
    let mut messages = Vec::new();
    if path.starts_with('/') {
        messages.push("must be a relative path".to_owned());
    }
    messages.extend(no_backsteps(path));
    messages
}

/// A path that does not climb.
pub(crate) fn no_backsteps(path: &str) -> Vec<String> {
    if path.split('/').any(|part| part == "..") {
        vec!["must not contain '..'".to_owned()]
    } else {
        Vec::new()
    }
}

/// A path inside a volume whose content the node writes: names beginning with `..` are the node's own.
pub(crate) fn non_reserved_path(path: &str) -> Vec<String> {
    let mut messages = descending_path(path);
    if path.starts_with("..") && !path.starts_with("../") {
        messages.push("must not start with '..'".to_owned());
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_volumes_stay_inside() {
        let cases = [
            ("a/b", vec![]),
            ("/a", vec!["must be a relative path"]),
            ("a/../b", vec!["must not contain '..'"]),
            ("..data", vec!["must not start with '..'"]),
        ];
        for (path, expected) in cases {
            assert_eq!(non_reserved_path(path), expected, "{path}");
        }
    }
}
