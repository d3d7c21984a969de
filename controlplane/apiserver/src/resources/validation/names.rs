//! Rules over single strings, in the form the cursor's checks take: every message there is, none when all is well.

pub(crate) use api::names::{
    is_config_map_key, is_dns1035_label, is_dns1123_label, is_dns1123_subdomain, is_ip as ip, is_label_value,
    is_path_segment_name as path_segment, is_port_name, is_port_number as port, is_qualified_name,
    is_relaxed_env_var_name as env_var,
};

/// An address range such as `10.9.8.0/24`.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    match text.parse::<ipnet::IpNet>() {
        Ok(_) => Vec::new(),
        Err(_) => vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()],
    }
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
