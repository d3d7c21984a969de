//! IP addresses and ranges in fields that are older than the rules for them: what another reader could take for another
//! address is refused, what is merely written oddly is warned of.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::At;

/// What is wrong with an address.
pub(crate) fn ip(text: &str) -> Vec<String> {
    let wrong = match (text.parse(), lenient_ip(text)) {
        (Ok(ip), _) if is_mapped(ip) => "must not be an IPv4-mapped IPv6 address",
        (Ok(_), _) => return Vec::new(),
        (Err(_), Some(_)) => "must not have leading 0s",
        (Err(_), None) => "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    };
    vec![wrong.to_owned()]
}

/// What is wrong with a range.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let wrong = match lenient_cidr(text) {
        None => "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        Some(_) if has_leading_zeros(text) => "must not have leading 0s in IP or prefix length",
        Some(net) if is_mapped(net.addr()) => "must not have an IPv4-mapped IPv6 address",
        Some(net) if net.trunc() != net => "must not have bits set beyond the prefix length",
        Some(_) => return Vec::new(),
    };
    vec![wrong.to_owned()]
}

/// What to say of an address that is in use, if it is not written as it should be.
pub(crate) fn ip_warning(at: &At<'_>) -> Option<String> {
    let (path, text) = (at.path(), at.str());
    let ip = lenient_ip(text)?;
    if text.parse::<IpAddr>().is_err() || is_mapped(ip) {
        let plain = ip.to_canonical();
        return Some(format!(
            "{path}: non-standard IP address {text:?} is invalid: use \"{plain}\""
        ));
    }
    (ip.is_ipv6() && ip.to_string() != text)
        .then(|| format!("{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{ip}\")"))
}

/// What to say of a range that is in use, if it is not written as it should be.
pub(crate) fn cidr_warnings(at: &At<'_>) -> Vec<String> {
    let (path, text) = (at.path(), at.str());
    let Some(net) = lenient_cidr(text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if net.trunc() != net {
        let one = IpNet::from(net.addr());
        let range = net.trunc();
        found.push(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{range}\" or \"{one}\"?)"
        ));
    }
    if has_leading_zeros(text) || is_mapped(net.addr()) {
        found.push(format!(
            "{path}: non-standard CIDR value {text:?} is invalid: use \"{}\"",
            net.trunc()
        ));
    }
    if found.is_empty() && net.addr().is_ipv6() && net.to_string() != text {
        found.push(format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format (\"{net}\")"
        ));
    }
    found
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some())
}

/// Of a range that is one but for zeros before its numbers.
fn has_leading_zeros(cidr: &str) -> bool {
    let (ip, length) = cidr.split_once('/').unwrap_or((cidr, ""));
    ip.parse::<IpAddr>().is_err() || (length.len() > 1 && length.starts_with('0'))
}

/// An address, zeros before the numbers of an IPv4 one being passed over.
fn lenient_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let mut octets = [0; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?;
        *octet = part.parse().ok()?;
    }
    parts.next().is_none().then(|| IpAddr::from(Ipv4Addr::from(octets)))
}

fn lenient_cidr(text: &str) -> Option<IpNet> {
    let (ip, length) = text.split_once('/')?;
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| digits)?;
    IpNet::new(lenient_ip(ip)?, length).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_could_be_another_address_is_refused() {
        let ip_format = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        for (text, expected) in [
            ("10.9.8.7", None),
            ("FE80::1", None),
            ("010.9.8.7", Some("must not have leading 0s")),
            ("::ffff:1.2.3.4", Some("must not be an IPv4-mapped IPv6 address")),
            ("10.9.8", Some(ip_format)),
            ("10.9.8.256", Some(ip_format)),
            ("", Some(ip_format)),
        ] {
            assert_eq!(ip(text), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
        let zeros = "must not have leading 0s in IP or prefix length";
        let cidr_format = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        for (text, expected) in [
            ("10.9.8.0/24", None),
            ("FE80::/64", None),
            ("010.9.8.0/24", Some(zeros)),
            ("10.9.8.0/024", Some(zeros)),
            ("10.9.8.7/24", Some("must not have bits set beyond the prefix length")),
            ("::ffff:1.2.3.0/120", Some("must not have an IPv4-mapped IPv6 address")),
            ("10.9.8.0", Some(cidr_format)),
            ("10.9.8.0/33", Some(cidr_format)),
        ] {
            assert_eq!(cidr(text), expected.into_iter().collect::<Vec<_>>(), "{text}");
        }
    }

    fn at(text: &str) -> api::Object {
        api::Object::from_value(json!({"ip": text})).expect("an object")
    }

    #[test]
    fn odd_writing_is_warned_of() {
        for (text, expected) in [
            ("10.9.8.7", None),
            (
                "FE80::1",
                Some("ip: IPv6 address \"FE80::1\" should be in RFC 5952 canonical format (\"fe80::1\")"),
            ),
            (
                "010.9.8.7",
                Some("ip: non-standard IP address \"010.9.8.7\" is invalid: use \"10.9.8.7\""),
            ),
        ] {
            let object = at(text);
            assert_eq!(ip_warning(&At::root(&object, "ip")).as_deref(), expected, "{text}");
        }
        for (text, expected) in [
            ("10.9.8.0/24", vec![]),
            (
                "10.9.8.7/24",
                vec![
                    "ip: CIDR value \"10.9.8.7/24\" is ambiguous in this context (should be \"10.9.8.0/24\" or \"10.9.8.7/32\"?)",
                ],
            ),
            (
                "FE80::/64",
                vec!["ip: IPv6 CIDR value \"FE80::/64\" should be in RFC 5952 canonical format (\"fe80::/64\")"],
            ),
            (
                "10.9.8.0/024",
                vec!["ip: non-standard CIDR value \"10.9.8.0/024\" is invalid: use \"10.9.8.0/24\""],
            ),
        ] {
            let object = at(text);
            assert_eq!(cidr_warnings(&At::root(&object, "ip")), expected, "{text}");
        }
    }
}
