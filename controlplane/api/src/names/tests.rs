use super::*;

const LABEL_MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
    must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

#[test]
fn words_the_rules_as_kubernetes_does() {
    let long = "a".repeat(64);
    for (errors, want) in [
        (is_dns1123_label("my-name"), vec![]),
        (is_dns1123_label("a.b"), vec!["must not contain dots"]),
        (is_dns1123_label("A"), vec![LABEL_MESSAGE]),
        (is_dns1123_label(&long), vec!["must be no more than 63 bytes"]),
        (is_dns1123_subdomain("a.b-c.d"), vec![]),
        (
            is_dns1123_subdomain("a..b"),
            vec![
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                 must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        ),
        (
            is_dns1035_label("1a"),
            vec![
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                 character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for \
                 validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (is_qualified_name("example.com/My_Name.1"), vec![]),
        (is_qualified_name("/x"), vec!["prefix part must be non-empty"]),
        (is_label_value(""), vec![]),
        (is_config_map_key("..a"), vec!["must not start with '..'"]),
        (is_env_var_name("MY.ENV-1"), vec![]),
        (is_relaxed_env_var_name("1 b"), vec![]),
        (
            is_ip("300.1.1.1"),
            vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"],
        ),
        (is_ip("2001:db8::1"), vec![]),
        (
            is_port_name("http--1-"),
            vec![
                "must not contain consecutive hyphens",
                "must not begin or end with a hyphen",
            ],
        ),
        (is_port_name("80"), vec!["must contain at least one letter (a-z)"]),
        (is_port_number(0), vec!["must be between 1 and 65535, inclusive"]),
        (
            is_path_segment_name("a/%"),
            vec!["may not contain '/'", "may not contain '%'"],
        ),
        (is_path_segment_name("system:x"), vec![]),
    ] {
        assert_eq!(errors, want);
    }
}

#[test]
fn refuses_what_the_rules_refuse() {
    for value in ["", "-a", "a-", "a_b", "ä"] {
        assert!(!is_dns1123_label(value).is_empty(), "{value}");
        assert!(!is_dns1123_subdomain(value).is_empty(), "{value}");
    }
    for value in ["", "a/b/c", "a/", "_a", "a b", "A.B/c"] {
        assert!(!is_qualified_name(value).is_empty(), "{value}");
    }
    for value in ["a b", "-", &"x".repeat(64)] {
        assert!(!is_label_value(value).is_empty(), "{value}");
    }
    for value in ["", "a=b", "a\n", "é"] {
        assert!(!is_relaxed_env_var_name(value).is_empty(), "{value}");
    }
}

#[test]
fn prints_identities_as_go_does() {
    assert_eq!(
        GroupResource::new("apps", "deployments").to_string(),
        "deployments.apps"
    );
    assert_eq!(GroupResource::new("", "pods").to_string(), "pods");
    assert_eq!(GroupVersionKind::new("", "v1", "Pod").to_string(), "/v1, Kind=Pod");
    assert_eq!("apps/v1".parse::<GroupVersion>().unwrap().to_string(), "apps/v1");
    assert_eq!("v1".parse::<GroupVersion>().unwrap(), GroupVersion::new("", "v1"));
    assert!("a/b/c".parse::<GroupVersion>().is_err());
    assert_eq!(NamespacedName::new("a", "b").to_string(), "a/b");
    assert_eq!(NamespacedName::cluster("b").to_string(), "b");
}

#[test]
fn generates_names_that_fit_a_label() {
    let mut next = 0;
    let mut random = |below: usize| {
        next += 7;
        next % below
    };
    let name = generate_name("web-", &mut random);
    assert_eq!((name.len(), name.starts_with("web-")), (9, true));
    let long = generate_name(&"é".repeat(60), &mut random);
    assert!(long.len() <= 63 && long.starts_with('é'));
}
